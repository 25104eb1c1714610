import bz2
import gzip
import io
import json
import lzma
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from diverseevol.data import dataset as dataset_module
from diverseevol.data import ingest, locate
from diverseevol.data.conversation import exchange
from diverseevol.data.dataset import load
from diverseevol.data.formats.flat import ALPACA, DOLLY, Fields
from diverseevol.errors import InputError

ROWS = [
    {"instruction": "Name a colour.", "input": "", "output": "Red.\u2028Or blue.", "id": 1},
    {
        "instruction": "Übersetze: 'yes'",
        "input": "ins Deutsche 😀",
        "output": "Ja.\r\n",
        "id": 2,
        "tags": {"b": 1, "a": []},
    },
    {"instruction": "Count to\n three.", "input": "", "output": "1 2 3", "id": None},
]
EXAMPLES = [
    exchange(row["instruction"], row["input"], row["output"], {k: v for k, v in row.items() if k in ("id", "tags")})
    for row in ROWS
]
CONF = Path(dataset_module.__file__).parents[2] / "conf" / "data"


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def written(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def rows_file(tmp_path):
    return written(tmp_path / "rows.jsonl", jsonl(*ROWS))


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def refusal(path, cache, **choices):
    """The one sentence that loading this file ends in."""
    with pytest.raises(InputError) as caught:
        load(path, cache=cache, **choices)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def everything(dataset):
    return [example for batch in dataset.iterate(2) for example in batch]


def test_rows_come_back_by_number_in_order_and_as_they_were(rows_file, cache):
    dataset = load(rows_file, cache=cache)
    assert (dataset.name, dataset.format, dataset.bad_rows, len(dataset)) == ("rows", ALPACA, 0, 3)
    assert everything(dataset) == EXAMPLES
    assert [dataset[row] for row in range(3)] == EXAMPLES
    assert [dataset.record(row) for row in range(3)] == ROWS


@pytest.mark.parametrize("rows", [[2, 0, 2], [], np.array([1, 0])])
def test_take_gives_the_rows_asked_for_in_their_order(rows_file, cache, rows):
    assert load(rows_file, cache=cache).take(rows) == [EXAMPLES[row] for row in rows]


@pytest.mark.parametrize("rows", [[3], [0, -1]])
def test_a_row_that_does_not_exist_is_refused(rows_file, cache, rows):
    with pytest.raises(IndexError, match="expected rows from 0 to 2"):
        load(rows_file, cache=cache).take(rows)


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_batches_cover_all_rows_whatever_their_size(rows_file, cache, batch):
    batches = list(load(rows_file, cache=cache).iterate(batch))
    assert [len(part) for part in batches[:-1]] == [batch] * (len(batches) - 1)
    assert [example for part in batches for example in part] == EXAMPLES


BACKWARDS = [dict(reversed(row.items())) for row in ROWS]
WRITINGS = {
    "array.json": json.dumps(ROWS),
    "pretty.json": json.dumps(ROWS, indent=2, ensure_ascii=False),
    "array.jsonl": json.dumps(ROWS),
    "lines.json": jsonl(*ROWS),
    "bom.jsonl": b"\xef\xbb\xbf" + jsonl(*ROWS).encode(),
    "bom.json": b"\xef\xbb\xbf" + json.dumps(ROWS).encode(),
    "crlf.jsonl": jsonl(*ROWS).replace("\n", "\r\n"),
    "crlf.json": json.dumps(ROWS, indent=2).replace("\n", "\r\n"),
    "blank_lines.jsonl": "\n \n" + jsonl(*ROWS).replace("\n", "\n\n\t\n"),
    "no_last_newline.jsonl": jsonl(*ROWS).rstrip("\n"),
    "key_order.jsonl": jsonl(*BACKWARDS),
    "escaped.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
    "no_suffix": jsonl(*ROWS),
}


@pytest.mark.parametrize("name", WRITINGS)
def test_the_fingerprint_is_of_what_the_rows_say_not_of_how_they_are_written(tmp_path, rows_file, cache, name):
    dataset = load(written(tmp_path / name, WRITINGS[name]), cache=cache)
    assert everything(dataset) == EXAMPLES
    assert dataset.fingerprint == load(rows_file, cache=cache).fingerprint


@pytest.mark.parametrize(
    "rows",
    [
        ROWS[::-1],
        ROWS[:2],
        [*ROWS[:2], {**ROWS[2], "output": "1 2 4"}],
        [*ROWS[:2], {**ROWS[2], "id": 3}],
        [*ROWS[:2], {**ROWS[2], "instruction": "Count to\n three", "input": "."}],
    ],
)
def test_other_rows_have_another_fingerprint(tmp_path, rows_file, cache, rows):
    other = load(written(tmp_path / "other.jsonl", jsonl(*rows)), cache=cache)
    assert other.fingerprint != load(rows_file, cache=cache).fingerprint


def test_fields_of_any_name_can_be_given(tmp_path, cache):
    path = written(tmp_path / "mine.jsonl", jsonl({"q": "Why?", "a": "So.", "input": "kept"}))
    assert "data.fields.instruction=" in refusal(path, cache)
    dataset = load(path, fields={"instruction": "q", "input": None, "response": "a"}, name="mine", cache=cache)
    assert (dataset.name, dataset.format) == ("mine", Fields("q", None, "a"))
    assert dataset[0] == exchange("Why?", "", "So.", {"input": "kept"})
    assert dataset.record(0) == {"q": "Why?", "a": "So.", "input": "kept"}


@pytest.mark.parametrize(
    "fields",
    [
        {"response": "output"},
        {"instruction": "a", "response": "a"},
        {"instruction": "a", "response": "b", "label": "c"},
    ],
)
def test_field_names_that_make_no_sense_are_refused(rows_file, cache, fields):
    with pytest.raises(InputError, match=r"data\.fields"):
        load(rows_file, fields=fields, cache=cache)


GOOD = json.dumps(ROWS[0])
FAULTS = {  # name of the file: content, and what the message must say besides the file's name
    "not_json.jsonl": (f"{GOOD}\nhello\n", ["line 2", "not valid JSON"]),
    "python.jsonl": (f"{GOOD}\n{{'instruction': 'a'}}\n", ["line 2", "not valid JSON", "character 2"]),
    "cut.jsonl": (f"\n{GOOD}\n{GOOD[:40]}", ["line 3", "cut off"]),
    "cut_at_a_comma.jsonl": (f'{GOOD}\n{{"instruction": "a",\n', ["line 2", "cut off"]),
    "two_a_line.jsonl": (f"{GOOD}{GOOD}\n", ["line 1", "not valid JSON", "extra data"]),
    "missing.jsonl": (jsonl(ROWS[0], {"instruction": "a"}), ["line 2", 'field "output" is missing']),
    "number.jsonl": (jsonl(ROWS[0], {**ROWS[0], "output": 3}), ["line 2", 'field "output"', "a number (3)"]),
    "null.jsonl": (jsonl(ROWS[0], {**ROWS[0], "output": None}), ["line 2", 'field "output" is null']),
    "blank.jsonl": (jsonl(ROWS[0], {**ROWS[0], "instruction": " "}), ["line 2", 'field "instruction" is blank']),
    "list.jsonl": (f"{GOOD}\n[1, 2]\n", ["line 2", "a list"]),
    "twice.jsonl": ('{"instruction": "a", "output": "b", "output": "c"}\n', ["line 1", 'field "output" appears twice']),
    "digits.jsonl": (f'{{"instruction": "a", "output": "b", "n": {"9" * 5000}}}\n', ["line 1", "cannot be read"]),
    "deep.jsonl": (GOOD + "\n" + "[" * 200_000, ["line 2"]),
    "nul.jsonl": (f"{GOOD}\n".encode() + b"\0" * 100, ["line 2", "NUL byte"]),
    "nul_in_text.jsonl": (GOOD.replace("Name", "Na\0me"), ["line 1", "NUL byte"]),
    "escaped_nul.jsonl": (GOOD.replace("Name", "Na\\u0000me"), ["line 1", 'field "instruction"', "NUL character"]),
    "half.jsonl": (GOOD.replace("Name", "\\ud83d"), ["line 1", 'field "instruction"', "holds an unpaired surrogate"]),
    "latin1.jsonl": (f"{GOOD}\n".encode() + "{'é'}".encode("latin-1"), ["line 2", "0xE9", "UTF-8"]),
    "latin1.json": (f"[{GOOD},\n".encode() + b'{"instruction": "\xe9"}]', ["line 2", "0xE9", "UTF-8"]),
    "utf16.jsonl": (f"{GOOD}\n".encode("utf-16"), ["line 1", "UTF-16"]),
    "cut.json": (f"[{GOOD},\n{GOOD[:40]}", ["line 2", "ends in the middle of a record"]),
    "open.json": (f"[{GOOD}\n", ["line 2", "the end of the file", "]"]),
    "comma.json": (f"[{GOOD}\n{GOOD}]", ["line 2", "comma"]),
    "last_comma.json": (f"[{GOOD},\n]", ["line 2", "not valid JSON"]),
    "after.json": (f"[{GOOD}]\n]", ["line 2", "after the end"]),
    "nul.json": (f"[{GOOD},\n\0]", ["line 2", "NUL byte"]),
    "numbers.json": (f"[{GOOD},\n3]", ["line 2", "a number (3)"]),
    "blank.json": (f"[\n{GOOD},\n" + '{"instruction":\n"a",\n"output":""}]', ["line 3", 'field "output" is blank']),
    "twice.json": ('[\n{"instruction": "a", "output": "b", "output": "c"}]', ["line 2", '"output" appears twice']),
    "object.json": ('\n{\n "data": [\n' + GOOD + "]}", ["line 2", "an object", "array"]),
    "one_line_object.json": (json.dumps({"data": ROWS}), ["line 1", "an object", "array"]),
    "text.json": ("hello", ["line 1", "'h'", "array"]),
    "empty.json": ("", ["no records"]),
    "empty.jsonl": ("", ["no records"]),
    "blank_lines.jsonl": (" \n\r\n\n", ["no records"]),
    "bom_only.jsonl": (b"\xef\xbb\xbf\n", ["no records"]),
    "no_elements.json": (" [ \n ] ", ["no records"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_sentence_that_names_file_line_and_field(tmp_path, cache, name):
    content, parts = FAULTS[name]
    message = refusal(written(tmp_path / name, content), cache)
    assert [part for part in parts if part not in message] == [], message
    assert ";" in message, "and what to do"
    assert not list((cache / "source").glob("*/*")), "nothing is kept of a file that was refused"


def test_a_path_that_is_no_file_is_refused(tmp_path, cache):
    assert "no such file" in refusal(tmp_path / "nothing.jsonl", cache)
    assert "no such file" in refusal(tmp_path / "no folder" / "nothing.json", cache)
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is a pipe, expected a regular file" in refusal(tmp_path / "pipe.jsonl", cache)
    with pytest.raises(InputError, match=r"data\.path is not set"):
        load(None, cache=cache)


def test_a_file_that_may_not_be_read_is_refused(rows_file, cache):
    rows_file.chmod(0)
    program = (
        "import os, sys; from pathlib import Path; from diverseevol.data.dataset import load\n"
        "if os.geteuid() == 0: os.seteuid(65534)\n"
        "load(sys.argv[1], cache=Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", program, rows_file, cache], capture_output=True, text=True)
    assert f"InputError: {rows_file}: cannot be read (Permission denied)" in done.stderr


def test_a_named_field_that_no_record_has_is_refused_with_those_there_are(tmp_path, cache):
    file = written(tmp_path / "rows.jsonl", jsonl(*[{"q": "a?", "passage": "p", "a": "b"}] * 3))
    fields = {"instruction": "q", "input": "pasage", "response": "a"}
    with pytest.raises(InputError, match=r"data\.fields\.input is 'pasage', which no record has .*q, passage, a"):
        load(file, fields=fields, cache=cache)
    rows = load(file, fields={**fields, "input": "passage"}, cache=cache)
    assert (rows[0].input, rows.unused) == ("p", {})


def test_a_first_record_without_an_input_does_not_decide_for_the_others(tmp_path, cache):
    rows = [{"instruction": "a?", "output": "b"}, {"instruction": "a?", "context": "c", "output": "b"}]
    dataset = load(written(tmp_path / "rows.jsonl", jsonl(*rows)), cache=cache)
    assert [example.input for example in dataset.take([0, 1])] == ["", "c"]
    assert dataset.unused == {}


def test_known_fields_that_nothing_uses_are_counted(tmp_path, cache):
    rows = [
        {"instruction": "a?", "input": "i", "output": "b", "history": [["x", "y"]]},
        {"instruction": "a?", "input": "", "context": "c", "output": "b", "system": "s"},
        {"instruction": "a?", "input": "i", "output": "b", "system": ""},
    ]
    file = written(tmp_path / "rows.jsonl", jsonl(*rows))
    assert load(file, cache=cache).unused == {"context": 1}  # a history and a system turn are read
    named = {"instruction": "instruction", "input": "input", "response": "output"}
    assert load(file, fields=named, cache=cache).unused == {"context": 1, "history": 1, "system": 1}


def test_what_to_do_with_bad_rows_is_one_of_two(rows_file, cache):
    with pytest.raises(InputError, match="must be"):
        load(rows_file, on_bad_rows="ignore", cache=cache)


BAD = [
    (2, None, "cut off", GOOD[:40]),
    (4, "output", "blank", json.dumps({**ROWS[0], "output": ""})),
    (5, None, "UTF-8", b"\xff"),
    (7, "instruction", "missing", "{}"),
    (8, None, "a number", "3"),
]


def with_bad_rows():
    """The three good rows on lines 1, 3 and 9, the bad ones on theirs; line 6 is blank."""
    lines = dict(zip((1, 3, 9), (json.dumps(row) for row in ROWS), strict=True)) | {6: ""}
    lines |= {line: text for line, _, _, text in BAD}
    encoded = [text if isinstance(text, bytes) else text.encode() for _, text in sorted(lines.items())]
    return b"\n".join(encoded) + b"\n"


@pytest.mark.parametrize("again", [False, True])
def test_skipped_rows_are_listed_and_the_others_numbered_on(tmp_path, cache, again):
    path = written(tmp_path / "mixed.jsonl", with_bad_rows())
    listed = tmp_path / "run" / "bad_rows.jsonl"
    if again:  # the list does not depend on whether the rows were in the cache
        load(path, on_bad_rows="skip", cache=cache)
    dataset = load(path, on_bad_rows="skip", bad_rows_file=listed, cache=cache)
    assert everything(dataset) == EXAMPLES
    assert dataset.bad_rows == len(BAD)
    found = [json.loads(line) for line in listed.read_text(encoding="utf-8").splitlines()]
    assert [list(entry) for entry in found] == [["line", "field", "problem"]] * len(BAD)
    assert [(entry["line"], entry["field"]) for entry in found] == [(line, field) for line, field, _, _ in BAD]
    assert all(word in entry["problem"] for entry, (_, _, word, _) in zip(found, BAD, strict=True))


def test_skipping_leaves_the_fingerprint_of_the_rows_that_are_kept(tmp_path, rows_file, cache):
    mixed = load(written(tmp_path / "mixed.jsonl", with_bad_rows()), on_bad_rows="skip", cache=cache)
    assert mixed.fingerprint == load(rows_file, cache=cache).fingerprint


def test_bad_records_of_an_array_are_skipped_too(tmp_path, cache):
    bad = '{"instruction": "a", "output": "b", "output": "c"}'
    path = written(tmp_path / "mixed.json", f"[3,\n{bad},\n" + ",\n".join(json.dumps(row) for row in ROWS) + "]")
    listed = tmp_path / "bad_rows.jsonl"
    dataset = load(path, on_bad_rows="skip", bad_rows_file=listed, cache=cache)
    assert everything(dataset) == EXAMPLES
    assert [json.loads(line)["line"] for line in listed.read_text().splitlines()] == [1, 2]


def test_a_fault_of_the_whole_file_stops_even_where_rows_are_skipped(tmp_path, cache):
    path = written(tmp_path / "cut.json", f"[{GOOD},\n{GOOD[:40]}")
    assert "line 2" in refusal(path, cache, on_bad_rows="skip")


def test_a_file_without_a_usable_row_is_refused_and_its_rows_are_listed(tmp_path, cache):
    path, listed = written(tmp_path / "all_bad.jsonl", "{}\nhello\n"), tmp_path / "bad_rows.jsonl"
    for _ in range(2):
        message = refusal(path, cache, on_bad_rows="skip", bad_rows_file=listed)
        assert "none of its 2 records" in message
        assert "line 1" in message
        assert len(listed.read_text().splitlines()) == 2
        listed.unlink()


def entry(cache):
    (meta,) = cache.glob("source/*/meta.json")
    return meta.parent


def test_a_second_start_reads_what_the_first_one_wrote(rows_file, cache, monkeypatch):
    first = load(rows_file, cache=cache)
    before = {path: path.stat().st_mtime_ns for path in entry(cache).iterdir()}
    monkeypatch.setattr(locate, "read_records", lambda path: pytest.fail("the file was read again"))
    second = load(rows_file, cache=cache)
    assert everything(second) == everything(first)
    assert second.fingerprint == first.fingerprint
    assert {path: path.stat().st_mtime_ns for path in entry(cache).iterdir()} == before


def test_a_changed_file_is_read_again_and_old_rows_stay_readable(rows_file, cache):
    first = load(rows_file, cache=cache)
    size, when = rows_file.stat().st_size, rows_file.stat().st_mtime_ns
    rows_file.write_text(jsonl({**ROWS[0], "instruction": "Name a coluor."}, *ROWS[1:]), encoding="utf-8")
    os.utime(rows_file, ns=(when, when))
    assert rows_file.stat().st_size == size, "neither size nor time give the change away"
    assert load(rows_file, cache=cache)[0].instruction == "Name a coluor."
    assert first[0].instruction == "Name a colour."


def test_a_file_that_changes_while_it_is_read_is_refused(rows_file, cache, monkeypatch):
    def appended(path):
        yield from original(path)
        with path.open("a") as file:
            file.write(GOOD)

    original = locate.read_records
    monkeypatch.setattr(locate, "read_records", appended)
    assert "changed while it was being read" in refusal(rows_file, cache)


def test_a_cache_entry_without_its_meta_file_is_built_again(rows_file, cache):
    load(rows_file, cache=cache)
    (entry(cache) / "rows.arrow").write_bytes(b"half")
    (entry(cache) / "meta.json").unlink()
    assert everything(load(rows_file, cache=cache)) == EXAMPLES


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from diverseevol.data import ingest, dataset
ingest.BATCH = 1
def slowly(done, total):
    print(done, flush=True)
    time.sleep(0.2)
dataset.load(sys.argv[1], cache=Path(sys.argv[2]), progress=slowly)
"""


def test_what_a_killed_process_leaves_is_thrown_away(tmp_path, cache):
    path = written(tmp_path / "rows.jsonl", jsonl(*ROWS * 100))
    command = [sys.executable, "-c", BUILD_SLOWLY, str(path), str(cache)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as building:
        assert building.stdout is not None
        building.stdout.readline()
        building.send_signal(signal.SIGKILL)
    assert list(cache.rglob("*.partial")), "it was killed in the middle"
    assert not list(cache.rglob("meta.json"))
    assert everything(load(path, cache=cache)) == EXAMPLES * 100
    assert not list(cache.rglob("*.partial"))


def test_one_of_many_processes_builds_and_the_others_wait_for_it(rows_file, cache):
    command = [sys.executable, "-c", BUILD_SLOWLY, str(rows_file), str(cache)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=600)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0]
    assert sum(bool(output) for output in outputs) == 1
    assert everything(load(rows_file, cache=cache)) == EXAMPLES


def test_progress_ends_at_the_size_of_the_file_and_is_silent_on_reuse(tmp_path, cache):
    path = written(tmp_path / "rows.jsonl", jsonl(*ROWS * 1000))
    calls = []
    for _ in range(2):
        load(path, cache=cache, progress=lambda done, total: calls.append((done, total)))
    size = path.stat().st_size
    assert len(calls) == 4
    assert calls == sorted(calls)
    assert calls[-1] == (size, size)
    assert {total for _, total in calls} == {size}


def test_long_rows_are_written_a_few_at_a_time(rows_file, cache, monkeypatch):
    monkeypatch.setattr(ingest, "BATCH_CHARACTERS", 1)
    load(rows_file, cache=cache)
    with pa.ipc.open_stream(entry(cache) / "rows.arrow") as reader:
        assert [batch.num_rows for batch in reader] == [1, 1, 1]


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path, rows_file):
    cache = written(tmp_path / "cache", "a file")
    with pytest.raises(InputError, match="cannot be written") as caught:
        load(rows_file, cache=cache)
    assert str(cache) in str(caught.value)


TABLE_ROWS = [{key: row.get(key) for key in ("instruction", "input", "output", "id")} for row in ROWS]


@pytest.fixture
def parquet(tmp_path, no_network):
    folder = tmp_path / "a [folder]"
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(TABLE_ROWS), folder / "rows.parquet")
    return folder / "rows.parquet"


def test_a_parquet_file_says_what_the_same_rows_in_json_say(tmp_path, parquet, cache):
    dataset = load(parquet, cache=cache)
    again = load(parquet, cache=cache)
    assert (dataset.name, [dataset.record(row) for row in range(3)]) == ("rows", TABLE_ROWS)
    same = load(written(tmp_path / "rows.jsonl", jsonl(*TABLE_ROWS)), cache=cache)
    assert dataset.fingerprint == again.fingerprint == same.fingerprint
    assert len(load(parquet, split="train[:2]", cache=cache)) == 2


def test_a_folder_is_read_by_split_and_everything_stays_below_the_cache(tmp_path, no_network, cache):
    folder = tmp_path / "mine"
    folder.mkdir()
    written(folder / "train.jsonl", jsonl(*TABLE_ROWS))
    written(folder / "test.jsonl", jsonl(TABLE_ROWS[2]))
    before = sorted(tmp_path.rglob("*"))
    assert [len(load(folder, split=split, cache=cache)) for split in ("train", "test")] == [3, 1]
    assert [path for path in sorted(tmp_path.rglob("*")) if cache not in (path, *path.parents)] == before
    assert "nowhere" in refusal(folder, cache, split="nowhere")
    assert "nothing" in refusal(folder, cache, subset="nothing")


SLICES = ["train[:2]", "train[1:]", "train[-1:]", "train[:50%]", "train[2:]+train[:1]", "train[:1000]", "train[1:2]"]


@pytest.mark.parametrize("split", SLICES)
def test_a_slice_of_a_file_is_the_rows_that_the_same_slice_of_a_table_is(tmp_path, parquet, cache, split):
    table = load(parquet, split=split, cache=cache)
    for name, content in {"rows.jsonl": jsonl(*TABLE_ROWS), "rows.json": json.dumps(TABLE_ROWS)}.items():
        path = written(tmp_path / name, content)
        assert everything(load(path, split=split, cache=cache)) == everything(table)
        assert len(load(path, cache=cache)) == 3, "all of it is kept apart from the slice"


def test_only_the_records_of_a_slice_are_checked_and_they_keep_their_lines(tmp_path, cache):
    path = written(tmp_path / "mixed.jsonl", with_bad_rows())
    assert everything(load(path, split="train[:1]", cache=cache)) == EXAMPLES[:1]
    assert "line 4" in refusal(path, cache, split="train[2:]")


@pytest.mark.parametrize("split", ["test", "train[:", "train[2:1]", "train[3:]", "train[:10%](pct1_dropremainder)"])
def test_a_split_that_a_file_has_not_is_refused(rows_file, cache, split):
    assert f"data.split is {split}" in refusal(rows_file, cache, split=split)


@pytest.mark.parametrize("option", ["subset", "revision"])
def test_an_option_that_means_nothing_for_the_data_is_refused(rows_file, parquet, cache, option):
    for path, kind in {rows_file: "a file", parquet: "a file", parquet.parent: "a folder"}.items():
        if (kind, option) != ("a folder", "subset"):
            said = f"data.{option} is other, which means nothing for {path}: it is {kind}; leave it out"
            assert refusal(path, cache, **{option: "other"}) == said


FRONT_MATTER = """---
configs:
- {config_name: short, data_files: short.jsonl, default: true}
- {config_name: long, data_files: [{split: train, path: long/*.jsonl}, {split: test, path: short.jsonl}]}
---
Rows of two kinds.
"""


def test_a_folder_with_configurations_in_its_readme_is_read_by_subset(tmp_path, no_network, cache):
    folder = tmp_path / "mine"
    (folder / "long").mkdir(parents=True)
    written(folder / "README.md", FRONT_MATTER)
    written(folder / "short.jsonl", jsonl(TABLE_ROWS[0]))
    written(folder / "long" / "a.jsonl", jsonl(TABLE_ROWS[1]))
    written(folder / "long" / "b.jsonl", jsonl(TABLE_ROWS[2]))

    def rows(**choices):
        dataset = load(folder, cache=cache, **choices)
        return [dataset.record(row) for row in range(len(dataset))]

    assert rows() == rows(subset="short") == rows(subset="long", split="test") == TABLE_ROWS[:1]
    assert rows(subset="long") == TABLE_ROWS[1:]
    assert rows(subset="long", split="train[1:]") == TABLE_ROWS[2:]
    said = refusal(folder, cache, subset="nosuch")
    assert "short" in said
    assert "long" in said


@pytest.mark.parametrize("file", ["README.md", ".huggingface.yaml"])
@pytest.mark.parametrize(
    "named",
    [
        "/private/*.jsonl", "../private.jsonl", "a/../../private.jsonl", "https://example.org/rows.jsonl",
        "zip://*.jsonl::a.zip", "hf://datasets/a/b/rows.jsonl", "~/private.jsonl", "file:///private.jsonl",
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", ["text", "list", "split", "folder"])
def test_a_folder_of_data_names_no_files_elsewhere(tmp_path, no_network, cache, file, named, how):
    """Who makes the data does not decide what is read or fetched."""
    folder = tmp_path / "mine"
    folder.mkdir()
    written(folder / "train.jsonl", jsonl(TABLE_ROWS[0]))
    node = {"text": named, "list": [named], "split": [{"split": "train", "path": [named]}], "folder": None}[how]
    config = {"config_name": "default", **({"data_dir": named} if how == "folder" else {"data_files": node})}
    text = yaml.safe_dump({"configs": [config]})
    written(folder / file, text if file.endswith("yaml") else f"---\n{text}---\nRows.\n")
    assert f"{folder / file}: names {named!r} as data, expected files of its own folder" in refusal(folder, cache)
    assert not cache.exists()


def test_the_shards_of_a_folder_are_read_one_after_another(tmp_path, no_network, cache):
    data = tmp_path / "mine" / "data"
    data.mkdir(parents=True)
    for shard, rows in enumerate([TABLE_ROWS[:1], TABLE_ROWS[1:]]):
        pq.write_table(pa.Table.from_pylist(rows), data / f"train-{shard:05}-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(TABLE_ROWS[2:]), data / "test-00000-of-00001.parquet")
    dataset = load(data.parent, cache=cache)
    assert [dataset.record(row) for row in range(len(dataset))] == TABLE_ROWS
    assert everything(load(data.parent, split="test", cache=cache)) == everything(dataset)[2:]


def packed_rows(kind):
    """Bytes that a library would unpack."""
    rows = jsonl({"instruction": "a", "output": "b"}).encode()
    held = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=held, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("rows.jsonl"))
    elif kind.startswith("zip"):
        with zipfile.ZipFile(held, "w") as archive:
            archive.writestr("rows.jsonl", rows)
    else:
        return {
            "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
            "zstandard": b"\x28\xb5\x2f\xfd".__add__, "lz4": b"\x04\x22\x4d\x18".__add__,
            "7z": b"7z\xbc\xaf\x27\x1c".__add__, "rar": b"Rar!\x1a\x07\x00".__add__,
        }[kind](rows)  # fmt: skip
    return (rows if "behind" in kind else b"") + held.getvalue()


@pytest.mark.parametrize("name", ["train.jsonl", "data/train/x.parquet", "notes.txt", ".hidden"])
def test_a_packed_file_in_a_folder_of_data_is_refused_by_its_bytes_whatever_its_name(tmp_path, no_network, cache, name):
    (tmp_path / "data").mkdir()
    written(tmp_path / "data/train.jsonl", jsonl({"instruction": "a", "output": "b"}))
    file = tmp_path / "data" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(packed_rows("gzip"))
    assert f"{file}: is packed (gzip), expected a plain file of rows" in refusal(tmp_path / "data", cache)
    assert not cache.exists()


@pytest.mark.parametrize(
    "kind", ["gzip", "bzip2", "xz", "zip", "zip behind rows", "tar", "zstandard", "lz4", "7z", "rar"]
)
def test_whatever_libraries_unpack_is_refused(tmp_path, no_network, cache, kind):
    file = tmp_path / "data" / "train.jsonl"
    file.parent.mkdir()
    file.write_bytes(packed_rows(kind))
    assert f"{file}: is packed ({kind.split()[0]})" in refusal(tmp_path / "data", cache)
    file.rename(tmp_path / "rows.parquet")
    assert f"rows.parquet: is packed ({kind.split()[0]})" in refusal(tmp_path / "rows.parquet", cache)
    file.symlink_to(tmp_path / "rows.parquet")
    assert f"{file}: is packed" in refusal(tmp_path / "data", cache)


def test_a_link_that_leads_nowhere_is_no_packed_file(tmp_path, no_network, cache):
    (tmp_path / "data").mkdir()
    written(tmp_path / "data/train.jsonl", jsonl({"instruction": "a", "output": "b"}))
    (tmp_path / "data/.cache").symlink_to(tmp_path / "nowhere")
    assert len(load(tmp_path / "data", cache=cache)) == 1


def test_tables_are_checked_like_files_and_rows_are_named(tmp_path, no_network, cache):
    path, listed = tmp_path / "rows.parquet", tmp_path / "bad_rows.jsonl"
    pq.write_table(pa.Table.from_pylist([TABLE_ROWS[0], {**TABLE_ROWS[1], "output": None}]), path)
    message = refusal(path, cache)
    assert "row 1" in message
    assert 'field "output" is null' in message
    assert len(load(path, on_bad_rows="skip", bad_rows_file=listed, cache=cache)) == 1
    assert [json.loads(line)["row"] for line in listed.read_text().splitlines()] == [1]


def test_what_tables_have_and_json_has_not_becomes_text_or_null(tmp_path, no_network, cache):
    when = pa.array([0], pa.timestamp("s"))
    columns = {"instruction": ["a"], "output": ["b"], "when": when, "score": [float("nan")]}
    pq.write_table(pa.table(columns), tmp_path / "rows.parquet")
    assert load(tmp_path / "rows.parquet", cache=cache)[0].extra == {"when": "1970-01-01T00:00:00", "score": None}


ROW = '{"instruction": "a", "input": "", "output": "b"}\n'
ODD_FOLDERS = {
    "other columns": ({"a.json": ROW, "b.json": '{"a": 1}\n'}, "cannot be loaded (Couldn't cast"),
    "cut off": ({"a.jsonl": ROW + ROW[:20]}, "cannot be loaded (JSON parse error"),
    "broken beside sound": ({"a.csv": "instruction,output\na,b\n", "b.json": "{"}, "cannot be loaded ("),
    "no records": ({"a.json": ""}, "cannot be loaded (there are no records in it)"),
    "no columns": ({"a.csv": ""}, "cannot be loaded (No columns"),
    "no parquet": ({"a.parquet": "PAR1"}, "cannot be loaded ("),
    "no zip": ({"a.zip": "PK"}, "cannot be loaded (File is not a zip file)"),
    "broken README": ({"a.json": ROW, "README.md": "---\nconfigs: [\n---\n"}, "cannot be loaded (while parsing"),
    "of no format": ({"a.xml": "<a>"}, "cannot be loaded (there are no files of a format that is read)"),
    "code": ({"code.py": "print('run')\n"}, "cannot be loaded ("),
    "text": ({"a.txt": "a"}, "row 0: its only field is text"),
}


@pytest.mark.parametrize("name", ODD_FOLDERS)
def test_of_a_folder_of_odd_files_one_sentence_is_all_that_is_said(tmp_path, no_network, cache, capfd, caplog, name):
    files, sentence = ODD_FOLDERS[name]
    (tmp_path / "odd").mkdir()
    for file, content in files.items():
        written(tmp_path / "odd" / file, content)
    assert sentence in refusal(tmp_path / "odd", cache)
    assert (*capfd.readouterr(), caplog.records) == ("", "", [])


@pytest.mark.parametrize("name", ["rows.xlsx", "rows.XLS", "rows.ods", "rows.pkl"])
def test_a_file_of_another_format_is_said_to_be_that(tmp_path, cache, name):
    said = refusal(written(tmp_path / name, "instruction,output\na,b\n"), cache)
    assert "expected JSON, JSONL, CSV, TSV, parquet or Arrow; convert it, with pandas for instance by to_" in said
    assert "to_json('rows.jsonl'" in said


def test_a_table_that_cannot_be_read_is_one_sentence(tmp_path, no_network, cache):
    (tmp_path / "empty").mkdir()
    assert "cannot be loaded" in refusal(tmp_path / "empty", cache)
    assert "cannot be loaded" in refusal(written(tmp_path / "rows.parquet", "hello"), cache)
    assert "no such file" in refusal(tmp_path / "nothing.parquet", cache)


@pytest.mark.parametrize("given", ["data_of/nobody", None])
def test_without_a_network_a_hub_id_is_one_sentence(tmp_path, given):
    program = (
        "import sys; from pathlib import Path; from diverseevol.data.dataset import load\n"
        f"load({given!r}, hub='data_of/nobody', cache=Path(sys.argv[1]))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", program, str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("diverseevol.errors.InputError: data_of/nobody: ")
    assert "the hub cannot be reached" in last


@pytest.mark.parametrize("name", ["file", "dolly"])
def test_the_configuration_names_options_that_there_are(name, rows_file, cache):
    options = yaml.safe_load((CONF / f"{name}.yaml").read_text())
    assert options.pop("_target_") == "diverseevol.data.load"
    path = rows_file
    if name == "dolly":
        path = written(rows_file.with_name("dolly.jsonl"), jsonl({"instruction": "a", "context": "b", "response": "c"}))
    dataset = load(**{**options, "path": str(path)}, cache=cache)
    assert dataset.format == {"file": ALPACA, "dolly": Fields("instruction", "context", "response")}[name]
    assert dataset.name == {"file": "rows", "dolly": "dolly"}[name]


def test_dolly_itself_is_loaded_whole(cache):
    folder = os.environ.get("DIVERSEEVOL_TEST_DATA")
    path = Path(folder or "") / "databricks-dolly-15k.jsonl"
    if not (folder and path.is_file()):
        pytest.skip("DIVERSEEVOL_TEST_DATA does not name a folder with databricks-dolly-15k.jsonl")
    dataset = load(path, cache=cache)
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    assert (len(dataset), dataset.format, dataset.bad_rows) == (len(lines), DOLLY, 0)
    for row in (0, 7, len(lines) - 1):
        assert dataset.record(row) == json.loads(lines[row])
