"""Recorded judgements as the judge: a complete analysis without a key, and without paying again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import AnswerSheet, Capabilities, Judgement
from diverseevol.evaluation.judges.without_model import capabilities_of
from diverseevol.evaluation.scores.read_judgements import JudgedAnswers, read_judgements
from diverseevol.storage.files import read_jsonl

UNCHECKED = "could not be checked against the answers, because those that were judged are not beside them"


@dataclass
class Replay:
    """Repeats what a judge said before, from judgements in either layout (see `scores.read_judgements`).

    Attributes:
        judgements: the folder or archive that holds them.
        schedule: of the evolution, where the folder holds several.
        seed: of the evolution, where the folder holds several.
        round: which round's; None takes that of the round being judged.
    """

    judgements: str
    schedule: str | None = None
    seed: int | None = None
    round: int | None = None

    @property
    def name(self) -> str:
        """The name of the judge that is repeated."""
        return " and ".join(sorted({file.judgements[0].judge for file in self._recorded.values()}))

    @cached_property
    def capabilities(self) -> Capabilities:
        """Those of the judge that is repeated, which nothing is asked again, and a warning of other answers."""
        versions = sorted({file.judgements[0].prompt_version for file in self._recorded.values()})
        alone = [file.file for file in self._recorded.values() if not _judged_answers(file).is_file()]
        unchecked = f"{len(alone)} files of recorded judgements {UNCHECKED}" if alone else None
        original = capabilities_of(self.name)
        label = "; ".join(filter(None, (original.label, unchecked))) or None
        return replace(original, compares_with=None, prompt_version=" and ".join(versions), label=label)

    def judge(self, sheet: AnswerSheet) -> list[Judgement]:
        """Repeat the judgements of `round`, or of the round being judged.

        Raises:
            InputError: one is missing, or was made on another answer.
        """
        benchmark, t = sheet.benchmark, sheet.round if self.round is None else self.round
        if t is None:
            raise InputError("judge.round is not given and no round is being judged; give judge.round=N")
        file = self._recorded.get((benchmark.name, t))
        if file is None:
            names = ", ".join(f"{name} round {number}" for name, number in sorted(self._recorded)) or "none"
            raise InputError(
                f"judge.judgements={self.judgements}: no recorded judgements of benchmark {benchmark.name}, round {t} "
                f"(there: {names}); record them, or choose another judge"
            )
        judgements = {(judgement.question_id, judgement.order): judgement for judgement in file.judgements}
        orders = sorted({judgement.order for judgement in file.judgements})
        self._check_answers(file, sheet.answers)
        repeated = []
        for question in benchmark.questions:
            for order in orders:
                if (question.id, order) not in judgements:
                    raise InputError(
                        f"{file.file}: no recorded judgement of question {question.id!r} in order {order}; record it, "
                        f"or choose another judge"
                    )
                repeated.append(judgements[question.id, order])
        return repeated

    @cached_property
    def _recorded(self) -> dict[tuple[str, int], JudgedAnswers]:
        files: dict[tuple[str, int], JudgedAnswers] = {}
        for file in read_judgements(Path(self.judgements)):
            if self.schedule not in (None, file.model.schedule) or self.seed not in (None, file.model.seed):
                continue
            t = file.model.round
            earlier = files.setdefault((file.benchmark, t), file)
            if earlier is not file:
                raise InputError(
                    f"judge.judgements={self.judgements}: holds benchmark {file.benchmark}, round {t} of "
                    f"several evolutions ({earlier.file} and {file.file}); say which by judge.schedule and judge.seed"
                )
        return files

    def _check_answers(self, file: JudgedAnswers, answers: Mapping[str, str]) -> None:
        """Where the answers that were judged are beside their judgements, they must be these."""
        judged = _judged_answers(file)
        if not judged.is_file():
            return
        for line in read_jsonl(judged):
            if line.get("id") in answers and line.get("answer") != answers[line["id"]]:
                raise InputError(
                    f"{file.file}: was recorded for another answer to question {line['id']!r}; replay the judgements "
                    f"of these answers, or choose another judge"
                )


def _judged_answers(file: JudgedAnswers) -> Path:
    """Where a run keeps the answers that were judged; releases and archives do not keep them."""
    path = Path(file.file)
    return path.parents[1] / "answers" / path.name if len(path.parents) > 1 else path.with_name("")
