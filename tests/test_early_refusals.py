"""What is wrong with a command's options, rows and files is said before libraries are imported for seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
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
    (*EVOLVE, "data.path=rows.jsonl", "answers=server", "answers.command='vlm serve {folder}'"): (
        "answers.command: there is no program vlm here"
    ),
    (*EVOLVE, "data.path=rows.jsonl", "answers=server"): "answers=server has no command, so one model would answer for",
    (*EVOLVE, "data.path=rows.xlsx"): "rows.xlsx: is an Excel sheet, expected JSON, JSONL, CSV, TSV, parquet or Arrow",
    (*EVOLVE, "data.path=rows.csv"): "rows.csv, line 3: has 1 values, expected 2, one for each column",
    (*EVOLVE, "data.path=empty.jsonl"): "empty.jsonl: there are no records in it",
    (*EVOLVE, "data.path=pipe"): "pipe: is a pipe",
    (*WITH_ROWS, "folder=foreign"): "foreign: holds 'mine.txt' but no evolution",
    (*WITH_ROWS, "folder=rows.jsonl"): "rows.jsonl: ",
    (*WITH_ROWS, "trainer.strategy=fspd"): "trainer.strategy is 'fspd'; choose ddp or fsdp",
    (*WITH_ROWS, "trainer.strategy=fsdp", "trainer.precision=16-mixed"): "trainer.strategy=fsdp does not go with trai",
    (*WITH_ROWS, "folder=used"): "used: another process is at work in this folder",
    (*WITH_ROWS, "benchmark=questions", "benchmark.path=missing.jsonl"): "missing.jsonl: no such file; a benchmark is",
    (*WITH_ROWS, "benchmark=questions", "benchmark.path=foreign"): "foreign: is a folder; name a file in it",
    (*WITH_ROWS, "benchmark=vicuna", "benchmark.competitor=missing"): "missing: no such file; answers are a JSONL file",
    (*WITH_ROWS, "benchmark=paper", "benchmark.folder=missing"): "benchmark.folder=missing: does not hold all three",
    (*WITH_ROWS, "benchmark=paper", "benchmark.vicuna.path=missing"): "missing: no such file; a benchmark is",
    (*WITH_ROWS, "judge=replay", "judge.judgements=missing"): "missing: no such file or folder; give the folder or",
    (*WITH_ROWS, "judge=local", "judge.path=./missing"): "judge.path=./missing: no such folder; give a hub name",
    (
        *WITH_ROWS,
        "judge=openai",
        "judge.prompt=missing.txt",
    ): "judge.prompt=missing.txt: no such file; check the path",
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
        "model.path=a/b",
        "model.attention=flash_attention_2",
    ): "model.attention=flash_attention_2: needs the package flash_attn, which is not installed; install it, or give",
    (
        *WITH_ROWS,
        "judge=local",
        "judge.path=a/b",
        "judge.attention=flash_attention_3",
    ): "judge.attention=flash_attention_3: needs the package flash_attn_interface, which is not installed",
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
    (*SELECT, "embeddings=X.npy", "taken=missing.json"): "taken=missing.json: no such file",
    (*SELECT, "sampler=longest", "lengths=missing.npy"): "lengths=missing.npy: no such file",
    (*SELECT, "data=json", "data.path=missing.jsonl", "model=tiny"): "missing.jsonl: no such file",
    (*SELECT, "data=json", "data.path=rows.jsonl", "model.path=./missing"): "model.path=./missing: no such folder",
    ("select", "n=1", "embeddings=E.npy", "out=P.txt"): "out=P.txt: the name must end in .json",
    (*ANSWER, "benchmark=questions", "benchmark.path=missing.jsonl"): "missing.jsonl: no such file",
    ("answer", "out=answers", "model.path=./missing"): "model.path=./missing: no such folder",
    ("answer", "out=rows.jsonl", "model.path=org/name"): "out=rows.jsonl: is a file; give a folder",
    ("judge", "folder=missing", "logger=none"): "missing: no such folder; give a run folder",
    ("judge", "folder=foreign", "logger=none", "judge=gold"): "foreign: holds no answers to judge",
    ("plan", "card=H10", "logger=none"): "card=H10: not in the table (did you mean H100?); choose from H200, H100, ",
    (*WITH_ROWS, "stop=plateau", "stop.metric=relative_score/x", "judge=none"): "stop.metric is 'relative_score/x'",
    ("plan", "cards=0", "logger=none"): "cards is 0; it must be at least 1",
    ("plan", "card={half:1,float32:1,memory:1}", "logger=none"): "card.bandwidth is missing",
    ("plan", "efficiency.fit=2", "logger=none"): "efficiency.fit is 2.0; give a share of the card's peak, above 0",
    ("evolve", "budget.usd=-1", "logger=none"): "budget.usd is -1.0; it must not be negative, and null is no limit",
    ("plan", "data=json", "data.path=missing.jsonl", "model=tiny"): "missing.jsonl: no such file",
    ("score", "folder=missing"): "missing: no such file or folder",
    ("compare", "folder=missing"): "missing: no such file or folder",
    ("agreement", "folder=missing", "recorded=foreign"): "missing: no such file or folder",
    ("report", "folder=missing"): "missing: no such folder; give one that holds run folders or judgements",
    ("status", "missing"): "missing: no such folder; give a run folder, or one with runs below it",
    ("status", "foreign"): "foreign: holds neither runs nor sweeps; give a folder that",
    ("report", "folder=[foreign,missing]"): "missing: no such folder",
    ("report", "folder=foreign"): "holds neither a run folder",
    ("report", "folder=foreign", "projection=a.b"): "projection='a.b': give pca",
    # Keys that are appended and that nothing reads.
    **{
        (verb, "+foo=1"): f"foo is not an option of {verb}; choose from "
        for verb in ("evolve", "plan", "select", "answer", "judge", "score", "compare", "report", "agreement")
    },
    ("evolve", "++fodler=x"): "fodler is not an option of evolve (did you mean folder?); choose from",
    ("evolve", "-m", "+foo=1,2"): "foo is not an option of evolve; choose from",
    ("evolve", "+foo.bar=1"): "foo.bar is not an option of evolve: foo holds no options here",
    ("evolve", "+sizes.step_size=1"): "sizes.step_size is not an option of evolve (did you mean sizes.step?)",
    ("select", "+prompt.max=1"): "prompt.max is not an option of select",
    ("evolve", "+data.nme=x", "logger=none"): "data.nme is not an option; did you mean name?",
    ("compare", "+judge=gold"): "judge is not an option of compare; choose from folder, ",
    ("select", "+data=json"): "data has a choice already, so nothing is appended to it; write data=CHOICE, once",
    # Values that cannot be.
    ("evolve", "seed=x"): "seed is 'x', which is not a whole number",
    ("evolve", "seed=-1"): "seed is -1; it must not be negative",
    ("evolve", "threads=0"): "threads is 0; it must be at least 1",
    ("evolve", "keep_models=some"): "keep_models is 'some', which is not all or last or none",
    ("evolve", "~metric.reference_loss", "reference_loss=true"): "reference_loss=true: ~metric.reference_loss takes",
    (*WITH_ROWS, "data.format.x=1"): "data.format is {'x': 1}, which is not a Format made by data.format._target_=",
    ("evolve", "tuning.epochs=0"): "tuning.epochs is 0; it must be above 0",
    ("evolve", "tuning.rounding=up"): "tuning.rounding is 'up', which is not nearest or stochastic",
    ("evolve", "tuning.rounding=stochastic"): "tuning.rounding=stochastic is for weights in bfloat16, and this model's",
    (*WITH_ROWS, "tuning.rounding=stochastic"): "tuning.rounding=stochastic is for weights in bfloat16, and this model",
    ("evolve", "tuning=lora", "tuning.rounding=stochastic"): "tuning.rounding is stochastic, which is for tuning=full",
    ("evolve", "tuning=lora", "tuning.moments=bfloat16"): "tuning.moments is bfloat16, which is for tuning=full",
    ("evolve", "embedding.batch_tokens=0"): "embedding.batch_tokens is 0; it must be above 0",
    ("evolve", "prompt.date=today"): "prompt.date is 'today'; give a day as YYYY-MM-DD",
    ("evolve", "generation.temperature=-1"): "generation.temperature is -1.0; it must not be negative",
    ("evolve", "schedule.rounds=-1"): "schedule.rounds is -1; it must be at least 0",
    ("evolve", "sampler.space=x"): "sampler.space is 'x', which is not current or foundation or text",
    ("evolve", "sampler.whiten=0"): "sampler.whiten is 0; it must be null or at least 1",
    ("evolve", "sampler=kmeans", "sampler.passes=x"): "sampler.passes is 'x', which is not a whole number",
    ("evolve", "logger.mode=x"): "logger.mode is 'x', which is not offline or online",
    ("evolve", "data.size=0", "logger=none"): "data.size is 0, data.skew 1.1 and data.seed 0; size must be at least 1",
    ("evolve", "benchmark.size=x", "logger=none"): "benchmark.size is 'x', which is not a whole number",
    (*WITH_ROWS, "judge=openai", "judge.model=m", "judge.max_calls=-1"): "judge.max_calls is -1; it must be a number",
    ("select", "n=0", "out=P.json", "embeddings=E.npy"): "n is 0; it must be at least 1",
    (*SELECT, "embeddings=E.npy", "threads=0"): "threads is 0; it must be at least 1",
    (*SELECT, "embeddings=E.npy", "sampler.metric=x"): "sampler.metric is 'x', which is not euclidean or cosine",
    (*SELECT, "embeddings=E.npy"): "embeddings=E.npy: ",
    (*SELECT, "data=json", "data.path=rows.jsonl", "space=foundation"): "space=foundation is a model's; model.path is",
    (
        *SELECT,
        "data.path=rows.jsonl",
        "sampler.space=foundation",
    ): "sampler.space=foundation is a model's; model.path is",
    (*SELECT, "data=json", "data.path=rows.jsonl", "space=x"): "space is 'x', which is not text or foundation",
    (
        *SELECT,
        "data.path=rows.jsonl",
        "sampler=entropy",
    ): "sampler=entropy chooses by a model's predictions; model.path",
    ("explain", "folder=foreign"): "neither row nor find is given",
    ("explain", "folder=foreign", "row=1"): "folder=foreign: holds neither config.yaml and fingerprint.json nor",
    (*ANSWER, "seed=x"): "seed is 'x', which is not a whole number",
    (*ANSWER, "generation.batch_size=0"): "generation.batch_size is 0; it must be at least 1",
    (*ANSWER, "benchmark=questions", "benchmark.path=rows.csv"): "rows.csv, line 1: ",
    # Rows that cannot be, wherever in the file the first one is.
    (*EVOLVE, "data.path=faulty.jsonl"): 'faulty.jsonl, line 3: field "output" is missing',
    (*EVOLVE, "data.path=faulty.jsonl", "data.on_bad_rows=x"): 'data.on_bad_rows is "x" but must be',
    (
        *WITH_ROWS,
        "data.fields.input=contxt",
    ): "data.fields gives input=contxt and nothing else, expected all parts",
    (*WITH_ROWS, "data.fields={instruction: instruction, input: contxt, response: output}"): (
        "rows.jsonl: data.fields.input is 'contxt', which no record has"
    ),
    (*WITH_ROWS, "data.held_out=nosuch"): "data.held_out=nosuch: no row has a field 'nosuch'",
    (*WITH_ROWS, "data.held_out=9"): "data.held_out is 9, but there are 2 rows; give 0 to 1",
    (*WITH_ROWS, "data.held_out=missing.json"): "missing.json: no such file",
    (*SELECT, "data=json", "data.path=faulty.jsonl", "model=tiny"): 'faulty.jsonl, line 3: field "output" is missing',
    (*SELECT, "data=json", "data.path=faulty.jsonl", "sampler=random"): 'faulty.jsonl, line 3: field "output" is',
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the cases name."""
    folder = tmp_path_factory.mktemp("early")
    row = '{"instruction": "a", "input": "", "output": "b"}\n'
    (folder / "rows.jsonl").write_text(2 * row)
    (folder / "faulty.jsonl").write_text(f'{2 * row}{{"instruction": "a"}}\n{row}')
    (folder / "rows.csv").write_text("instruction,output\na,b\nc\n")
    (folder / "rows.xlsx").write_text("a")
    (folder / "empty.jsonl").write_text("\n")
    (folder / "E.npy").write_bytes(b"")
    np.save(folder / "X.npy", np.ones((2, 3), np.float32))
    os.mkfifo(folder / "pipe")
    for name in ("foreign", "used"):
        (folder / name).mkdir()
    (folder / "foreign/mine.txt").write_text("mine")
    return folder


@pytest.fixture(scope="module")
def ended(place: Path, cache: Path) -> dict[tuple[str, ...], list]:
    """How each case ended, in one fresh interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "DIVERSEEVOL_CACHE": str(cache)}
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
