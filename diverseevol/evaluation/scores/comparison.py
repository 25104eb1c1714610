"""Better, worse, or cannot tell: two questions that are never mixed up.

*These two models*: one seed's model against another's, by paired bootstrap over questions. Its interval knows which
questions happened to be asked, and nothing of what another seed would have given.

*These two samplers*: the seed is the unit. Samplers that start from the same P_0 give a difference a seed; a
t-interval over those says what may be expected of the next seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from diverseevol.evaluation.scores.frame import Frame, Row, frame_of
from diverseevol.evaluation.scores.pairing import Pairing, endpoint_in_words, not_compared, pair_up, unequal
from diverseevol.evaluation.scores.scores import resampled_counts

SIGNIFICANCE = 0.05
MINIMUM_SEEDS = 3
WORDS = {"better": ("better", "worse"), "worse": ("worse", "better"), "neither": ("higher", "lower")}
ROUNDING = 1e-9  # points of relative score below which differences are float error

SAMPLERS = (
    "these two samplers: the seed is the unit, 95 % t-interval, p by Holm over the samplers of a benchmark or metric"
)
MODELS = (
    "these two models: 95 % paired bootstrap over questions, which says nothing about other seeds, uncorrected for how "
    "many are compared"
)
AFTER_THE_FACT = "picked after the fact: the best of several noisy rounds flatters"

NAMES = ("source", "judge", "benchmark", "schedule", "baseline")
SAMPLER_COLUMNS = (
    *NAMES,
    "rounds",  # the endpoint of the schedule and of the baseline
    "rows",  # the pool sizes of these; None where they are not known
    "seeds",  # those that pair
    "differences",  # of these seeds, in points of relative score or in the metric's unit
    "mean_difference",  # None where no seed pairs
    "ci_low", "ci_high",  # t-interval of the mean, of this comparison alone; None where there is no test
    "p",  # two-sided, of this comparison alone
    "p_holm",  # corrected for the other samplers held against the same baseline; the verdict follows it
    "verdict",  # "better" or "worse" (of a metric of which neither is good, "higher" or "lower"), "cannot tell", or
    # "cannot tell: …" with a reason: too few seeds, pools of different sizes, or no noise to test against
    "left_out",  # seeds that do not pair, and why
    "measured",  # title, unit and direction of a metric; "" of a relative score
)  # fmt: skip
MODEL_COLUMNS = (
    *NAMES, "seed", "round", "baseline_round",
    "difference", "ci_low", "ci_high",  # in points of relative score; no interval of a single question
    "verdict",
)  # fmt: skip
BEST_COLUMNS = ("source", "judge", "benchmark", "schedule", "seed", "round", "relative_score", "label")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Everything held against one baseline.

    Attributes:
        endpoint: which models are compared, for titles: how large their pools were, or of which round they are.
        labels: warnings that go with the judges' scores and the pairs.
        not_compared: models that have come further than those compared, a sentence for each schedule and its rounds.
        samplers: schedules against the baseline with the seed as the unit, a row each; see `SAMPLER_COLUMNS`.
        models: each seed's model against the baseline's of the same seed, a row each; see `MODEL_COLUMNS`.
        best_rounds: each evolution's round of the highest relative score, no result but picked after the fact.
    """

    endpoint: str
    labels: tuple[str, ...]
    not_compared: tuple[str, ...]
    samplers: Frame
    models: Frame
    best_rounds: Frame

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "endpoint": self.endpoint,
            "labels": self.labels,
            "left_aside": self.not_compared,
            "samplers": self.samplers.to_dict("records"),
            "models": self.models.to_dict("records"),
            "best_rounds": self.best_rounds.to_dict("records"),
            "about": {"samplers": SAMPLERS, "models": MODELS, "best_rounds": AFTER_THE_FACT},
        }


def compare(judged: Frame, baseline: str, endpoint: int | None = None, measured: Frame | None = None) -> Comparison:
    """Hold every schedule against a baseline, on both levels.

    The p-values of all schedules held against one baseline on one benchmark by one judge are corrected together
    (Holm 1979). Fewer than three seeds give no verdict.

    Args:
        judged: relative scores of any number of sources, judges and benchmarks; each is compared within itself.
        baseline: the baseline's schedule, with or without the hash of its choices, or a pattern such as `random-*` that
            fits one schedule of each source; full data is a baseline only where it is named.
        endpoint: the round to compare, said before looking at any score; None is the largest pool size that all arms
            of a seed have (see `pairing.shared`).
        measured: metrics of rounds, which are compared over seeds alone.

    Raises:
        InputError: nothing fits the baseline or the endpoint, or the models answered different questions.
    """
    frames = [frame for frame in (judged, measured) if frame is not None and len(frame)] or [judged]
    groups = [pair_up(frame, baseline, endpoint) for frame in frames]
    by_frame = [[pairing for group in of_frame for pairing in group] for of_frame in groups]
    pairings = [pairing for of_frame in by_frame for pairing in of_frame]
    doubts = dict.fromkeys(doubt for of_frame in by_frame for doubt in _doubts(of_frame, endpoint))
    verdicts = [verdict for of_frame in groups for group in of_frame for verdict in over_seeds(group, endpoint)]
    pairs = [pair for pairing in pairings for pair in pairing.pairs if pair[0].scores is not None]
    return Comparison(
        endpoint_in_words(pairings, endpoint),
        (*_labels(judged), *doubts),
        not_compared(pairings),
        frame_of(verdicts, SAMPLER_COLUMNS),
        frame_of((over_questions(model, base, endpoint) for model, base in pairs), MODEL_COLUMNS),
        best_rounds(judged),
    )


