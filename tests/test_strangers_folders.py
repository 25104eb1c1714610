"""A run folder from anywhere is judged, reported and compared without running, fetching or deleting what it names."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from diverseevol import cli
from diverseevol.errors import InputError
from diverseevol.evaluation.scores.read_judgements import find_judgements
from diverseevol.report.collect import collect
from diverseevol.report.page.rows import _excerpts, rows_payload
from diverseevol.runs.run_folder import provenance
from diverseevol.runs.saved_config import MOST_BYTES, read_saved, saved_choice

RUN = Path(__file__).parent / "fixtures" / "run_folders_0_1" / "rows" / "tiny" / "kcenter-iterative-61348c43" / "seed0"
SECRET = "sk-of-the-reader"
CODE = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\nWORLD = (1,)\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A downloaded run folder that brings code, the reader at work in it, and the reader's own things beside it."""
    folder = tmp_path / "downloaded"
    shutil.copytree(RUN, folder)
    for file in folder.rglob("judgements"):
        shutil.rmtree(file)
    for name in ("evil.py", "modeling_evil.py"):
        (folder / name).write_text(CODE)
    code = {"AutoConfig": "modeling_evil.Config", "AutoModelForCausalLM": "modeling_evil.Model"}
    (folder / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": code}))
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("years")
    (tmp_path / "private.jsonl").write_text(json.dumps({"id": "1", "instruction": SECRET}) + "\n")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return folder


@pytest.fixture
def run(monkeypatch, capfd) -> Callable[..., tuple[int, str]]:
    """`run(verb, *arguments)`: exit code and all that was printed, in this process."""

    def command(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "400")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capfd.readouterr()
        return int(str(ended.value.code)), printed.out + printed.err

    return command


def asked(folder: Path, node: Any) -> None:
    """Let the folder's configuration say that this was asked."""
    config = yaml.safe_load((RUN / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "benchmark": node}))


def assert_unharmed(folder: Path, printed: str, path: list[str]) -> None:
    """Nothing of the folder ran, the reader's things are there, and the key was not shown."""
    assert not list(folder.rglob("ran"))
    assert (folder.parent / "precious" / "work.txt").read_text() == "years"
    assert {file.name for file in folder.parent.iterdir()} <= {"downloaded", "precious", "private.jsonl", "cache"}
    assert SECRET not in printed
    assert sys.path == path


