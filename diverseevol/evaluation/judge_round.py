"""Judging a round: its answers are read from disk, a judge judges each, and the scores follow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import AnswerSheet, GivenUpError, Judge, Judgement
from diverseevol.evaluation.questions.benchmarks import Benchmark, read_answers
from diverseevol.evaluation.scores.agreement import rank_correlation
from diverseevol.evaluation.scores.scores import score, unparsed_questions
from diverseevol.progress import Progress
from diverseevol.storage.files import read_json, write_json, write_jsonl

LOGGED = ("relative_score", "win", "tie", "lose")


def judge_round(folder: Path, benchmarks: Sequence[Benchmark], judge: Judge, progress: Progress) -> None:
    """Judge the answers in a round's folder, and write `judgements/` and `scores.json` beside them.

    Args:
        folder: rounds/NN of a run.
        benchmarks: those to judge; their answers must be there.
        judge: who judges.
        progress: told how far the judge has come.
    """
    for benchmark in benchmarks:
        judge_answers(
            folder / "answers" / f"{benchmark.name}.jsonl", int(folder.name), benchmark, judge, folder, progress
        )


def judge_answers(
    file: Path, t: int, benchmark: Benchmark, judge: Judge, target: Path, progress: Progress
) -> dict[str, Any]:
    """Judge one file of answers.

    Args:
        file: the answers.
        t: the round whose model gave them.
        benchmark: the questions.
        judge: who judges.
        target: the folder that gets `judgements/` and `scores.json`.
        progress: told how far the judge has come.

    Raises:
        InputError: the answers or the judge do not fit.
        GivenUpError: the judge was given up: its judgements until then are in `judgements/given_up/`.

    Returns:
        What `scores.json` now holds for the benchmark.
    """
    answers = read_answers(file, benchmark)
    given_up = target / "judgements" / "given_up" / f"{benchmark.name}.jsonl"
    try:
        judgements = judge.judge(AnswerSheet(benchmark, answers, t, progress))
    except GivenUpError as error:
        # Not among the judgements that are scored, for these are too few to score a model by.
        write_jsonl(given_up, map(asdict, error.judgements()))
        sentence = f"{error}; the judgements so far are in {given_up}"
        raise GivenUpError(sentence, error.judgements, refused=error.refused) from error
    record = {
        **score(judgements, judge.capabilities.label).record(),
        "length": length_report(benchmark, answers, judgements),
    }
    write_jsonl(target / "judgements" / f"{benchmark.name}.jsonl", map(asdict, judgements))
    given_up.unlink(missing_ok=True)
    write_json(target / "scores.json", {**read_scores(target), benchmark.name: record})
    return record


def length_report(
    benchmark: Benchmark, answers: Mapping[str, str], judgements: Sequence[Judgement]
) -> dict[str, float | None]:
    """How long the answers are, and whether the judge's scores go with their length.

    Returns:
        `model_words` and `competitor_words`: mean words of an answer; `rank_correlation`: Spearman's, over questions,
        of the model's lead in score with its lead in words; None where either never varies.
    """
    left_out = set(unparsed_questions(judgements))
    lead: dict[str, float] = {}
    for judgement in judgements:
        model, competitor, key = judgement.model_score, judgement.competitor_score, judgement.question_id
        if model is not None and competitor is not None and key not in left_out:
            lead[key] = lead.get(key, 0.0) + model - competitor
    texts = {question.id: question.competitor or question.reference for question in benchmark.questions}
    model_words = [len(answers[key].split()) for key in lead]
    competitor_words = [len((texts[key] or "").split()) for key in lead]
    extra_words = [a - b for a, b in zip(model_words, competitor_words, strict=True)]
    return {
        "model_words": float(np.mean(model_words)),
        "competitor_words": float(np.mean(competitor_words)) if any(texts.values()) else None,
        "rank_correlation": rank_correlation(list(lead.values()), extra_words),
    }


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


def logged(scores: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """The scores on these benchmarks by logged name, such as `relative_score/vicuna`."""
    return {f"{key}/{name}": scores[name][key] for name in names if name in scores for key in LOGGED}
