"""`diverseevol new` writes what works as it is, refuses names that would not, and never overwrites."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from forks import finish, fork
from small_evolution import SMALL

from diverseevol.cli import main
from diverseevol.cli.skeletons import KINDS
from diverseevol.storage.files import read_json, write_jsonl

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["diverseevol", "new", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def files(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*"))


@pytest.fixture
def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One skeleton of each kind."""
    for kind in KINDS:
        assert new(monkeypatch, kind, f"my_{kind}") == 0
    return folder


def test_each_skeleton_passes_its_own_test(written):
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-W", "error", "."]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    assert ran.returncode == 0, ran.stdout
    assert "test_my_sampler.py::TestMySampler::test_what_is_needed_is_looked_at PASSED" in ran.stdout
    for kind in KINDS:
        assert f"test_my_{kind}.py::" in ran.stdout
    assert "skipped" not in ran.stdout


def test_an_evolution_takes_all_five(written):
    records = [{"question": f"What is {'x ' * (i % 5)}{i}?", "answer": f"It is {i}."} for i in range(40)]
    write_jsonl(written / "rows.jsonl", records)
    write_jsonl(written / "answers.jsonl", [{"id": str(i), "answer": "It is so."} for i in (1, 2, 3)])
    small = [option for option in SMALL if not option.startswith(("data.", "benchmark", "schedule."))]
    arguments = [
        "evolve", "sampler=my_sampler", "judge=my_judge", "metric=my_metric", "benchmark=my_benchmark",
        "benchmark.competitor=answers.jsonl", "data=my_format", "data.path=rows.jsonl", "schedule.rounds=1",
        "schedule.seed_size=10", "schedule.step_size=5", "logger=none", "folder=run", *small,
    ]  # fmt: skip
    log = written / "said.log"
    code = finish(fork(arguments, log, {"COLUMNS": "200"}, lambda: sys.path.insert(0, str(written))))
    assert code == 0, log.read_text()
    first = read_json(written / "run/rounds/00/round.json")
    assert first["metrics"]["my_metric"] > 2
    assert len(first["chosen"]) == 5
    scores = read_json(written / "run/rounds/00/scores.json")
    assert "my_benchmark" in str(scores)
    assert "my_judge-1" in "".join(file.read_text() for file in written.glob("run/rounds/00/judgements/**/*.jsonl"))


def test_the_commands_to_type_are_said(written, capsys, monkeypatch):
    assert new(monkeypatch, "sampler", "far") == 0
    said = capsys.readouterr().out
    assert "far.py" in said
    assert "  pytest test_far.py\n  diverseevol evolve sampler=far\n" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("samplr", "x"), "new: there is no kind 'samplr' (did you mean sampler?); choose from sampler, judge"),
        (("sampler",), "new: expected KIND NAME, got sampler; write diverseevol new sampler mine"),
        (("sampler", "a", "b"), "new: expected KIND NAME, got sampler a b; write"),
        *(
            (("sampler", name), f"new sampler {name!r}: becomes the name of a Python module, expected letters, digits")
            for name in ("", "1st", "my-sampler", "a.b", "../up", "class", "None", "con", "über")
        ),
        (("sampler", "x" * 101), "new sampler 'xxx"),
        (("sampler", "random"), "new sampler random: sampler=random is the project's own; choose another name"),
        (("metric", "vendi_score"), "new metric vendi_score: metric=vendi_score is the project's own"),
        (("metric", "pool_size"), "new metric pool_size: metric=pool_size is the project's own"),
        (("format", "json"), "new format json: data=json is the project's own"),
        (("judge", "json"), "new judge json: Python has a module json already; choose another name"),
        (("judge", "numpy"), "new judge numpy: Python has a module numpy already; choose another name"),
    ],
)
def test_what_cannot_be_written_is_refused_in_a_sentence(folder, monkeypatch, capsys, arguments, sentence):
    assert new(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"diverseevol: {sentence}")
    assert said.count("\n") == 1
    assert files(folder) == []


@pytest.mark.parametrize("taken", ["mine.py", "conf/sampler/mine.yaml", "test_mine.py", "mine/__init__.py"])
def test_nothing_is_overwritten(folder, monkeypatch, capsys, taken):
    (folder / taken).parent.mkdir(parents=True, exist_ok=True)
    (folder / taken).write_text("precious")
    before = files(folder)
    assert new(monkeypatch, "sampler", "mine") == 2
    assert f"{taken.removesuffix('/__init__.py')}: exists already and is not overwritten" in capsys.readouterr().err
    assert files(folder) == before
    assert (folder / taken).read_text() == "precious"


def test_all_files_are_written_or_none(folder, monkeypatch, capsys):
    (folder / "conf").write_text("a file")
    assert new(monkeypatch, "sampler", "mine") == 2
    assert "conf" in capsys.readouterr().err
    assert files(folder) == ["conf"]


def test_a_benchmark_has_no_module_and_may_be_called_like_one(folder, monkeypatch):
    assert new(monkeypatch, "benchmark", "math") == 0
    assert "math.jsonl" in files(folder)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("sampler", "-h")])
def test_help_names_the_kinds_and_writes_nothing(folder, monkeypatch, capsys, arguments):
    assert new(monkeypatch, *arguments) == 0
    assert "KIND   sampler, judge, metric, format, benchmark" in capsys.readouterr().out
    assert files(folder) == []


@pytest.mark.parametrize("name", ["sampler", "my_sampler", "needs", "selection", "none", "sampler_contract", "a_1"])
def test_no_name_of_a_class_hides_what_the_skeleton_imports(name):
    written, _ = KINDS["sampler"].filled(name)
    module, _, test = written.values()
    (cls,) = (line.removeprefix("class ").rstrip(":") for line in module.splitlines() if line.startswith("class "))
    assert cls.isidentifier()
    assert cls.endswith("Sampler")
    assert cls not in ("Sampler", "Needs", "Selection", "SamplerContract")
    compile(module, "module", "exec")
    compile(test, "test", "exec")
