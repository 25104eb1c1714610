"""Judgements on disk, a file at a time: the project's own run folders, the authors' released files, and archives.

Own:      …/<data>/<model>/<sampler>-<schedule>/seed<k>/rounds/<t>/judgements/<benchmark>.jsonl
Authors': …/<benchmark>_test/<schedule>/rd_<t>_vs_chat.jsonl
Answers': …/judgements/<benchmark>.jsonl, beside the answers/<benchmark>.jsonl that `diverseevol answer` wrote

The first two are found anywhere below a folder, in `.tar`, `.tar.gz` and `.tar.xz` archives there, or in one such
archive, the third in folders.
"""

import hashlib
import json
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
from diverseevol.runs.saved_config import read_complete, shown
from diverseevol.storage.files import read_json
from diverseevol.storage.json_lines import json_records
from diverseevol.storage.links import refuse_from_outside
from diverseevol.storage.reading import LARGEST_JSONL, read_bytes, refuse_special

OWN = re.compile(r"(?P<run>.*/)?rounds/(?P<round>\d+)/judgements/(?P<benchmark>[^/]+)\.jsonl")
ANSWERED = re.compile(r"(?P<run>.*/)judgements/(?P<benchmark>[^/]+)\.jsonl")
AUTHORS = re.compile(r"(?:.*/)?(?P<benchmark>[^/]+)_test/(?P<schedule>[^/]+)/rd_(?P<round>\d+)_vs_chat\.jsonl")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz")

SCORES = ("model_score", "competitor_score")
PROVENANCE, MADE_AS = "provenance.json", "made_as"  # the file of a run folder, and its field, that name the run

UNCHECKED = "replies whose first line is not two scores, so that the recorded scores could not be checked against it"
MISPLACED = "judgements that name another model than the path of their file"


@dataclass(frozen=True)
class JudgementFile:
    """The judgements of one model on one benchmark, and where in which evolution that model belongs.

    Attributes:
        file: where they were read.
        source: what was selected from: <data>/<model> of an own run, the data set of a released one.
        schedule: the folder's name, which names sampler and schedule.
        seed: None where it is not known, as in the released files.
        initial_pool: size of P_0 and a digest of its rows; None where it is not known.
        pool_size: rows that the model was trained on; None where it is not known.
        remarks: what is odd but no error, with a count each.
    """

    file: str
    source: str
    benchmark: str
    schedule: str
    seed: int | None
    round: int
    judgements: tuple[Judgement, ...]
    initial_pool: tuple[int, str] | None = None
    pool_size: int | None = None
    remarks: Mapping[str, int] = field(default_factory=dict)


def read_judgements(place: Path) -> Iterator[JudgementFile]:
    """Read every file of judgements below a folder or in an archive, holding one at a time.

    Raises:
        InputError: there are none, or a file is cut off, empty, or contradicts itself.
    """
    found = False
    for file in find_judgements(place):
        yield file
        found = True
    if not found:
        raise InputError(
            f"{place}: holds no judgements; give a folder or archive with rounds/NN/judgements/BENCHMARK.jsonl or "
            f"BENCHMARK_test/SCHEDULE/rd_N_vs_chat.jsonl somewhere below"
        )


def find_judgements(place: Path) -> Iterator[JudgementFile]:
    """As `read_judgements`, for a place that may hold none."""
    for name, path, content in _files(place):
        if own := OWN.fullmatch(path):
            yield _own(name, own, own["round"], content)
        elif authors := AUTHORS.fullmatch(path):
            yield _authors(name, authors, content)
        elif answered := ANSWERED.fullmatch(path):
            yield _own(name, answered, "00", content)


def named(run: PurePosixPath) -> tuple[str, str, int | None]:
    """Source, schedule and seed of an own run, by the end of its folder's path; None for a seed that is not in it."""
    numbered = re.fullmatch(r"seed(\d+)", run.name)
    group = run.parent if numbered else run
    return "/".join(group.parts[:-1][-2:]).lstrip("/"), group.name, int(numbered[1]) if numbered else None


