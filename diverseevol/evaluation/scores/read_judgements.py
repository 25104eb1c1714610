"""Judgements on disk, a file at a time: the project's own run folders, the authors' released files, and archives.

Own:      …/<data>/<model>/<sampler>-<schedule>/seed<k>/rounds/<t>/judgements/<benchmark>.jsonl
Authors': …/<benchmark>_test/<schedule>/rd_<t>_vs_chat.jsonl
Answers': …/judgements/<benchmark>.jsonl, beside the answers/<benchmark>.jsonl that `diverseevol answer` wrote

The first two are found anywhere below a folder, in `.tar`, `.tar.gz` and `.tar.xz` archives there, or in one such
archive, the third in folders.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import TOP, Judgement
from diverseevol.evaluation.judges.grammar import as_released
from diverseevol.evaluation.judges.pairwise import scores_match_reply
from diverseevol.evaluation.scores.archives import read_members
from diverseevol.evaluation.scores.models import Model, model_of, named
from diverseevol.storage.json_lines import json_records
from diverseevol.storage.links import refuse_from_outside
from diverseevol.storage.reading import LARGEST_JSONL, files_below, read_bytes, refuse_special

OWN = re.compile(r"(?P<run>.*/)?rounds/(?P<round>\d+)/judgements/(?P<benchmark>[^/]+)\.jsonl")
ANSWERED = re.compile(r"(?P<run>.*/)judgements/(?P<benchmark>[^/]+)\.jsonl")
AUTHORS = re.compile(r"(?:.*/)?(?P<benchmark>[^/]+)_test/(?P<schedule>[^/]+)/rd_(?P<round>\d+)_vs_chat\.jsonl")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz")

SCORES = ("model_score", "competitor_score")
UNCHECKED = "replies whose first line is not two scores, so that the recorded scores could not be checked against it"
MISPLACED = "judgements that name another model than the path of their file"


@dataclass(frozen=True)
class JudgedAnswers:
    """The judgements of one model's answers to one benchmark.

    Attributes:
        file: where they were read.
        remarks: what is odd but no error, with a count each.
    """

    file: str
    model: Model
    benchmark: str
    judgements: tuple[Judgement, ...]
    remarks: Mapping[str, int] = field(default_factory=dict)


def read_judgements(path: Path) -> Iterator[JudgedAnswers]:
    """Read every file of judgements below a folder or in an archive, holding one at a time.

    Raises:
        InputError: there are none, or a file is cut off, empty, or contradicts itself.
    """
    files = find_judgements(path)
    first = next(files, None)
    if first is None:
        raise InputError(
            f"{path}: holds no judgements; give a folder or archive with rounds/NN/judgements/BENCHMARK.jsonl or "
            f"BENCHMARK_test/SCHEDULE/rd_N_vs_chat.jsonl somewhere below"
        )
    yield first
    yield from files


def find_judgements(path: Path) -> Iterator[JudgedAnswers]:
    """As `read_judgements`, for a path that may hold none."""
    for file, matched, content in _files(path):
        if own := OWN.fullmatch(matched):
            yield _own(file, own, own["round"], content)
        elif authors := AUTHORS.fullmatch(matched):
            yield _authors(file, authors, content)
        elif answered := ANSWERED.fullmatch(matched):
            yield _own(file, answered, "00", content)


def _files(root: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name for the reader, path to match, and content of every file that may be one of judgements."""
    root = root.resolve()
    if not root.exists():
        raise InputError(f"{root}: no such file or folder; give the folder or archive that holds the judgements")
    refuse_special(root)
    for path in [root] if root.is_file() else sorted(files_below(root)):
        if path.name.endswith(ARCHIVES) and path.is_file():
            for name, content in read_members(path, lambda name: bool(OWN.fullmatch(name) or AUTHORS.fullmatch(name))):
                yield f"{path}:{name}", name, content
        elif OWN.fullmatch(path.as_posix()) or AUTHORS.fullmatch(path.as_posix()) or _of_answers(path):
            own = OWN.fullmatch(path.as_posix()) or ANSWERED.fullmatch(path.as_posix())
            refuse_from_outside(path, Path(own["run"]) if own else root)
            yield str(path), path.as_posix(), read_bytes(path, LARGEST_JSONL)


def _of_answers(path: Path) -> bool:
    folder = path.parents[1] if len(path.parts) > 2 else path
    answers = folder / "answers" / path.name
    return bool(ANSWERED.fullmatch(path.as_posix())) and answers.is_file() and (folder / "fingerprint.json").is_file()


