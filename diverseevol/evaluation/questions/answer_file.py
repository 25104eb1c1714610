"""A model's answers on disk: written as they come, so that an interrupted run continues at the first missing one."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zlib import crc32

from transformers import PreTrainedModel

from diverseevol.engine.answering.answerer import Answerer
from diverseevol.engine.fast_path import batches_at_once
from diverseevol.errors import InputError
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.options import Generation
from diverseevol.runs.round_folder import REDO
from diverseevol.storage.files import atomic_write, read_jsonl, sync_folder, writing

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

    def begun(self) -> list[str]:
        """The answers to the first questions, left by an interrupted run; a line that was cut off is dropped.

        Raises:
            InputError: as `complete`.
        """
        if not self.unfinished.exists():
            return []
        content = self.unfinished.read_bytes()
        with atomic_write(self.unfinished, "wb") as file:  # a new file, whatever other name or link this one had
            file.write(content[: content.rfind(b"\n") + 1])
        lines = read_jsonl(self.unfinished, self.redo)
        self._check(self.unfinished, lines)
        return [line["answer"] for line in lines]

    def append(self, first: int, texts: Sequence[str]) -> None:
        """Add answers, beginning with that to the question of index `first`; they are on disk when this returns."""
        records = [
            {
                "id": question.id, "instruction": question.instruction, "input": question.input,
                "answer": text, "generation": self._settings,
            }
            for question, text in zip(self.benchmark.questions[first:], texts, strict=False)
        ]  # fmt: skip
        with writing(self.unfinished):
            self.unfinished.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.unfinished, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o666)
            with os.fdopen(descriptor, "a", encoding="utf-8", newline="\n") as file:
                file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
                file.flush()
                os.fsync(file.fileno())

    def finish(self) -> None:
        """Every question is answered: the file takes its name."""
        with writing(self.path):
            self.unfinished.replace(self.path)
            sync_folder(self.path.parent)

    def _check(self, file: Path, lines: Sequence[dict[str, Any]]) -> None:
        asked = [(question.id, question.instruction, question.input) for question in self.benchmark.questions]
        if [(line.get("id"), line.get("instruction"), line.get("input")) for line in lines] != asked[: len(lines)]:
            raise self._differs(file, "other questions")
        if any(line.get("generation") != self._settings for line in lines):
            raise self._differs(file, "with other generation settings")

    def _differs(self, file: Path, how: str) -> InputError:
        return InputError(
            f"{file}: answers {how} than this run's; give benchmark.name another name, restore the settings; or "
            f"{self.redo}"
        )


def answer(file: AnswerFile, answerer: Answerer, model: PreTrainedModel, seed: Sequence[int]) -> None:
    """Answer what is missing, a batch at a time, or as many as go side by side.

    Args:
        file: which questions, how, and where to.
        answerer: puts the questions to the model.
        model: the model that answers.
        seed: what the sampling comes from; each question has a stream of its own below it.
    """
    processes, name, questions = answerer.processes, file.benchmark.name, file.benchmark.questions
    together = file.generation.batch_size * processes.world * batches_at_once(model)
    done = len(processes.share(file.begun() if processes.first else []))
    with answerer.progress.track(f"answer {name}", len(questions) - done) as advance:
        while done < len(questions):
            part = questions[done : done + together]
            texts = answerer.answer(
                model,
                [(question.instruction, question.input) for question in part],
                [(*seed, crc32(f"{name} {question.id}".encode())) for question in part],
                file.generation,
                advance,
            )
            if processes.first:
                file.append(done, texts)
            done += len(part)
    if processes.first:
        file.finish()
    processes.barrier()
