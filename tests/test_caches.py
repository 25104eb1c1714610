"""What is damaged in the cache, in whatever way, is noticed, told once, and made again as it was."""

import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_evolution
from forks import finish, fork

from diverseevol.data.dataset import load
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import TinyLlama
from diverseevol.errors import InputError
from diverseevol.lab.dataset import load as lab_rows
from diverseevol.options import PromptOptions, Tuning
from diverseevol.parallel.processes import Processes
from diverseevol.parallel.shared_arrays import cached_by_all
from diverseevol.storage import sealed
from diverseevol.storage.cache import cache_folder, cached_folder, checked_in_full, content_digest
from diverseevol.storage.files import write_json
from diverseevol.storage.sealed import SEAL, damage, seal

ROWS = 24


def flip(file: Path) -> None:
    """One bit in the middle, and the time of change as it was: what a disk does."""
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: -max(1, file.stat().st_size // 8)])


def lengthen(file: Path) -> None:
    with file.open("ab") as stream:
        stream.write(b"\0" * 8)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def to_link(file: Path) -> None:
    kept = file.rename(file.parents[2] / f"moved-{file.name}")
    file.symlink_to(kept)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "cut": cut,
    "longer": lengthen,
    "emptied": empty,
    "deleted": Path.unlink,
    "a folder": to_folder,
    "a link": to_link,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows as a file, and as a table that `datasets` reads into the cache."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = tmp_path_factory.mktemp("rows")
    records = [{"instruction": f"say {i}", "input": "", "output": f"{i} {i * i}"} for i in range(ROWS)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    pq.write_table(pa.Table.from_pylist(records), folder / "table.parquet")
    return folder


def all_of(rows: Path, cache: Path) -> dict[str, Any]:
    """What a run takes from every kind of entry."""
    dataset = load(rows / "rows.jsonl", cache=cache)
    table = load(rows / "table.parquet", cache=cache)
    lab = lab_rows(size=30, cache=cache)
    foundation = TinyLlama(hidden=16, layers=1, vocabulary=300).prepare(dataset, cache)
    prompt = Prompt(foundation.tokenizer(), PromptOptions())
    encoded = encode(dataset, prompt, cache)
    learner = Learner(foundation=foundation, prompt=prompt, encoded=encoded, tuning=Tuning())
    space = learner.foundation_embedding(cache / "foundation" / "key")
    weights = foundation.load().state_dict()
    return {
        "rows": [dataset.fingerprint, *dataset.take(range(ROWS))],
        "table": [table.fingerprint, *table.take(range(ROWS))],
        "lab": lab.fingerprint,
        "weights": {name: value.numpy().tobytes() for name, value in weights.items()},
        "tokens": [encoded.row(i).tolist() for i in range(ROWS)] + encoded.spans.tolist(),
        "space": np.asarray(space).tobytes(),
        "digest": content_digest(rows / "rows.jsonl", cache, large=1),
    }


@pytest.fixture(scope="module")
def fresh(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A cache, and what a run takes from it."""
    cache = tmp_path_factory.mktemp("fresh") / "cache"
    return cache, all_of(rows, cache)


def entries(cache: Path) -> list[Path]:
    return sorted(file.parent for file in cache.rglob(SEAL))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records if "in the cache" in record.getMessage()]
    caplog.clear()
    return found


def test_there_is_an_entry_of_every_kind(fresh: tuple[Path, Any]) -> None:
    kinds = {entry.relative_to(fresh[0]).parts[0] for entry in entries(fresh[0])}
    assert kinds == {"source", "datasets", "lab", "models", "tokens", "foundation", "digests"}


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_damaged_file_of_each_entry_is_told_once_and_made_again(
    kind: str, fresh: tuple[Path, dict[str, Any]], rows: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One file of every entry at a time: the first of each in the first turn, and so on until each had its own."""
    original, expected = fresh
    cache = original.parent / "damaged"  # at one path for all, as the library's own entries are bound to their place
    shutil.copytree(original, cache, copy_function=shutil.copy2)
    try:
        all_of(rows, cache)
        warnings(caplog)
        files = {entry: sorted(file for file in entry.rglob("*") if file.is_file()) for entry in entries(cache)}
        for turn in range(max(map(len, files.values()))):
            hit = {entry: of_entry[turn] for entry, of_entry in files.items() if turn < len(of_entry)}
            hit = {entry: file for entry, file in hit.items() if file.exists()}
            for file in hit.values():
                if file.stat().st_size:
                    DAMAGES[kind](file)
            damaged = {str(entry) for entry, file in hit.items() if damage(entry)}
            assert all_of(rows, cache) == expected, f"turn {turn}"
            told = warnings(caplog)
            assert {line.split(": damaged")[0] for line in told} == damaged, f"turn {turn}"
            assert len(told) == len(damaged), f"turn {turn}"
            assert not [entry for entry in entries(cache) if damage(entry)]
        all_of(rows, cache)
        assert not warnings(caplog)
    finally:
        shutil.rmtree(cache)


@pytest.mark.parametrize(
    "change",
    [
        "no seal",
        "added",
        "half a seal",
        "odd seal",
        "deep seal",
        "a file",
        "a link",
        "empty",
        *(f"retyped {field} {value}" for field in ("bytes", "sha256") for value in ('"1"', "[1]", "{}", "1e999")),
        "retyped sampled []",
        "no length",
        "no name",
    ],
)
def test_an_entry_that_is_not_what_was_made_is_made_again(
    change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entry, victim = tmp_path / "cache/key", tmp_path / "victim"
    cached_folder(entry, lambda folder: write_json(folder / "a.json", 1))
    victim.mkdir()
    (victim / "mine").touch()
    changes: dict[str, Callable[[], object]] = {
        "no seal": lambda: (entry / SEAL).unlink(),
        "added": lambda: (entry / "adapter_config.json").touch(),
        "half a seal": lambda: cut(entry / SEAL),
        "odd seal": lambda: (entry / SEAL).write_text('{"a.json": {"bytes": 1}}'),
        "deep seal": lambda: (entry / SEAL).write_text("[" * 100_000),
        "no length": lambda: (entry / SEAL).write_text('{"a.json": {"bytes": null, "sha256": "", "sampled": null}}'),
        "no name": lambda: (entry / SEAL).write_text(r'{"a\u0000": {"bytes": 2, "sha256": "", "sampled": null}}'),
        "a file": lambda: (shutil.rmtree(entry), entry.touch()),
        "a link": lambda: (shutil.rmtree(entry), entry.symlink_to(victim)),
        "empty": lambda: (shutil.rmtree(entry), entry.mkdir()),
    }
    if change.startswith("retyped"):
        _, field, value = change.split()
        known = json.loads((entry / SEAL).read_text())["a.json"]
        (entry / SEAL).write_text(json.dumps({"a.json": {**known, field: json.loads(value)}}))
    else:
        changes[change]()
    cached_folder(entry, lambda folder: write_json(folder / "a.json", 2))
    assert json.loads((entry / "a.json").read_text()) == 2
    (told,) = warnings(caplog)
    assert told.startswith(f"{entry}: damaged in the cache (")
    assert sorted(file.name for file in entry.iterdir()) == [SEAL, "a.json"]
    assert [file.name for file in victim.iterdir()] == ["mine"]
    assert {file.name for file in entry.parent.iterdir()} == {"key", "key.lock"}


def test_what_systems_leave_in_a_folder_is_no_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cached_folder(tmp_path / "key", lambda folder: write_json(folder / "a.json", 1))
    (tmp_path / "key/.DS_Store").touch()
    cached_folder(tmp_path / "key", lambda folder: pytest.fail("made again"))
    assert not warnings(caplog)


def test_of_a_large_file_length_and_samples_are_checked_and_all_where_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in (("FULL_BYTES", 1000), ("BLOCKS", 4), ("BLOCK_BYTES", 10)):
        monkeypatch.setattr(sealed, name, value)
    content = bytes(range(256)) * 8

    def ask() -> bytes:
        return (cached_folder(tmp_path / "key", build) / "large").read_bytes()

    def build(folder: Path) -> None:
        (folder / "large").write_bytes(content)

    def change(at: int) -> None:
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "key/large").write_bytes(changed)

    assert ask() == content
    for at in (0, len(content) - 1, (len(content) - 10) // 3):
        change(at)
        assert ask() == content
        assert len(warnings(caplog)) == 1
    change(20)
    assert ask() != content, "between the samples"
    with checked_in_full(True):
        assert ask() == content
    assert len(warnings(caplog)) == 1
    (tmp_path / "key/large").write_bytes(content + b"0")
    assert ask() == content


def test_an_entry_is_read_once_by_a_process_and_again_when_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, reads = tmp_path / "key", []
    cached_folder(entry, lambda folder: write_json(folder / "a.json", 1))
    monkeypatch.setattr(sealed, "SETTLED_NANOSECONDS", 0)
    original = sealed.opened
    monkeypatch.setattr(sealed, "opened", lambda file: reads.append(file) or original(file))
    for _ in range(3):
        cached_folder(entry, lambda folder: pytest.fail("made again"))
    assert len(reads) == 1
    time.sleep(0.02)
    flip(entry / "a.json")  # which gives it the time of change that it had
    assert damage(entry) == "a.json holds other bytes than were written"


def test_remembered_digests_are_not_believed_where_all_is_checked(tmp_path: Path) -> None:
    file, cache = tmp_path / "weights", tmp_path / "cache"
    file.write_bytes(b"a" * 100)
    first = content_digest(file, cache, large=1)
    flip(file)
    assert content_digest(file, cache, large=1) == first, "what has neither another size nor time is not read again"
    with checked_in_full(True):
        assert content_digest(file, cache, large=1) != first


def test_many_that_come_to_a_damaged_entry_make_it_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entry, built = tmp_path / "key", []

    def build(folder: Path) -> None:
        built.append(1)
        write_json(folder / "a.json", 1)

    cached_folder(entry, build)
    flip(entry / "a.json")
    threads = [threading.Thread(target=cached_folder, args=(entry, build)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 2
    assert len(warnings(caplog)) == 1
    assert damage(entry) is None


def test_a_damaged_entry_that_cannot_be_made_again_is_not_used(tmp_path: Path) -> None:
    cached_folder(tmp_path / "key", lambda folder: write_json(folder / "a.json", 1))
    flip(tmp_path / "key/a.json")

    def gone(folder: Path) -> None:
        raise InputError("rows.jsonl: no such file")

    for _ in range(2):
        with pytest.raises(InputError, match="no such file"):
            cached_folder(tmp_path / "key", gone)


def test_arrays_of_several_processes_are_sealed(tmp_path: Path) -> None:
    cached_by_all(tmp_path / "key", lambda folder: np.save(folder / "embedding.npy", np.zeros(3)), Processes())
    assert damage(tmp_path / "key") is None
    flip(tmp_path / "key/embedding.npy")
    cached_by_all(tmp_path / "key", lambda folder: np.save(folder / "embedding.npy", np.ones(3)), Processes())
    assert np.load(tmp_path / "key/embedding.npy").sum() == 3


def test_a_seal_keeps_what_it_says_of_other_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
        seal(tmp_path, [name])
    assert damage(tmp_path) is None
    (tmp_path / "a").write_text("c")
    seal(tmp_path, ["b"])
    assert damage(tmp_path, ["a"]) == "a holds other bytes than were written"
    assert damage(tmp_path, ["b"]) is None
    assert damage(tmp_path, ["c"]) == f"{SEAL} says nothing of c"
    assert logging.getLogger("diverseevol.storage.cache")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["flipped", "cut", "deleted"])
def test_an_evolution_from_a_damaged_cache_picks_the_same_rows(kind: str, tmp_path: Path) -> None:
    import diverseevol.cli.commands.evolve  # noqa: F401

    usual = ["evolve", "logger=none", *small_evolution.SMALL, f"cache={tmp_path / 'cache'}"]
    picks = []
    for name, further in (("first", []), ("damaged", []), ("checked", ["verify_cache=true"])):
        log = tmp_path / f"log-{name}"
        assert finish(fork([*usual, *further, f"folder={tmp_path / name}"], log)) == 0, log.read_text()
        picks.append((tmp_path / name / "selected.jsonl").read_bytes())
        told = " ".join(log.read_text().split())
        if name == "first":
            files = [
                max((file for file in entry.iterdir() if file.name != SEAL), key=lambda f: f.stat().st_size)
                for entry in entries(tmp_path / "cache")
            ]
            found = [file for file in files if file.stat().st_size]  # no row holds a question: that list is empty
            assert len(found) >= len(files) - 1
            for file in found:
                DAMAGES[kind](file)
        assert told.count("damaged in the cache") == (len(found) if name == "damaged" else 0), told
    assert picks == [picks[0]] * 3


def test_a_file_in_place_of_the_cache_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"^cache=.*file: is a file, expected a folder; give a folder, which need not"):
        cache_folder(str(tmp_path / "file"))
    monkeypatch.setenv("DIVERSEEVOL_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"^DIVERSEEVOL_CACHE=.*file: is a file"):
        cache_folder(None)