REMOVE = {"_target_": "diverseevol.storage.files.remove", "path": "../precious"}
PAPER = "diverseevol.benchmarks.load_paper"
LOAD = "diverseevol.benchmarks.load"
ATTACKS: dict[str, Any] = {
    "the hub's code": {
        "_target_": "diverseevol.engine.pretrained.AutoConfig.from_pretrained", "pretrained_model_name_or_path": ".",
        "trust_remote_code": True,
    },
    "delete a folder": REMOVE,
    "write a file": {"_target_": "diverseevol.storage.files.write_json", "path": "../written.json", "value": 1},
    "a shell": {"_target_": "os.system", "command": "touch ../written"},
    "an import": {"_target_": "evil.WORLD"},
    "a choice beside a target": {"choice": "none", **REMOVE},
    "a choice that is code": {"choice": "diverseevol.storage.files.remove", "path": "../precious"},
    "a choice above the choices": {"choice": "../judge/gold"},
    "a choice in a folder": {"choice": "benchmark/none"},
    "a choice that is an override": {"choice": "none,lab", "name": "x"},
    "a choice that is a list": {"choice": ["none"]},
    "a choice without a name": {"choice": ""},
    "a choice that does not ship": {"choice": "mine"},
    "another world": {"choice": "lab", "name": "questions", "world": "evil.WORLD"},
    "another world, of 0.1": {"_target_": "diverseevol.lab.benchmark", "name": "questions", "world": "evil.WORLD"},
    "a node for a world": {"choice": "lab", "name": "questions", "world": {"_target_": "evil.WORLD"}},
    "another address": {"choice": "vicuna", "name": "questions", "url": "http://127.0.0.1:9/x", "sha256": "0" * 64},
    "an address where none ships": {"choice": "questions", "name": "questions", "url": "http://127.0.0.1:9/x"},
    "the key in an address": {"choice": "vicuna", "url": "http://127.0.0.1:9/?${oc.env:OPENAI_API_KEY}"},
    "the key in an address, of 0.1": {"_target_": LOAD, "name": "x", "url": "http://127.0.0.1:9/?${oc.env:OPENAI_API_KEY}"},
    "the key in a name": {"choice": "lab", "name": "${oc.env:OPENAI_API_KEY}"},
    "the key in a key": {"choice": "lab", "${oc.env:OPENAI_API_KEY}": 1},
    "the key in a list": {"choice": "lab", "name": ["${oc.env:OPENAI_API_KEY}"]},
    "a file of the reader's": {"choice": "questions", "name": "questions", "path": "../private.jsonl"},
    "a file of the reader's, of 0.1": {"_target_": LOAD, "name": "questions", "path": "../private.jsonl"},
    "a file to compare with": {"choice": "lab", "name": "questions", "competitor": "../private.jsonl"},
    "a folder of benchmarks": {"choice": "paper", "folder": ".."},
    "a target within": {"choice": "paper", "vicuna": {"_target_": "os.system", "command": "touch ../written"}},
    "a target within, of 0.1": {"_target_": PAPER, "vicuna": {"_target_": "os.getcwd", "_partial_": True}},
    "a choice within": {"choice": "paper", "vicuna": {"choice": "evil.WORLD"}},
    "delete a folder within": {"choice": "lab", "name": REMOVE},
    "delete a folder within, of 0.1": {"_target_": "diverseevol.lab.benchmark", "name": REMOVE},
    "targets in a list": {"choice": "lab", "name": [{"_target_": "evil.WORLD"}]},
    "further arguments": {"choice": "lab", "_args_": ["evil.WORLD"]},
    "a partial": {"choice": "lab", "name": {"_partial_": True}},
    "another cache": {"choice": "lab", "name": "questions", "cache": "../written"},
    "an unknown option": {"choice": "lab", "trust_remote_code": True},
    "an endless number": {"choice": "lab_natural", "name": "questions", "size": 1 << 70},
    "a large number": {"choice": "lab_natural", "name": "questions", "size": 1 << 60},
    "no number": {"choice": "lab_natural", "name": "questions", "skew": float("nan")},
    "a text for a number": {"choice": "lab_natural", "name": "questions", "questions": "12"},
    "a list": [{"_target_": "evil.WORLD"}],
    "a text": "evil.WORLD",
}  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_folder_names_is_neither_called_nor_fetched_nor_read(folder, run, attack):
    shutil.rmtree(folder / "questions")
    asked(folder, ATTACKS[attack])
    path = list(sys.path)
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none", f"cache={folder.parent / 'cache'}")
    assert code == 2, printed
    assert_unharmed(folder, printed, path)
    (sentence,) = printed.strip().splitlines()
    assert "config.yaml, benchmark" in sentence
    assert "give benchmark" in sentence or "must be" in sentence or "lower it" in sentence or "not a" in sentence
    assert not list(folder.rglob("judgements"))


@pytest.mark.parametrize(
    "attack",
    [
        "the hub's code", "delete a folder", "another world", "a node for a world", "the key in an address",
        "a file of the reader's", "a target within", "a choice that does not ship",
    ],
)  # fmt: skip
def test_what_a_folder_names_does_not_matter_beside_its_questions(folder, run, attack):
    asked(folder, ATTACKS[attack])
    path = list(sys.path)
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none", f"cache={folder.parent / 'cache'}")
    assert code in (0, 2), printed
    assert (code == 0) == bool(list(folder.rglob("judgements")))
    assert_unharmed(folder, printed, path)


@pytest.mark.parametrize(
    "node",
    [
        {"choice": "questions", "name": "questions", "path": "elsewhere.jsonl", "competitor": None},
        {"choice": "lab", "name": "questions", "world": "my_world.WORLD"},
        {"choice": "vicuna", "name": "questions", "path": "elsewhere.jsonl", "url": None},
        {"choice": "my_package.benchmarks.load", "level": 3},
    ],
)
def test_a_run_on_things_of_its_makers_own_is_judged_by_its_questions(folder, run, node):
    asked(folder, node)
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none")
    assert code == 0, printed
    assert len(list(folder.rglob("judgements/*.jsonl"))) == 3


def test_code_that_the_reader_names_is_run(folder, run, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))  # which gets the current folder
    (folder / "world_of_the_readers_own.py").write_text(CODE)
    named = ("benchmark=lab", "benchmark.world=world_of_the_readers_own.WORLD")
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none", *named)
    assert code == 2
    assert "world=world_of_the_readers_own.WORLD: " in printed
    assert (folder / "ran").exists()