def named_run(folder: Path) -> tuple[str, str, int | None]:
    """Source, schedule and seed of a run folder, as it was made: a copy elsewhere, under another name, has the same.

    They are what `provenance.json` says; where it does not, as in folders of 0.1, `named` says them.

    Raises:
        InputError: that file, or `config.yaml` beside it, is damaged.
    """
    if (folder / "config.yaml").is_file():
        refuse_from_outside(folder / "config.yaml", folder)
        read_complete(folder / "config.yaml")
    file = folder / PROVENANCE
    if not file.is_file():
        return named(PurePosixPath(folder.as_posix()))
    refuse_from_outside(file, folder)
    facts = read_json(file)
    made = facts.get(MADE_AS) if isinstance(facts, dict) else None
    if made is None:
        return named(PurePosixPath(folder.as_posix()))
    kinds = {"source": str, "schedule": str, "seed": int}
    if not isinstance(made, dict) or not all(type(made.get(key)) is kind for key, kind in kinds.items()):
        raise InputError(
            f"{file}, field {MADE_AS!r}: expected source, schedule and seed, got {shown(made)}; restore it"
        )
    return made["source"], made["schedule"], made["seed"]


def _files(place: Path) -> Iterator[tuple[str, str, bytes]]:
    """Name for the reader, path to match, and content of every file that may be one of judgements."""
    place = place.resolve()
    if not place.exists():
        raise InputError(f"{place}: no such file or folder; give the folder or archive that holds the judgements")
    refuse_special(place)
    for path in [place] if place.is_file() else sorted(place.rglob("*")):
        if path.name.endswith(ARCHIVES) and path.is_file():
            yield from _members(path)
        elif OWN.fullmatch(path.as_posix()) or AUTHORS.fullmatch(path.as_posix()) or _of_answers(path):
            own = OWN.fullmatch(path.as_posix()) or ANSWERED.fullmatch(path.as_posix())
            refuse_from_outside(path, Path(own["run"]) if own else place)
            yield str(path), path.as_posix(), read_bytes(path, LARGEST_JSONL)


def _of_answers(path: Path) -> bool:
    folder = path.parents[1] if len(path.parts) > 2 else path
    answers = folder / "answers" / path.name
    return bool(ANSWERED.fullmatch(path.as_posix())) and answers.is_file() and (folder / "fingerprint.json").is_file()


def _members(archive: Path) -> Iterator[tuple[str, str, bytes]]:
    for name, content in read_members(archive, lambda path: bool(OWN.fullmatch(path) or AUTHORS.fullmatch(path))):
        yield f"{archive}:{name}", name, content


