"""Better, worse, or cannot tell: two questions that are never mixed up.

*These two models*: one seed's model against another's, by paired bootstrap over questions. Its interval knows which
questions happened to be asked, and nothing of what another seed would have given.

*These two samplers*: the seed is the unit. Samplers that start from the same P_0 give a difference a seed; a
t-interval over those says what may be expected of the next seed.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from diverseevol.evaluation.scores.pairing import Duel, R, endpoint_in_words, left_aside, pair_up, unequal
from diverseevol.evaluation.scores.read_metrics import MeasuredRound
from diverseevol.evaluation.scores.scoreboard import ScoredRound
from diverseevol.evaluation.scores.scores import resampled_counts

SIGNIFICANCE = 0.05
MINIMUM_SEEDS = 3
WORDS = {"better": ("better", "worse"), "worse": ("worse", "better"), "neither": ("higher", "lower")}
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
        verdict: "better" or "worse" (of a metric of which neither is good, "higher" or "lower"), "cannot tell", or
            "cannot tell: …" with a reason: too few seeds, pools of different sizes, or no noise to test against.
        left_out: seeds that do not pair, and why.
        measured: title, unit and direction of a metric; "" of a relative score.
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
    measured: str = ""


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
    first = next((model for model, _ in duel.pairs), None)
    about = first.description if isinstance(first, MeasuredRound) else None
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
        larger, smaller = WORDS[about.higher_is if about else "better"]
        verdict = larger if mean > 0 else smaller
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
        measured=about.in_words if about else "",
    )  # fmt: skip


MODELS = (
    "these two models: 95 % paired bootstrap over questions, which says nothing about other seeds, uncorrected for how "
    "many are compared"
)
AFTER_THE_FACT = "picked after the fact: the best of several noisy rounds flatters"


@dataclass(frozen=True)
class ModelVerdict:
    """One seed's model against the baseline's; differences are in points of relative score."""

    source: str
    judge: str
    benchmark: str
    schedule: str
    baseline: str
    seed: int | None
    round: int
    baseline_round: int
    difference: float
    ci_low: float | None  # None of a single question, which nothing can be drawn from
    ci_high: float | None
    verdict: str


@dataclass(frozen=True)
class BestRound:
    """The round with the highest relative score of one evolution."""

    source: str
    judge: str
    benchmark: str
    schedule: str
    seed: int | None
    round: int
    relative_score: float
    label: str = AFTER_THE_FACT


@dataclass(frozen=True)
class Comparison:
    """Everything held against one baseline.

    Attributes:
        endpoint: which models are compared, for titles: how large their pools were, or of which round they are.
        labels: warnings that go with the judges' scores and the pairs.
        left_aside: models that have come further than those compared, a sentence for each schedule and its rounds.
    """

    endpoint: str
    labels: tuple[str, ...]
    left_aside: tuple[str, ...]
    samplers: tuple[SamplerVerdict, ...]
    models: tuple[ModelVerdict, ...]
    best_rounds: tuple[BestRound, ...]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "about": {"samplers": SAMPLERS, "models": MODELS, "best_rounds": AFTER_THE_FACT}}


def compare(
    rounds: Sequence[ScoredRound],
    baseline: str,
    endpoint: int | None = None,
    measured: Sequence[MeasuredRound] = (),
) -> Comparison:
    """Hold every schedule against a baseline, on both levels.

    Args:
        rounds: of any number of sources, judges and benchmarks; each is compared within itself.
        baseline: the baseline's schedule, with or without the hash of its choices, or a pattern such as `random-*` that
            fits one schedule of each source; full data is a baseline only where it is named.
        endpoint: the round to compare, said before looking at any score; None is the largest pool size that all arms
            of a seed have (see `pairing.shared`).
        measured: metrics of rounds, which are compared over seeds alone.

    Raises:
        InputError: nothing fits the baseline or the endpoint, or the models answered different questions.
    """
    doubts: list[str] = []
    verdicts: list[SamplerVerdict] = []
    if rounds or not measured:
        doubts, verdicts = _doubts(rounds, baseline, endpoint), compare_samplers(rounds, baseline, endpoint)
    if measured:
        doubts = [*doubts, *_doubts(measured, baseline, endpoint)]
        verdicts = [*verdicts, *compare_samplers(measured, baseline, endpoint)]
    duels: list[Duel[Any]] = []
    if rounds or not measured:
        duels += [duel for group in pair_up(rounds, baseline, endpoint) for duel in group]
    if measured:
        duels += [duel for group in pair_up(measured, baseline, endpoint) for duel in group]
    return Comparison(
        endpoint_in_words(duels, endpoint),
        (*_labels(rounds), *dict.fromkeys(doubts)),
        left_aside(duels),
        tuple(verdicts),
        tuple(compare_models(rounds, baseline, endpoint)) if rounds else (),
        tuple(best_rounds(rounds)),
    )


def _labels(rounds: Sequence[ScoredRound]) -> tuple[str, ...]:
    labels = sorted({f"{each.judge}: {each.scores.label}" for each in rounds if each.scores.label})
    if unparsed := [each for each in rounds if each.unparsed]:
        questions = sum(len(each.unparsed) for each in unparsed)
        labels.append(
            f"{questions} questions of {len(unparsed)} models have a judgement without scores; each pair is "
            f"compared on the questions that are judged on both sides"
        )
    return tuple(labels)


def _doubts(rounds: Sequence[R], baseline: str, endpoint: int | None) -> list[str]:
    """What the pairs take on trust."""
    duels = [duel for duels in pair_up(rounds, baseline, endpoint) for duel in duels]
    pairs = [pair for duel in duels for pair in duel.pairs]
    unknown = sum(None in (one.initial_pool, other.initial_pool) for one, other in pairs)
    doubts = []
    if unknown:
        doubts.append(f"{unknown} of {len(pairs)} pairs are not known to begin with the same P_0")
    for duel in duels if endpoint is not None else ():
        if reason := differing(duel):
            doubts.append(
                f"{duel.schedule} against {duel.baseline}, {duel.benchmark}: compared as asked, but of {reason}"
            )
    return doubts


def compare_models(rounds: Sequence[ScoredRound], baseline: str, endpoint: int | None = None) -> list[ModelVerdict]:
    """Hold each seed's model against the baseline's of the same seed; arguments and errors as `compare`."""
    return [
        _compare_two(one, other, unequal(one, other) if endpoint is None else None)
        for duels in pair_up(rounds, baseline, endpoint)
        for duel in duels
        for one, other in duel.pairs
    ]


def _compare_two(one: ScoredRound, other: ScoredRound, reason: str | None) -> ModelVerdict:
    low, high = _interval(one, other) if len(one.question_ids) > 1 else (None, None)
    if reason is None and low is None:
        reason = "1 question"
    if reason is not None or low is None or high is None:
        verdict = f"cannot tell: {reason}"
    else:
        verdict = "better" if low > 0 else "worse" if high < 0 else "cannot tell"
    return ModelVerdict(
        one.source, one.judge, one.benchmark, one.schedule, other.schedule, one.seed, one.round, other.round,
        difference=one.scores.relative_score - other.scores.relative_score,
        ci_low=low,
        ci_high=high,
        verdict=verdict,
    )  # fmt: skip


def _interval(one: ScoredRound, other: ScoredRound) -> tuple[float, float]:
    """Of the difference, over questions drawn anew, the same ones for both."""
    sums = np.stack([one.model, one.competitor, other.model, other.competitor], axis=1)
    draws = np.concatenate([counts @ sums for counts in resampled_counts(len(sums), seed=0)])
    draws = draws[(draws[:, 1] > 0) & (draws[:, 3] > 0)]
    low, high = np.percentile(100 * (draws[:, 0] / draws[:, 1] - draws[:, 2] / draws[:, 3]), [2.5, 97.5])
    return float(low), float(high)


def best_rounds(rounds: Sequence[ScoredRound]) -> list[BestRound]:
    """Each evolution's round of the highest relative score, which is no result but a figure picked after the fact."""
    best: dict[tuple[str | int | None, ...], ScoredRound] = {}
    for each in rounds:
        key = (each.source, each.judge, each.prompt_version, each.benchmark, each.schedule, each.seed)
        if key not in best or each.scores.relative_score > best[key].scores.relative_score:
            best[key] = each
    return [
        BestRound(e.source, e.judge, e.benchmark, e.schedule, e.seed, e.round, e.scores.relative_score)
        for e in best.values()
    ]
