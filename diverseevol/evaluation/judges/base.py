"""What a judge is, what it is given, and what it declares of itself.

A judge gives the model's answer and the competitor's answer a score each; `diverseevol.evaluation.scores` says what
becomes of them. A new judge is one class in one file, which need not subclass anything, and one YAML in `conf/judge/`.
Whatever the commands have to know of it, it declares as its `Capabilities`: nothing looks at its class or its name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.budget import Account, Estimate
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.progress import Progress, Silent

FLOOR, TOP = 1.0, 10.0
Comparison = Literal["reference", "competitor"]
REMEDIES: Mapping[Comparison, str] = {
    "competitor": "give benchmark=… with benchmark.competitor=FILE (diverseevol answer makes one)",
    "reference": "give benchmark=questions benchmark.path=FILE with a reference in each line",
}


@dataclass(frozen=True)
class Judgement:
    """One verdict of one judge on one question; each score is under the name of whose answer it rates.

    Attributes:
        order: 0 where the model's answer was shown first, 1 where it was shown second; a judge that does not
            look at both at once gives order 0 only.
        model_score: of the model under test, from 1 to 10 (recorded ones may reach down to 0); None where the judge's
            words hold no two scores, which is not a verdict and never a zero.
        competitor_score: of the answer that it is measured against, on the same scale; None together with the other.
        prompt_version: of the judge's prompt, or of its rule where it has no prompt.
        reason: the judge's words.
    """

    question_id: str
    order: int
    model_score: float | None
    competitor_score: float | None
    judge: str
    prompt_version: str
    reason: str

    @property
    def parsed(self) -> bool:
        """Whether there is a verdict."""
        return self.model_score is not None and self.competitor_score is not None


@dataclass(frozen=True)
class AnswerSheet:
    """One model's answers to one benchmark, for a judge.

    Attributes:
        benchmark: the questions, in whose order the judgements come.
        answers: the model's answers by question id.
        round: the round whose model answered; None where there is none.
        progress: to be told how far the judge has come.
    """

    benchmark: Benchmark
    answers: Mapping[str, str]
    round: int | None = None
    progress: Progress = field(default_factory=Silent)

    def pairs(self, comparison: Comparison) -> Iterator[tuple[Question, str, str]]:
        """Each question with the model's answer and the text that it is compared with.

        Raises:
            InputError: a question has no answer, or no text to compare it with.
        """
        for question in self.benchmark.questions:
            where = f"benchmark {self.benchmark.name}, question {question.id!r}"
            if question.id not in self.answers:
                raise InputError(f"{where}: no answer to judge; answer it first")
            text = getattr(question, comparison)
            if text is None:
                raise InputError(
                    f"{where}: no {comparison} to compare with; {REMEDIES[comparison]}, or choose another judge"
                )
            yield question, self.answers[question.id], text


@runtime_checkable
class Costs(Protocol):
    """Of a judge whose calls are paid for, usually the judge itself."""

    @property
    def account(self) -> Account:
        """What was spent, and the limits."""
        ...

    def estimate(self, sheet: AnswerSheet) -> Estimate:
        """What judging these answers would take."""
        ...


@dataclass(frozen=True)
class Capabilities:
    """What a judge needs, and what its scores are.

    Attributes:
        compares_with: the field of a question that answers are compared with, checked before any work; None where there
            is none.
        prompt_version: what its judgements will be recorded with; "" where that is not known beforehand.
        label: a warning to show wherever its scores are shown.
        gold: whether it compares with right answers, so that a relative score of 100 is perfect.
        calls: whether each judgement is a call of a language model, which reports count.
        costs: keeps the account, where calls are paid for.
        judges: False leaves the answers on disk, to be judged later.
    """

    compares_with: Comparison | None = None
    prompt_version: str = ""
    label: str | None = None
    gold: bool = False
    calls: bool = True
    costs: Costs | None = None
    judges: bool = True


@runtime_checkable
class Judge(Protocol):
    """Scores answers to a benchmark's questions."""

    @property
    def name(self) -> str:
        """Recorded with every judgement."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it needs, and what its scores are."""
        ...

    def judge(self, sheet: AnswerSheet) -> list[Judgement]:
        """Judge the answer to every question.

        Raises:
            InputError: a question has no answer, or no text that this judge compares answers with.
            GivenUpError: the judge is of no use, but has given some judgements.
        """
        ...


class GivenUpError(InputError):
    """A judge was given up.

    Args:
        message: why, and what to do.
        judgements: called for those made until now, those of requests that were under way included.
        refused: whether that concerns this benchmark alone, all of whose few prompts were refused.
    """

    def __init__(self, message: str, judgements: Callable[[], Sequence[Judgement]], *, refused: bool = False) -> None:
        super().__init__(message)
        self.judgements = judgements
        self.refused = refused


def checked_judge(judge: object) -> Judge:
    """A judge of whatever class.

    Raises:
        InputError: a part of a judge is missing.
    """
    if isinstance(judge, Judge) and isinstance(judge.capabilities, Capabilities):
        return judge
    raise InputError(
        f"judge: {type(judge).__module__}.{type(judge).__qualname__} is not a judge; give it a name, capabilities and "
        f"a method judge(sheet), as docs/judging.md shows"
    )


def unfit(judge: Judge, benchmark: Benchmark) -> str | None:
    """Why a judge cannot judge answers to a benchmark, and what to do; None where it can."""
    needed = judge.capabilities.compares_with

    def without(comparison: Comparison) -> list[str]:
        return [question.id for question in benchmark.questions if getattr(question, comparison) is None]

    if needed is None or not (missing := without(needed)):
        return None
    alternatives = [comparison for comparison in REMEDIES if not without(comparison)]
    hint = f" (one that compares with a {alternatives[0]}, which all questions have)" if alternatives else ""
    return (
        f"benchmark {benchmark.name}: {len(missing):,} of {len(benchmark.questions):,} questions have no {needed} (the "
        f"first is {missing[0]!r}), which the judge {judge.name} compares with; {REMEDIES[needed]}, or choose another "
        f"judge{hint}"
    )