def _labels(judged: Frame) -> list[str]:
    rows = list(judged.itertuples())
    labels = sorted({f"{row.judge}: {row.scores.label}" for row in rows if row.scores.label})
    if unparsed := [row for row in rows if row.scores.unparsed]:
        questions = sum(len(row.scores.by_question.unparsed) for row in unparsed)
        labels.append(
            f"{questions} questions of {len(unparsed)} models have a judgement without scores; each pair is "
            f"compared on the questions that are judged on both sides"
        )
    return labels


def _doubts(pairings: Sequence[Pairing], endpoint: int | None) -> list[str]:
    """What the pairs take on trust."""
    pairs = [pair for pairing in pairings for pair in pairing.pairs]
    unknown = sum(None in (model.initial_pool, base.initial_pool) for model, base in pairs)
    doubts = [f"{unknown} of {len(pairs)} pairs are not known to begin with the same P_0"] if unknown else []
    for pairing in pairings if endpoint is not None else ():
        if reason := pairing.inequality:
            names = pairing.names
            doubts.append(
                f"{names['schedule']} against {names['baseline']}, {names['benchmark']}: compared as asked, but of "
                f"{reason}"
            )
    return doubts


# --- over seeds ---


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


def over_seeds(pairings: Sequence[Pairing], endpoint: int | None) -> list[dict[str, Any]]:
    """The verdicts on all schedules that were held against one baseline, as `SAMPLER_COLUMNS`."""
    # Where the user has chosen the round, pools of different sizes are a warning.
    reasons = [pairing.inequality if endpoint is None else None for pairing in pairings]
    tests = [
        None if reason else t_test(np.array(_differences(pairing), dtype=np.float64))
        for pairing, reason in zip(pairings, reasons, strict=True)
    ]
    corrected = iter(holm(np.array([test[2] for test in tests if test is not None], dtype=np.float64)))
    p_holm = [None if test is None else float(next(corrected)) for test in tests]
    return [_verdict(*facts) for facts in zip(pairings, tests, p_holm, reasons, strict=True)]


def _differences(pairing: Pairing) -> tuple[float, ...]:
    return tuple(model.value - base.value for model, base in pairing.pairs)


def _verdict(
    pairing: Pairing, test: tuple[float, float, float] | None, p_holm: float | None, reason: str | None
) -> dict[str, Any]:
    d = _differences(pairing)
    first = pairing.pairs[0] if pairing.pairs else None
    mean = sum(d) / len(d) if d else None
    if reason is not None:
        verdict = f"cannot tell: {reason}"
    elif len(d) < MINIMUM_SEEDS or mean is None or first is None:
        verdict = f"cannot tell: {len(d)} seed{'' if len(d) == 1 else 's'}"
    elif p_holm is None:
        verdict = "cannot tell: all seeds differ by the same, which leaves no noise to test against"
    elif p_holm > SIGNIFICANCE:
        verdict = "cannot tell"
    else:
        larger, smaller = WORDS[first[0].description.higher_is]
        verdict = larger if mean > 0 else smaller
    low, high, p = test or (None, None, None)
    return {
        **pairing.names,
        "rounds": pairing.rounds,
        "rows": (None, None) if first is None else (first[0].rows, first[1].rows),
        "seeds": tuple(pair[0].seed for pair in pairing.pairs),
        "differences": d,
        "mean_difference": mean,
        "ci_low": low,
        "ci_high": high,
        "p": p,
        "p_holm": p_holm,
        "verdict": verdict,
        "left_out": pairing.left_out,
        "measured": first[0].description.in_words if first is not None and first[0].scores is None else "",
    }


# --- over questions ---


def over_questions(model: Row, base: Row, endpoint: int | None) -> dict[str, Any]:
    """The verdict on one seed's model against the baseline's, as `MODEL_COLUMNS`."""
    single = len(model.scores.by_question.ids) == 1
    low, high = (None, None) if single else _interval(model, base)
    reason = (unequal(model, base) if endpoint is None else None) or ("1 question" if single else None)
    if reason is not None or low is None or high is None:
        verdict = f"cannot tell: {reason}"
    else:
        verdict = "better" if low > 0 else "worse" if high < 0 else "cannot tell"
    return {
        "source": model.source,
        "judge": model.judge,
        "benchmark": model.benchmark,
        "schedule": model.schedule,
        "baseline": base.schedule,
        "seed": model.seed,
        "round": model.round,
        "baseline_round": base.round,
        "difference": model.value - base.value,
        "ci_low": low,
        "ci_high": high,
        "verdict": verdict,
    }


def _interval(model: Row, base: Row) -> tuple[float, float]:
    """Of the difference, over questions drawn anew, the same ones for both."""
    asked, base_asked = model.scores.by_question, base.scores.by_question
    sums = np.stack([asked.model, asked.competitor, base_asked.model, base_asked.competitor], axis=1)
    draws = np.concatenate([counts @ sums for counts in resampled_counts(len(sums), seed=0)])
    draws = draws[(draws[:, 1] > 0) & (draws[:, 3] > 0)]
    low, high = np.percentile(100 * (draws[:, 0] / draws[:, 1] - draws[:, 2] / draws[:, 3]), [2.5, 97.5])
    return float(low), float(high)


def best_rounds(judged: Frame) -> Frame:
    """Each evolution's round of the highest relative score, which is no result but a figure picked after the fact."""
    runs = ["source", "judge", "prompt_version", "benchmark", "schedule", "seed"]
    best = judged.sort_values("value", ascending=False, kind="stable").drop_duplicates(runs).sort_index()
    return best.rename(columns={"value": "relative_score"}).assign(label=AFTER_THE_FACT)[list(BEST_COLUMNS)]