def test_a_refused_folder_is_judged_by_what_the_command_line_says(folder, run):
    questions = folder / "questions" / "questions.jsonl"
    for attack in ("a shell", "another world", "the key in an address"):
        asked(folder, ATTACKS[attack])
        path = list(sys.path)
        given = ("benchmark=questions", f"benchmark.path={questions}", "replace=true")
        code, printed = run("judge", "folder=.", "judge=gold", "logger=none", *given)
        assert code == 0, printed
        assert_unharmed(folder, printed, path)


def test_questions_are_not_read_through_a_link_out_of_the_folder(folder, run):
    (folder / "questions" / "questions.jsonl").unlink()
    (folder / "questions" / "questions.jsonl").symlink_to(folder.parent / "private.jsonl")
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none")
    assert code == 2
    assert "questions.jsonl: is a link to a file outside of its run folder" in printed
    assert SECRET not in printed


@pytest.mark.parametrize(
    "further", [(), ("out=elsewhere",), ("benchmark=questions", "benchmark.path=questions/questions.jsonl")]
)
def test_answers_are_not_read_through_a_link_out_of_the_folder(folder, run, further):
    private = folder.parent / "rounds" / "00" / "answers" / "questions.jsonl"
    private.parent.mkdir(parents=True)
    private.write_text(json.dumps({"id": "1", "answer": SECRET}))
    (folder / "rounds" / "00" / "answers" / "questions.jsonl").unlink()
    (folder / "rounds" / "00" / "answers" / "questions.jsonl").symlink_to(private)
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none", *further)
    assert code == 2
    assert "is a link to a file outside of its run folder" in printed
    assert SECRET not in printed


@pytest.mark.parametrize(
    "name", ["config.yaml", "fingerprint.json", "provenance.json", "rounds/00/round.json", "rounds/01/chosen.jsonl"]
)
@pytest.mark.parametrize("further", [(), ("out=elsewhere",)])
def test_nothing_is_logged_or_copied_through_a_link_out_of_the_folder(folder, run, name, further):
    (folder / name).rename(folder.parent / "private.jsonl")
    (folder / name).symlink_to(folder.parent / "private.jsonl")
    code, printed = run("judge", "folder=.", "judge=gold", "logger=csv", *further)
    assert code == 2
    assert f"{name}: is a link to a file outside of its run folder" in printed
    assert not (folder / "elsewhere").exists()
    assert not list(folder.rglob("metrics.csv"))


LINKED_FILES = (
    "config.yaml", "fingerprint.json", "rounds/00/round.json", "rounds/00/chosen.jsonl", "selected.jsonl", "map.npy",
    "rounds/00/answers/questions.jsonl", "questions/questions.jsonl", "rounds/01/answers", "questions", "rounds/01",
    "rounds",
)  # fmt: skip


@pytest.mark.parametrize("name", LINKED_FILES)
def test_nothing_is_reported_through_a_link_out_of_the_folder(folder, run, name):
    (folder / name).rename(folder.parent / "private")
    (folder / name).symlink_to(folder.parent / "private")
    code, printed = run("report", f"folder={folder}", "out=page")
    assert code == 2
    assert f"{folder / name}: is a link to a " in printed
    assert "outside of its run folder" in printed
    assert printed.count("\n") == 1
    assert not (folder / "page").exists()


@pytest.mark.parametrize("verb", ["report", "score", "compare"])
@pytest.mark.parametrize("name", ["rounds/00/judgements/questions.jsonl", "released_test/kc_x_y/rd_0_vs_chat.jsonl"])
def test_judgements_are_not_read_through_a_link_out_of_the_folder(folder, run, verb, name):
    for other in ("config.yaml", "fingerprint.json"):  # such as a copy for a judge
        (folder / other).unlink()
    (folder / name).parent.mkdir(parents=True)
    (folder / name).symlink_to(folder.parent / "private.jsonl")
    code, printed = run(verb, f"folder={folder}")
    assert code == 2
    assert f"{folder / name}: is a link to a file outside of" in printed
    assert SECRET not in printed


def test_a_report_reads_links_within_a_run_folder_and_ignores_models_elsewhere(folder, run):
    (folder / "selected.jsonl").rename(folder / "pool.jsonl")
    (folder / "selected.jsonl").symlink_to("pool.jsonl")
    (folder / "rounds/01/model").symlink_to(folder.parent / "precious")
    code, printed = run("report", f"folder={folder}", "out=page")
    assert code == 0, printed


