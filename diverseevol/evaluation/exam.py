"""A round's exam: the model answers the benchmarks, a judge scores the answers, and both stay on disk."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from diverseevol.engine.answering.answerer import Answerer
from diverseevol.errors import InputError
from diverseevol.evaluation.judge_round import judge_round, logged, read_scores
from diverseevol.evaluation.judges.base import Judge, NoJudge
from diverseevol.evaluation.questions.answer_file import AnswerFile, answer
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.options import Generation
from diverseevol.storage.files import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Exam:
    """What a round's model is asked, and who judges it.

    Attributes:
        benchmarks: the questions.
        judge: scores the answers; `NoJudge` leaves them for later.
        generation: how questions are answered.
    """

    benchmarks: tuple[Benchmark, ...] = ()
    judge: Judge = field(default_factory=NoJudge)
    generation: Generation = field(default_factory=Generation)

    def __post_init__(self) -> None:
        field = self.judge.compares_with
        for benchmark in self.benchmarks if field != "nothing" else ():
            lacking = [question.id for question in benchmark.questions if getattr(question, field) is None]
            if lacking:
                raise InputError(
                    f"benchmark {benchmark.name}: {len(lacking)} of {len(benchmark.questions)} questions have no "
                    f"{field} (the first is {lacking[0]!r}), which judge={self.judge.name} compares with; choose "
                    f"another judge (gold needs references, overlap a competitor, none nothing)"
                )


def keep_questions(folder: Path, benchmarks: Sequence[Benchmark]) -> None:
    """Write what is asked and what answers are held against, a file a benchmark in `questions/`.

    Args:
        folder: the run folder; a file that is there stays, for the answers there were held against that, unless it
            has nothing that an answer can be held against.
        benchmarks: those asked, with references and a competitor's answers where they have them.
    """
    for benchmark in benchmarks:
        file = folder / "questions" / f"{benchmark.name}.jsonl"
        lines = [asdict(question) for question in benchmark.questions]
        if not file.exists() or (_can_be_held_against(lines) and not _can_be_held_against(read_jsonl(file))):
            write_jsonl(file, lines)


def _can_be_held_against(questions: Sequence[Mapping[str, Any]]) -> bool:
    return any(line.get(key) is not None for line in questions for key in ("reference", "competitor"))


def unexamined(exam: Exam, folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Benchmarks whose answers, those whose scores, and those whose scores by this judge a whole round lacks.

    They were asked for after it was made.
    """
    unanswered = [b.name for b in exam.benchmarks if not AnswerFile(folder, b, exam.generation).whole()]
    scored = read_scores(folder)
    judged = not isinstance(exam.judge, NoJudge)
    answered = [b.name for b in exam.benchmarks if judged and b.name not in unanswered]
    others = [name for name in answered if name in scored and scored[name].get("judge") != exam.judge.name]
    return unanswered, [name for name in answered if name not in scored], others


def examine(
    exam: Exam,
    answerer: Answerer,
    model: Callable[[], PreTrainedModel],
    folder: Path,
    seed: Sequence[int],
    timed: Callable[[str], AbstractContextManager[None]],
) -> dict[str, float]:
    """Answer and judge every benchmark; what is on disk already is kept.

    Args:
        exam: benchmarks, judge and generation settings.
        answerer: puts the questions to the model.
        model: gives the round's model; not called where all answers are on disk.
        folder: the round's folder, which gets `answers/`, `judgements/` and `scores.json`.
        seed: what the sampling of answers comes from.
        timed: notes a phase's wall time.

    Returns:
        The scores by logged name, such as `relative_score/vicuna`.
    """
    place = answerer.processes
    for benchmark in exam.benchmarks:
        file = AnswerFile(folder, benchmark, exam.generation)
        if not place.share(file.whole()):
            with timed(f"answer {benchmark.name}"):
                answer(file, answerer, model(), seed)
    if place.first and exam.benchmarks and not isinstance(exam.judge, NoJudge):
        with timed("judge"):
            judge_round(folder, exam.benchmarks, exam.judge)
    scores = place.share(read_scores(folder) if place.first else {})
    return logged(scores, [benchmark.name for benchmark in exam.benchmarks])
