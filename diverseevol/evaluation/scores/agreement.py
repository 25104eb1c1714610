"""How far one judge agrees with another on the same answers: check this before paying for an expensive judge."""

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.frame import Frame, frame_of
from diverseevol.evaluation.scores.read_judgements import JudgedAnswers, read_judgements
from diverseevol.evaluation.scores.scores import paired_scores, unparsed_questions

COLUMNS = (
    "benchmark", "judge", "recorded_judge",
    "models", "questions",  # that both have judged; the questions are those of all models together
    "model_ranks",  # Spearman's rank correlation of the models' relative scores; None below three models
    "final_ranks",  # likewise of each schedule's last common round, which is what a comparison of samplers rests on
    "question_scores",  # Pearson's over questions of the model's lead on the competitor; None where one never varies
    "same_verdict",  # share of questions with the same verdict: win, tie or lose
    # Share of questions on which the judge names another winner when the answers swap places; None where not both
    # orders were judged.
    "order_flips", "recorded_order_flips",
    # Points by which the judge scores the answer that is shown first above the one shown second, on average over both
    # orders, so that which answer is better does not count: above 0 it favours the first place. None as for the flips.
    "first_place_lead", "recorded_first_place_lead",
    "relative_score_shift",  # mean over models of the judge's relative score less the recorded judge's, in points
    "left_out",  # questions without a verdict by either
)  # fmt: skip

Key = tuple[str, str, str, int | None, int]  # source, benchmark, schedule, seed, round: what names one model's answers
# The scores of one model and of its competitor by one judge.
Paired = tuple[Float[np.ndarray, "_questions _orders"], Float[np.ndarray, "_questions _orders"]]


def agree(judgements: Path, recorded: Path) -> Frame:
    """Hold the judgements below one folder against those below another: a row a benchmark, with `COLUMNS`.

    The same answers are recognised by source, benchmark, schedule, seed and round; where no source is in both, as
    between the two layouts, by the rest.

    Raises:
        InputError: nothing was judged by both, or one of the files is faulty.
    """
    files, recorded_files = list(read_judgements(judgements)), list(read_judgements(recorded))
    with_source = bool({file.model.source for file in files} & {file.model.source for file in recorded_files})
    by_key, recorded_by_key = (_by_key(listed, with_source=with_source) for listed in (files, recorded_files))
    common = sorted(by_key.keys() & recorded_by_key.keys(), key=str)
    if not common:
        raise InputError(
            f"{judgements} and {recorded}: no benchmark, schedule, seed and round was judged in both (for instance "
            f"{_name(min(by_key, key=str))} and {_name(min(recorded_by_key, key=str))}); judge the same answers"
        )
    records = []
    for benchmark in sorted({key[1] for key in common}):
        keys = [key for key in common if key[1] == benchmark]
        records.append(_agreement(keys, [by_key[key] for key in keys], [recorded_by_key[key] for key in keys]))
    return frame_of(records, COLUMNS)


def _by_key(files: Sequence[JudgedAnswers], *, with_source: bool) -> dict[Key, JudgedAnswers]:
    by_key: dict[Key, JudgedAnswers] = {}
    for file in files:
        model = file.model
        key = (model.source if with_source else "", file.benchmark, model.schedule, model.seed, model.round)
        if key in by_key:
            raise InputError(
                f"{by_key[key].file} and {file.file}: expected one file of {_name(key)}, got two; give a folder of one "
                f"data set and model"
            )
        by_key[key] = file
    return by_key


def _name(key: Key) -> str:
    source, benchmark, schedule, seed, t = key
    return f"{source and f'{source}, '}{benchmark}, {schedule}, {'' if seed is None else f'seed {seed}, '}round {t}"


