"""Rows in every container that people have them in: text and tables, packed or not, and what is wrong with them."""

import bz2
import csv
import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path

import datasets
import pyarrow as pa
import pytest

from diverseevol.data.dataset import load
from diverseevol.errors import InputError
from diverseevol.storage import packed

pytestmark = pytest.mark.fast

ROWS = [
    {"instruction": "Name a colour,\nplease.", "input": "", "output": 'Red, or "blue".', "id": "007"},
    {"instruction": "Übersetze: 'yes'", "input": "ins Deutsche 😀", "output": "Ja.; NA", "id": "NA"},
    {"instruction": "Count\u2028to three.", "input": " ", "output": "1\t2\t3", "id": ""},
]


def zstandard(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACK = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zstandard}


def delimited(delimiter: str) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ROWS[0], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


TEXTS = {
    ".json": json.dumps(ROWS, indent=1).encode(),
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    ".ndjson": b"\xef\xbb\xbf" + "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
    ".csv": delimited(","),
    ".CSV": b"\xef\xbb\xbf" + delimited(";"),
    ".tsv": delimited("\t"),
}


def refusal(path: Path, cache: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load(path, cache=cache, **options)
    return str(error.value)


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("form", TEXTS)
def test_text_in_every_form_and_packing_is_the_same_rows(form, packing, tmp_path, cache):
    (tmp_path / f"mine.v2{form}{packing}").write_bytes(PACK[packing](TEXTS[form]))
    dataset = load(tmp_path / f"mine.v2{form}{packing}", cache=cache)
    assert [dataset.record(row) for row in range(len(dataset))] == ROWS
    assert dataset.name == "mine.v2"
    plain = tmp_path / "plain.jsonl"
    plain.write_bytes(TEXTS[".jsonl"])
    assert dataset.fingerprint == load(plain, cache=cache).fingerprint


@pytest.mark.parametrize("name", ["rows.arrow", "stream.arrow", "rows.feather"])
def test_arrow_files_are_the_same_rows(name, tmp_path, no_network, cache):
    table = pa.Table.from_pylist(ROWS)
    new = pa.ipc.new_stream if name.startswith("stream") else pa.ipc.new_file
    with new(str(tmp_path / name), table.schema) as writer:
        writer.write_table(table)
    dataset = load(tmp_path / name, cache=cache)
    assert [dataset.record(row) for row in range(len(dataset))] == ROWS
    assert "no such file" in refusal(tmp_path / f"no.{name}", cache)


def test_folders_that_were_saved_to_disk_are_the_same_rows_and_their_splits_are_told(
    tmp_path, no_network, cache, caplog
):
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_list(ROWS)
    rows.save_to_disk(str(tmp_path / "single"), num_shards=2)
    datasets.DatasetDict(train=rows.select([2, 0]), test=rows.select([1])).save_to_disk(str(tmp_path / "several"))
    single = load(tmp_path / "single", cache=cache)
    assert [single.record(row) for row in range(3)] == ROWS
    assert single.name == "single"
    assert len(load(tmp_path / "single", split="train[:2]", cache=cache)) == 2
    assert not caplog.messages
    several = load(tmp_path / "several", cache=cache)
    assert [several.record(row) for row in range(2)] == [ROWS[2], ROWS[0]]
    assert caplog.messages == [f"{tmp_path / 'several'}: holds the splits train, test; data.split=train is read"]
    assert [row.instruction for row in load(tmp_path / "several", split="test", cache=cache).take([0])] == [
        ROWS[1]["instruction"]
    ]
    assert "cannot be loaded (Unknown split" in refusal(tmp_path / "several", cache, split="dev")
    assert "data.subset is x, which means nothing" in refusal(tmp_path / "single", cache, subset="x")


@pytest.mark.parametrize("name", ["/etc/passwd", "../rows.arrow", "a/b.arrow", "..", "", 3, None])
def test_a_saved_folder_that_names_files_elsewhere_is_refused(name, tmp_path, no_network, cache):
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved/state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    assert "state.json: expected the names of files of its own folder; save the data set again" in refusal(
        tmp_path / "saved", cache
    )


FAULTY = {
    "too few": (b"instruction,output\na,b\nc\n", "rows.csv, line 3: has 1 values, expected 2, one for each column"),
    "too many": (b'instruction,output\n"a\n?",b\n\nc,d,e\n', "rows.csv, line 5: has 3 values, expected 2"),
    "blank": (b"instruction,output\na,\n", 'rows.csv, line 2: field "output" is blank'),
    "a stray quote": (b'instruction,output\n"a"x,b\n', "rows.csv, line 2: cannot be read (',' expected after '\"')"),
    "no end": (b'instruction,output\na,"b\nc\n', "rows.csv, line 2: cannot be read (unexpected end of data)"),
    "no header": (b"", "rows.csv, line 1: expected the names of the columns, got nothing"),
    "no name": (b"instruction,,output\na,b,c\n", "rows.csv, line 1: column 2 has no name"),
    "one name twice": (b"a,a\nb,c\n", "rows.csv, line 1: two columns have the name 'a'"),
    "another encoding": ("instruction,output\nä,b\n".encode("latin-1"), "line 2: byte 0xE4 is not UTF-8 text; save"),
    "UTF-16": ("instruction,output\na,b\n".encode("utf-16"), "rows.csv, line 1: UTF-16 text"),
    "no rows": (b"instruction,output\n", "rows.csv: there are no records in it"),
    "a NUL": (b"instruction,output\na\0,b\n", 'rows.csv, line 2: field "instruction" holds a NUL character'),
    "other columns": (b"text\nb\n", "rows.csv, line 2: its only field is text, which does not"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_what_is_wrong_with_a_delimited_file_is_said_with_its_line(fault, tmp_path, cache):
    content, sentence = FAULTY[fault]
    (tmp_path / "rows.csv").write_bytes(content)
    assert sentence in refusal(tmp_path / "rows.csv", cache)


def test_faulty_rows_of_a_delimited_file_can_be_left_out(tmp_path, cache):
    (tmp_path / "rows.csv").write_text('instruction,output\na,b\nc\n"d"x,e\nf,"g\nh"\n')
    listed = tmp_path / "bad_rows.jsonl"
    dataset = load(tmp_path / "rows.csv", on_bad_rows="skip", bad_rows_file=listed, cache=cache)
    assert [dataset.record(row)["output"] for row in range(len(dataset))] == ["b", "g\nh"]
    assert [json.loads(line)["line"] for line in listed.read_text().splitlines()] == [3, 4]


def test_the_same_bytes_under_another_name_are_read_anew(tmp_path, cache):
    content = "instruction\toutput\na,b\tc\n"
    for name, fields in {"rows.tsv": None, "rows.csv": None}.items():
        (tmp_path / name).write_text(content)
        assert load(tmp_path / name, fields=fields, cache=cache)[0].instruction == "a,b"
    (tmp_path / "rows.jsonl").write_text(content)
    assert "rows.jsonl, line 1: not valid JSON" in refusal(tmp_path / "rows.jsonl", cache)


@pytest.mark.parametrize("packing", [packing for packing in PACK if packing])
def test_a_packed_file_that_is_cut_off_or_made_to_fill_a_disk_is_refused(packing, tmp_path, cache, monkeypatch):
    content, file = PACK[packing](TEXTS[".jsonl"] * 200), tmp_path / f"rows.jsonl{packing}"
    file.write_bytes(content[:-12])
    assert f"{file}: cannot be unpacked to its end (" in refusal(file, cache)
    monkeypatch.setattr(packed, "FREE", 1 << 16)
    row = json.dumps({"instruction": "a" * 1000, "output": "b"}).encode() + b"\n"
    file.write_bytes(PACK[packing](row * 20_000))
    assert f"{file}: it unpacks to more than 200 times its size; unpack it yourself if you trust it" in refusal(
        file, cache
    )


def test_archives_of_files_are_refused(tmp_path, cache):
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("rows.jsonl"))
    (tmp_path / "rows.jsonl.gz").write_bytes(held.getvalue())
    assert "rows.jsonl.gz: holds a tar archive, expected rows" in refusal(tmp_path / "rows.jsonl.gz", cache)
    (tmp_path / "rows.jsonl").write_bytes(b"PK\x03\x04")
    assert "rows.jsonl: is packed (zip), expected a plain file of rows or one packed by gzip" in refusal(
        tmp_path / "rows.jsonl", cache
    )
