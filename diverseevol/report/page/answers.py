"""Question by question: answers and judgements as the page carries them, cut so that the page stays small."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diverseevol.evaluation.judges.base import Judgement
from diverseevol.report.charts.lines import FULL, Line, sources
from diverseevol.report.collect import Collection, Run
from diverseevol.runs.round_folder import REDO
from diverseevol.runs.saved_config import REWRITE
from diverseevol.storage.files import read_jsonl

BUDGET = 6_000_000  # characters of JSON for all answers and reasons
# (rounds kept, characters of an answer or a reason): the first that fits the budget is taken.
CUTS = (("all", 4000), ("ends", 4000), ("last", 4000), ("last", 1500), ("last", 700), ("last", 350), ("last", 150))
REFERENCES = {"competitor": "the competitor's answer", "reference": "the right answer"}
KEPT = {"all": "every round", "ends": "the first and the last round", "last": "the last round"}
Texts = dict[str, dict[str, str]]  # by benchmark and id of a question


@dataclass(frozen=True, eq=False)
class Model:
    """One round's model on one benchmark: what it answered, and its judgements by judge."""

    line: Line
    seed: int | None
    round: int
    benchmark: str
    answers: Mapping[str, str]
    judgements: Mapping[str, Sequence[Judgement]]


def answers_payload(collection: Collection, names: Mapping[Line, str]) -> dict[str, Any]:
    """What the side-by-side view shows.

    Returns:
        `questions`: texts by benchmark and id; `beside`: what answers are held against, by benchmark and kind, aligned
        with the questions; `models`: each with `answers` and `judged`, lists aligned with its
        benchmark's questions; `cut` and `which` say what was left out.
    """
    questions: Texts = {}
    models = list(_models(collection, questions))
    references = _references(collection.runs)
    order = sources(model.line for model in models)
    models.sort(key=lambda m: (order.index(m.line.source), m.line.kind == FULL, m.line, m.seed or 0, m.round))
    for rounds, length in CUTS:
        payload = {
            "questions": {
                name: {key: _cut(text, length) for key, text in texts.items()} for name, texts in questions.items()
            },
            "beside": {
                name: {
                    kind: [_cut(known.get(key), length) for key in texts]
                    for kind, known in references.get(name, {}).items()
                }
                for name, texts in questions.items()
            },
            "models": [_record(model, questions[model.benchmark], names, length) for model in _kept(models, rounds)],
            "cut": length,
            "which": KEPT[rounds],
        }
        if len(json.dumps(payload, ensure_ascii=False)) <= BUDGET:
            break
    return payload


def _kept(models: Sequence[Model], rounds: str) -> list[Model]:
    judged: dict[tuple[Line, int | None, str], list[int]] = {}
    for model in models:
        judged.setdefault((model.line, model.seed, model.benchmark), []).append(model.round)
    ends = {"all": list, "ends": lambda seen: [min(seen), max(seen)], "last": lambda seen: [max(seen)]}[rounds]
    return [model for model in models if model.round in ends(judged[model.line, model.seed, model.benchmark])]


def _models(collection: Collection, questions: Texts) -> Iterator[Model]:
    """Every model that answered or was judged; notes the questions on the way."""
    judged: dict[tuple[Line, int | None, int, str], dict[str, Sequence[Judgement]]] = {}
    for scored in collection.board.frame.itertuples():
        key = (scored.line, scored.seed, scored.round, scored.benchmark)
        judge = scored.judge if scored.prompt_version == "released" else f"{scored.judge} ({scored.prompt_version})"
        judged.setdefault(key, {})[judge] = collection.judgements[scored.file]
    for run in collection.runs:
        for t, benchmark, answers in _answers(run, questions):
            yield Model(run.line, run.seed, t, benchmark, answers, judged.pop((run.line, run.seed, t, benchmark), {}))
    for (line, seed, t, benchmark), by_judge in judged.items():
        texts = questions.setdefault(benchmark, {})
        for judgements in by_judge.values():
            for judgement in judgements:
                texts.setdefault(judgement.question_id, "")
        yield Model(line, seed, t, benchmark, {}, by_judge)


def _answers(run: Run, questions: Texts) -> Iterator[tuple[int, str, dict[str, str]]]:
    for done in run.rounds:
        for file in sorted((run.folder / "rounds" / f"{done.index:02d}" / "answers").glob("*.jsonl")):
            lines = read_jsonl(file, REDO)
            questions.setdefault(file.stem, {}).update(
                (str(line.get("id")), "\n\n".join(map(str, filter(None, (line.get("instruction"), line.get("input"))))))
                for line in lines
            )
            yield done.index, file.stem, {str(line.get("id")): str(line.get("answer", "")) for line in lines}


def _references(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, str | None]]]:
    """By benchmark, kind and question: references and competitors' answers; None where runs differ in them."""
    references: dict[str, dict[str, dict[str, str | None]]] = {}
    for run in runs:
        for file in sorted((run.folder / "questions").glob("*.jsonl")):
            for line in read_jsonl(file, REWRITE):
                for kind, title in REFERENCES.items():
                    if isinstance(text := line.get(kind), str):
                        known = references.setdefault(file.stem, {}).setdefault(title, {})
                        key = str(line.get("id"))
                        known[key] = text if known.get(key, text) == text else None
    return references


def _record(model: Model, questions: Mapping[str, str], names: Mapping[Line, str], length: int) -> dict[str, Any]:
    seed = "" if model.seed is None else f", seed {model.seed}"
    judged: dict[str, dict[str, list[Any]]] = {}
    for judge, judgements in model.judgements.items():
        for judgement in judgements:
            scores = [judgement.order, judgement.model_score, judgement.competitor_score]
            of_question = judged.setdefault(judge, {}).setdefault(judgement.question_id, [])
            of_question.append([*scores, _cut(judgement.reason, length)])
    return {
        "name": f"{names[model.line]}{seed}, round {model.round}",
        "source": model.line.source,
        "benchmark": model.benchmark, "sampler": model.line.sampler, "seed": model.seed, "round": model.round,
        "answers": [_cut(model.answers.get(key), length) for key in questions],
        "judged": {judge: [by_question.get(key) for key in questions] for judge, by_question in judged.items()},
    }  # fmt: skip


def _cut(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else text[: length - 1] + "…"
