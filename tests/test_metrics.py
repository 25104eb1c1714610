"""A metric is one file and one YAML: a user's own appears wherever the project's do, and resumes of old runs stay."""

import csv
import os
import re
from pathlib import Path

import numpy as np
import pytest
from forks import finish, fork
from small_evolution import SMALL

from diverseevol.errors import InputError
from diverseevol.evolution.metrics import DEFAULT, KNOWN, MeasuredRound, Metric
from diverseevol.evolution.metrics.base import measure_all, needs_of
from diverseevol.report.dashboard import _described, _titled
from diverseevol.runs.metrics import FILE, MetricKey, describe, read_descriptions, write_descriptions
from diverseevol.storage.files import read_json, write_json, write_jsonl

OWN = """
from diverseevol.evolution.metrics import Metric

class WordShare(Metric):
    name = "longer"
    title = "long questions"
    unit = "share of rows"
    higher_is = "better"
    form = ".0%"

    def __init__(self, words=3):
        self.words = words

    def measure(self, measured):
        rows = measured.dataset.take(measured.pool)
        return sum(len(row.extra["instruction_words"]) > self.words for row in rows) / len(rows)
"""
YAML = "longer:\n  _target_: my_metric.WordShare\n  words: 4\n"
KIND = {"skill": "s", "noisy": "", "duplicate": ""}  # the lab's fields, in rows that are not the lab's


def run(folder: Path, *arguments: str) -> tuple[int | None, str]:
    log = folder / "said.log"
    log.unlink(missing_ok=True)

    def first() -> None:
        import sys

        os.chdir(folder)
        sys.path.insert(0, str(folder))

    code = finish(fork([*arguments], log, {"COLUMNS": "200", "WANDB_MODE": "offline"}, first))
    return code, log.read_text()


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two samplers with a user's own metric on the user's own rows, which have the fields of the lab's."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "my_metric.py").write_text(OWN)
    (folder / "conf" / "metric").mkdir(parents=True)
    (folder / "conf" / "metric" / "mine.yaml").write_text(YAML)
    rows = [
        {"instruction": "what is " + "x " * (i % 7), "input": "", "output": f"it is {i}", **KIND,
         "instruction_words": ["x"] * (i % 7)}
        for i in range(60)
    ]  # fmt: skip
    write_jsonl(folder / "rows.jsonl", rows)
    small = [each for each in SMALL if not each.startswith(("data.", "benchmark"))]
    for sampler in ("random", "longest"):
        code, said = run(
            folder, "evolve", "--config-dir", "conf", "metric=mine", "~metric.vendi_score_current",
            "~metric.vendi_score", "data=json", "data.path=rows.jsonl", f"sampler={sampler}", "logger=csv",
            "outputs=outputs", *small,
        )  # fmt: skip
        assert code == 0, said
        (folder / f"{sampler}.log").write_text(said)
    return folder


def test_a_round_is_announced_by_the_metrics_that_are_measured(own: Path) -> None:
    announced = re.findall(r"^round \d/.*", (own / "random.log").read_text(), re.MULTILINE)
    assert len(announced) == 2
    for line in announced:
        assert re.match(r"round \d/1: \d+ rows, loss \d+\.\d{3}, radius \d+\.\d\d \(", line)


def test_a_users_metric_is_in_every_place_with_title_unit_and_direction(own: Path) -> None:
    files = sorted(own.glob("outputs/**/round.json"))
    assert len(files) == 4
    values = [read_json(file)["metrics"]["longer"] for file in files]
    assert all(0 < value < 1 for value in values)
    (curve,) = own.glob("outputs/**/random*/seed0/csv/evolution/curve.csv")
    assert "longer" in next(csv.reader(curve.read_text().splitlines()))
    assert "long questions" in " ".join((own / "random.log").read_text().split())  # the terminal's column
    code, said = run(own, "report", "folder=outputs", "out=report")
    assert code == 0, said
    (figure,) = (own / "report").rglob("other_metrics.svg")
    drawn = figure.read_text()
    for words in ("long questions", "share of rows", "(higher is better)"):
        assert words in drawn
    code, said = run(own, "compare", "folder=outputs", "metric=longer", "baseline=random-*")
    assert code == 0, said
    assert "longer: long questions, share of rows, higher is better" in said
    dashboard = _described(own / "outputs")
    assert _titled(dashboard["longer"]) == "long questions (share of rows, higher is better)"


def test_rows_with_the_labs_fields_are_not_measured_as_the_labs_and_what_is_left_out_is_not_there(own: Path) -> None:
    measured = [read_json(file)["metrics"] for file in own.glob("outputs/**/round.json")]
    assert measured
    for metrics in measured:
        assert not {"skills_covered", "noisy_share", "duplicate_share"} & metrics.keys()
        assert not {"vendi_score", "vendi_score_current"} & metrics.keys()
        assert {"vendi_score_centred", "coverage_radius", "train_loss"} <= metrics.keys()


def test_a_round_computes_only_what_its_metrics_need() -> None:
    assert needs_of(DEFAULT) == {"foundation_embedding", "current_embedding", "held_out_loss"}
    assert needs_of([metric for metric in DEFAULT if metric.name == "train_loss"]) == set()
    odd = Metric()
    odd.needs = frozenset({"everything"})
    with pytest.raises(InputError, match="no round computes everything; needs can be foundation_embedding"):
        needs_of([odd])


@pytest.mark.parametrize("value", [float("nan"), "x", None, {"part": float("inf")}])
def test_what_is_no_finite_number_is_refused(dataset, value: object) -> None:
    metric = Metric()
    metric.name = "mine"
    metric.measure = lambda measured: value
    with pytest.raises(InputError, match=r"metric mine.*, round 3: expected a finite number, .*~metric\.mine"):
        measure_all([metric], MeasuredRound(3, np.arange(2), dataset, np.arange(2), np.ones(2, dtype=int), []))


def test_a_folder_describes_its_metrics_and_keeps_those_of_earlier_rounds(tmp_path: Path) -> None:
    write_descriptions(tmp_path, [KNOWN["held_out_loss"]])
    write_descriptions(tmp_path, [KNOWN["vendi_score"]])
    assert read_descriptions(tmp_path) == {name: KNOWN[name] for name in ("held_out_loss", "vendi_score")}
    assert describe("my_share", {}).title == "my share"  # of a run folder that describes none


@pytest.mark.parametrize(
    "described",
    [[], {"x": 1}, {"x": {}}, {"x": {"title": 1}}, {"x": {"title": "t", "form": "9999999999d"}},
     {"x": {"title": "t", "higher_is": "up"}}, {"x": {"title": "t", "further": True}}, {"x": {"title": "t" * 99}}],
)  # fmt: skip
def test_a_description_that_is_none_is_refused(tmp_path: Path, described: object) -> None:
    write_json(tmp_path / FILE, described)
    with pytest.raises(InputError, match=r"metrics\.json.*restore it, or delete it"):
        read_descriptions(tmp_path)


def test_a_key_is_read_as_it_is_written() -> None:
    for text in ("vendi_score", "relative_score/vicuna", "seconds/all phases", "relative_score/a/b"):
        assert str(MetricKey.parse(text)) == text
    assert [str(end) for end in MetricKey.parse("reference_loss/vicuna").ends] == [
        "reference_loss_low/vicuna", "reference_loss_high/vicuna",
    ]  # fmt: skip
