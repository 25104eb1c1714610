"""Files are whole or not there, and what is wrong with one is said in a sentence."""

import math
import os
from pathlib import Path
from typing import Any

import pytest

from diverseevol.errors import InputError
from diverseevol.storage.files import read_json, read_jsonl, write_json, write_jsonl


@pytest.mark.parametrize("read", [read_json, read_jsonl])
def test_a_folder_or_nothing_in_a_files_place_is_refused_in_a_sentence(read: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder; name a file in it"):
        read(tmp_path)
    with pytest.raises(InputError, match="nowhere: no such file"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot be read \(Not a directory\)"):
        read(tmp_path / "file" / "below")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_json_is_not_written_and_leaves_what_was_there(value: float, tmp_path: Path) -> None:
    write_json(tmp_path / "one.json", {"score": 1})
    write_jsonl(tmp_path / "many.jsonl", [{"score": 1}])
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "one.json", {"score": [value]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_jsonl(tmp_path / "many.jsonl", [{"score": 2}, {"score": value}])
    assert read_json(tmp_path / "one.json") == {"score": 1}
    assert read_jsonl(tmp_path / "many.jsonl") == [{"score": 1}]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_holds_what_would_be_written_stays_untouched(tmp_path):
    path = tmp_path / "file"
    write_json(path, {"a": 1})
    os.utime(path, ns=(1, 1))
    write_json(path, {"a": 1})
    assert path.stat().st_mtime_ns == 1
    write_json(path, {"a": 2})
    assert path.stat().st_mtime_ns > 1
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_half_of_a_surrogate_pair_reads_back_as_it_was(tmp_path: Path) -> None:
    value = {"judge": "a \ud800 b"}
    write_json(tmp_path / "x.json", value)
    write_jsonl(tmp_path / "x.jsonl", [value])
    assert read_json(tmp_path / "x.json") == value
    assert read_jsonl(tmp_path / "x.jsonl") == [value]
