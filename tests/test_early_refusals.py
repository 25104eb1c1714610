"""What is plainly wrong with a command's files is said before the libraries are imported that take seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "lightning", "transformers", "datasets", "sklearn", "matplotlib", "wandb")
# Runs commands one after another in one interpreter, and says after each how it ended and what was imported by then.
SCRIPT = f"""
import contextlib, io, json, sys
from diverseevol.cli import main
for words in json.loads(sys.stdin.read()):
    sys.argv, said = ["diverseevol", *words], io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            main()
        except SystemExit as ended:
            code = ended.code
    print(json.dumps([code, said.getvalue(), [name for name in {HEAVY} if name in sys.modules]]))
"""
EVOLVE = ("evolve", "data=json", "model=tiny", "logger=none")
WITH_ROWS = (*EVOLVE, "data.path=rows.jsonl")
SELECT = ("select", "n=1", "out=P.json")
ANSWER = ("answer", "out=answers", "model.path=org/name")
CASES = {
    (*EVOLVE, "data.path=missing.jsonl"): "missing.jsonl: no such file",
    (*EVOLVE, "data.path=missing.parquet"): "missing.parquet: no such file; check data.path",
    (*EVOLVE, "data.path=deep/er/missing.json"): "deep/er/missing.json: no such file",
    (*EVOLVE, "data.path=rows.csv"): "rows.csv, line 1: ",
    (*EVOLVE, "data.path=empty.jsonl"): "empty.jsonl: there are no records in it",
    (*EVOLVE, "data.path=pipe"): "pipe: is a pipe",
    (*WITH_ROWS, "folder=foreign"): "foreign: holds 'mine.txt' but no evolution",
    (*WITH_ROWS, "folder=rows.jsonl"): "rows.jsonl: ",
    (*WITH_ROWS, "folder=used"): "used: another process is at work in this folder",
    (*WITH_ROWS, "benchmark=questions", "benchmark.path=missing.jsonl"): "missing.jsonl: no such file; a benchmark is",
    (*WITH_ROWS, "benchmark=questions", "benchmark.path=foreign"): "foreign: is a folder; a benchmark is a JSONL file",
    (*WITH_ROWS, "benchmark=vicuna", "benchmark.competitor=missing"): "missing: no such file; answers are a JSONL file",
    (*WITH_ROWS, "benchmark=paper", "benchmark.folder=missing"): "missing: no such folder; give benchmark.folder one",
    (*WITH_ROWS, "benchmark=paper", "benchmark.koala.path=missing"): "missing: no such file; a benchmark is",
    (*WITH_ROWS, "judge=replay", "judge.judgements=missing"): "missing: no such file or folder; give the folder or",
    (*WITH_ROWS, "judge=local", "judge.path=./missing"): "judge.path=./missing: no such folder; give a hub name",
    (
        *WITH_ROWS,
        "judge=openai",
        "judge.prompt=missing.txt",
    ): "judge.prompt=missing.txt: no such file; give a text file",
    (
        "evolve",
        "data=json",
        "data.path=rows.jsonl",
        "model.path=./missing",
    ): "model.path=./missing: no such folder; give",
    ("evolve", "data=json", "data.path=rows.jsonl", "model.path=a/b/c"): "model.path=a/b/c: no such folder; give a hub",
    (
        "evolve",
        "data=json",
        "data.path=rows.jsonl",
        "model.path=foreign",
    ): "model.path=foreign: has no config.json; give",
    (
        "evolve",
        "data=json",
        "data.path=rows.jsonl",
        "model.path=rows.csv",
    ): "model.path=rows.csv: is a file; give a hub",
    ("evolve", "model.path=./missing"): "model.path=./missing: no such folder",
    (*SELECT, "embeddings=missing.npy"): "embeddings=missing.npy: no such file; check the path",
    (*SELECT, "embeddings=foreign"): "embeddings=foreign: is a folder",
    (*SELECT, "embeddings=E.npy", "taken=missing.json"): "taken=missing.json: no such file",
    (*SELECT, "sampler=longest", "lengths=missing.npy"): "lengths=missing.npy: no such file",
    (*SELECT, "data=json", "data.path=missing.jsonl", "model=tiny"): "missing.jsonl: no such file",
    (*SELECT, "data=json", "data.path=rows.jsonl", "model.path=./missing"): "model.path=./missing: no such folder",
    ("select", "n=1", "embeddings=E.npy", "out=P.txt"): "out=P.txt: the name must end in .json",
    (*ANSWER, "benchmark=questions", "benchmark.path=missing.jsonl"): "missing.jsonl: no such file",
    ("answer", "out=answers", "model.path=./missing"): "model.path=./missing: no such folder",
    ("answer", "out=rows.jsonl", "model.path=org/name"): "out=rows.jsonl: is a file; give a folder",
    ("judge", "folder=missing", "logger=none"): "missing: no such folder; give a run folder",
    ("judge", "folder=foreign", "logger=none", "judge=gold"): "foreign: holds no answers to judge",
    ("score", "judgements=missing"): "missing: no such file or folder",
    ("compare", "judgements=missing"): "missing: no such file or folder",
    ("agreement", "judgements=foreign", "recorded=missing"): "missing: no such file or folder",
    ("report", "folder=missing"): "missing: no such folder; give one that holds run folders or judgements",
    ("report", "folder=[foreign,missing]"): "missing: no such folder",
    ("report", "folder=foreign"): "holds neither a run folder",
    ("report", "folder=foreign", "projection=a.b"): "projection='a.b': give pca",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the cases name."""
    folder = tmp_path_factory.mktemp("early")
    (folder / "rows.jsonl").write_text('{"instruction": "a", "input": "", "output": "b"}\n')
    (folder / "rows.csv").write_text("instruction,output\na,b\n")
    (folder / "empty.jsonl").write_text("\n")
    (folder / "E.npy").write_bytes(b"")
    os.mkfifo(folder / "pipe")
    for name in ("foreign", "used"):
        (folder / name).mkdir()
    (folder / "foreign/mine.txt").write_text("mine")
    return folder


@pytest.fixture(scope="module")
def ended(place: Path) -> dict[tuple[str, ...], list]:
    """How each case ended, in one fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    before = {file: file.stat().st_mtime_ns for file in place.rglob("*")}
    with FileLock(place / "used/.lock"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], input=json.dumps(list(CASES)), cwd=place, env=environment,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert not done.returncode, done.stderr
    left = {file for file in place.rglob("*") if file.name != ".lock"} - {*before}
    assert not left
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_a_refusal_comes_before_the_heavy_imports(ended, words):
    code, said, imported = ended[words]
    assert code == 2, said
    (sentence,) = said.splitlines()
    assert CASES[words] in sentence
    assert not imported
