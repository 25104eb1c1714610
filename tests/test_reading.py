"""What somebody else may have left where a file is expected: it is refused in a sentence, and keeps nobody waiting."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from diverseevol.cli.commands.select import _embeddings, _lengths, taken_rows
from diverseevol.data import json_reader
from diverseevol.data.dataset import load
from diverseevol.engine.pretrained import Pretrained
from diverseevol.errors import InputError
from diverseevol.evaluation.judges.pairwise import load_prompt
from diverseevol.evaluation.judges.reply_cache import ReplyCache
from diverseevol.evaluation.questions.benchmarks import load_benchmark
from diverseevol.evaluation.scores.read_judgements import read_judgements
from diverseevol.report.collect import collect
from diverseevol.storage import json_lines, reading
from diverseevol.storage.cache import content_digest
from diverseevol.storage.files import read_json, read_jsonl
from diverseevol.storage.reading import DEEPEST, files_below, load_array

DEEP = 10**5


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    """Whatever waits for a pipe's writer, or reads a device to its end, fails."""

    def too_late(number: int, frame: FrameType | None) -> None:
        raise AssertionError("it did not come to an end")

    before = signal.signal(signal.SIGALRM, too_late)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def _socket(path: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path may be 107 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a link to a pipe": lambda path: (os.mkfifo(f"{path}.pipe"), path.symlink_to(f"{path}.pipe")),
    "a device without an end": lambda path: path.symlink_to("/dev/zero"),
    "an empty device": lambda path: path.symlink_to("/dev/null"),
    "a socket": _socket,
    "a folder": Path.mkdir,
    "a link in a circle": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to(f"{path}.gone"),
}
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "data.path": ("x.jsonl", lambda path: load(path, cache=path.parent / "cache")),
    "data.path, an array": ("x.json", lambda path: load(path, cache=path.parent / "cache")),
    "embeddings": ("x.npy", lambda path: _embeddings(str(path))),
    "lengths": ("x.npy", lambda path: _lengths(str(path), None)),
    "taken": ("x.json", lambda path: taken_rows(str(path), np.ones(5, dtype=int), 1)),
    "taken, records": ("x.jsonl", lambda path: taken_rows(str(path), np.ones(5, dtype=int), 1)),
    "benchmark.path": ("x.jsonl", lambda path: load_benchmark("x", path, cache=path.parent)),
    "judge.prompt": ("x.txt", lambda path: load_prompt(str(path))),
    "JSON": ("x.json", read_json),
    "JSONL": ("x.jsonl", read_jsonl),
    "digest": ("x", content_digest),
    "array": ("x.npy", load_array),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_regular_file_is_refused_in_a_sentence_that_names_it(reader, kind, tmp_path):
    name, read = READERS[reader]
    path = tmp_path / name
    SPECIAL[kind](path)
    if (reader, kind) == ("data.path", "a folder"):
        pytest.skip("a folder of data is read by its files")
    with pytest.raises(InputError, match=name) as caught:
        read(path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_path_with_a_character_that_no_path_has_is_refused():
    with pytest.raises(InputError, match="NUL"):
        read_json(Path("a\0b"))


def test_a_folder_of_data_with_a_pipe_in_it_is_refused(tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    (tmp_path / "data" / "train" / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    os.mkfifo(tmp_path / "data" / "train" / "b.jsonl")
    with pytest.raises(InputError, match=r"b\.jsonl: is a pipe"):
        load(tmp_path / "data", cache=tmp_path / "cache")


@pytest.mark.parametrize("name", ["x.parquet", "x.PARQUET"])
def test_a_table_that_is_a_pipe_is_refused(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is a pipe"):
        load(tmp_path / name, cache=tmp_path / "cache")


@pytest.mark.parametrize("place", ["", "rounds/00/judgements/x.jsonl", "x_test/schedule/rd_0_vs_chat.jsonl"])
def test_judgements_that_are_a_pipe_are_refused(place, tmp_path):
    path = tmp_path / "run" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    with pytest.raises(InputError, match="is a pipe"):
        list(read_judgements(tmp_path / "run"))
    with pytest.raises(InputError, match="is a pipe"):
        collect([tmp_path / "run"])


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "chat_template.jinja"])
def test_a_model_with_a_pipe_in_its_folder_is_refused(name, foundation, tmp_path):
    shutil.copytree(foundation.path, tmp_path / "model")
    (tmp_path / "model" / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / "model" / name)
    with pytest.raises(InputError, match=rf"model\.path=.*: {name}: is a pipe"):
        Pretrained(str(tmp_path / "model")).tokenizer()


@pytest.mark.parametrize("damage", ["cut", "empty", "a header without an end", "text"])
def test_damaged_weights_are_refused_in_a_sentence(damage, foundation, tmp_path):
    shutil.copytree(foundation.path, tmp_path / "model")
    file = tmp_path / "model" / "model.safetensors"
    content = file.read_bytes()
    file.write_bytes(
        {"cut": content[:-100], "empty": b"", "a header without an end": b"\xff" * 8 + content, "text": b"hello"}[
            damage
        ]
    )
    with pytest.raises(InputError, match=r"model\.path=.*: its weights cannot be loaded") as caught:
        Pretrained(str(tmp_path / "model")).load()
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_a_model_with_deeply_nested_json_is_refused_in_a_sentence(file, foundation, tmp_path):
    shutil.copytree(foundation.path, tmp_path / "model")
    (tmp_path / "model" / file).write_text(nested(DEEP, "objects"))
    with pytest.raises(InputError, match=r"model\.path="):
        Pretrained(str(tmp_path / "model")).tokenizer()


def test_a_file_of_replies_that_is_a_pipe_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.sqlite")
    with pytest.raises(InputError, match=r"a\.sqlite: is a pipe"):
        ReplyCache(tmp_path / "a.sqlite")


def nested(depth: int, kind: str) -> str:
    return "[" * depth + "]" * depth if kind == "lists" else '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("kind", ["lists", "objects"])
@pytest.mark.parametrize("depth", [DEEPEST + 1, 500, DEEP])
def test_json_that_is_nested_too_deeply_is_refused_wherever_it_is_read(depth, kind, tmp_path):
    deep = nested(depth, kind)
    (tmp_path / "x.json").write_text(deep)
    (tmp_path / "x.jsonl").write_text(f'{{"instruction": "a", "output": "b", "x": {deep}}}\n')
    (tmp_path / "array.json").write_text(f'[{{"instruction": "a", "output": "b", "x": {deep}}}]\n')
    for read, name in (
        (read_json, "x.json"),
        (read_jsonl, "x.jsonl"),
        (lambda path: load(path, cache=tmp_path / "cache"), "x.jsonl"),
        (lambda path: load(path, cache=tmp_path / "cache"), "array.json"),
        (lambda path: taken_rows(str(path), np.ones(5, dtype=int), 1), "x.json"),
        (lambda path: load_benchmark("x", path, cache=tmp_path), "x.jsonl"),
    ):
        with pytest.raises(InputError, match=rf"{name}.*nested more than {DEEPEST} levels deep"):
            read(tmp_path / name)


def test_json_that_is_nested_less_deeply_is_read(tmp_path):
    (tmp_path / "x.json").write_text(nested(DEEPEST, "lists"))
    assert json.dumps(read_json(tmp_path / "x.json")) == nested(DEEPEST, "lists")


def test_a_row_that_is_nested_too_deeply_may_be_left_out(tmp_path):
    rows = [
        '{"instruction": "a", "output": "b"}',
        f'{{"instruction": "a", "output": "b", "x": {nested(DEEP, "lists")}}}',
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(rows))
    dataset = load(tmp_path / "x.jsonl", on_bad_rows="skip", cache=tmp_path / "cache")
    assert (len(dataset), dataset.bad_rows) == (1, 1)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> int:
    """Limits that small files reach."""
    for module in (reading, json_reader, json_lines):
        monkeypatch.setattr(module, "LONGEST_LINE", 1000)
    for module in (json_reader, json_lines):
        monkeypatch.setattr(module, "CHUNK", 100)
    return 1000


def test_a_line_beyond_the_limit_is_refused_or_left_out_and_the_next_one_read(short, tmp_path):
    row = '{"instruction": "a", "output": "%s"}\n'
    (tmp_path / "x.jsonl").write_text(row % "b" + row % ("b" * 5000) + row % "c" + row % ("d" * 3000))
    with pytest.raises(InputError, match=r"x\.jsonl, line 2: is 4\.92 KiB long, expected at most 1000 bytes"):
        load(tmp_path / "x.jsonl", cache=tmp_path / "cache")
    dataset = load(tmp_path / "x.jsonl", on_bad_rows="skip", cache=tmp_path / "cache")
    assert [dataset[i].response for i in range(len(dataset))] == ["b", "c"]
    with pytest.raises(InputError, match=r"x\.jsonl, line 2: is 4\.92 KiB long, expected at most 1000 bytes"):
        read_jsonl(tmp_path / "x.jsonl")


@pytest.mark.parametrize("end", ['"}]', ""])
def test_a_record_of_an_array_beyond_the_limit_is_refused(end, short, tmp_path):
    (tmp_path / "x.json").write_text('[{"instruction": "a", "output": "b"},\n{"instruction": "' + "a" * 5000 + end)
    with pytest.raises(InputError, match=r"x\.json, line 2: a record is longer than 1000 bytes"):
        load(tmp_path / "x.json", cache=tmp_path / "cache")


def test_a_document_beyond_the_limit_is_refused(tmp_path):
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(reading.LARGEST_JSON + 1)
    with pytest.raises(InputError, match=r"x\.json: is longer than 256 MiB"):
        read_json(tmp_path / "x.json")
    with (tmp_path / "x.jsonl").open("wb") as file:
        file.truncate(reading.LARGEST_JSONL + 1)
    with pytest.raises(InputError, match=r"x\.jsonl: is longer than 1 GiB"):
        read_jsonl(tmp_path / "x.jsonl")


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    content = text.encode("latin-1")
    length = len(content).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + content


PLAIN = "{'descr': '<f4', 'fortran_order': False, 'shape': %s}"
ODD = {
    "nothing": b"",
    "a text": b"hello, world",
    "a magic alone": b"\x93NUMPY",
    "an unknown version": header(PLAIN % "(3, 2)", b"\x09\x00"),
    "a cut header": header(PLAIN % "(3, 2)")[:30],
    "a header that is no literal": header("__import__('os').system('true')"),
    "a header that is no dictionary": header("[1, 2]"),
    "a header that lacks the shape": header("{'descr': '<f4', 'fortran_order': False}"),
    "a header of brackets": header("(" * 5000),
    "a header of many brackets": header("(" * 60000, b"\x02\x00"),
    "a header of minus signs": header("-" * 9000 + "1"),
    "a header with a NUL": header("{'descr': '<f4\0'}"),
    "a header of half a string": header("{'descr': '<f4"),
    "a negative shape": header(PLAIN % "(-3, 2)") + bytes(24),
    "a shape of texts": header(PLAIN % "('3', 2)") + bytes(24),
    "a shape of truths": header(PLAIN % "(True, 2)") + bytes(24),
    "a shape beyond 63 bits": header(PLAIN % f"({2**62}, 8)") + bytes(24),
    "a shape beyond 64 bits": header(PLAIN % f"({10**30}, 2)") + bytes(24),
    "an empty shape beyond 64 bits": header(PLAIN % f"(0, {10**30})"),
    "a shape of many dimensions": header(PLAIN % f"({'1, ' * 100})") + bytes(24),
    "a shape of terabytes": header(PLAIN % f"({10**12}, 2)") + bytes(24),
    "no type": header("{'descr': None, 'fortran_order': False, 'shape': (3, 2)}") + bytes(48),
    "an unknown type": header("{'descr': '<q9', 'fortran_order': False, 'shape': (3, 2)}") + bytes(48),
    "a nested type": header(f"{{'descr': {'[' * 90}{']' * 90}, 'fortran_order': False, 'shape': (3, 2)}}") + bytes(48),
    "objects": header("{'descr': '|O', 'fortran_order': False, 'shape': (3, 2)}") + bytes(48),
    "a cut array": header(PLAIN % "(3, 2)") + bytes(23),
    "a zip": b"PK\x03\x04" + bytes(100),
    "a pickle": b"\x80\x04\x95" + bytes(100),
}


@pytest.mark.parametrize("content", ODD)
def test_an_array_with_an_odd_header_is_refused_in_a_sentence(content, tmp_path):
    path = tmp_path / "E.npy"
    path.write_bytes(ODD[content])
    for read in (load_array, lambda path: _embeddings(str(path)), lambda path: _lengths(str(path), 3)):
        with pytest.raises(InputError, match=r"E\.npy: ") as caught:
            read(path)
        assert len(str(caught.value).splitlines()) == 1
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize("content", ["fields", "dates", "texts", "complex numbers", "truths", "one number", "no rows"])
def test_an_array_of_another_kind_is_refused_in_a_sentence(content, tmp_path):
    array = {
        "fields": np.zeros(3, dtype=[("a", "f4"), ("b", "i4")]),
        "dates": np.zeros((3, 2), dtype="M8[s]"),
        "texts": np.array([["a", "b"]]),
        "complex numbers": np.zeros((3, 2), dtype=complex),
        "truths": np.zeros((3, 2), dtype=bool),
        "one number": np.float32(3),
        "no rows": np.zeros((3, 0), dtype="f4"),
    }[content]
    np.save(tmp_path / "E.npy", array)
    for read in (_embeddings, lambda path: _lengths(path, 3)):
        with pytest.raises(InputError, match=r"E\.npy: expected an array "):
            read(str(tmp_path / "E.npy"))


def test_an_archive_of_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "E.npz", a=np.zeros((3, 2)))
    (tmp_path / "E.npz").rename(tmp_path / "E.npy")
    with pytest.raises(InputError, match=r"E\.npy: is a zip archive"):
        load_array(tmp_path / "E.npy")


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f2"])
def test_an_array_is_read_as_it_was_written(order, dtype, tmp_path):
    array = np.asarray(np.random.default_rng(0).normal(size=(5, 3)), dtype=dtype, order=order)
    np.save(tmp_path / "E.npy", array)
    np.testing.assert_array_equal(load_array(tmp_path / "E.npy"), array)


def test_folders_that_another_process_renames_meanwhile_are_no_error(tmp_path):
    for name in ("a/first.jsonl", "b.partial/deep/model.bin", "c/last.jsonl"):
        file = tmp_path / name
        file.parent.mkdir(parents=True)
        file.touch()
    files = files_below(tmp_path)
    assert next(files) == tmp_path / "a/first.jsonl"
    (tmp_path / "b.partial").rename(tmp_path / "renamed")
    assert list(files) == [tmp_path / "c/last.jsonl"]