def test_judgements_do_not_go_behind_a_link_in_the_folder_for_them(folder, run):
    (folder / "out").mkdir()
    (folder / "out" / folder.parent.name).symlink_to(folder.parent / "precious")
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none", "out=out")
    assert code == 2
    assert "is a link to a folder outside out" in printed
    assert [file.name for file in (folder.parent / "precious").iterdir()] == ["work.txt"]


def test_links_within_a_run_folder_are_read(folder, run):
    (folder / "questions" / "questions.jsonl").rename(folder / "asked.jsonl")
    (folder / "questions" / "questions.jsonl").symlink_to("../asked.jsonl")
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none")
    assert code == 0, printed


def test_git_of_a_strangers_folder_runs_nothing(folder, monkeypatch):
    """Its configuration names programs that `git status` would run."""

    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], check=True, capture_output=True)

    git("init", "-q")
    (folder / "evil.sh").write_text(f"#!/bin/sh\ntouch {folder}/ran\ncat\n")
    (folder / "evil.sh").chmod(0o755)
    git("add", "config.yaml")
    git("commit", "-q", "-m", "first")
    clean = provenance()["git"]
    assert re.fullmatch("[0-9a-f]+", clean)
    (folder / ".gitattributes").write_text("* filter=evil\n")
    for key in ("core.fsmonitor", "filter.evil.clean", "filter.evil.process", "diff.external", "core.pager"):
        git("config", key, str(folder / "evil.sh"))
    (folder / "config.yaml").write_text("changed: 1\n")
    assert provenance()["git"] == f"{clean}-dirty"
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("nearest", [{}, "\ud800", [1], "1", 1e300, int("9" * 400)])
def test_a_report_takes_receipts_with_anything_for_the_nearest_row(folder, nearest):
    file = folder / "rounds" / "00" / "chosen.jsonl"
    lines = [
        json.loads(line) | {"nearest": nearest, "nearest_instruction": "x"} for line in file.read_text().splitlines()
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    runs = collect([folder]).runs
    json.dumps(rows_payload(runs, {}, {run.line: "line" for run in runs}))


@pytest.mark.parametrize("content", ["3", '"x"', "[1]", '{"questions": 1}', '{"questions": [1]}'])
def test_damaged_scores_are_refused_before_anything_is_judged(folder, run, content):
    (folder / "rounds" / "01" / "scores.json").write_text(content)
    code, printed = run("judge", "folder=.", "judge=gold", "logger=csv")
    assert code == 2
    assert "scores.json: expected an object of scores by benchmark" in printed
    assert not list(folder.rglob("judgements"))


@pytest.mark.parametrize("row", [[1], "x", None, 0.5, True])
def test_rows_that_are_no_numbers_are_refused(tmp_path, row):
    shutil.copytree(RUN, tmp_path / "seed0")
    file = tmp_path / "seed0" / "rounds" / "00" / "round.json"
    there = json.loads(file.read_text())
    there["trained_on"][1] = row
    file.write_text(json.dumps(there))
    with pytest.raises(InputError, match=r"round\.json, field 'trained_on': expected row numbers"):
        list(find_judgements(tmp_path))


@pytest.mark.parametrize("key", ["metrics", "seconds", "peak_memory"])
def test_numbers_that_no_float_can_hold_are_refused(folder, key):
    file = folder / "rounds" / "00" / "round.json"
    there = json.loads(file.read_text())
    there.setdefault(key, {"fit": 0})[next(iter(there.get(key, ["fit"])))] = int("9" * 400)
    file.write_text(json.dumps(there))
    with pytest.raises(InputError, match=r"round\.json, .*: expected a finite number, got"):
        collect([folder])


@pytest.mark.parametrize(
    "fields", [["x"], "x", {"instruction": ["x"], "response": {"a": 1}}, {"instruction": 3, "response": 3}, 3]
)
def test_a_report_shows_rows_whatever_a_configuration_says_of_their_fields(folder, fields):
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "data": {"fields": fields}}))
    (first,) = collect([folder]).runs
    record = {"instruction": "Name a river.", "input": "", "output": "The Elbe."}
    assert _excerpts(record, first) == ["Name a river.", "The Elbe."]


@pytest.mark.parametrize("content", ["[1]", "3", "null", "{"])
def test_a_damaged_provenance_ends_no_judging(folder, run, content):
    (folder / "provenance.json").write_text(content)
    code, printed = run("judge", "folder=.", "judge=gold", "logger=csv")
    assert code == 0, printed
    assert len(list(folder.rglob("judgements/*.jsonl"))) == 3
    assert "provenance.json" in printed


