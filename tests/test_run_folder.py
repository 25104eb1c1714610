"""What a run folder refuses: other evolutions, edited rounds, a second process."""

import json
import math
import os
import re
import shutil
import subprocess
import sys

import pytest

from diverseevol import __version__
from diverseevol.errors import InputError
from diverseevol.evolution.loop import evolve
from diverseevol.runs.round_folder import REDO, release
from diverseevol.runs.run_folder import RunFolder
from diverseevol.storage.files import read_json, temporary, write_json
from diverseevol.storage.sealed import SEAL


def test_a_folder_of_another_evolution_is_refused_by_the_key_that_differs(tmp_path):
    RunFolder(tmp_path, {"seed": 0, "sampler.metric": "euclidean"}).claim("seed: 0\n")
    RunFolder(tmp_path, {"sampler.metric": "euclidean", "seed": 0}).claim("seed: 0 # again\n")
    assert (tmp_path / "config.yaml").read_text() == "seed: 0 # again\n"
    other = RunFolder(tmp_path, {"seed": 0, "sampler.metric": "cosine", "sampler.whiten": 8})
    with pytest.raises(InputError) as caught:
        other.claim("seed: 0\n")
    message = str(caught.value)
    assert 'sampler.metric (there "euclidean", here "cosine")' in message
    assert "sampler.whiten (there null, here 8)" in message
    assert "seed" not in message.replace("seed:", "").replace(str(tmp_path), "")
    assert read_json(tmp_path / "fingerprint.json") == {"seed": 0, "sampler.metric": "euclidean"}
    assert (tmp_path / "config.yaml").read_text() == "seed: 0 # again\n"


def test_a_changed_prompt_is_told_by_its_options(tmp_path):
    def folder(prompt: str) -> RunFolder:
        return RunFolder(tmp_path, {"prompt": prompt})

    folder("0a").claim("prompt: {max_length: 512, system: null}\n")
    with pytest.raises(InputError, match=r"differs in prompt\.max_length \(there 512, here 256\); give"):
        folder("0b").claim("prompt: {max_length: 256, system: null}\n")
    with pytest.raises(InputError, match=r'differs in prompt \(there "0a", here "0b"\); give'):
        folder("0b").claim("prompt: {max_length: 512, system: null}\n")


def test_rounds_without_a_fingerprint_are_not_trusted(copy):
    with pytest.raises(InputError, match=r"fingerprint\.json: missing, so the rounds beside it cannot be trusted"):
        RunFolder(copy, {"what": "a test"}).claim("")


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda text: text[: len(text) // 2], r"round\.json: not valid JSON"),
        (lambda text: "", r"round\.json: not valid JSON"),
        (lambda text: "[]", r"round\.json: lacks index, trained_on, chosen"),
        (lambda text: json.dumps({**json.loads(text), "index": 2}), "index: expected 1, got 2"),
        (lambda text: json.dumps({**json.loads(text), "fingerprint": "0"}), ', got "0"'),
        (lambda text: json.dumps({**json.loads(text), "trained_on": [1]}), r"trained_on: expected \[.*, got \[1\]"),
        (lambda text: json.dumps({**json.loads(text), "chosen": [1, 2]}), r"chosen: expected \[.*, got \[1, 2\]"),
        (
            lambda text: json.dumps({key: value for key, value in json.loads(text).items() if key != "metrics"}),
            r"round\.json: lacks metrics; restore it",
        ),
    ],
)
def test_an_edited_round_is_refused(copy, evolution, idle, edit, sentence):
    file = copy / "rounds/01/round.json"
    file.write_text(edit(file.read_text()))
    with pytest.raises(InputError, match=sentence):
        evolve(evolution(copy, learner=idle))


def test_an_edited_receipt_is_refused(copy, evolution, idle):
    file = copy / "rounds/00/chosen.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[::-1]))
    with pytest.raises(InputError, match=rf"rounds/00/chosen\.jsonl: damaged \(.* holds other bytes .*; {REDO}"):
        evolve(evolution(copy, learner=idle))
    (file.parent / SEAL).unlink()
    with pytest.raises(InputError, match=r"rounds/00/round\.json, chosen: expected"):
        evolve(evolution(copy, learner=idle))


