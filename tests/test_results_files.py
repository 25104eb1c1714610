"""Results go beside what they are of, or where `out=` says; nothing is left in the current folder."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from run_folders import RISING, World, lay_run

from diverseevol.cli.commands.compare import file_name
from diverseevol.cli.output_files import check_writable, results_file
from diverseevol.errors import InputError
from diverseevol.storage.names import is_name

COMMANDS = {
    "compare": (["compare", "folder={}"], "comparison.json"),
    "score": (["score", "folder={}"], "scores.csv"),
    "agreement": (["agreement", "folder={}", "recorded={}"], "agreement.json"),
    "report": (["report", "folder={}"], "report"),
}
IDS = list(COMMANDS)


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Judged runs, away from the current folder."""
    for sampler in ("kcenter", "random"):
        lay_run(tmp_path / "there/outputs", World(), sampler, scores=RISING)
    return tmp_path / "there/outputs"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is empty."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("verb", IDS)
def test_results_of_a_folder_lie_in_it_and_nothing_in_the_current_one(command_line, outputs, here, verb):
    arguments, name = COMMANDS[verb]
    before = set(outputs.iterdir())
    code, out, err = command_line(*(word.format(outputs) for word in arguments))
    assert code == 0, err
    assert set(outputs.iterdir()) - before == {outputs / name}
    assert not list(here.iterdir())
    assert str(outputs / name) in out.replace("\n", "")


@pytest.mark.parametrize("verb", IDS[:3])
def test_results_of_an_archive_lie_beside_it_under_its_name(command_line, outputs, here, verb):
    arguments, name = COMMANDS[verb]
    archive = outputs.parent / "runs.v1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(outputs, "outputs")
    code, _, err = command_line(*(word.format(archive) for word in arguments))
    assert code == 0, err
    assert (archive.parent / f"runs.v1-{name}").is_file()
    assert not list(here.iterdir())


@pytest.mark.parametrize("verb", IDS[:3])
def test_results_go_where_out_says(command_line, outputs, here, verb):
    arguments, name = COMMANDS[verb]
    before = sorted(outputs.rglob("*"))
    code, _, err = command_line(*(word.format(outputs) for word in arguments), f"out=new/mine{Path(name).suffix}")
    assert code == 0, err
    assert (here / f"new/mine{Path(name).suffix}").exists()
    assert sorted(outputs.rglob("*")) == before


@pytest.mark.parametrize("verb", IDS)
def test_a_place_that_cannot_be_written_to_is_told_with_out_before_anything_is_read(
    command_line, outputs, here, verb, monkeypatch
):
    def refuse(*given: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    arguments, name = COMMANDS[verb]
    code, out, err = command_line(*(word.format(outputs) for word in arguments))
    (sentence,) = err.splitlines()
    assert (code, out) == (2, "")
    assert sentence.startswith(f"diverseevol: {outputs / name}: the re")
    assert f"({outputs}: Read-only file system); say out=… with a" in sentence


def test_judging_in_a_place_that_cannot_be_written_to_is_refused_before_a_judge_is_asked(
    command_line, outputs, here, monkeypatch
):
    def refuse(*given: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    shutil.rmtree(outputs / "toy/tiny/random-iterative")
    for folder in outputs.rglob("judgements"):
        shutil.rmtree(folder)
    questions = [{"id": f"q{i}", "instruction": f"What is q{i}?", "reference": "It is."} for i in range(4)]
    (here / "asked.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    code, _, err = command_line(
        "judge", f"folder={outputs}", "judge=gold", "logger=none", "benchmark=questions", "benchmark.name=toybench",
        "benchmark.path=asked.jsonl",
    )  # fmt: skip
    assert code == 2
    assert "rounds/00: judgements cannot be written there (" in err
    assert "say out=… with another folder" in err


@pytest.mark.parametrize("verb", IDS[:3])
@pytest.mark.parametrize("out", ["rows.jsonl", "results", "there"])
def test_what_is_no_name_for_results_is_refused_and_nothing_is_written_over(command_line, outputs, here, verb, out):
    (here / "rows.jsonl").write_text("mine")
    (here / "there").mkdir()
    code, _, err = command_line(*(word.format(outputs) for word in COMMANDS[verb][0]), f"out={out}")
    assert code == 2
    assert "is a folder; name a file in it" in err if out == "there" else "the name must end in ." in err
    assert (here / "rows.jsonl").read_text() == "mine"


@pytest.mark.parametrize("name", ["a" * 300 + ".json", "a/" + "b" * 300 + "/c.json", "file/c.json", "nul\0.json"])
def test_names_that_no_file_system_takes_are_a_sentence(here, name):
    (here / "file").write_text("")
    with pytest.raises(InputError, match=r"^out=.*: cannot be written \(.*; say out=… with another file where you may"):
        results_file(name, here, "comparison.json")


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_the_right_to_write_is_told(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="Permission denied"):
        check_writable(tmp_path / "deep/file.json", "it cannot", "another")
    tmp_path.chmod(0o700)


def test_looking_leaves_nothing(tmp_path):
    check_writable(tmp_path / "deep/er/file.json", "it cannot", "another")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["compare", "score"])
def test_a_sweep_of_any_command_is_noted_below_outputs(command_line, outputs, here, verb):
    code, _, err = command_line(  # by the older name of `folder=`
        verb, "-m", f"judgements={outputs}", f"out={here / 'x'}{Path(COMMANDS[verb][1]).suffix}"
    )
    assert code == 0, err
    assert {path.name for path in here.iterdir()} <= {"outputs", f"x{Path(COMMANDS[verb][1]).suffix}"}


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["metric=[relative_score]", "baseline=random-*"], "comparison.json"),
        (["metric=all"], "comparison-all.json"),
        (["metric=[relative_score,all]", "round=1"], "comparison-relative_score+all-round1.json"),
        (["round=1"], "comparison-round1.json"),
        (["baseline=random-iterative"], "comparison-against-random-iterative.json"),
    ],
)
def test_a_comparison_asked_otherwise_leaves_the_default_one_and_the_same_one_is_written_again(
    command_line, tmp_path, overrides, name
):
    for sampler in ("kcenter", "random"):
        lay_run(tmp_path / "outputs", World(), sampler, scores=RISING, extra={"all": 1.0})
    (tmp_path / "outputs/comparison.json").write_text("the default one")
    for _ in range(2):
        code, out, err = command_line("compare", f"folder={tmp_path / 'outputs'}", *overrides)
        assert code == 0, err
        assert f"Full results: {tmp_path / 'outputs' / name}" in out
    written = {path.name: path.read_text() for path in (tmp_path / "outputs").glob("*.json")}
    assert set(written) == {"comparison.json", name}
    assert json.loads(written[name])["samplers"]
    assert name == "comparison.json" or written["comparison.json"] == "the default one"


def test_names_of_comparisons_are_names_and_differ_where_the_requests_do():
    requests = [
        *((["relative_score"], baseline) for baseline in ("random-*", "random-?", "../../r", "r" * 300, "r" * 301)),
        (["reference_loss/vicuna"], "random-*"), (["reference_loss-vicuna"], "random-*"),
    ]  # fmt: skip
    names = [file_name(metrics, baseline) for metrics, baseline in requests]
    assert len(set(names)) == len(names)
    assert all(is_name(name.removesuffix(".json")) and name.startswith("comparison") for name in names)