def _records(name: str, content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every record with its place."""
    empty = True
    for number, record in json_records(BytesIO(content), name, "it was cut off or edited: get the file again"):
        empty = False
        yield f"{name}, line {number}", record
    if empty:
        raise InputError(f"{name}: the file is empty; judge again, or remove the file")


def _own(name: str, match: re.Match[str], t: str, content: bytes) -> JudgementFile:
    run = PurePosixPath(match["run"] or ".")
    folder = Path(run) if run.is_absolute() else None  # of an archived run, only the judgements are read
    source, schedule, seed = named(run) if folder is None else named_run(folder)
    pool = recorded(folder, f"rounds/{t}/round.json", "trained_on", list)
    judgements, unchecked = [], 0
    for place, record in _records(name, content):
        judgements.append(_judgement(place, record))
        unchecked += not scores_match_reply(place, judgements[-1])
    return JudgementFile(
        file=name,
        source=source,
        benchmark=match["benchmark"],
        schedule=schedule,
        seed=recorded(folder, "fingerprint.json", "seed", int) if seed is None else seed,
        round=int(t),
        judgements=tuple(judgements),
        initial_pool=initial_pool(folder),
        pool_size=None if pool is None else len(pool),
        remarks={UNCHECKED: unchecked} if unchecked else {},
    )


def recorded(run: Path | None, file: str, key: str, kind: type) -> Any:
    """A fact of the run folder; None where the folder lacks the file."""
    if run is None or not (run / file).is_file():
        return None
    refuse_from_outside(run / file, run)
    facts = read_json(run / file)
    if not isinstance(facts, dict) or not isinstance(facts.get(key), kind):
        raise InputError(f"{run / file}, field {key!r}: missing or no {kind.__name__}; restore the file")
    return facts[key]


def initial_pool(run: Path | None) -> tuple[int, str] | None:
    rows = recorded(run, "rounds/00/round.json", "trained_on", list)
    if rows is None:
        return None
    if odd := [row for row in rows if type(row) is not int]:
        raise InputError(
            f"{run}/rounds/00/round.json, field 'trained_on': expected row numbers, got {odd[0]!r:.60}; restore the "
            f"file"
        )
    return len(rows), hashlib.sha256(json.dumps(sorted(rows)).encode()).hexdigest()


def _judgement(place: str, record: dict[str, Any]) -> Judgement:
    # Null twice is a reply without scores, which is counted and left out.
    unparsed = all(name in record and record[name] is None for name in SCORES)
    for each in fields(Judgement):
        value = record.get(each.name)
        scored = unparsed or (isinstance(value, int | float) and not isinstance(value, bool))
        if not (scored if each.name in SCORES else type(value) is each.type):
            found = "missing" if each.name not in record else repr(value)
            raise InputError(f"{place}, field {each.name!r}: {found}; judge this model's answers again")
    scores = [record[name] for name in SCORES]
    if not unparsed:
        _check_scores(place, *scores)
        scores = [float(value) for value in scores]
    return Judgement(
        record["question_id"], record["order"], scores[0], scores[1],
        record["judge"], record["prompt_version"], record["reason"],
    )  # fmt: skip


def _check_scores(place: str, *scores: Any) -> None:
    for value in scores:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= TOP:
            raise InputError(f"{place}: expected a score from 0 to {TOP:g}, got {value!r}; get the file again")


def _authors(name: str, match: re.Match[str], content: bytes) -> JudgementFile:
    model = f"{match['schedule']}/rd_{match['round']}"
    judgements: list[Judgement] = []
    remarks: Counter[str] = Counter()
    for place, record in _records(name, content):
        remarks[MISPLACED] += _named(place, record, "assistant1_QUERY0") != model
        _check_swapped(place, record)
        for order in (0, 1):
            judgement, checked = _verdict(place, record, order)
            judgements.append(judgement)
            remarks[UNCHECKED] += not checked
    return JudgementFile(
        file=name,
        source=match["schedule"].partition("_")[2].partition("_")[0],
        benchmark=match["benchmark"],
        schedule=match["schedule"],
        seed=None,
        round=int(match["round"]),
        judgements=tuple(judgements),
        remarks={remark: count for remark, count in remarks.items() if count},
    )


def _named(place: str, record: dict[str, Any], name: str) -> Any:
    if name not in record:
        raise InputError(f"{place}, field {name!r}: missing; get the file again")
    return record[name]


def _check_swapped(place: str, record: dict[str, Any]) -> None:
    """The names of the two assistants, which follow the order of showing, say that the second query swapped them."""
    first = [_named(place, record, f"assistant{i}_QUERY0") for i in (1, 2)]
    second = [_named(place, record, f"assistant{i}_QUERY1") for i in (1, 2)]
    if first != second[::-1] or first[0] == first[1]:
        raise InputError(
            f"{place}: shows {first} and then {second}, which is not one pair in both orders; get the file again"
        )


def _verdict(place: str, record: dict[str, Any], order: int) -> tuple[Judgement, bool]:
    """One order's judgement, and whether the reply's first line could be held against it.

    `eval_QUERY0` and `eval_QUERY1` are both [model, competitor]; only the reply and the assistants' names are in the
    order of showing.
    """
    scores = _named(place, record, f"eval_QUERY{order}")
    if not isinstance(scores, list) or len(scores) != 2:
        raise InputError(f"{place}, field 'eval_QUERY{order}': expected two scores, got {scores!r}; get the file again")
    _check_scores(f"{place}, field 'eval_QUERY{order}'", *scores)
    reply = str(_named(place, record, f"response_QUERY{order}"))
    said = as_released(reply)
    shown = scores if order == 0 else scores[::-1]
    if said is not None and list(said) != shown:
        raise InputError(
            f"{place}: eval_QUERY{order} records {scores} as [model, competitor] but the reply begins with "
            f"'{said[0]:g} {said[1]:g}' for {'model, competitor' if order == 0 else 'competitor, model'}; get the file "
            f"again"
        )
    question = str(_named(place, record, "question_id"))
    return Judgement(question, order, float(scores[0]), float(scores[1]), "gpt-4", "released", reply), said is not None
