"""Whether differences over seeds are more than noise: a paired t-test, corrected for how many are made."""

import numpy as np
from jaxtyping import Float

SIGNIFICANCE = 0.05
MINIMUM_SEEDS = 3
ROUNDING = 1e-9  # points of relative score below which differences are float error


def t_test(d: Float[np.ndarray, " seeds"]) -> tuple[float, float, float] | None:
    """The mean's t-interval and two-sided p, or None for too few seeds or seeds without noise."""
    n = len(d)
    if n < MINIMUM_SEEDS:
        return None
    mean, error = float(d.mean()), float(d.std(ddof=1) / np.sqrt(n))
    if error <= ROUNDING:  # every seed agrees to the last bit: no noise to test against
        return (mean, mean, 1.0) if abs(mean) <= ROUNDING else None
    from scipy.stats import ttest_1samp  # slow import; a refused request does not need it

    test = ttest_1samp(d, 0.0)
    low, high = test.confidence_interval(1 - SIGNIFICANCE)
    return float(low), float(high), float(test.pvalue)


def holm(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """Step-down adjusted p-values (Holm 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted
