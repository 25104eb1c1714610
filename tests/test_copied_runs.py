"""A run folder elsewhere, under another name, is the same run; and one whose configuration was cut is none."""

import shutil
from pathlib import Path

import pytest
from run_folders import RISING, World, lay_run

from diverseevol.cli.commands.judge import _copy_identity
from diverseevol.cli.provenance import save_provenance
from diverseevol.errors import InputError
from diverseevol.evaluation.scores.read_metrics import measured_rounds
from diverseevol.evaluation.scores.scoreboard import score_folder
from diverseevol.evolution.metrics import KNOWN
from diverseevol.report.collect import collect
from diverseevol.runs.saved_config import ALWAYS, read_complete
from diverseevol.storage.files import read_json, write_json

OLD = Path(__file__).parent / "fixtures" / "run_folders_0_1" / "rows" / "tiny" / "kcenter-iterative-61348c43" / "seed0"
PLACES = ("copy", "seed7", "a/b/random-iterative/seed3", "other/data/kcenter-one_time/seed0")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = lay_run(tmp_path / "outputs", World(), scores=RISING)
    save_provenance(folder, {"seed": 0})
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_a_copied_run_is_reported_scored_and_compared_as_the_run_that_it_is(run, tmp_path, place):
    copy = tmp_path / "elsewhere" / place
    shutil.copytree(run, copy)
    (there,), (here,) = collect([run]).runs, collect([copy]).runs
    assert (here.line, here.seed) == (there.line, there.seed)
    assert there.line.source == "toy/tiny"
    scored = [
        [(each.source, each.schedule, each.seed, each.round) for each in score_folder(folder).frame.itertuples()]
        for folder in (run, copy)
    ]
    assert scored[0] == scored[1]
    assert scored[0][0] == ("toy/tiny", "kcenter-iterative", 0, 0)
    measured = [
        [
            (each.source, each.schedule, each.seed)
            for each in measured_rounds(folder, ["vendi_score"], KNOWN).itertuples()
        ]
        for folder in (run, copy)
    ]
    assert measured[0] == measured[1]
    assert set(collect([run]).frame.metric) == set(collect([copy]).frame.metric)


def test_a_copy_beside_the_run_is_no_further_seed(run, tmp_path):
    shutil.copytree(run, tmp_path / "outputs" / "toy" / "tiny" / "kcenter-iterative" / "seed1")
    with pytest.raises(InputError, match="is of the same model and benchmark as"):
        collect([tmp_path / "outputs"])
    with pytest.raises(InputError, match="is of the same data, model, schedule and seed as"):
        measured_rounds(tmp_path / "outputs", ["vendi_score"], KNOWN)


def test_a_run_in_a_folder_of_the_users_own_keeps_that_name(run, tmp_path):
    mine = tmp_path / "runs" / "mine"
    shutil.copytree(run, mine)
    (mine / "provenance.json").unlink()
    save_provenance(mine, {"seed": 0})  # as it is made there
    shutil.copytree(mine, tmp_path / "elsewhere" / "copy")
    (here,) = collect([tmp_path / "elsewhere"]).runs
    assert (here.line.schedule, here.line.source.split("/")[-1]) == ("mine", "runs")
    save_provenance(tmp_path / "elsewhere" / "copy", {"seed": 0})  # as it goes on there
    assert read_json(tmp_path / "elsewhere" / "copy" / "provenance.json")["made_as"]["schedule"] == "mine"


def test_judgements_of_a_copy_that_are_put_elsewhere_are_placed_on_the_curve_of_the_run(run, tmp_path):
    copy, apart = tmp_path / "copy", tmp_path / "judged" / "x" / "seed5"
    shutil.copytree(run, copy)
    for t in range(4):
        _copy_identity(copy, apart, f"{t:02d}")
        shutil.move(copy / f"rounds/{t:02d}/judgements", apart / f"rounds/{t:02d}/judgements")
    collected = collect([copy], [tmp_path / "judged"])
    assert collected.unplaced == 0
    assert set(collected.frame.line) == {collected.runs[0].line}


@pytest.mark.parametrize(
    "made_as", ["x", [], {}, {"source": 1, "schedule": "a", "seed": 0}, {"source": "a", "seed": 0}]
)
def test_a_name_that_is_none_is_refused(run, made_as):
    write_json(run / "provenance.json", {"made_as": made_as})
    with pytest.raises(InputError, match=r"provenance\.json, field 'made_as': expected source, schedule and seed, got"):
        collect([run])


def test_a_configuration_of_which_lines_are_lost_is_refused_wherever_it_was_cut(tmp_path):
    lines = (OLD / "config.yaml").read_text().splitlines(keepends=True)
    last = max(i for i, line in enumerate(lines) if line.startswith("logger:"))
    for kept in range(1, last + 2):  # what is lost of the logger, nobody reads
        file = tmp_path / "config.yaml"
        file.write_text("".join(lines[:kept]).removesuffix("\n"))
        with pytest.raises(InputError) as refused:
            read_complete(file)
        assert str(refused.value).startswith(f"{file}: lacks ")
        assert "logger, which every saved configuration has, so it was cut off or edited; restore it" in str(
            refused.value
        )
    file.write_text("".join(lines))
    assert set(ALWAYS) <= set(read_complete(file))


@pytest.mark.parametrize("verb", ["report", "judge", "score", "compare"])
def test_half_a_configuration_is_told_by_every_command_that_reads_the_run(verb, tmp_path, command_line, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = shutil.copytree(OLD, tmp_path / "outputs" / "rows" / "tiny" / "kcenter-iterative" / "seed0")
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text[: text.index("sampler:")])
    words = {"report": ["folder=outputs"], "judge": ["folder=outputs", "judge=gold", "replace=true", "logger=none"]}
    code, _, said = command_line(verb, *words.get(verb, ["judgements=outputs"]))
    assert code == 2
    assert "config.yaml: lacks sampler, schedule, trainer, judge, logger, which every saved configuration has" in said
    assert "or delete it and run the same `diverseevol evolve` again" in said