def test_a_folder_that_was_moved_is_judged_by_its_own_questions(folder, run):
    code, printed = run("judge", "folder=.", "judge=gold", "logger=none")
    assert code == 0, printed
    for t in ("00", "01", "02"):
        scores = {"now": folder, "then": RUN}
        again, before = (json.loads((run / "rounds" / t / "scores.json").read_text()) for run in scores.values())
        assert again == before


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(30))
DAMAGED: dict[str, tuple[str | bytes, str]] = {
    "a Python object": ("benchmark: !!python/object/apply:os.system [touch ran]", "line 1: it has the tag"),
    "a tag of its own": ("benchmark: !evil x", "it has the tag !evil"),
    "a tag that converts": ("a: !!bool maybe", "it has the tag tag:yaml.org,2002:bool"),
    "a tag of the document": ("--- !!timestamp x", "it has the tag"),
    "a tag of a name": ('? !!int ""\n: 1', "it has the tag"),
    "a billion laughs": (LAUGHS, "alias"),
    "an alias": ("a: &a 1\nb: *a", "line 2: it has an alias"),
    "a merged alias": ("a: &a {b: 1}\nc: {<<: *a}", "alias"),
    "depth": ("a: " + "[" * 100_000, "more than 32 levels"),
    "depth in a block": ("\n".join(" " * i + "a:" for i in range(500)), "more than 32 levels"),
    "length": ("a: 1\n" * (MOST_BYTES // 4), "is longer than 256 KiB"),
    "an unclosed list": ("a: [", "cannot be read (line 1"),
    "two documents": ("a: 1\n---\nb: 1", "cannot be read"),
    "a list": ("- a", "holds no configuration"),
    "a text": ("evil", "holds no configuration"),
    "nothing": ("", "holds no configuration"),
    "zeros": (b"\0" * 64, "cannot be read"),
    "another encoding": (b"\xff\xfea\x00", "not UTF-8 text"),
    "half a character": (b'a: "\xed\xa0\x80"', "not UTF-8 text"),
    "a date": ("a: {b: 2026-01-01}", "a.b: expected a text"),
    "bytes": ("a: !!binary aGk=", "it has the tag"),
    "a set": ("a: !!set {x, y}", "it has the tag"),
    "a number for a name": ("1: a", "top level: expected names as keys"),
    "a list for a name": ("? [a]\n: b", "cannot be read"),
    "endless digits": (f"a: {'9' * 5000}", "cannot be read"),
    "endless digits for a name": (f"? 0x{'f' * 9000}\n: b", "got a number of thousands of digits"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_configuration_is_plain_values_or_refused_at_once(tmp_path, damage):
    content, complaint = DAMAGED[damage]
    file = tmp_path / "config.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    began = time.perf_counter()
    with pytest.raises(InputError) as refused:
        read_saved(file)
    assert time.perf_counter() - began < 30
    assert complaint in str(refused.value)
    assert str(refused.value).startswith(str(file))
    assert str(refused.value).endswith(("; restore it", "; save it as UTF-8", "; give a smaller one"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("special", ["/dev/zero", "fifo", "folder", "nothing", "itself"])
def test_a_configuration_is_a_regular_file(tmp_path, special):
    file = tmp_path / "config.yaml"
    if special == "fifo":
        os.mkfifo(file)
    elif special == "folder":
        file.mkdir()
    else:
        file.symlink_to({"itself": file, "nothing": tmp_path / "none"}.get(special, Path(special)))
    with pytest.raises(InputError, match=r"config\.yaml: "):
        read_saved(file)


@pytest.mark.parametrize("damage", ["a Python object", "a billion laughs", "depth", "length", "a date"])
def test_a_report_reads_configurations_as_plain_values_too(folder, damage):
    content, complaint = DAMAGED[damage]
    (folder / "config.yaml").write_text(str(content))
    with pytest.raises(InputError, match=r"restore it, .*or leave this folder out|give a smaller one") as refused:
        collect([folder])
    assert complaint in str(refused.value)


@pytest.mark.parametrize("value", [1 << 63, -(1 << 63), float("inf"), float("nan"), int("9" * 4000)])
def test_a_number_has_a_range(value):
    with pytest.raises(InputError, match=r"expected a finite number below 2\*\*63"):
        saved_choice({"benchmark": {"choice": "lab", "size": value}}, "benchmark", Path("config.yaml"))
