"""Two samplers: the seed is the unit, whatever is compared, a relative score or a metric of the rounds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diverseevol.evaluation.scores.pairing import Duel, R, pair_up, unequal
from diverseevol.evaluation.scores.significance import MINIMUM_SEEDS, SIGNIFICANCE, holm, t_test

LOWER_IS_BETTER = ("held_out_loss", "reference_loss")
SAMPLERS = (
    "these two samplers: the seed is the unit, 95 % t-interval, p by Holm over the samplers of a benchmark or metric"
)


@dataclass(frozen=True)
class SamplerVerdict:
    """One sampler (with its schedule) against the baseline, over seeds.

    Attributes:
        rounds: the endpoint of the schedule and of the baseline.
        rows: the pool sizes of these; None where they are not known.
        seeds: those that pair; `differences` are theirs, in points of relative score or in the metric's unit.
        mean_difference: None where no seed pairs.
        ci_low, ci_high: t-interval of the mean, of this comparison alone; None where there is no test.
        p: two-sided, of this comparison alone.
        p_holm: corrected for the other samplers held against the same baseline; the verdict follows it.
        verdict: "better" or "worse" (of a metric "higher" or "lower", which need not be good; of a loss on rows that
            were not trained on the lower is better), "cannot tell", or
            "cannot tell: …" with a reason: too few seeds, pools of different sizes, or no noise to test against.
        left_out: seeds that do not pair, and why.
    """

    source: str
    judge: str
    benchmark: str
    schedule: str
    baseline: str
    rounds: tuple[int, int]
    rows: tuple[int | None, int | None]
    seeds: tuple[int | None, ...]
    differences: tuple[float, ...]
    mean_difference: float | None
    ci_low: float | None
    ci_high: float | None
    p: float | None
    p_holm: float | None
    verdict: str
    left_out: tuple[str, ...]


def compare_samplers(rounds: Sequence[R], baseline: str, endpoint: int | None = None) -> list[SamplerVerdict]:
    """Hold every schedule against the baseline with the seed as the unit; arguments and errors as `compare`'s.

    The p-values of all schedules held against one baseline on one benchmark by one judge are corrected together
    (Holm 1979). Fewer than three seeds give no verdict.
    """
    verdicts: list[SamplerVerdict] = []
    for duels in pair_up(rounds, baseline, endpoint):
        # Where the user has chosen the round, pools of different sizes are a warning.
        reasons = [differing(duel) if endpoint is None else None for duel in duels]
        tests = [
            None if reason else t_test(np.array(_differences(duel), dtype=np.float64))
            for duel, reason in zip(duels, reasons, strict=True)
        ]
        corrected = iter(holm(np.array([test[2] for test in tests if test is not None], dtype=np.float64)))
        for duel, test, reason in zip(duels, tests, reasons, strict=True):
            verdicts.append(_verdict(duel, test, None if test is None else float(next(corrected)), reason))
    return verdicts


def differing(duel: Duel[R]) -> str | None:
    """What else than the samplers tells some pair of a duel apart."""
    return next((reason for pair in duel.pairs if (reason := unequal(*pair))), None)


def _differences(duel: Duel[R]) -> tuple[float, ...]:
    return tuple(one.value - other.value for one, other in duel.pairs)


def _verdict(
    duel: Duel[R], test: tuple[float, float, float] | None, p_holm: float | None, reason: str | None
) -> SamplerVerdict:
    d = _differences(duel)
    rows = next(((one.pool_size, other.pool_size) for one, other in duel.pairs), (None, None))
    mean = sum(d) / len(d) if d else None
    low, high, p = test or (None, None, None)
    if reason is not None:
        verdict = f"cannot tell: {reason}"
    elif len(d) < MINIMUM_SEEDS or mean is None:
        verdict = f"cannot tell: {len(d)} seed{'' if len(d) == 1 else 's'}"
    elif p_holm is None:
        verdict = "cannot tell: all seeds differ by the same, which leaves no noise to test against"
    elif p_holm > SIGNIFICANCE:
        verdict = "cannot tell"
    else:
        words = ("better", "worse") if duel.judge else ("higher", "lower")  # of a metric, which need not be good
        if duel.benchmark.partition("/")[0] in LOWER_IS_BETTER:
            words = ("worse", "better")
        verdict = words[0] if mean > 0 else words[1]
    return SamplerVerdict(
        duel.source, duel.judge, duel.benchmark, duel.schedule, duel.baseline, duel.rounds,
        rows=rows,
        seeds=tuple(one.seed for one, _ in duel.pairs),
        differences=d,
        mean_difference=mean,
        ci_low=low,
        ci_high=high,
        p=p,
        p_holm=p_holm,
        verdict=verdict,
        left_out=duel.left_out,
    )  # fmt: skip
