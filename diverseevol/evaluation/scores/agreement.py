"""How far one judge agrees with another on the same answers: check this before paying for an expensive judge."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.read_judgements import JudgementFile, read_judgements
from diverseevol.evaluation.scores.scores import paired_scores, unparsed_questions

Key = tuple[str, str, str, int | None, int]  # source, benchmark, schedule, seed, round: what names one model's answers


@dataclass(frozen=True)
class Agreement:
    """One judge against another on one benchmark.

    Attributes:
        models: that both have judged; `questions` is over all of them.
        model_ranks: Spearman's rank correlation of the models' relative scores; None below three models.
        final_ranks: likewise of each schedule's last common round, which is what a comparison of samplers rests on.
        question_scores: correlation (Pearson) over questions of the model's lead on the competitor; None where a
            judge's lead never varies.
        same_verdict: share of questions with the same verdict: win, tie or lose.
        order_flips: share of questions on which a judge names another winner when the answers swap places, and
            `recorded_order_flips` the other judge's; None where not both orders were judged.
        first_place_lead: points by which a judge scores the answer that is shown first above the one shown second, on
            average over both orders, so that which answer is better does not count: above 0 it favours the first place,
            below 0 the second. `recorded_first_place_lead` is the other judge's; None as for the flips.
        relative_score_shift: mean over models of this judge's relative score less the other's, in points.
        left_out: questions without a verdict by either.
    """

    benchmark: str
    judge: str
    recorded_judge: str
    models: int
    questions: int
    model_ranks: float | None
    final_ranks: float | None
    question_scores: float | None
    same_verdict: float
    order_flips: float | None
    recorded_order_flips: float | None
    first_place_lead: float | None
    recorded_first_place_lead: float | None
    relative_score_shift: float
    left_out: int

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Pair:
    """One model's answers by both judges: scores of the questions with two verdicts, aligned."""

    key: Key
    judges: tuple[str, str]
    model: tuple[Float[np.ndarray, "questions orders"], Float[np.ndarray, "questions recorded_orders"]]
    competitor: tuple[Float[np.ndarray, "questions orders"], Float[np.ndarray, "questions recorded_orders"]]
    left_out: int

    def relative_scores(self) -> tuple[float, float]:
        one, other = (100 * m.sum() / c.sum() for m, c in zip(self.model, self.competitor, strict=True))
        return float(one), float(other)

    def leads(self) -> tuple[Float[np.ndarray, " questions"], Float[np.ndarray, " questions"]]:
        """The model's mean score less the competitor's."""
        one, other = ((m - c).mean(axis=1) for m, c in zip(self.model, self.competitor, strict=True))
        return one, other

    def flips(self) -> tuple[list[bool] | None, list[bool] | None]:
        """Per question, whether the winner swaps with the order; None for a judge that saw one order only."""
        verdicts = (np.sign(m - c) for m, c in zip(self.model, self.competitor, strict=True))
        one, other = ((v[:, 0] * v[:, 1] < 0).tolist() if v.shape[1] == 2 else None for v in verdicts)
        return one, other

    def first_place_leads(self) -> tuple[list[float] | None, list[float] | None]:
        """Per question, points of the answer shown first above the one shown second; None as in `flips`."""
        # In order 0 the model's answer is shown first, in order 1 the competitor's.
        leads = (m - c for m, c in zip(self.model, self.competitor, strict=True))
        ours, recorded = (((d[:, 0] - d[:, 1]) / 2).tolist() if d.shape[1] == 2 else None for d in leads)
        return ours, recorded


def agree(judgements: Path, recorded: Path) -> list[Agreement]:
    """Hold the judgements below one folder against those below another, a benchmark at a time.

    The same answers are recognised by source, benchmark, schedule, seed and round; where no source is in both, as
    between the two layouts, by the rest.

    Raises:
        InputError: nothing was judged by both, or one of the files is faulty.
    """
    files = [list(read_judgements(place)) for place in (judgements, recorded)]
    sources = [{file.source for file in side} for side in files]
    ours, theirs = (_by_key(side, with_source=bool(sources[0] & sources[1])) for side in files)
    common = sorted(ours.keys() & theirs.keys(), key=str)
    if not common:
        raise InputError(
            f"{judgements} and {recorded}: no benchmark, schedule, seed and round was judged in both (for instance "
            f"{_name(min(ours, key=str))} and {_name(min(theirs, key=str))}); judge the same answers"
        )
    pairs = [_pair(key, ours[key], theirs[key]) for key in common]
    return [_agreement([p for p in pairs if p.key[1] == name]) for name in sorted({p.key[1] for p in pairs})]


