"""A million rows pass through everything that random sampling needs, in bounded memory, and only once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

ROWS = 1_000_000
MEMORY = 2 * 2**30  # bytes resident


def selected(arguments: list[str], out: Path) -> tuple[str, int]:
    """What a selection said, and the most memory it held resident, in bytes."""
    command = [sys.executable, "-m", "diverseevol", "select", *arguments, "sampler=random", "n=1000", f"out={out}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, said
    return said, usage.ru_maxrss * 1024


# The system's count of a child begins with what its parent held; this one is of the program alone.
EXPORT = """
import re, sys
from diverseevol.cli import main
sys.argv = ["diverseevol", "export", *sys.argv[1:]]
try:
    main()
finally:
    print("peak", re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
LOAD = """
import re, sys
from pathlib import Path
from diverseevol.data import load
dataset = load(sys.argv[1], cache=Path(sys.argv[2]))
last = dataset[len(dataset) - 1]
print(f"{len(dataset)} rows, the last one of {len(last.turns)} turns: {last.instruction}")
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.slow
def test_a_million_rows_are_checked_tokenised_and_chosen_from_in_bounded_memory_and_once(foundation, tmp_path):
    rows, cache = tmp_path / "rows.jsonl", tmp_path / "cache"
    with rows.open("w") as file:
        for i in range(ROWS):
            record = {"instruction": f"Say {i} twice.", "input": "", "output": f"{i} and again {i}."}
            file.write(json.dumps(record) + "\n")
    given = ["data=json", f"data.path={rows}", "model=hf", f"model.path={foundation.path}", f"cache={cache}"]

    said, resident = selected(given, tmp_path / "first.json")
    assert resident < MEMORY
    assert "check the data, %: 100 in" in said
    assert f"tokenise: {ROWS:,} in" in said
    first = json.loads((tmp_path / "first.json").read_text())
    assert len(set(first["chosen"])) == 1000
    assert max(first["chosen"]) > 0.9 * ROWS
    records = [json.loads(line) for line in (tmp_path / "first.jsonl").read_text().splitlines()]
    assert [record["instruction"] for record in records] == [f"Say {row} twice." for row in first["chosen"]]

    made = {file: file.stat().st_mtime_ns for file in cache.rglob("*") if file.suffix != ".lock"}
    _, resident = selected(given, tmp_path / "second.json")
    assert resident < MEMORY
    assert json.loads((tmp_path / "second.json").read_text())["chosen"] == first["chosen"]
    assert made == {file: file.stat().st_mtime_ns for file in cache.rglob("*") if file.suffix != ".lock"}


@pytest.mark.nightly
@pytest.mark.parametrize("form", ["rows", "messages", "parquet"])
def test_a_million_rows_are_exported_in_bounded_memory(form, tmp_path):
    (tmp_path / "P.json").write_text(json.dumps({"chosen": list(range(ROWS))}))
    with (tmp_path / "P.jsonl").open("w") as file:
        for i in range(ROWS):
            record = {"instruction": f"Say {i} twice.", "input": "", "output": f"{i} and again {i}.", "id": i}
            file.write(json.dumps(record) + "\n")
    command = [sys.executable, "-c", EXPORT, f"picks={tmp_path / 'P.json'}", f"format={form}", f"out={tmp_path / form}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert int(said.split()[-1]) * 1024 < MEMORY / 4
    if form == "parquet":
        table = pq.ParquetFile(tmp_path / form / "train.parquet")
        assert table.metadata.num_rows == ROWS
        return
    with (tmp_path / form / "train.jsonl").open() as file:
        ids = [json.loads(line)["id"] for line in file]
    assert ids == list(range(ROWS))


@pytest.mark.nightly
def test_a_million_conversations_are_converted_in_bounded_memory(tmp_path):
    rows = tmp_path / "rows.jsonl"
    with rows.open("w") as file:
        for i in range(ROWS):
            asked = [{"role": "user", "content": f"Say {i} twice."}, {"role": "assistant", "content": f"{i} {i}"}]
            file.write(json.dumps({"messages": asked * (1 + i % 2), "id": i}) + "\n")
    command = [sys.executable, "-c", LOAD, str(rows), str(tmp_path / "cache")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *last, resident = said.splitlines()
    assert last == [f"{ROWS} rows, the last one of 4 turns: Say {ROWS - 1} twice."]
    assert int(resident) * 1024 < MEMORY / 2
