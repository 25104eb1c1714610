"""What a run folder is called: by its choices, and by a hash of what else changes the picks."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins

from diverseevol.cli.configuration import Configuration, configure
from diverseevol.cli.fingerprint import _picks
from diverseevol.cli.naming import AS_BEFORE, run_path
from diverseevol.cli.own_code import OwnConfiguration

CONF = Path(__file__).parents[1] / "conf"


def named(*overrides: str) -> str:
    """The run folder of a command, without the folder above and the seed."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("evolve", list(overrides), return_hydra_config=True)
        choices = {k: str(v) for k, v in composed.hydra.runtime.choices.items() if "/" not in k}
        path = run_path(Configuration("evolve", compose("evolve", list(overrides)), choices))
    assert (path.parts[0], path.parts[-1]) == ("outputs", "seed0")
    return "/".join(path.parts[1:-1])


FOREIGN = ("data=json", "data.path=some/rows.jsonl", "model.path=org/model-1.5")


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        ((), "lab/lab/kcenter-iterative"),
        (("schedule=one_time",), "lab/lab/kcenter-one_time"),
        (("schedule=full", "sampler=random", "model=tiny"), "lab/tiny/random-full"),
        (FOREIGN, "rows/model-1.5/kcenter-iterative"),
        ((*FOREIGN, "schedule=one_time"), "rows/model-1.5/kcenter-one_time"),
        (
            (
                "benchmark=none",
                "schedule.rounds=9",
                "embedding.batch_tokens=99",
                "tuning.packing=true",
                "tuning.compile=true",
            ),
            "lab/lab/kcenter-iterative",
        ),
    ],
)
def test_choices_alone_name_a_folder(overrides, name):
    assert named(*overrides) == name


@pytest.mark.parametrize("override", ["schedule.step_size=20", "sizes.seed=20", "data.size=200", "tuning.epochs=9"])
def test_what_else_changes_the_picks_is_a_hash(override):
    assert re.fullmatch(r"lab/lab/kcenter-iterative-[0-9a-f]{8}", named(override))


def test_rows_of_a_choice_of_ones_own_are_called_as_their_file_where_the_choice_leaves_it_open(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/mine.yaml").write_text("defaults:\n  - json\n  - _self_\nheld_out: 5\n")
    (tmp_path / "conf/data/fixed.yaml").write_text("defaults:\n  - json\n  - _self_\npath: some/rows.jsonl\n")
    Plugins.instance().register(OwnConfiguration)
    assert named("data=mine", "data.path=a/first.jsonl", "model=tiny") == "first/tiny/kcenter-iterative"
    assert named("data=fixed", "model=tiny") == "fixed/tiny/kcenter-iterative"


def test_a_size_has_one_name_however_it_was_given():
    assert named("sizes.step=20") == named("schedule.step_size=20")
    assert named("sizes.at_once=20") == named(), "which this schedule does not read"


def test_options_that_came_later_are_of_a_fingerprint_where_they_are_used_alone():
    def fingerprinted(*overrides: str) -> set[str]:
        return {name for name in _picks(configure("evolve", list(overrides)), "tuning") if name in AS_BEFORE}

    assert fingerprinted() == fingerprinted("tuning.rounding=nearest", "tuning.moments=null") == set()
    assert fingerprinted("tuning.moments=bfloat16") == {"tuning.moments"}
    assert fingerprinted("tuning.rounding=stochastic") == {"tuning.rounding"}
