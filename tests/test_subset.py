"""The rows of a subset and their receipts: two files that say the same, whenever they are read."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diverseevol.data.contamination import Overlap
from diverseevol.data.row_numbers import read_row_numbers
from diverseevol.data.tags import Tags
from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.evolution.receipts import row_receipt
from diverseevol.options import Schedule
from diverseevol.runs.subset import RECEIPTS, SELECTED, read_subset, write_subset
from diverseevol.storage.files import read_jsonl, write_jsonl

OLD = Path(__file__).parent / "fixtures/run_folders_0_1/rows/tiny/kcenter-iterative-61348c43/seed0"
# Rows with fields of their own that are called as the project calls things, and texts that other readers cut.
ROWS = {
    7: '{"row": 0, "joined": 9, "record": {"instruction": "not this"}}',
    3: '{"instruction":"a\u2028b",  "output": "1e3", "n": 1e3}',
    5: '{"instruction": "\\ud800", "output": "é"}',
}
JOINED = {7: 0, 3: 0, 5: 1}


class KilledError(BaseException):
    """The process ends here."""


def write(folder: Path, *rows: int) -> None:
    write_subset(folder, ({"row": row, "joined": JOINED[row]} for row in rows), ROWS.__getitem__)


def as_before(folder: Path, *rows: int) -> None:
    """The one file of 0.1."""
    entries = [{"row": row, "joined": JOINED[row], "record": json.loads(ROWS[row])} for row in rows]
    write_jsonl(folder / SELECTED, entries)


def known(folder: Path) -> dict[int, str]:
    """Each row's line, by the number that its receipt gives."""
    return {member.receipt["row"]: member.line for member in read_subset(folder)}


def test_rows_are_as_they_came_in_and_each_has_its_receipt(tmp_path):
    write(tmp_path, 7, 3, 5)
    assert (tmp_path / SELECTED).read_text(encoding="utf-8").split("\n") == [*ROWS.values(), ""]
    members = list(read_subset(tmp_path))
    assert [member.line for member in members] == list(ROWS.values())
    assert [dict(member.receipt) for member in members] == [{"row": row, "joined": JOINED[row]} for row in ROWS]
    assert [member.record for member in members] == [json.loads(line) for line in ROWS.values()]


def test_the_one_file_of_an_earlier_version_is_read(tmp_path):
    as_before(tmp_path, 7, 3, 5)
    members = list(read_subset(tmp_path))
    assert [dict(member.receipt) for member in members] == [{"row": row, "joined": JOINED[row]} for row in ROWS]
    assert [json.loads(member.line) for member in members] == [json.loads(line) for line in ROWS.values()]
    assert [member.receipt["row"] for member in read_subset(OLD)] == read_row_numbers("taken", str(OLD / SELECTED), 99)
    old = [line["record"] for line in read_jsonl(OLD / SELECTED)]
    assert [dict(member.record) for member in read_subset(OLD)] == old


def test_nothing_is_read_where_nothing_is_written_yet(tmp_path):
    assert not list(read_subset(tmp_path))