def _agreement(
    keys: Sequence[Key], files: Sequence[JudgedAnswers], recorded_files: Sequence[JudgedAnswers]
) -> dict[str, Any]:
    """The agreement on one benchmark; the files are of the models that the keys name."""
    pairs = list(zip(files, recorded_files, strict=True))
    left_out = [_unparsed(*pair) for pair in pairs]
    scores, recorded = ([_paired(pair[i], out) for pair, out in zip(pairs, left_out, strict=True)] for i in (0, 1))
    judges = sorted({tuple(file.judgements[0].judge for file in pair) for pair in pairs})
    if len(judges) > 1:
        raise InputError(
            f"benchmark {keys[0][1]}: judged by {', '.join(map(' and '.join, judges))}; give folders of one judge each"
        )
    relative, recorded_relative = (
        [float(100 * model.sum() / competitor.sum()) for model, competitor in judged] for judged in (scores, recorded)
    )
    leads, recorded_leads = (
        np.concatenate([(model - competitor).mean(axis=1) for model, competitor in judged])
        for judged in (scores, recorded)
    )
    final = {keys[i][:4]: i for i in sorted(range(len(keys)), key=lambda i: keys[i][4])}.values()
    return {
        "benchmark": keys[0][1],
        "judge": judges[0][0],
        "recorded_judge": judges[0][1],
        "models": len(keys),
        "questions": len(leads),
        "model_ranks": rank_correlation(relative, recorded_relative),
        "final_ranks": rank_correlation([relative[i] for i in final], [recorded_relative[i] for i in final]),
        "question_scores": correlation(leads, recorded_leads),
        "same_verdict": float(np.mean(np.sign(leads) == np.sign(recorded_leads))),
        "order_flips": _order_flips(scores),
        "recorded_order_flips": _order_flips(recorded),
        "first_place_lead": _first_place_lead(scores),
        "recorded_first_place_lead": _first_place_lead(recorded),
        "relative_score_shift": float(np.mean(np.subtract(relative, recorded_relative))),
        "left_out": sum(map(len, left_out)),
    }


def _unparsed(file: JudgedAnswers, recorded: JudgedAnswers) -> set[str]:
    """The questions without a verdict by either judge of one model's answers."""
    asked, recorded_asked = ({judgement.question_id for judgement in f.judgements} for f in (file, recorded))
    if differing := sorted(asked ^ recorded_asked):
        raise InputError(
            f"{file.file} and {recorded.file}: not the same questions ({len(differing)} are in one only, first "
            f"{differing[0]!r}); judge both on one benchmark"
        )
    return {*unparsed_questions(file.judgements), *unparsed_questions(recorded.judgements)}


def _paired(file: JudgedAnswers, left_out: Container[str]) -> Paired:
    kept = [judgement for judgement in file.judgements if judgement.question_id not in left_out]
    try:
        return paired_scores(sorted(kept, key=lambda judgement: judgement.question_id))
    except InputError as error:
        raise InputError(f"{file.file}: {error}") from error


def _order_flips(scores: Sequence[Paired]) -> float | None:
    flips = [np.prod(np.sign(model - competitor), axis=1) < 0 for model, competitor in _in_both_orders(scores)]
    return float(np.mean(np.concatenate(flips))) if flips else None


def _first_place_lead(scores: Sequence[Paired]) -> float | None:
    # In order 0 the model's answer is shown first, in order 1 the competitor's.
    leads = [(model - competitor) @ [0.5, -0.5] for model, competitor in _in_both_orders(scores)]
    return float(np.mean(np.concatenate(leads))) if leads else None


def _in_both_orders(scores: Sequence[Paired]) -> list[Paired]:
    return [pair for pair in scores if pair[0].shape[1] == 2]


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Spearman's, equal values at their mean rank; None as `correlation`."""
    from scipy.stats import rankdata  # slow import; a refused request does not need it

    return correlation(rankdata(a), rankdata(b))


def correlation(a: Float[np.ndarray, " values"], b: Float[np.ndarray, " values"]) -> float | None:
    """Pearson's; None below three pairs, or where a side never varies."""
    if len(a) < 3 or a.std() == 0 or b.std() == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])
