"""The page about extending does what it says: its code runs from a folder that is on no path, with small data."""

import importlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from forks import finish, fork
from small_evolution import SMALL

from diverseevol.cli.own_code import opened, without_defaults
from diverseevol.storage.files import read_json, write_jsonl
from diverseevol.storage.sources import sources

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text("utf-8")
FILES = dict(re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
COMMANDS = PAGE.replace("\\\n", "")
(SAMPLER,), (JUDGE,), (METRIC,), (FORMAT,), (BENCHMARK,) = (
    re.findall(rf"^diverseevol \w+ (.*{word}.*)$", COMMANDS, re.MULTILINE)
    for word in (r"sampler\._target_", r"judge\._target_", r"metric\.", r"format\._target_", r"benchmark\._target_")
)


def run(folder: Path, *arguments: str) -> tuple[int | None, str]:
    log = folder / "said.log"
    log.unlink(missing_ok=True)

    def first() -> None:
        os.chdir(folder)
        sys.path[:] = [entry for entry in sys.path if entry not in ("", str(folder))]  # as the installed script has it

    code = finish(fork([*arguments], log, {"COLUMNS": "200", "WANDB_MODE": "offline"}, first))
    return code, log.read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("extending")
    for name, code in FILES.items():
        assert len([line for line in code.splitlines() if line.strip()]) < 25, name
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(code)
    return made


@pytest.fixture(scope="module")
def evolved(folder: Path) -> list[str]:
    """One evolution with four of the five; its arguments."""
    small = [word for word in SMALL if not word.startswith("benchmark")]
    words = [*SAMPLER.split(), *JUDGE.split(), *METRIC.split(), *BENCHMARK.split()]
    arguments = ["evolve", *small, *words, "folder=mine", "logger=none"]
    code, said = run(folder, *arguments)
    assert code == 0, said
    return arguments


def test_sampler_judge_metric_and_benchmark_of_the_page_make_an_evolution(folder: Path, evolved: list[str]) -> None:
    last = read_json(folder / "mine" / "rounds" / "01" / "round.json")
    assert last["metrics"]["pool_length"] > 0
    assert len((folder / "mine" / "questions" / "sums.jsonl").read_text().splitlines()) == 3
    assert "first_word" in (folder / "mine" / "rounds" / "01" / "judgements" / "sums.jsonl").read_text()
    identity = read_json(folder / "mine" / "fingerprint.json")
    assert (identity["sampler"], identity["sampler.least"]) == ("my_sampler.Shortest", 2)
    assert not {"sampler.metric", "sampler.drop"} & identity.keys()  # K-Center's, the default's
    assert list(identity["sampler.source"]) == ["my_sampler.py"]
    own = read_json(folder / "mine" / "provenance.json")["own_code"]
    assert {key: list(files) for key, files in own.items()} == {
        "sampler.source": ["my_sampler.py"], "judge.source": ["my_judge.py"],
        "metric.pool_length.source": ["my_metric.py"], "benchmark.source": ["my_benchmark.py"],
    }  # fmt: skip


def test_a_run_is_not_resumed_when_the_source_of_its_sampler_has_changed(folder: Path, evolved: list[str]) -> None:
    file = folder / "my_sampler.py"
    before = file.read_text()
    file.write_text(before + "# changed\n")
    code, said = run(folder, *evolved)
    assert code == 2
    assert "was made with another version of my_sampler.py (sampler.source); restore it" in " ".join(said.split())
    file.write_text(before)
    code, said = run(folder, *evolved)
    assert code == 0, said


def test_a_run_is_resumed_from_wherever_its_folder_has_moved(folder: Path, evolved: list[str], tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    (moved / "mine" / "rounds" / "01" / "round.json").unlink()
    code, said = run(moved, *evolved)
    assert code == 0, said
    assert (moved / "mine" / "rounds" / "01" / "round.json").exists()


def test_sources_are_the_file_and_what_it_imports_from_the_current_folder(tmp_path: Path, monkeypatch) -> None:
    for name, code in {
        "own_class.py": "import numpy\nimport diverseevol\nfrom own_parts.near import F\n\nclass Mine:\n    pass\n",
        "own_parts/near.py": "from . import far\nF = 1\n",
        "own_parts/far.py": "def late():\n    import own_class\n",
        "unrelated.py": "",
        "diverseevol.py": "raise AssertionError\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = importlib.import_module("own_class").Mine
    before = sources(mine)
    assert list(before) == ["own_class.py", "own_parts/far.py", "own_parts/near.py"]
    (tmp_path / "own_parts" / "far.py").write_text("changed = 1\n")
    assert {file for file, digest in sources(mine).items() if digest != before[file]} == {"own_parts/far.py"}
    monkeypatch.chdir("/")
    assert list(sources(mine)) == ["own_class.py"]  # as for what is installed
    assert sources(len) == {}


def test_imports_that_lead_nowhere_or_cannot_be_parsed_are_not_followed(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "project.py").write_text("import nothing\n")  # beside the folder, not below it
    (folder / "broken.py").write_text("def\n")
    (folder / "odd_class.py").write_text(
        "import numpy\ntry:\n    import broken\nexcept SyntaxError:\n    pass\n"
        "def late():\n    from .......... import far\nclass Mine: ...\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    mine = importlib.import_module("odd_class").Mine
    assert list(sources(mine)) == ["broken.py", "odd_class.py"]


def test_judging_such_a_run_imports_nothing_that_it_names(folder: Path, evolved: list[str]) -> None:
    questions = folder / "mine" / "questions"
    questions.rename(folder / "kept")
    code, said = run(folder, "judge", "folder=mine", "judge=gold", "logger=none", "out=judged")
    assert (code, "my_benchmark.sums" in said, "give benchmark=…" in said) == (2, True, True), said
    code, said = run(folder, "judge", "folder=mine", *JUDGE.split(), *BENCHMARK.split(), "logger=none", "out=judged")
    assert code == 0, said
    (folder / "kept").rename(questions)


def test_the_format_of_the_page_reads_rows_and_writes_them_as_they_were(folder: Path) -> None:
    rows = [{"pair": [f"What is {i}?", f"It is {i}."], "id": i} for i in range(9)]
    write_jsonl(folder / "pairs.jsonl", rows)
    code, said = run(folder, "select", *FORMAT.split(), "cache=cache")
    assert code == 0, said
    chosen = [json.loads(line) for line in (folder / "picks.jsonl").read_text().splitlines()]
    assert len(chosen) == 5
    assert all(row in rows for row in chosen)


def test_choices_in_conf_of_the_current_folder_are_listed_and_composed(folder: Path) -> None:
    code, said = run(folder, "evolve", "metric=length", "--cfg", "job")
    assert code == 0, said
    assert "my_metric.Length" in said
    code, said = run(folder, "evolve", "--help")
    assert re.search(r"^metric: .*length", said, re.MULTILINE), said


def test_a_class_over_a_choice_that_was_named_keeps_its_options() -> None:
    from omegaconf import OmegaConf

    for words, kept in ((["sampler=kcenter"], {"whiten"}), ([], set())):
        composed = OmegaConf.create({"sampler": {"_target_": "my.Own", "whiten": 3}})
        choices = {"sampler": "kcenter"}
        without_defaults(composed, choices, [*words, "sampler._target_=my.Own"])
        assert {name for name in composed.sampler if name != "_target_"} == kept
    assert choices == {"sampler": "Own"}
    assert opened(["data.format._target_=a.B", "data.formats=x"]) == ["++data.format._target_=a.B", "data.formats=x"]
