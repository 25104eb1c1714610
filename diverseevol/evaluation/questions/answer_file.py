"""A model's answers on disk: written as they come, so that an interrupted run continues with those that are missing."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from transformers import PreTrainedModel

from diverseevol.engine.answering.answerer import Answerer
from diverseevol.engine.fast_path import batches_at_once
from diverseevol.errors import InputError
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.options import Generation
from diverseevol.runs.round_folder import REDO
from diverseevol.storage.files import atomic_write, read_jsonl, sync_folder, write_jsonl, writing

UNFINISHED = ".unfinished"  # instead of .jsonl: complete lines, but not yet an answer to every question


class AnswerFile:
    """`answers/<benchmark>.jsonl` in a folder; until every question is answered, its lines wait under another name."""

    def __init__(self, folder: Path, benchmark: Benchmark, generation: Generation) -> None:
        self.path = folder / "answers" / f"{benchmark.name}.jsonl"
        self.unfinished = self.path.with_suffix(UNFINISHED)
        self.benchmark = benchmark
        self.generation = generation
        self._settings = {"max_new_tokens": generation.max_new_tokens, "temperature": generation.temperature}
        # A complete round is never asked again, so its file cannot be made again by itself.
        self.redo = REDO if (folder / "round.json").exists() else "restore it, or delete the file to answer again"

    def complete(self) -> bool:
        """Whether every question is answered.

        Raises:
            InputError: the file answers other questions, or these under other settings, so that its scores would be
                called by the wrong name.
        """
        if not self.path.exists():
            return False
        lines = read_jsonl(self.path, self.redo)
        self._check(self.path, lines)
        if len(lines) < len(self.benchmark.questions):
            raise self._differs(self.path, "fewer questions")
        return True

    def begun(self) -> dict[int, str]:
        """The answers that an interrupted run left, by the question's index; a line that was cut off is dropped.

        Raises:
            InputError: as `complete`.
        """
        if not self.unfinished.exists():
            return {}
        content = self.unfinished.read_bytes()
        with atomic_write(self.unfinished, "wb") as file:  # a new file, whatever other name or link this one had
            file.write(content[: content.rfind(b"\n") + 1])
        return {index: line["answer"] for index, line in self._unfinished().items()}

    def append(self, answers: Mapping[int, str], **notes: Any) -> None:
        """Add answers, by the question's index; they are on disk when this returns.

        Args:
            answers: in any order.
            notes: what each of their lines says beside the answer.
        """
        records = [
            {
                "id": question.id, "instruction": question.instruction, "input": question.input,
                "answer": text, "generation": self._settings, **notes,
            }
            for question, text in ((self.benchmark.questions[index], text) for index, text in answers.items())
        ]  # fmt: skip
        with writing(self.unfinished):
            self.unfinished.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.unfinished, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            with os.fdopen(descriptor, "a", encoding="utf-8", newline="\n") as file:
                file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
                file.flush()
                os.fsync(file.fileno())

    def sort(self) -> None:
        """Bring the lines into the order of the questions: answers may have come in any."""
        lines = self._unfinished()
        if list(lines) != sorted(lines):
            write_jsonl(self.unfinished, [lines[index] for index in sorted(lines)])

    def finish(self) -> None:
        """Every question is answered: the file takes its name."""
        with writing(self.path):
            self.unfinished.replace(self.path)
            sync_folder(self.path.parent)

    def _unfinished(self) -> dict[int, dict[str, Any]]:
        """The lines of the unfinished file, in their order, by the question's index."""
        lines = read_jsonl(self.unfinished, self.redo)
        index_of = {question: index for index, question in enumerate(map(_asked, self.benchmark.questions))}
        by_index = {index_of.get(_asked_in(line), -1): line for line in lines}
        if -1 in by_index:
            raise self._differs(self.unfinished, "other questions")
        self._check_settings(self.unfinished, lines)
        return by_index

    def _check(self, file: Path, lines: Sequence[dict[str, Any]]) -> None:
        if list(map(_asked_in, lines)) != list(map(_asked, self.benchmark.questions))[: len(lines)]:
            raise self._differs(file, "other questions")
        self._check_settings(file, lines)

    def _check_settings(self, file: Path, lines: Sequence[dict[str, Any]]) -> None:
        if any(line.get("generation") != self._settings for line in lines):
            raise self._differs(file, "with other generation settings")

    def _differs(self, file: Path, how: str) -> InputError:
        return InputError(
            f"{file}: answers {how} than this run's; give benchmark.name another name, restore the settings; or "
            f"{self.redo}"
        )


def _asked(question: Question) -> tuple[Any, ...]:
    return question.id, question.instruction, question.input


def _asked_in(line: Mapping[str, Any]) -> tuple[Any, ...]:
    return line.get("id"), line.get("instruction"), line.get("input")


def seed_of(seed: Sequence[int], benchmark: Benchmark, index: int) -> tuple[int, ...]:
    """What the sampling of the answer to one question comes from: a stream of its own below a seed."""
    return (*seed, crc32(f"{benchmark.name} {benchmark.questions[index].id}".encode()))


def answer(file: AnswerFile, answerer: Answerer, model: PreTrainedModel, seed: Sequence[int]) -> None:
    """Answer what is missing, a batch at a time, or as many as go side by side.

    Args:
        file: which questions, how, and where to.
        answerer: puts the questions to the model.
        model: the model that answers.
        seed: what the sampling comes from; each question has a stream of its own below it.
    """
    processes, questions = answerer.processes, file.benchmark.questions
    together = file.generation.batch_size * processes.world * batches_at_once(model)
    begun = processes.share(file.begun() if processes.first else {})
    missing = [index for index in range(len(questions)) if index not in begun]
    with answerer.progress.track(f"answer {file.benchmark.name}", len(missing)) as advance:
        for start in range(0, len(missing), together):
            part = missing[start : start + together]
            texts = answerer.answer(
                model,
                [(questions[index].instruction, questions[index].input) for index in part],
                [seed_of(seed, file.benchmark, index) for index in part],
                file.generation,
                advance,
            )
            if processes.first:
                file.append(dict(zip(part, texts, strict=True)))
    if processes.first:
        file.sort()
        file.finish()
    processes.barrier()
