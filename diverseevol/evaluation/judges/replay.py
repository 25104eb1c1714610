"""Recorded judgements as the judge: a whole analysis without a key, and without paying again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judge, Judgement
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.evaluation.scores.read_judgements import JudgementFile, read_judgements
from diverseevol.evaluation.scores.scoreboard import LABELS
from diverseevol.storage.files import read_jsonl

UNHELD = "could not be held against the answers, for those that were judged do not lie beside them"


@dataclass
class ReplayJudge:
    """Repeats what a judge has said before, from judgements in either layout (see `scores.read_judgements`).

    Attributes:
        judgements: the folder or archive that holds them.
        schedule: whose judgements, where the folder holds several evolutions.
        seed: likewise.
        round: which round's; None takes that of the round being judged.
    """

    judgements: str
    schedule: str | None = None
    seed: int | None = None
    round: int | None = None

    compares_with: Literal["reference", "competitor", "nothing"] = field(init=False, default="nothing")

    @property
    def name(self) -> str:
        """Of the judge that is repeated."""
        return " and ".join(sorted({file.judgements[0].judge for file in self._recorded.values()}))

    @property
    def label(self) -> str | None:
        """The warning of the judge that is repeated, and whether it may have judged other answers than these."""
        alone = [file.file for file in self._recorded.values() if not _judged(file).is_file()]
        unheld = f"{len(alone)} files of recorded judgements {UNHELD}" if alone else None
        return "; ".join(filter(None, (LABELS.get(self.name), unheld))) or None

    @property
    def prompt_version(self) -> str:
        """Of the judgements that are repeated."""
        return " and ".join(sorted({file.judgements[0].prompt_version for file in self._recorded.values()}))

    def of_round(self, t: int) -> Judge:
        """This judge, at round t unless it was given one."""
        return self if self.round is not None else _Replay(self, t)

    def judge(self, benchmark: Benchmark, answers: Mapping[str, str]) -> list[Judgement]:
        """Repeat the judgements of `round`.

        Raises:
            InputError: one is missing, or was made on another answer.
        """
        if self.round is None:
            raise InputError("judge.round is not given and no round is being judged; give judge.round=N")
        return self.repeat(benchmark, answers, self.round)

    def repeat(self, benchmark: Benchmark, answers: Mapping[str, str], t: int) -> list[Judgement]:
        """Repeat the judgements of round t; errors as `judge`."""
        file = self._recorded.get((benchmark.name, t))
        if file is None:
            there = ", ".join(f"{name} round {number}" for name, number in sorted(self._recorded)) or "none"
            raise InputError(
                f"judge.judgements={self.judgements}: no recorded judgements of benchmark {benchmark.name}, round {t} "
                f"(there: {there}); record them, or choose another judge"
            )
        recorded = {(one.question_id, one.order): one for one in file.judgements}
        orders = sorted({one.order for one in file.judgements})
        self._same_answers(file, answers)
        repeated = []
        for question in benchmark.questions:
            for order in orders:
                if (question.id, order) not in recorded:
                    raise InputError(
                        f"{file.file}: no recorded judgement of question {question.id!r} in order {order}; record it, "
                        f"or choose another judge"
                    )
                repeated.append(recorded[question.id, order])
        return repeated

    @cached_property
    def _recorded(self) -> dict[tuple[str, int], JudgementFile]:
        found: dict[tuple[str, int], JudgementFile] = {}
        for file in read_judgements(Path(self.judgements)):
            if self.schedule not in (None, file.schedule) or self.seed not in (None, file.seed):
                continue
            other = found.setdefault((file.benchmark, file.round), file)
            if other is not file:
                raise InputError(
                    f"judge.judgements={self.judgements}: holds benchmark {file.benchmark}, round {file.round} of "
                    f"several evolutions ({other.file} and {file.file}); say which by judge.schedule and judge.seed"
                )
        return found

    def _same_answers(self, file: JudgementFile, answers: Mapping[str, str]) -> None:
        """Where the answers that were judged lie beside their judgements, they must be these."""
        judged = _judged(file)
        if not judged.is_file():
            return
        for line in read_jsonl(judged):
            if line.get("id") in answers and line.get("answer") != answers[line["id"]]:
                raise InputError(
                    f"{file.file}: was recorded for another answer to question {line['id']!r}; replay the judgements "
                    f"of these answers, or choose another judge"
                )


def _judged(file: JudgementFile) -> Path:
    """Where a run keeps the answers that were judged; releases and archives have no such place."""
    place = Path(file.file)
    return place.parents[1] / "answers" / place.name if len(place.parents) > 1 else place.with_name("")


@dataclass(frozen=True)
class _Replay:
    """A round's share of a `ReplayJudge`."""

    whole: ReplayJudge
    t: int
    compares_with: Literal["reference", "competitor", "nothing"] = "nothing"

    @property
    def name(self) -> str:
        return self.whole.name

    @property
    def label(self) -> str | None:
        return self.whole.label

    @property
    def prompt_version(self) -> str:
        return self.whole.prompt_version

    def judge(self, benchmark: Benchmark, answers: Mapping[str, str]) -> list[Judgement]:
        return self.whole.repeat(benchmark, answers, self.t)
