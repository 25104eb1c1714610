"""Who says how good an answer is: the protocol of a judge, and the two judges that need no language model.

A judge gives the model's answer and the competitor's answer a score each. What becomes of the scores is the
business of `diverseevol.evaluation.scores.scores`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from sacrebleu.metrics import CHRF

from diverseevol.errors import InputError
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.progress import Progress

FLOOR, TOP = 1.0, 10.0


@dataclass(frozen=True)
class Judgement:
    """One verdict of one judge on one question; each score is under the name of whose answer it rates.

    Attributes:
        order: 0 where the model's answer was shown first, 1 where it was shown second; a judge that does not
            look at both at once gives order 0 only.
        model_score: of the model under test, from 1 to 10 (recorded ones may reach down to 0); None where the judge's
            words hold no two scores, which is no verdict and never a zero.
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


@runtime_checkable
class Judge(Protocol):
    """Scores answers to a benchmark's questions."""

    @property
    def name(self) -> str:
        """Recorded with every judgement."""
        ...

    @property
    def label(self) -> str | None:
        """A warning to show wherever this judge's scores are shown."""
        ...

    @property
    def compares_with(self) -> Literal["reference", "competitor", "nothing"]:
        """Which field of a question the judge holds an answer against, so that a lack is found before any work."""
        ...

    def judge(self, benchmark: Benchmark, answers: Mapping[str, str]) -> list[Judgement]:
        """Judge the answer to every question.

        Args:
            benchmark: the questions, in whose order the judgements come.
            answers: the model's answers by question id.

        Raises:
            InputError: a question lacks its answer, or what this judge holds answers against.
        """
        ...


@runtime_checkable
class Versioned(Protocol):
    """A judge that knows which prompt, or rule, its judgements will be recorded with."""

    @property
    def prompt_version(self) -> str:
        """As `Judgement` has it."""
        ...


@runtime_checkable
class JudgeOfRounds(Protocol):
    """A judge whose word on an answer depends on the round that gave it, as a recorded one's does."""

    def of_round(self, t: int) -> Judge:
        """The judge of round t."""
        ...


@runtime_checkable
class Watched(Protocol):
    """A judge that takes its time, and says how far it has come."""

    progress: Progress


def watch(judge: Judge, progress: Progress) -> None:
    """Have a judge that takes its time say how far it has come."""
    if isinstance(judge, Watched):
        judge.progress = progress


@dataclass(frozen=True)
class NoJudge:
    """Judges nothing: the answers stay on disk, to be judged later."""

    name: str = "none"
    label: str | None = None
    compares_with: Literal["reference", "competitor", "nothing"] = "nothing"

    def judge(self, benchmark: Benchmark, answers: Mapping[str, str]) -> list[Judgement]:
        return []


@dataclass(frozen=True)
class GoldJudge:
    """Compares with the reference: 10 where equal, else from 1 to 9 by the words in common.

    Case, white space and full stops at the end do not matter. An unequal answer gets 20·L/(a + r), rounded
    and cut to 1 … 9, with a and r words in the answer and the reference and L in their longest common
    subsequence: ten times the F-measure of those words. The reference itself has the competitor's part, so a
    relative score of 100 is perfect and 10 is the floor.
    """

    name: str = "gold"
    label: str | None = None
    compares_with: Literal["reference", "competitor", "nothing"] = "reference"
    prompt_version: str = "words-lcs-1"

    def judge(self, benchmark: Benchmark, answers: Mapping[str, str]) -> list[Judgement]:
        """Judge every answer against the question's reference, in one order."""
        judgements = []
        for question in benchmark.questions:
            if question.reference is None:
                raise InputError(
                    f"benchmark {benchmark.name}, question {question.id!r}: no reference to compare with; "
                    f"add the field 'reference' to the benchmark, or choose another judge"
                )
            answer = _answer(benchmark, question.id, answers)
            score, reason = _partial_credit(answer, question.reference)
            judgements.append(Judgement(question.id, 0, score, TOP, self.name, self.prompt_version, reason))
        return judgements


def _answer(benchmark: Benchmark, question_id: str, answers: Mapping[str, str]) -> str:
    if question_id not in answers:
        raise InputError(f"benchmark {benchmark.name}, question {question_id!r}: no answer to judge; answer it first")
    return answers[question_id]


def _partial_credit(answer: str, reference: str) -> tuple[float, str]:
    said, right = _words(answer), _words(reference)
    if not answer.strip():
        return FLOOR, "no answer"
    if said == right:
        return TOP, "equal to the reference"
    common = _longest_common_subsequence(said, right)
    score = min(max(round(20 * common / (len(said) + len(right))), FLOOR), TOP - 1)
    return float(score), f"{common} words in common of {len(said)} said and {len(right)} expected"


def _words(text: str) -> list[str]:
    return text.casefold().rstrip(" \t\r\n.").split()


def _longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length, by the usual table, of which a row at a time is enough."""
    row = [0] * (len(b) + 1)
    for word in a:
        above = row
        row = [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
    return row[-1]


@dataclass(frozen=True)
class OverlapJudge:
    """Character overlap with the competitor's answer: needs no model and no key, and judges no quality.

    The score is 1 + 9 · chrF / 100 with the sentence chrF2 of sacrebleu (Popović 2015): 1 for nothing in
    common, 10 for the competitor's own words. A better answer in other words scores low, so this is for
    trying the pipeline out.
    """

    name: str = "overlap"
    label: str | None = "smoke measure, not a judgement of quality"
    compares_with: Literal["reference", "competitor", "nothing"] = "competitor"
    prompt_version: str = "chrf2-1"

    def judge(self, benchmark: Benchmark, answers: Mapping[str, str]) -> list[Judgement]:
        """Judge every answer against the competitor's, in one order."""
        chrf = CHRF()
        judgements = []
        for question in benchmark.questions:
            if question.competitor is None:
                raise InputError(
                    f"benchmark {benchmark.name}, question {question.id!r}: no competitor to compare with; "
                    f"give benchmark.competitor=FILE, or choose another judge"
                )
            answer = _answer(benchmark, question.id, answers)
            overlap = chrf.sentence_score(answer, [question.competitor]).score if answer.strip() else 0.0
            score = FLOOR + (TOP - FLOOR) * overlap / 100
            judgements.append(
                Judgement(question.id, 0, score, TOP, self.name, self.prompt_version, f"chrF {overlap:.1f}")
            )
        return judgements
