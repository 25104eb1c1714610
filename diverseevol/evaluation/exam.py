"""A round's exam: the model answers the benchmarks, a judge scores the answers, and both stay on disk."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from diverseevol.engine.answering.answerer import Answerer
from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.server import Running, Server
from diverseevol.evaluation.judge_round import judge_round, logged
from diverseevol.evaluation.judges.base import Judge, unfit
from diverseevol.evaluation.judges.without_model import NoJudge
from diverseevol.evaluation.questions.answer_file import AnswerFile, answer
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.evaluation.questions.served import answer_by_server
from diverseevol.evaluation.scores.scores import read_scores
from diverseevol.options import Generation
from diverseevol.storage.files import read_jsonl, write_jsonl


@dataclass(frozen=True)
class Exam:
    """What a round's model is asked, and who judges it.

    Attributes:
        benchmarks: the questions.
        judge: scores the answers, or leaves them for later.
        generation: how questions are answered.
        server: what answers them in the model's place; None is the model itself.
    """

    benchmarks: tuple[Benchmark, ...] = ()
    judge: Judge = field(default_factory=NoJudge)
    generation: Generation = field(default_factory=Generation)
    server: Server | None = None

    def __post_init__(self) -> None:
        for benchmark in self.benchmarks:
            if (sentence := unfit(self.judge, benchmark)) is not None:
                raise InputError(sentence)


@dataclass(frozen=True)
class MissingResults:
    """What is missing of an exam that was chosen after rounds were completed, by the names of its benchmarks.

    Attributes:
        answers: those that some round was not asked.
        scores: those whose answers nobody has judged yet.
        scores_by_judge: those that were judged, though not by the exam's judge.
    """

    answers: set[str] = field(default_factory=set)
    scores: set[str] = field(default_factory=set)
    scores_by_judge: set[str] = field(default_factory=set)


def save_questions(folder: Path, benchmarks: Sequence[Benchmark]) -> None:
    """Write what is asked and what answers are compared with, a file per benchmark in `questions/`.

    Args:
        folder: the run folder; an existing file stays, because the answers there were compared with it, unless it has
            nothing that an answer can be compared with.
        benchmarks: those asked, with references and a competitor's answers where they have them.
    """
    for benchmark in benchmarks:
        file = folder / "questions" / f"{benchmark.name}.jsonl"
        lines = [asdict(question) for question in benchmark.questions]
        if not file.exists() or (_comparable(lines) and not _comparable(read_jsonl(file))):
            write_jsonl(file, lines)


def _comparable(questions: Sequence[Mapping[str, Any]]) -> bool:
    return any(line.get(key) is not None for line in questions for key in ("reference", "competitor"))


def missing_results(exam: Exam, folders: Sequence[Path]) -> MissingResults:
    """What is missing of an exam in the completed rounds in these folders."""
    missing = MissingResults()
    for folder in folders:
        scores = read_scores(folder)
        for benchmark in exam.benchmarks:
            if not AnswerFile(folder, benchmark, exam.generation).complete():
                missing.answers.add(benchmark.name)
            elif exam.judge.capabilities.judges and benchmark.name not in scores:
                missing.scores.add(benchmark.name)
            elif exam.judge.capabilities.judges and scores[benchmark.name].get("judge") != exam.judge.name:
                missing.scores_by_judge.add(benchmark.name)
    return missing


def examine(
    exam: Exam,
    answerer: Answerer,
    model: Callable[[], PreTrainedModel],
    folder: Path,
    seed: Sequence[int],
    timed: Callable[[str], AbstractContextManager[None]],
    served: Callable[[Server], AbstractContextManager[Running]],
) -> dict[str, float]:
    """Answer and judge every benchmark; what is on disk already is kept.

    Args:
        exam: benchmarks, judge and generation settings.
        answerer: puts the questions to the model.
        model: gives the round's model; not called where all answers are on disk.
        folder: the round's folder, which gets `answers/`, `judgements/` and `scores.json`.
        seed: what the sampling of answers comes from.
        timed: notes a phase's wall time.
        served: has the exam's server serve the round's model.

    Returns:
        The scores by logged name, such as `relative_score/vicuna`.
    """
    processes = answerer.processes
    files = [AnswerFile(folder, benchmark, exam.generation) for benchmark in exam.benchmarks]
    files = [file for file in files if not processes.share(file.complete())]
    if exam.server is not None and files:
        with served(exam.server) as running:
            for file in files:
                with timed(f"answer {file.benchmark.name}"):
                    if processes.first:
                        answer_by_server(file, running, answerer.prompt, seed, answerer.progress)
                    processes.barrier()
    else:
        for file in files:
            with timed(f"answer {file.benchmark.name}"):
                answer(file, answerer, model(), seed)
    if processes.first and exam.benchmarks and exam.judge.capabilities.judges:
        with timed("judge"):
            judge_round(folder, exam.benchmarks, exam.judge, answerer.progress)
    scores = processes.share(read_scores(folder) if processes.first else {})
    return logged(scores, [benchmark.name for benchmark in exam.benchmarks])
