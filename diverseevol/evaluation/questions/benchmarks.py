"""The questions that a model is asked, each with a reference or a competitor's answer where there is one.

A benchmark is a JSONL file with one question per line. The three benchmarks of the paper are recognised by their own
field names; any other file has `instruction` (or `question`, `prompt`, `text`), and optionally `id`,
`input`, `category` and `reference`. A competitor's answers are a second file: the same ids, and `answer`.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diverseevol.data.conversation import Conversation, exchange
from diverseevol.errors import InputError
from diverseevol.evaluation.questions.download import fetch
from diverseevol.storage.files import read_numbered
from diverseevol.storage.names import checked_name

# The first names of each line are the plain format's; the last ones are the paper's three files.
TEXT_FIELDS = ("instruction", "question", "prompt", "text", "Instruction")
ID_FIELDS = ("id", "question_id", "idx")
CATEGORY_FIELDS = ("category", "Skill")

# Where the questions and ChatGPT's answers are in a folder of the user's: sorted by kind, or a clone of the
# authors' repository.
FOLDER_LAYOUTS = (
    ("benchmarks/{name}.jsonl", "chatgpt_answers/{name}.jsonl"),
    ("test_data/{name}_test_set.jsonl", "evol_answer_reference/{name}_test/gpt/gpt35_0624.jsonl"),
)


@dataclass(frozen=True)
class Question:
    """One question, with what an answer to it can be compared with.

    Attributes:
        id: unique in its benchmark.
        input: the passage that the instruction is about, or "".
        reference: the right answer, for benchmarks that have one.
        competitor: another model's answer, which a judge sees beside the judged one.
    """

    id: str
    instruction: str
    input: str = ""
    category: str = ""
    reference: str | None = None
    competitor: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A named list of questions."""

    name: str
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        checked_name("benchmark.name", self.name)

    @property
    def fingerprint(self) -> str:
        """Sha256 of everything that answers and verdicts depend on: the questions, references and competitor."""
        content = json.dumps([asdict(question) for question in self.questions], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()


def with_references(benchmark: Benchmark) -> list[Conversation]:
    """The questions as rows with their references, or else with the competitor's answers; those with neither not."""
    texts = [(q, q.reference if q.reference is not None else q.competitor) for q in benchmark.questions]
    return [exchange(q.instruction, q.input, text) for q, text in texts if text is not None and text.strip()]


def check_references(benchmarks: Sequence[Benchmark]) -> None:
    """Refuse `reference_loss=true` where there is nothing to measure a loss on.

    Raises:
        InputError: no question of any benchmark has a reference or a competitor's answer.
    """
    if not benchmarks:
        raise InputError(
            "reference_loss=true: nothing is asked (benchmark=none); choose a benchmark=, or reference_loss=false"
        )
    if not any(map(with_references, benchmarks)):
        names = ", ".join(benchmark.name for benchmark in benchmarks)
        raise InputError(
            f"reference_loss=true: no question of {names} has a reference or a competitor's answer; give questions "
            f"with references or benchmark.competitor=FILE, or reference_loss=false"
        )


@dataclass(frozen=True)
class _Line:
    """One record of a file, with the words to find it by."""

    where: str
    id: str
    record: dict[str, Any]


def no_benchmark(*, cache: Path) -> tuple[Benchmark, ...]:
    """Nothing is asked."""
    return ()


def load_benchmark(
    name: str,
    path: str | Path | None = None,
    competitor: str | Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
    competitor_url: str | None = None,
    competitor_sha256: str | None = None,
    *,
    cache: Path,
    option: str = "benchmark",
) -> tuple[Benchmark, ...]:
    """Load one benchmark, as a tuple of one, like the three of `load_paper`.

    Args:
        name: what its files and figures are called.
        path: the questions, JSONL; None fetches them from `url`, once.
        competitor: the competitor's answers, JSONL, or the folder of a round of another run; None fetches them from
            `competitor_url`, once, and where that is None too the questions have no competitor.
        url: of the questions.
        sha256: of the file at `url`; a file that differs is not kept.
        competitor_url: of the competitor's answers.
        competitor_sha256: of the file at `competitor_url`.
        cache: the project's cache folder; what is fetched lies in `benchmarks/` below it.
        option: where these options are in the configuration, for error messages.

    Raises:
        InputError: a file is missing, unreachable, empty, or not a benchmark.
    """
    checked_name(f"{option}.name", name)
    if competitor is not None and not Path(competitor).exists():  # said before anything is fetched
        raise InputError(f"{competitor}: no such file; answers are a JSONL file, an answer a line")
    if path is None:
        path = fetch(url, sha256, cache / "benchmarks" / f"{name}.jsonl", f"{option}.path")
    benchmark = Benchmark(name, tuple(map(_question, _read_lines(Path(path)))))
    if competitor is None and competitor_url is not None:
        target = cache / "benchmarks" / f"{name}-competitor.jsonl"
        competitor = fetch(competitor_url, competitor_sha256, target, f"{option}.competitor")
    if competitor is not None:
        folder = Path(competitor)
        file = folder / "answers" / f"{name}.jsonl" if folder.is_dir() else folder  # a round's folder of another run
        answers = read_answers(file, benchmark)
        benchmark = Benchmark(name, tuple(replace(q, competitor=answers[q.id]) for q in benchmark.questions))
    return (benchmark,)


def read_questions(file: Path) -> Benchmark:
    """Read what a run or `diverseevol answer` keeps in `questions/`: references and competitor's answers included.

    Args:
        file: named after the benchmark.

    Raises:
        InputError: the file cannot be read, or holds no questions.
    """
    questions = [replace(_question(line), competitor=_optional(line, "competitor")) for line in _read_lines(file)]
    return Benchmark(file.stem, tuple(questions))


def read_answers(path: Path, benchmark: Benchmark) -> dict[str, str]:
    """Read a model's answers to these questions, by question id.

    Args:
        path: JSONL with `answer` and the question's id; the question itself, where a line repeats it, must be the same.
        benchmark: the questions.

    Raises:
        InputError: an answer is missing, blank (but a run's own answers may be), or to another question.
    """
    lines = {line.id: line for line in _read_lines(path)}
    known = {question.id: question for question in benchmark.questions}
    for line in lines.values():
        if line.id not in known:
            raise InputError(f"{line.where}, id {line.id!r}: no such question in {benchmark.name}; remove the line")
    for question in benchmark.questions:
        if question.id not in lines:
            raise InputError(f"{path}: no answer to question {question.id!r} of {benchmark.name}; add a line for it")
        answer = lines[question.id]
        field = _only(answer.record, TEXT_FIELDS, answer.where)
        if field is not None and answer.record[field] != question.instruction:  # a benchmark with the same ids
            raise InputError(
                f"{answer.where}, field {field!r}: not the question that {benchmark.name} asks under id "
                f"{question.id!r}; give the answers that belong to these questions"
            )
    return {key: _text(lines[key], "answer", blank="generation" in lines[key].record) for key in known}


def load_paper(
    vicuna: Callable[..., tuple[Benchmark, ...]],
    koala: Callable[..., tuple[Benchmark, ...]],
    wizardlm: Callable[..., tuple[Benchmark, ...]],
    folder: str | Path | None = None,
    *,
    cache: Path,
) -> tuple[Benchmark, ...]:
    """Load the paper's three benchmarks: Vicuna-Bench, Koala-Bench and WizardLM-Bench, 478 questions in all.

    Args:
        vicuna: `load_benchmark` with the options of Vicuna-Bench bound.
        koala: the same for Koala-Bench.
        wizardlm: the same for WizardLM-Bench.
        folder: where the files are already (see `FOLDER_LAYOUTS`); None loads each as its own options say.
        cache: the project's cache folder.

    Raises:
        InputError: as `load_benchmark`, or the folder does not have a known layout.
    """
    loaders = {"vicuna": vicuna, "koala": koala, "wizardlm": wizardlm}
    options: dict[str, dict[str, Any]] = {name: {"option": f"benchmark.{name}"} for name in loaders}
    if folder is not None:
        options = _in_folder(Path(folder), list(loaders))
    return tuple(benchmark for name, load in loaders.items() for benchmark in load(cache=cache, **options[name]))


def _in_folder(folder: Path, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Where a folder holds the questions and the competitor's answers of these benchmarks."""
    for layout in FOLDER_LAYOUTS:
        files = {name: [folder / path.format(name=name) for path in layout] for name in names}
        if all(file.is_file() for pair in files.values() for file in pair):
            return {name: {"path": path, "competitor": competitor} for name, (path, competitor) in files.items()}
    expected = " or ".join(f"{questions} with {answers}" for questions, answers in FOLDER_LAYOUTS)
    raise InputError(
        f"benchmark.folder={folder}: does not hold all three of vicuna, koala and wizardlm as {expected}; "
        f"complete the folder, or leave the option out to fetch the files"
    )


def _read_lines(path: Path) -> list[_Line]:
    """Records of a questions or answers file; one without an id is known by its number, counted from 1."""
    if not path.exists():
        raise InputError(f"{path}: no such file; a benchmark is a JSONL file with one question per line")
    records = read_numbered(path)
    if not records:
        raise InputError(f"{path}: the file is empty; give a JSONL file with a record a line")
    lines: list[_Line] = []
    seen: dict[str, str] = {}
    for count, (number, record) in enumerate(records, start=1):
        where = f"{path}, line {number}"
        field = _only(record, ID_FIELDS, where)
        value = count if field is None else record[field]
        if isinstance(value, bool) or not isinstance(value, str | int) or not str(value).strip():
            raise InputError(f"{where}, field {field!r}: {value!r} is not an id; use a number or a non-empty string")
        _check_encodable(str(value), where, field)
        if str(value) in seen:
            raise InputError(f"{where}, id {str(value)!r}: already used in {seen[str(value)]}; make the ids unique")
        seen[str(value)] = f"line {number}"
        lines.append(_Line(where, str(value), record))
    return lines


def _only(record: dict[str, Any], fields: Sequence[str], where: str) -> str | None:
    """The one field of these that the record has."""
    present = [field for field in fields if field in record]
    if len(present) > 1:
        raise InputError(f"{where}: has both {present[0]!r} and {present[1]!r}, which mean the same; keep one")
    return present[0] if present else None


def _question(line: _Line) -> Question:
    field = _only(line.record, TEXT_FIELDS, line.where)
    if field is None:
        raise InputError(f"{line.where}: no question; name its field one of {', '.join(TEXT_FIELDS[:4])}")
    category = _only(line.record, CATEGORY_FIELDS, line.where)
    return Question(
        line.id,
        _text(line, field),
        _optional(line, "input") or "",
        (category and _optional(line, category)) or "",
        _optional(line, "reference", blank=False),
    )


def _optional(line: _Line, field: str, *, blank: bool = True) -> str | None:
    return None if line.record.get(field) is None else _text(line, field, blank=blank)


def _text(line: _Line, field: str, *, blank: bool = False) -> str:
    value = line.record.get(field)
    if not isinstance(value, str):
        actual = "nothing" if field not in line.record else f"a {type(value).__name__}"
        raise InputError(f"{line.where}, field {field!r}: expected a string, got {actual}; correct the line")
    if not blank and not value.strip():
        raise InputError(f"{line.where}, field {field!r}: blank; fill it in or remove the line")
    _check_encodable(value, line.where, field)
    return value


def _check_encodable(text: str, where: str, field: str | None) -> None:
    """JSON can hold an unpaired surrogate, which cannot be sent or written."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        surrogate = f"\\u{ord(text[error.start]):04x}"
        raise InputError(
            f"{where}, field {field!r}: holds an unpaired surrogate, {surrogate} (character {error.start + 1}); "
            f"correct the line"
        ) from error
