"""From judgements to numbers: relative score, win/tie/lose, how often the order decides, an interval."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import TOP, Judgement
from diverseevol.storage.files import read_json

INTERVAL = "95 % bootstrap over questions: question noise only, one seed's model says nothing about another seed's"
RESAMPLES = 10_000
KEPT = 500  # questions of a benchmark up to which the resamples stay in memory: at most 40 MB


@dataclass(frozen=True, eq=False)
class ByQuestion:
    """Scores of the questions with a verdict, sorted, summed over orders; `unparsed` are the questions without one."""

    ids: tuple[str, ...]
    model: Float[np.ndarray, " questions"]
    competitor: Float[np.ndarray, " questions"]
    unparsed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scores:
    """One model on one benchmark, by one judge.

    Attributes:
        relative_score: 100 · Σ model scores / Σ competitor scores, over all questions and orders.
        mean_ratio: 100 · mean over questions of (model / competitor): another number than the relative score;
            None where the competitor scored 0 in every order of some question.
        ci_low, ci_high: see `INTERVAL`; of the relative score.
        win, tie, lose: questions by the scores summed over orders.
        order_changes: questions whose verdict differs between the two orders; None where only one was judged.
        order_flips: those of them whose winner is swapped.
        zeros: scores of 0, which a prompt for 1 to 10 did not ask for; they are counted as recorded.
        label: a warning to show with the scores.
        unparsed: judgements without a verdict; their questions are left out of everything above, in both orders.
    """

    questions: int
    relative_score: float
    ci_low: float
    ci_high: float
    mean_ratio: float | None
    win: int
    tie: int
    lose: int
    order_changes: int | None
    order_flips: int | None
    zeros: int
    judge: str
    by_question: ByQuestion = field(compare=False, repr=False)
    label: str | None = None
    unparsed: int = 0

    def record(self) -> dict[str, Any]:
        """What `scores.json` holds for a benchmark."""
        figures = {key: value for key, value in vars(self).items() if key != "by_question"}
        return {**figures, "interval": INTERVAL}


def score(judgements: Sequence[Judgement], label: str | None = None, *, seed: int = 0) -> Scores:
    """Score one model on one benchmark from one judge's judgements.

    Args:
        judgements: each question judged in order 0, or in both orders.
        label: the judge's warning.
        seed: of the bootstrap; two models scored with one seed are resampled alike.

    Raises:
        InputError: nothing was judged, or the judgements contradict each other or their scale.
    """
    # Sorted, so that the models of one benchmark are resampled alike whatever the order of their judgements.
    judgements = sorted(judgements, key=lambda judgement: judgement.question_id)
    model, competitor = paired_scores(judgements)
    M, C = model.sum(axis=1), competitor.sum(axis=1)
    if C.sum() == 0:
        raise InputError("the competitor's scores are all 0, so there is no relative score; judge again")
    low, high = relative_score_interval(M, C, seed)
    unparsed = unparsed_questions(judgements)
    asked = dict.fromkeys(judgement.question_id for judgement in judgements)
    verdicts = np.sign(model - competitor)
    both = verdicts.shape[1] == 2
    return Scores(
        questions=len(M),
        relative_score=float(100 * M.sum() / C.sum()),
        ci_low=low,
        ci_high=high,
        mean_ratio=float(100 * (M / C).mean()) if (C > 0).all() else None,
        win=int((M > C).sum()),
        tie=int((M == C).sum()),
        lose=int((M < C).sum()),
        order_changes=int((verdicts[:, 0] != verdicts[:, 1]).sum()) if both else None,
        order_flips=int((verdicts[:, 0] * verdicts[:, 1] < 0).sum()) if both else None,
        zeros=int((model == 0).sum() + (competitor == 0).sum()),
        judge=judgements[0].judge,
        by_question=ByQuestion(tuple(key for key in asked if key not in unparsed), M, C, unparsed),
        label=label,
        unparsed=sum(not judgement.parsed for judgement in judgements),
    )


def read_scores(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What `scores.json` of a round says so far.

    Raises:
        InputError: the file is damaged.
    """
    file = folder / "scores.json"
    remedy = "restore it, or delete it and judge again with `diverseevol judge`"
    scores = read_json(file, remedy) if file.exists() else {}
    if not isinstance(scores, dict) or not all(isinstance(record, dict) for record in scores.values()):
        raise InputError(f"{file}: expected an object of scores by benchmark; {remedy}")
    return scores