@contextmanager
def killed_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process ends before it changes one more name in a folder."""
    changes = itertools.count()

    def ending(call: Callable[..., object]) -> Callable[..., object]:
        def change(*arguments: object, **options: object) -> object:
            if next(changes) >= steps:
                raise KilledError
            return call(*arguments, **options)

        return change

    with monkeypatch.context() as patched:
        for name in ("replace", "unlink"):
            patched.setattr(Path, name, ending(getattr(Path, name)))
        yield


@pytest.mark.parametrize(
    ("before", "seen"), [(None, {0}), (write, {2}), (as_before, {2, 0})], ids=["new", "shorter", "earlier version"]
)
def test_no_row_is_ever_read_with_the_receipt_of_another(tmp_path, monkeypatch, before, seen):
    found = set()
    for steps in itertools.count():
        folder = tmp_path / str(steps)
        folder.mkdir()
        if before:
            before(folder, 7, 3)
        try:
            with killed_after(steps, monkeypatch):
                write(folder, 7, 3, 5)
            break
        except KilledError:
            lines = known(folder)
        assert {row: json.loads(line) for row, line in lines.items()} == {row: json.loads(ROWS[row]) for row in lines}
        found.add(len(lines))
        write(folder, 7, 3, 5)
        assert known(folder) == ROWS
    assert known(folder) == ROWS
    assert steps >= 2, "it was killed at several instants"
    assert found == seen


@pytest.mark.parametrize("beside", ["rows", "receipts"])
def test_a_full_disk_leaves_both_files_as_they_were(tmp_path, monkeypatch, beside):
    as_before(tmp_path, 7, 3)
    lines = {"rows": lambda row: 1 / 0, "receipts": ROWS.__getitem__}
    with pytest.raises((ZeroDivisionError, ValueError)):
        write_subset(tmp_path, [{"row": 7, "joined": 0, "score": float("nan")}], lines[beside])
    assert len(known(tmp_path)) == 2
    assert [file.name for file in tmp_path.iterdir()] == [SELECTED]


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (RECEIPTS, None, "selected.jsonl, line 2: receipts.jsonl has no receipt of it; restore it, or"),
        (RECEIPTS, '{"row": 7, "joined": 0}\n', "selected.jsonl, line 2: receipts.jsonl has no receipt of it"),
        (RECEIPTS, '{"row": "7", "joined": 0}\n', "selected.jsonl, line 1: receipts.jsonl has no receipt of it"),
        (
            RECEIPTS,
            '{"row": 7, "joi',
            "receipts.jsonl, line 1: not valid JSON (the line is cut off after character 15)",
        ),
        (SELECTED, "[]\n", "selected.jsonl, line 1: expected a JSON object; restore it, or"),
        (SELECTED, b"\xff\n", "selected.jsonl, line 1: byte 0xFF (byte 1 of the line) is not UTF-8 text; restore it"),
    ],
)
def test_damage_is_named_with_its_file_and_line(tmp_path, file, content, sentence):
    write(tmp_path, 7, 3, 5)
    if content is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=re.escape(sentence)):
        list(read_subset(tmp_path))


@pytest.mark.parametrize("name", ["", SELECTED, RECEIPTS])
def test_row_numbers_are_those_of_the_receipts_whatever_fields_the_rows_have(tmp_path, name):
    write(tmp_path, 7, 3, 5)
    assert read_row_numbers("taken", str(tmp_path / name), 10) == [7, 3, 5]
    with pytest.raises(InputError, match=re.escape(f"taken={tmp_path / RECEIPTS}, line 1: expected a row from 0 to 4")):
        read_row_numbers("taken", str(tmp_path / name), 5)


@pytest.mark.parametrize("name", ["", SELECTED])
def test_row_numbers_of_an_earlier_version_are_in_the_one_file(tmp_path, name):
    as_before(tmp_path, 7, 3, 5)
    assert read_row_numbers("taken", str(tmp_path / name), 10) == [7, 3, 5]


def test_an_evolution_begun_with_one_file_ends_with_both(copy, whole, evolution, idle):
    """As development versions of this release left it; whatever is asked for then."""
    expected = {name: (copy / name).read_bytes() for name in (SELECTED, RECEIPTS)}
    rows = [json.loads(line) for line in expected[SELECTED].decode().splitlines()]
    receipts = read_jsonl(copy / RECEIPTS)
    (copy / RECEIPTS).unlink()
    entries = [
        {"row": receipt["row"], "joined": receipt["joined"], "record": row}
        for receipt, row in zip(receipts, rows, strict=True)
    ]
    write_jsonl(copy / SELECTED, entries)
    before = (copy / SELECTED).read_bytes()
    evolve(evolution(copy, schedule=Schedule(1, 6, 4), keep_models="all", learner=idle))
    assert (copy / SELECTED).read_bytes() == before, "fewer rounds than are there"
    evolve(evolution(copy, keep_models="all", learner=idle))
    assert {name: (copy / name).read_bytes() for name in (SELECTED, RECEIPTS)} == expected


def test_a_receipt_has_the_source_and_the_tags_of_its_row(dataset):
    tags = Tags(overlaps=[Overlap(3, "vicuna", "7", True, "")])
    assert row_receipt(3, 0, {}, dataset, tags) == {
        "row": 3, "joined": 0, "rank": None, "score": None, "score_is": None, "distance": None, "nearest": None,
        "source": dataset.sources[0].name, "tags": ["question of vicuna: 7"],
    }  # fmt: skip


def test_receipts_that_were_removed_are_made_again(copy, evolution, idle):
    expected = {name: (copy / name).read_bytes() for name in (SELECTED, RECEIPTS)}
    (copy / RECEIPTS).unlink()
    evolve(evolution(copy, keep_models="all", learner=idle))
    assert {name: (copy / name).read_bytes() for name in (SELECTED, RECEIPTS)} == expected
