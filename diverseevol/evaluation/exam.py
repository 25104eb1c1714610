"""A round's exam: the model answers the benchmarks, a judge scores the answers, and both stay on disk."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from transformers import PreTrainedModel

from diverseevol.errors import InputError
from diverseevol.evaluation.benchmarks import Benchmark
from diverseevol.evaluation.judges import Judge, Judgement, NoJudge
from diverseevol.evaluation.scores import score
from diverseevol.files import read_json, read_jsonl, write_json, write_jsonl
from diverseevol.generation import Generation
from diverseevol.learner import Learner


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


def examine(
    exam: Exam,
    learner: Learner,
    model: Callable[[], PreTrainedModel],
    folder: Path,
    seed: Sequence[int],
    timed: Callable[[str], AbstractContextManager[None]],
) -> dict[str, float]:
    """Answer and judge every benchmark; what is on disk already is kept.

    Args:
        exam: benchmarks, judge and generation settings.
        learner: puts the questions to the model.
        model: gives the round's model; not called where all answers are on disk.
        folder: the round's folder, which gets `answers/`, `judgements/` and `scores.json`.
        seed: what the sampling of answers comes from.
        timed: notes a phase's wall time.

    Returns:
        The scores by logged name, such as `relative_score/vicuna`.
    """
    place = learner.processes
    for benchmark in exam.benchmarks:
        file = folder / "answers" / f"{benchmark.name}.jsonl"
        if not place.share(_answered(file, benchmark, exam.generation)):
            with timed(f"answer {benchmark.name}"):
                texts = _answer(benchmark, exam.generation, learner, model(), seed)
                if place.first:
                    write_jsonl(file, _answer_lines(benchmark, exam.generation, texts))
                place.barrier()
    if place.first and exam.benchmarks and not isinstance(exam.judge, NoJudge):
        with timed("judge"):
            judge_round(folder, exam.benchmarks, exam.judge)
    scores = place.share(_read_scores(folder) if place.first else {})
    names = {benchmark.name for benchmark in exam.benchmarks}
    return {
        f"{key}/{benchmark}": value
        for benchmark, values in scores.items()
        if benchmark in names
        for key, value in values.items()
        if key in ("relative_score", "win", "tie", "lose")
    }


def judge_round(folder: Path, benchmarks: Sequence[Benchmark], judge: Judge) -> dict[str, Any]:
    """Judge the answers in a round's folder, and write `judgements/` and `scores.json`.

    Returns:
        The content of `scores.json`: by benchmark.
    """
    scores = _read_scores(folder)
    for benchmark in benchmarks:
        answers = {line["id"]: line["answer"] for line in read_jsonl(folder / "answers" / f"{benchmark.name}.jsonl")}
        judgements: list[Judgement] = judge.judge(benchmark, answers)
        write_jsonl(folder / "judgements" / f"{benchmark.name}.jsonl", map(asdict, judgements))
        scores[benchmark.name] = score(judgements, judge.label).record()
    write_json(folder / "scores.json", scores)
    return scores


def _answer(
    benchmark: Benchmark,
    generation: Generation,
    learner: Learner,
    model: PreTrainedModel,
    seed: Sequence[int],
) -> list[str]:
    questions = [(question.instruction, question.input) for question in benchmark.questions]
    seeds = [(*seed, crc32(f"{benchmark.name} {question.id}".encode())) for question in benchmark.questions]
    return learner.answer(model, questions, seeds, generation, what=f"answer {benchmark.name}")


def _answer_lines(benchmark: Benchmark, generation: Generation, texts: Sequence[str]) -> list[dict[str, Any]]:
    settings = _settings(generation)
    return [
        {"id": q.id, "instruction": q.instruction, "input": q.input, "answer": text, "generation": settings}
        for q, text in zip(benchmark.questions, texts, strict=True)
    ]


def _answered(file: Path, benchmark: Benchmark, generation: Generation) -> bool:
    """Whether the file answers these questions under these settings.

    Raises:
        InputError: it answers others, so that its scores would be called by the wrong name.
    """
    if not file.exists():
        return False
    lines = read_jsonl(file)
    questions = [(q.id, q.instruction, q.input) for q in benchmark.questions]
    same = [(line.get("id"), line.get("instruction"), line.get("input")) for line in lines] == questions
    if not same or any(line.get("generation") != _settings(generation) for line in lines):
        what = "with other generation settings" if same else "other questions"
        raise InputError(
            f"{file}: answers {what} than this run's; give benchmark.name another name, restore the settings, or "
            f"delete the file to answer again"
        )
    return True


def _settings(generation: Generation) -> dict[str, Any]:
    return {"max_new_tokens": generation.max_new_tokens, "temperature": generation.temperature}


def _read_scores(folder: Path) -> dict[str, Mapping[str, Any]]:
    file = folder / "scores.json"
    return dict(read_json(file)) if file.exists() else {}