@pytest.mark.parametrize(("name", "size"), [("training.jsonl", 20), ("training.jsonl", 0), ("chosen.jsonl", 20)])
def test_a_file_of_a_complete_round_that_was_cut_is_named_and_the_advice_works(copy, evolution, idle, name, size):
    before = read_json(copy / "rounds/01/round.json")
    os.truncate(copy / "rounds/01" / name, size)
    with pytest.raises(InputError) as caught:
        evolve(evolution(copy, learner=idle))
    assert f"rounds/01/{name}: damaged ({name} holds {size} bytes, expected " in str(caught.value)
    assert str(caught.value).endswith(REDO)
    for t in (1, 2):
        shutil.rmtree(copy / f"rounds/{t:02d}")
    evolve(evolution(copy))
    costs = {"seconds": 0, "peak_memory": 0}  # differ from run to run
    assert {**read_json(copy / "rounds/01/round.json"), **costs} == {**before, **costs}


def test_a_cut_seal_of_a_complete_round_is_named_and_can_be_deleted(copy, evolution, idle):
    seal = copy / "rounds/01" / SEAL
    os.truncate(seal, 20)
    with pytest.raises(InputError, match=r"rounds/01/\.digests: cut off or edited, .* or delete it to go on unchecked"):
        evolve(evolution(copy, learner=idle))
    seal.unlink()
    evolve(evolution(copy, learner=idle))


def test_a_cut_receipt_without_a_seal_is_not_to_be_edited(copy, evolution, idle):
    file = copy / "rounds/01/chosen.jsonl"
    (file.parent / SEAL).unlink()
    os.truncate(file, 20)
    with pytest.raises(InputError, match=rf"chosen\.jsonl, line 1: not valid JSON \(.*\); {REDO}$"):
        evolve(evolution(copy, learner=idle))


def test_a_cut_fingerprint_is_not_to_be_deleted(tmp_path):
    (tmp_path / "fingerprint.json").write_text('{"seed": ')
    with pytest.raises(InputError, match=r"fingerprint\.json: not valid JSON .*; restore it, or give folder=… for"):
        RunFolder(tmp_path, {"seed": 0}).claim("")


def test_which_rows_are_eligible_is_told_only_where_nothing_else_differs(tmp_path):
    RunFolder(tmp_path, {"eligible": "a6", "data.held_out": 8}).claim("")
    with pytest.raises(InputError, match=r"differs in data\.held_out \(there 8, here 4\); give"):
        RunFolder(tmp_path, {"eligible": "9b", "data.held_out": 4}).claim("")
    with pytest.raises(InputError, match=r'differs in eligible \(there "a6", here "9b"\); give'):
        RunFolder(tmp_path, {"eligible": "9b", "data.held_out": 8}).claim("")
    with pytest.raises(InputError, match=r"differs in data\.held_out\.copies \(there null, here 3\); eligible"):
        RunFolder(tmp_path, {"eligible": "9b", "data.held_out": 8, "data.held_out.copies": 3}).claim("")
    with pytest.raises(InputError, match=r"differs in data\.held_out \(there 8, here 4\); give"):
        RunFolder(tmp_path, {"eligible": "9b", "data.held_out": 4, "data.held_out.copies": 3}).claim("")


def test_a_second_process_is_refused_while_the_first_is_at_work(tmp_path):
    first, second = RunFolder(tmp_path, {}), RunFolder(tmp_path, {})
    with first.locked(), pytest.raises(InputError, match="another process is at work in this folder"), second.locked():
        pytest.fail("two processes hold one folder")
    with second.locked():
        pass


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path):
    program = (
        "import sys, time; from pathlib import Path; from diverseevol.runs.run_folder import RunFolder\n"
        "with RunFolder(Path(sys.argv[1]), {}).locked(): print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another process is at work"), RunFolder(tmp_path, {}).locked():
            pytest.fail("two processes hold the folder")
        holder.kill()
    assert (tmp_path / ".lock").exists()
    with RunFolder(tmp_path, {}).locked():
        pass


