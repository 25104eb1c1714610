"""Judging a round: its answers are read from disk, a judge judges each, and the scores follow."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from diverseevol.evaluation.judges.base import AnswerSheet, GivenUpError, Judge
from diverseevol.evaluation.questions.benchmarks import Benchmark, read_answers
from diverseevol.evaluation.scores.agreement import rank_correlation
from diverseevol.evaluation.scores.scores import ByQuestion, read_scores, score
from diverseevol.progress import Progress
from diverseevol.storage.files import write_json, write_jsonl

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
    scores = score(judgements, judge.capabilities.label)
    record = {**scores.record(), "length": length_report(benchmark, answers, scores.by_question)}
    write_jsonl(target / "judgements" / f"{benchmark.name}.jsonl", map(asdict, judgements))
    given_up.unlink(missing_ok=True)
    write_json(target / "scores.json", {**read_scores(target), benchmark.name: record})
    return record


def length_report(benchmark: Benchmark, answers: Mapping[str, str], scores: ByQuestion) -> dict[str, float | None]:
    """How long the answers are, and whether the judge's scores go with their length.

    Returns:
        `model_words` and `competitor_words`: mean words of an answer; `rank_correlation`: Spearman's, over questions,
        of the model's lead in score with its lead in words; None where either never varies.
    """
    texts = {question.id: question.competitor or question.reference for question in benchmark.questions}
    model_words = np.array([len(answers[question].split()) for question in scores.ids])
    competitor_words = np.array([len((texts[question] or "").split()) for question in scores.ids])
    lead, extra_words = scores.model - scores.competitor, model_words - competitor_words
    return {
        "model_words": float(model_words.mean()),
        "competitor_words": float(competitor_words.mean()) if any(texts.values()) else None,
        "rank_correlation": rank_correlation(lead.tolist(), extra_words.tolist()),
    }


def logged(scores: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, float]:
    """The scores on these benchmarks by logged name, such as `relative_score/vicuna`."""
    return {f"{key}/{name}": scores[name][key] for name in names if name in scores for key in LOGGED}