def _records(file: str, content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record with its location, for messages."""
    number = 0
    for number, record in json_records(BytesIO(content), file, "it was cut off or edited: get the file again"):
        yield f"{file}, line {number}", record
    if not number:
        raise InputError(f"{file}: the file is empty; judge again, or remove the file")


def _own(file: str, match: re.Match[str], t: str, content: bytes) -> JudgedAnswers:
    run = PurePosixPath(match["run"] or ".")
    # Of an archived run, only the judgements are read.
    model = model_of(Path(run), t) if run.is_absolute() else Model(*named(run), round=int(t))
    judgements, unchecked = [], 0
    for location, record in _records(file, content):
        judgements.append(_judgement(location, record))
        unchecked += not scores_match_reply(location, judgements[-1])
    remarks = {UNCHECKED: unchecked} if unchecked else {}
    return JudgedAnswers(file, model, match["benchmark"], tuple(judgements), remarks)


def _judgement(location: str, record: dict[str, Any]) -> Judgement:
    # Null twice is a reply without scores, which is counted and left out.
    unparsed = all(name in record and record[name] is None for name in SCORES)
    for field_of in fields(Judgement):
        value = record.get(field_of.name)
        scored = unparsed or (isinstance(value, int | float) and not isinstance(value, bool))
        if not (scored if field_of.name in SCORES else type(value) is field_of.type):
            problem = "missing" if field_of.name not in record else repr(value)
            raise InputError(f"{location}, field {field_of.name!r}: {problem}; judge this model's answers again")
    scores = [record[name] for name in SCORES]
    if not unparsed:
        _check_scores(location, *scores)
        scores = [float(value) for value in scores]
    return Judgement(
        record["question_id"], record["order"], scores[0], scores[1],
        record["judge"], record["prompt_version"], record["reason"],
    )  # fmt: skip


def _check_scores(location: str, *scores: Any) -> None:
    for value in scores:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TOP:
            raise InputError(f"{location}: expected a score from 0 to {TOP:g}, got {value!r}; get the file again")


def _authors(file: str, match: re.Match[str], content: bytes) -> JudgedAnswers:
    judgements: list[Judgement] = []
    remarks: Counter[str] = Counter()
    for location, record in _records(file, content):
        remarks[MISPLACED] += (
            _value(location, record, "assistant1_QUERY0") != f"{match['schedule']}/rd_{match['round']}"
        )
        _check_swapped(location, record)
        for order in (0, 1):
            judgement, checked = _verdict(location, record, order)
            judgements.append(judgement)
            remarks[UNCHECKED] += not checked
    source = match["schedule"].partition("_")[2].partition("_")[0]
    model = Model(source, match["schedule"], None, int(match["round"]))
    return JudgedAnswers(file, model, match["benchmark"], tuple(judgements), dict(+remarks))


def _value(location: str, record: dict[str, Any], name: str) -> Any:
    if name not in record:
        raise InputError(f"{location}, field {name!r}: missing; get the file again")
    return record[name]


def _check_swapped(location: str, record: dict[str, Any]) -> None:
    """The names of the two assistants, which follow the order of showing, say that the second query swapped them."""
    first = [_value(location, record, f"assistant{i}_QUERY0") for i in (1, 2)]
    second = [_value(location, record, f"assistant{i}_QUERY1") for i in (1, 2)]
    if first != second[::-1] or first[0] == first[1]:
        raise InputError(
            f"{location}: shows {first} and then {second}, which is not one pair in both orders; get the file again"
        )


def _verdict(location: str, record: dict[str, Any], order: int) -> tuple[Judgement, bool]:
    """One order's judgement, and whether the reply's first line could be held against it.

    `eval_QUERY0` and `eval_QUERY1` are both [model, competitor]; only the reply and the assistants' names are in the
    order of showing.
    """
    scores = _value(location, record, f"eval_QUERY{order}")
    if not isinstance(scores, list) or len(scores) != 2:
        raise InputError(
            f"{location}, field 'eval_QUERY{order}': expected two scores, got {scores!r}; get the file again"
        )
    _check_scores(f"{location}, field 'eval_QUERY{order}'", *scores)
    reply = str(_value(location, record, f"response_QUERY{order}"))
    first_line = as_released(reply)
    if first_line is not None and list(first_line) != (scores if order == 0 else scores[::-1]):
        raise InputError(
            f"{location}: eval_QUERY{order} records {scores} as [model, competitor] but the reply begins with "
            f"'{first_line[0]:g} {first_line[1]:g}' for "
            f"{'model, competitor' if order == 0 else 'competitor, model'}; get the file again"
        )
    question = str(_value(location, record, "question_id"))
    judgement = Judgement(question, order, float(scores[0]), float(scores[1]), "gpt-4", "released", reply)
    return judgement, first_line is not None