@pytest.mark.parametrize(("version", "refused"), [("0.0.9", True), ("7.1.0", True), (f"{__version__}.post1", False)])
def test_rounds_of_another_version_are_refused_and_those_of_a_patch_are_not(copy, evolution, idle, version, refused):
    for file in copy.glob("rounds/*/round.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "version": version}))
    if not refused:
        evolve(evolution(copy, learner=idle))
        return
    with pytest.raises(InputError, match=re.escape(f"made by diverseevol {version}, and this is {__version__}")):
        evolve(evolution(copy, learner=idle))


@pytest.mark.parametrize(("there", "refused"), [("0.0", True), ("7.1", True), (release(__version__), False)])
def test_a_round_that_another_release_began_is_refused_like_a_whole_one(tmp_path, there, refused):
    fingerprint = {"release": release(__version__), "seed": 0}
    write_json(tmp_path / "fingerprint.json", {**fingerprint, "release": there})
    (tmp_path / "rounds/00/model").mkdir(parents=True)
    run = RunFolder(tmp_path, fingerprint)
    if not refused:
        run.claim("")
        return
    sentence = (
        rf"fingerprint\.json: made by diverseevol {there}, and this is {__version__}, which may choose other rows; "
    )
    with pytest.raises(InputError, match=sentence):
        run.claim("")
    assert read_json(tmp_path / "fingerprint.json")["release"] == there


def test_taking_the_folder_sweeps_what_a_crash_left_half_written(tmp_path):
    here = tmp_path / "rounds/00"
    model = temporary(here / "model")
    model.mkdir(parents=True)
    (model / "config.json").touch()
    (tmp_path / "fingerprint.json").touch()
    temporary(here / "chosen.jsonl").touch()
    for name in ("training.jsonl", "notes.partial", "notes.0123456789abcdef.partial.txt"):
        (here / name).touch()
    linked = temporary(here / "mine")
    linked.symlink_to(here / "training.jsonl")
    with RunFolder(tmp_path, {}).locked():
        kept = {linked.name, "notes.0123456789abcdef.partial.txt", "notes.partial", "training.jsonl"}
        assert {file.name for file in here.iterdir()} == kept


def test_a_round_is_named_alike_on_every_resume_and_otherwise_never(tmp_path):
    run = RunFolder(tmp_path / "a", {"seed": 0})
    assert run.round_id(1) == RunFolder(tmp_path / "a", {"seed": 0}).round_id(1)
    others = [RunFolder(tmp_path / "a", {"seed": 1}), RunFolder(tmp_path / "b", {"seed": 0})]
    ids = {run.round_id(1), run.round_id(2), *(other.round_id(1) for other in others)}
    assert len(ids) == 4


@pytest.mark.parametrize(
    ("name", "damage", "found"),
    [
        ("round.json", {"metrics": None}, "metrics: expected an object, got null"),
        ("round.json", {"peak_memory": {"fit": "4"}}, 'peak_memory.fit: expected a finite number, got "4"'),
        ("round.json", {"seconds": [1]}, "seconds: expected an object, got [1]"),
        (
            "round.json",
            {"metrics": {"vendi_score": 1.0}},
            "lacks metrics.pool_size; restore it",
        ),
        ("round.json", {"metrics": {"pool_size": "1"}}, 'metrics.pool_size: expected a finite number, got "1"'),
        ("round.json", {"metrics": {"pool_size": math.nan}}, "metrics.pool_size: expected a finite number, got NaN"),
        ("round.json", {"metrics": {"pool_size": True}}, "metrics.pool_size: expected a finite number, got true"),
        ("round.json", {"seconds": {"fit": math.inf}}, "seconds.fit: expected a finite number, got Infinity"),
        ("chosen.jsonl", '{"row": "12"}\n', 'line 1: its row is "12", expected a row number'),
        ("chosen.jsonl", None, "missing, though round.json lists what was chosen"),
    ],
)
def test_a_damaged_round_is_told_in_a_sentence(copy, evolution, idle, name, damage, found):
    file = copy / "rounds" / "00" / name
    (file.parent / SEAL).unlink()  # which would name the file, and not what is wrong in it
    if damage is None:
        file.unlink()
    elif isinstance(damage, dict):
        file.write_text(json.dumps({**json.loads(file.read_text()), **damage}))
    else:
        file.write_text(damage)
    with pytest.raises(InputError, match=re.escape(found)):
        evolve(evolution(copy, learner=idle))


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path):
    (tmp_path / "thesis.partial").write_text("mine")
    run = RunFolder(tmp_path, {"seed": 0})
    with pytest.raises(InputError, match=r"holds 'thesis\.partial' but no evolution"), run.locked():
        pytest.fail("the folder was taken")
    assert (tmp_path / "thesis.partial").read_text() == "mine"