def paired_scores(
    judgements: Sequence[Judgement],
) -> tuple[Float[np.ndarray, "questions orders"], Float[np.ndarray, "questions orders"]]:
    """The model's and the competitor's scores, a row a question in the order of its first judgement.

    Questions with an unparsed judgement (`unparsed_questions`) have no row.

    Raises:
        InputError: as `score`.
    """
    if not judgements:
        raise InputError("no judgements to score; judge the answers first")
    left_out = set(unparsed_questions(judgements))
    by_question: dict[str, dict[int, tuple[float | None, float | None]]] = {}
    for judgement in judgements:
        _check(judgement, judgements[0])
        question, order = judgement.question_id, judgement.order
        if order in by_question.setdefault(question, {}):
            raise InputError(f"question {question!r}: judged twice in order {order}; keep one judgement")
        by_question[question][order] = (judgement.model_score, judgement.competitor_score)
    expected = set().union(*by_question.values())
    for question, orders in by_question.items():
        for order in sorted(expected - set(orders)):
            raise InputError(f"question {question!r}: not judged in order {order}, as others are; judge it again")
    rows = [[orders[k] for k in sorted(orders)] for question, orders in by_question.items() if question not in left_out]
    if not rows:
        raise InputError("every question has a judgement without scores; judge again, with another judge or prompt")
    scores = np.array(rows, dtype=np.float64)
    return scores[:, :, 0], scores[:, :, 1]


def unparsed_questions(judgements: Sequence[Judgement]) -> tuple[str, ...]:
    """The questions that no score counts, because one of their judgements is without a verdict."""
    return tuple(dict.fromkeys(judgement.question_id for judgement in judgements if not judgement.parsed))


def _check(judgement: Judgement, first: Judgement) -> None:
    where = f"question {judgement.question_id!r}, order {judgement.order}"
    scores = (judgement.model_score, judgement.competitor_score)
    if judgement.order not in (0, 1):
        raise InputError(f"{where}: the order is 0 (model shown first) or 1; correct the judgement")
    if (scores[0] is None) != (scores[1] is None):
        raise InputError(f"{where}: one score without the other; judge it again")
    for value in scores:
        if value is not None and not 0 <= value <= TOP:
            raise InputError(f"{where}: a score of {value:g} where the scale ends at 0 and {TOP:g}; judge it again")
    if (judgement.judge, judgement.prompt_version) != (first.judge, first.prompt_version):
        raise InputError(
            f"{where}: judged by {judgement.judge} ({judgement.prompt_version}) but others by {first.judge} "
            f"({first.prompt_version}); score one judge and prompt at a time"
        )


def relative_score_interval(
    M: Float[np.ndarray, " questions"], C: Float[np.ndarray, " questions"], seed: int
) -> tuple[float, float]:
    """The 2.5th and 97.5th percentile of the relative score over resampled questions (percentile bootstrap).

    It knows the noise of which questions were asked, and neither the seed's nor the judge's.
    """
    draws = np.concatenate([counts @ np.stack([M, C], axis=1) for counts in resampled_counts(len(M), seed)])
    draws = draws[draws[:, 1] > 0]  # a resample of questions whose competitor scored 0 has no relative score
    low, high = np.percentile(100 * draws[:, 0] / draws[:, 1], [2.5, 97.5])
    return float(low), float(high)


def resampled_counts(questions: int, seed: int) -> Iterable[Float[np.ndarray, "resamples questions"]]:
    """How often each question is drawn in each of the resamples, in blocks that fit in memory."""
    # All models of a benchmark are resampled alike, and drawing takes longer than everything else.
    return _kept(questions, seed) if questions <= KEPT else _drawn(questions, seed)


@lru_cache(maxsize=2)
def _kept(questions: int, seed: int) -> tuple[Float[np.ndarray, "resamples questions"], ...]:
    return tuple(_drawn(questions, seed))


def _drawn(questions: int, seed: int) -> Iterator[Float[np.ndarray, "resamples questions"]]:
    rng = np.random.default_rng(seed)
    block = max(1, min(RESAMPLES, 2_000_000 // questions))
    for start in range(0, RESAMPLES, block):
        size = min(block, RESAMPLES - start)
        drawn = rng.integers(questions, size=(size, questions)) + questions * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * questions)
        yield counts.reshape(size, questions).astype(np.float64)
