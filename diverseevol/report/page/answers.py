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
BESIDE = {"competitor": "the competitor's answer", "reference": "the right answer"}
WHICH = {"all": "every round", "ends": "the first and the last round", "last": "the last round"}


@dataclass(frozen=True, eq=False)
class Model:
    """One round's model on one benchmark: what it answered, and what was said of it by each judge."""

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
    questions: dict[str, dict[str, str]] = {}
    models = list(_models(collection, questions))
    given = _given(collection.runs)
    order = sources(model.line for model in models)
    models.sort(key=lambda m: (order.index(m.line.source), m.line.kind == FULL, m.line, m.seed or 0, m.round))
    for which, length in CUTS:
        kept = [_record(model, questions[model.benchmark], names, length) for model in _kept(models, which)]
        listed = {name: {key: _cut(text, length) for key, text in texts.items()} for name, texts in questions.items()}
        beside = {name: _aligned(given.get(name, {}), texts, length) for name, texts in questions.items()}
        payload = {"questions": listed, "beside": beside, "models": kept, "cut": length, "which": WHICH[which]}
        if len(json.dumps(payload, ensure_ascii=False)) <= BUDGET:
            break
    return payload


def _kept(models: Sequence[Model], which: str) -> list[Model]:
    rounds: dict[tuple[Line, int | None, str], list[int]] = {}
    for model in models:
        rounds.setdefault((model.line, model.seed, model.benchmark), []).append(model.round)

    def wanted(model: Model) -> bool:
        there = rounds[model.line, model.seed, model.benchmark]
        return which == "all" or model.round == max(there) or (which == "ends" and model.round == min(there))

    return [model for model in models if wanted(model)]


def _models(collection: Collection, questions: dict[str, dict[str, str]]) -> Iterator[Model]:
    """Every model that answered or was judged; notes the questions on the way."""
    judged: dict[tuple[str, str, int | None, int, str], dict[str, Sequence[Judgement]]] = {}
    lines: dict[tuple[str, str], Line] = {}
    for each in collection.board.rounds:
        key = (each.source, each.schedule, each.seed, each.round, each.benchmark)
        judge = each.judge if each.prompt_version == "released" else f"{each.judge} ({each.prompt_version})"
        judged.setdefault(key, {})[judge] = collection.judgements[each.file]
        lines[each.source, each.schedule] = collection.line(each)
    for run in collection.runs:
        for t, benchmark, answers in _answers(run, questions):
            key = (run.line.source, run.line.schedule, run.seed, t, benchmark)
            yield Model(run.line, run.seed, t, benchmark, answers, judged.pop(key, {}))
    for (source, schedule, seed, t, benchmark), by_judge in judged.items():
        texts = questions.setdefault(benchmark, {})
        for judgements in by_judge.values():
            for one in judgements:
                texts.setdefault(one.question_id, "")
        yield Model(lines[source, schedule], seed, t, benchmark, {}, by_judge)


def _answers(run: Run, questions: dict[str, dict[str, str]]) -> Iterator[tuple[int, str, dict[str, str]]]:
    for done in run.rounds:
        for file in sorted((run.folder / "rounds" / f"{done.index:02d}" / "answers").glob("*.jsonl")):
            lines = read_jsonl(file, REDO)
            texts = questions.setdefault(file.stem, {})
            for line in lines:
                given = f"\n\n{line['input']}" if line.get("input") else ""
                texts[str(line.get("id"))] = f"{line.get('instruction', '')}{given}"
            yield done.index, file.stem, {str(line.get("id")): str(line.get("answer", "")) for line in lines}


def _given(runs: Sequence[Run]) -> dict[str, dict[str, dict[str, str | None]]]:
    """By benchmark, kind and question: references and competitors' answers; None where runs differ in them."""
    found: dict[str, dict[str, dict[str, str | None]]] = {}
    for run in runs:
        for file in sorted((run.folder / "questions").glob("*.jsonl")):
            for line in read_jsonl(file, REWRITE):
                for kind in BESIDE:
                    if isinstance(line.get(kind), str):
                        known = found.setdefault(file.stem, {}).setdefault(kind, {})
                        key, text = str(line.get("id")), line[kind]
                        known[key] = text if known.get(key, text) == text else None
    return found


def _aligned(
    given: Mapping[str, Mapping[str, str | None]], questions: Mapping[str, str], length: int
) -> dict[str, list[str | None]]:
    return {
        BESIDE[kind]: [None if (text := texts.get(key)) is None else _cut(text, length) for key in questions]
        for kind, texts in given.items()
    }


def _record(model: Model, questions: Mapping[str, str], names: Mapping[Line, str], length: int) -> dict[str, Any]:
    seed = "" if model.seed is None else f", seed {model.seed}"
    said: dict[str, dict[str, list[Any]]] = {}
    for judge, judgements in model.judgements.items():
        for one in judgements:
            verdict = [one.order, one.model_score, one.competitor_score, _cut(one.reason, length)]
            said.setdefault(judge, {}).setdefault(one.question_id, []).append(verdict)
    return {
        "name": f"{names[model.line]}{seed}, round {model.round}",
        "source": model.line.source,
        "benchmark": model.benchmark, "sampler": model.line.sampler, "seed": model.seed, "round": model.round,
        "answers": [_cut(model.answers[key], length) if key in model.answers else None for key in questions],
        "judged": {judge: [found.get(key) for key in questions] for judge, found in said.items()},
    }  # fmt: skip


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