def _by_key(files: Sequence[JudgementFile], *, with_source: bool) -> dict[Key, JudgementFile]:
    found: dict[Key, JudgementFile] = {}
    for file in files:
        key = (file.source if with_source else "", file.benchmark, file.schedule, file.seed, file.round)
        if key in found:
            raise InputError(
                f"{file.file}: is {_name(key)}, as {found[key].file} is, so answers cannot be told apart; give a "
                f"folder of one data set and model"
            )
        found[key] = file
    return found


def _name(key: Key) -> str:
    source, benchmark, schedule, seed, t = key
    return f"{source and f'{source}, '}{benchmark}, {schedule}, {'' if seed is None else f'seed {seed}, '}round {t}"


def _pair(key: Key, ours: JudgementFile, theirs: JudgementFile) -> _Pair:
    asked = [{one.question_id for one in file.judgements} for file in (ours, theirs)]
    if asked[0] != asked[1]:
        differing = sorted(asked[0] ^ asked[1])
        raise InputError(
            f"{ours.file} and {theirs.file}: not the same questions ({len(differing)} are in one only, first "
            f"{differing[0]!r}); judge both on one benchmark"
        )
    lost = {*unparsed_questions(ours.judgements), *unparsed_questions(theirs.judgements)}
    (m, c), (n, d) = _scores(ours, lost), _scores(theirs, lost)
    return _Pair(key, (ours.judgements[0].judge, theirs.judgements[0].judge), (m, n), (c, d), len(lost))


def _scores(
    file: JudgementFile, lost: Container[str]
) -> tuple[Float[np.ndarray, "questions orders"], Float[np.ndarray, "questions orders"]]:
    kept = sorted((one for one in file.judgements if one.question_id not in lost), key=lambda one: one.question_id)
    try:
        return paired_scores(kept)
    except InputError as error:
        raise InputError(f"{file.file}: {error}") from error


def _agreement(pairs: Sequence[_Pair]) -> Agreement:
    judges = {pair.judges for pair in pairs}
    if len(judges) > 1:
        raise InputError(
            f"benchmark {pairs[0].key[1]}: judged by {', '.join(sorted(map(' and '.join, judges)))}; give folders "
            f"of one judge each"
        )
    leads = [np.concatenate(side) for side in zip(*(pair.leads() for pair in pairs), strict=True)]
    scores = [pair.relative_scores() for pair in pairs]
    last: dict[tuple[str | int | None, ...], _Pair] = {}
    for pair in sorted(pairs, key=lambda p: p.key[4]):
        last[pair.key[:4]] = pair
    flips = [pair.flips() for pair in pairs]
    first = [pair.first_place_leads() for pair in pairs]
    return Agreement(
        benchmark=pairs[0].key[1],
        judge=pairs[0].judges[0],
        recorded_judge=pairs[0].judges[1],
        models=len(pairs),
        questions=len(leads[0]),
        model_ranks=_ranks(scores),
        final_ranks=_ranks([pair.relative_scores() for pair in last.values()]),
        question_scores=correlation(leads[0], leads[1]),
        same_verdict=float(np.mean(np.sign(leads[0]) == np.sign(leads[1]))),
        order_flips=_mean(ours for ours, _ in flips),
        recorded_order_flips=_mean(recorded for _, recorded in flips),
        first_place_lead=_mean(ours for ours, _ in first),
        recorded_first_place_lead=_mean(recorded for _, recorded in first),
        relative_score_shift=float(np.mean([one - other for one, other in scores])),
        left_out=sum(pair.left_out for pair in pairs),
    )


def _ranks(scores: Sequence[tuple[float, float]]) -> float | None:
    return rank_correlation([one for one, _ in scores], [other for _, other in scores])


def _mean(values: Iterable[Sequence[float] | None]) -> float | None:
    """Over the questions of all models, where any has them."""
    known = [value for of_model in values if of_model is not None for value in of_model]
    return float(np.mean(known)) if known else None


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's, equal values at their mean rank; None as `correlation`."""
    from scipy.stats import rankdata  # slow import; a refused request does not need it

    return correlation(rankdata(a), rankdata(b))


def correlation(a: Float[np.ndarray, " values"], b: Float[np.ndarray, " values"]) -> float | None:
    """Pearson's; None below three pairs, or where a side never varies."""
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
