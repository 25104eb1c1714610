"""Run folders say what they were made with by the names of choices, which outlive the modules behind them."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from diverseevol.cli.configuration import OTHER_NAMES, Configuration, configure
from diverseevol.cli.fingerprint import _picks
from diverseevol.cli.provenance import logged_config
from diverseevol.cli.shipped import shipped_choices
from diverseevol.report.charts.lines import line_of
from diverseevol.runs.choices_0_1 import TARGETS_0_1, choice_of_0_1
from diverseevol.runs.saved_config import read_saved, saved_choice

FOLDERS = Path(__file__).parent / "fixtures" / "run_folders_0_1"
GROUPS = ("data", "model", "sampler", "schedule", "trainer", "benchmark", "judge", "logger")
EVERY = [(group, choice) for group in GROUPS for choice in shipped_choices(group)]
NEEDED = {
    "data": {name: ["data.path=rows.jsonl"] for name in ("file", "json")}, "model": {"hf": ["model.path=org/model"]},
    "benchmark": {"questions": ["benchmark.path=questions.jsonl"]},
    "judge": {"local": ["judge.path=org/judge"], "replay": ["judge.judgements=outputs"]},
}  # fmt: skip


def chosen(group: str, choice: str, *overrides: str) -> Configuration:
    return configure("evolve", [f"{group}={choice}", *NEEDED.get(group, {}).get(choice, []), *overrides])


@pytest.mark.parametrize(("group", "choice"), EVERY)
def test_what_a_run_keeps_names_choices_and_no_modules(group, choice):
    needed = ["model.path=org/model"] if group == "data" and choice != "lab" else []
    settings = chosen(group, choice, *needed)
    kept = yaml.safe_load(settings.text())
    assert kept[group]["choice"] == OTHER_NAMES.get((group, choice), choice)
    logged = logged_config(settings, {})
    assert logged[group] == kept[group] if group != "logger" else "logger" not in logged
    for text in (settings.text(), json.dumps(logged)):
        assert "_target_" not in text
        assert "_partial_" not in text
        assert "diverseevol." not in text
        assert "lightning" not in text


def test_a_configuration_comes_back_as_it_was_written(tmp_path):
    settings = configure("evolve", ["benchmark=paper", "tuning.learning_rate=1e-12", "prompt.system='1e3: é\"'"])
    (tmp_path / "config.yaml").write_text(settings.text())
    kept = read_saved(tmp_path / "config.yaml")
    assert kept["tuning"] == {"choice": "full", **settings.value("tuning")}
    assert kept["prompt"] == settings.value("prompt")
    assert kept["sampler"] == {"choice": "kcenter", **plain(settings.value("sampler"))}
    assert kept["benchmark"]["vicuna"]["choice"] == "vicuna"


def plain(node: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if not name.startswith("_")}


def test_a_fingerprint_names_the_sampler_and_its_options():
    picks = _picks(chosen("sampler", "kcenter", "sampler.drop=0.1"), "sampler")
    assert picks == {
        "sampler": "kcenter", "sampler.metric": "euclidean", "sampler.whiten": None, "sampler.space": "current",
        "sampler.drop": 0.1,
    }  # fmt: skip
    assert _picks(chosen("schedule", "iterative"), "schedule").keys() == {"schedule.seed_size", "schedule.step_size"}


def test_code_of_the_users_own_is_named_by_its_path():
    settings = chosen("sampler", "random", "sampler._target_=mine.Sampler", "+sampler.inner._target_=mine.Part")
    assert _picks(settings, "sampler") == {"sampler": "mine.Sampler", "sampler.inner": {"choice": "mine.Part"}}
    assert yaml.safe_load(settings.text())["sampler"] == {"choice": "mine.Sampler", "inner": {"choice": "mine.Part"}}


@pytest.mark.parametrize("choice", [name for name in shipped_choices("benchmark") if name not in ("none", "questions")])
def test_a_shipped_benchmark_is_made_again_from_what_a_run_keeps(choice, tmp_path, monkeypatch):
    def fetch(url: str, sha256: str, target: Path, option: str) -> Path:
        fetched.append(url)
        target.parent.mkdir(exist_ok=True)
        target.write_text('{"id": 1, "instruction": "Why?", "answer": "So."}\n')
        return target

    fetched: list[str] = []
    monkeypatch.setattr("diverseevol.evaluation.questions.benchmarks.fetch", fetch)
    settings = chosen("benchmark", choice)
    (tmp_path / "config.yaml").write_text(settings.text())
    saved = saved_choice(read_saved(tmp_path / "config.yaml"), "benchmark", tmp_path / "config.yaml")
    assert saved is not None
    again = configure("judge", ["folder=."]).shipped("benchmark", saved, cache=tmp_path)
    assert again == settings.part("benchmark", cache=tmp_path)
    assert all(url.startswith("https://raw.githubusercontent.com/OFA-Sys/DiverseEvol/") for url in fetched)


def test_a_lab_benchmark_of_other_numbers_is_made_again_with_these(tmp_path):
    settings = chosen("benchmark", "lab_natural", "benchmark.questions=12", "data.size=300", "data.skew=1")
    (tmp_path / "config.yaml").write_text(settings.text())
    saved = saved_choice(read_saved(tmp_path / "config.yaml"), "benchmark", tmp_path / "config.yaml")
    assert saved is not None
    again = configure("judge", ["folder=."]).shipped("benchmark", saved, cache=tmp_path)
    assert again == settings.part("benchmark", cache=tmp_path)
    assert len(again[0].questions) == 12


def test_the_benchmark_of_a_folder_of_0_1_is_made_again(tmp_path):
    (folder,) = FOLDERS.glob("lab/lab/*/seed0")
    saved = saved_choice(read_saved(folder / "config.yaml"), "benchmark", folder / "config.yaml")
    assert saved is not None
    assert saved.choice == "lab_natural"
    (again,) = configure("judge", ["folder=."]).shipped("benchmark", saved, cache=tmp_path)
    kept = [json.loads(line) for line in (folder / "questions" / "lab_natural.jsonl").read_text().splitlines()]
    assert [vars(question) for question in again.questions] == kept


def test_the_paths_of_0_1_are_read_as_choices():
    for group, targets in TARGETS_0_1.items():
        for target, choices in targets.items():
            for choice, marks in choices:
                assert choice in shipped_choices(group)
                assert choice_of_0_1(group, target, marks) == choice
    for folder in (*FOLDERS.glob("lab/lab/*/*"), *FOLDERS.glob("rows/tiny/*/*")):
        config = read_saved(folder / "config.yaml")
        choices = json.loads((folder / "provenance.json").read_text())["choices"]
        for group in TARGETS_0_1:
            assert choice_of_0_1(group, config[group]["_target_"], config[group]) == choices[group]
    for unknown in ("os.system", "diverseevol.storage.files._remove", "", None, 3, ["x"], {}):
        assert choice_of_0_1("benchmark", unknown, {}) is None


@pytest.mark.parametrize(
    ("fingerprint", "sampler"),
    [
        ({"sampler": "margin"}, "margin"),
        ({"sampler": "mine.samplers.Best"}, "Best"),
        (
            {"sampler.target": "diverseevol.samplers.uncertainty.UncertaintySampler", "sampler.measure": "margin"},
            "margin",
        ),
        ({"sampler.target": "diverseevol.samplers.stratified.StratifiedSampler"}, "oracle"),
        ({"sampler.target": "mine.samplers.Best"}, "Best"),
        ({}, "a-name-of-mine"),
        ({"sampler": None}, "a-name-of-mine"),
        ({"sampler": ["x"]}, "a-name-of-mine"),
        ({"sampler.target": 3}, "a-name-of-mine"),
    ],
)
def test_a_report_knows_the_sampler_of_a_folder_of_the_users_naming(fingerprint, sampler):
    assert line_of("data/model", "a-name-of-mine", fingerprint).sampler == sampler
