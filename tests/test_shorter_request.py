"""Fewer rounds than a run folder holds: every file stays as it is, and what is told is of all rounds."""

import dataclasses
import os
import shutil
from pathlib import Path

import forks
import pytest

from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evolution.loop import evolve
from diverseevol.options import Schedule
from diverseevol.runs.round_folder import REDO
from diverseevol.storage.files import read_json, read_jsonl

FIXTURE = Path(__file__).parent / "fixtures" / "run_folders_0_1"
LONG_AGO = 1_000_000_000  # ns: a file that is written again, with the same content, shows it

ignore_forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Content and time of change of every file but the lock."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns) for file in files}


def aged(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The state of a folder whose files were all written long ago."""
    for file in folder.rglob("*"):
        os.utime(file, ns=(LONG_AGO, LONG_AGO))
    return state(folder)


@pytest.mark.parametrize("rounds", [0, 1])
@pytest.mark.parametrize("keep", ["all", "last", "none"])
def test_fewer_rounds_leave_every_file_as_it_is(copy, evolution, exam, idle, rounds, keep):
    before = aged(copy)
    told = []
    other = dataclasses.replace(exam, benchmarks=(Benchmark("other", (Question("0", "Why?", reference="So."),)),))
    asked = evolution(
        copy, schedule=Schedule(rounds, 6, 4), keep_models=keep, learner=idle, exam=other,
        on_round=lambda done, fresh: told.append((done.index, fresh)),
    )  # fmt: skip
    assert [done.index for done in evolve(asked)] == [0, 1, 2]
    assert told == [(0, False), (1, False), (2, False)]
    assert state(copy) == before


def test_a_round_that_was_being_made_does_not_count_and_stays(copy, evolution, idle):
    (copy / "rounds/02/round.json").unlink()  # killed within its last phase
    (copy / "selected.jsonl").unlink()
    before = aged(copy)
    rounds = evolve(evolution(copy, schedule=Schedule(0, 6, 4), keep_models="none", learner=idle))
    assert [done.index for done in rounds] == [0, 1]
    assert state(copy) == before


def test_the_complete_rounds_of_a_cut_evolution_may_be_all_that_is_wanted(copy, evolution, idle):
    (copy / "rounds/02/round.json").unlink()
    (copy / "selected.jsonl").unlink()
    second = {name: kept for name, kept in aged(copy).items() if name.startswith("rounds/02")}
    rounds = evolve(evolution(copy, schedule=Schedule(1, 6, 4), keep_models="all", learner=idle))
    assert [line["row"] for line in read_jsonl(copy / "receipts.jsonl")] == list(rounds[1].trained_on)
    assert {name: kept for name, kept in state(copy).items() if name.startswith("rounds/02")} == second


def test_a_gap_is_filled_with_the_rows_that_the_rounds_after_it_were_trained_on(copy, whole, evolution):
    (copy / "rounds/01/round.json").unlink()
    (copy / "rounds/01/chosen.jsonl").unlink()
    selected = (copy / "selected.jsonl").read_bytes()
    rounds = evolve(evolution(copy, schedule=Schedule(1, 6, 4), keep_models="all"))
    assert [done.index for done in rounds] == [0, 1, 2]
    assert (copy / "selected.jsonl").read_bytes() == selected
    assert read_json(copy / "rounds/01/round.json")["chosen"] == read_json(whole / "rounds/01/round.json")["chosen"]


def test_what_lies_beyond_a_gap_is_kept(copy, evolution, idle):
    (copy / "rounds/01/round.json").unlink()
    before = aged(copy)
    rounds = evolve(evolution(copy, schedule=Schedule(0, 6, 4), keep_models="none", learner=idle))
    assert [done.index for done in rounds] == [0]
    assert state(copy) == before


def test_a_longer_evolution_that_is_made_shorter_and_longer_again_is_as_it_was(copy, whole, evolution, idle):
    evolve(evolution(copy, schedule=Schedule(1, 6, 4), keep_models="all", learner=idle))
    evolve(evolution(copy, keep_models="all", learner=idle))
    assert (copy / "selected.jsonl").read_bytes() == (whole / "selected.jsonl").read_bytes()


# From here on the command.

SMALL = (
    "data=json", f"data.path={FIXTURE / 'rows.jsonl'}", "model=tiny", "model.hidden=16", "sizes.seed=6", "sizes.step=4",
    "generation.max_new_tokens=4", "benchmark=questions", f"benchmark.path={FIXTURE / 'questions.jsonl'}",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `outputs` with one evolution of three rounds."""
    place = tmp_path_factory.mktemp("shorter")
    code, said = evolve_in(place, "schedule.rounds=3")
    assert code == 0, said
    return place


def evolve_in(place: Path, *arguments: str) -> tuple[int, str]:
    log = place.with_name(f"{place.name}.log")
    log.unlink(missing_ok=True)
    logger = () if any(word.startswith("logger=") for word in arguments) else ("logger=none",)
    child = forks.fork(["evolve", *arguments, *logger, *SMALL], log, {"COLUMNS": "400"}, lambda: os.chdir(place))
    return forks.finish(child), log.read_text()


def run_folder(place: Path, arm: str = "kcenter") -> Path:
    (folder,) = place.glob(f"outputs/rows/tiny/{arm}-*/seed0")
    return folder


@ignore_forks
@pytest.mark.parametrize(
    "further",
    [
        (),
        ("keep_models=none", "judge=none"),
        ("logger=csv", "benchmark.name=others"),
    ],
    ids=["as it was", "no judge", "another exam"],
)
def test_the_command_says_what_is_there_and_touches_nothing(runs, further):
    folder = run_folder(runs)
    before = aged(folder)
    code, said = evolve_in(runs, "schedule.rounds=1", *further)
    assert code == 0, said
    assert state(folder) == before
    assert (
        f"schedule.rounds=1 asks for fewer rounds than the 3 that {folder.relative_to(runs)} holds: no file was changed"
        ", and what follows is of all rounds up to 3; for an evolution that ends at round 1, give folder=… (in a sweep "
        "outputs=…) a new folder" in said
    )
    assert "round 3/3: 18 rows" in said
    assert "reads outputs/" in said
    assert "nothing to do: all rounds are complete" not in said


@ignore_forks
def test_the_configuration_of_a_complete_evolution_stays_whatever_is_asked_later(runs, tmp_path):
    place = tmp_path / "place"
    shutil.copytree(runs, place)
    before = aged(run_folder(place))
    code, said = evolve_in(place, "schedule.rounds=3", "judge=none", "threads=1")
    assert code == 0, said
    assert state(run_folder(place)) == before
    (run_folder(place) / "config.yaml").unlink()
    code, said = evolve_in(place, "schedule.rounds=3")
    assert code == 0, said
    assert (run_folder(place) / "config.yaml").read_bytes() == before["config.yaml"][0]


@ignore_forks
def test_a_complete_folder_is_read_held_out_rows_are_named_and_damage_is_told_before_nothing_is_left(runs, tmp_path):
    place = tmp_path / "place"
    shutil.copytree(runs, place)
    before = aged(run_folder(place))
    code, said = evolve_in(place, "schedule.rounds=3")
    assert code == 0, said
    assert state(run_folder(place)) == before
    assert "reads outputs/" in said
    assert "writes" not in said
    assert said.rstrip().endswith("nothing to do: all rounds are complete")
    folder = run_folder(place).relative_to(place)
    code, said = evolve_in(place, f"folder={folder}", "data.held_out=1", "schedule.rounds=3")
    assert code == 2
    assert "differs in data.held_out (there null, here 1); data.held_out_seed (there null, here 0); give" in said
    code, said = evolve_in(place, f"folder={folder}-new", "data.held_out=1", "prompt.max_length=5")
    assert code == 2
    assert "but 0 can be trained on (" in said
    assert (
        "44 rows have no response token within prompt.max_length=5 and 1 row has been held out by data.held_out and "
        "3 rows have a held-out row's text, or nearly so); change that, lower" in said
    )
    (answers,) = place.glob("outputs/rows/tiny/kcenter-*/seed0/rounds/02/answers/*.jsonl")
    answers.write_text(answers.read_text()[:-20])
    code, said = evolve_in(place, "schedule.rounds=3")
    assert code == 2
    assert "not valid JSON" in said
    assert said.rstrip().endswith(REDO)
    assert "nothing to do: all rounds are complete" not in said


@ignore_forks
def test_a_map_that_is_asked_for_is_added_and_nothing_else(runs):
    folder = run_folder(runs)
    before = aged(folder)
    code, said = evolve_in(runs, "schedule.rounds=0", "projection=tsne")
    assert code == 0, said
    after = state(folder)
    assert after.pop("map-tsne.npy")
    (folder / "map-tsne.npy").unlink()
    assert after == before


@ignore_forks
def test_a_sweep_of_fewer_rounds_makes_what_is_missing_and_keeps_what_is_there(runs):
    folder = run_folder(runs)
    before = aged(folder)
    code, said = evolve_in(runs, "-m", "sampler=kcenter,random", "schedule.rounds=1")
    assert code == 0, said
    assert state(folder) == before
    assert len(read_jsonl(run_folder(runs, "random") / "selected.jsonl")) == 10
    assert said.count("asks for fewer rounds than the 3") == 1


@ignore_forks
def test_other_settings_are_refused_before_the_number_of_rounds_is_looked_at(runs):
    folder = run_folder(runs)
    before = aged(folder)
    code, said = evolve_in(runs, f"folder={folder}", "schedule.rounds=1", "tuning.epochs=2")
    assert code == 2
    assert "tuning.epochs (there 3, here 2)" in said
    assert state(folder) == before


@ignore_forks
def test_a_map_and_a_configuration_that_are_damaged_are_told_and_made_again(runs, tmp_path):
    place = tmp_path / "place"
    shutil.copytree(runs, place)
    folder = run_folder(place)
    before = aged(folder)
    (folder / "map.npy").write_bytes(b"")
    code, said = evolve_in(place, "schedule.rounds=3")
    assert code == 0, said
    assert "map.npy: damaged; it is made again" in said
    assert (folder / "map.npy").read_bytes() == before["map.npy"][0]
    nearest = folder / "rows/nearest.npy"
    kept = nearest.read_bytes()
    for content in (kept[:-8], b""):
        nearest.write_bytes(content)
        code, said = evolve_in(place, "schedule.rounds=3")
        assert code == 0, said
        assert "nearest.npy: " in said
        assert nearest.read_bytes() == kept
    pool = read_json(folder / "rounds/03/round.json")["trained_on"]
    row = min({*range(len(pool) + 1)} - {*pool})
    child = forks.fork(["explain", str(folder), f"row={row}", f"out={place / 'why.json'}"], tmp_path / "log")
    assert forks.finish(child) == 0, (tmp_path / "log").read_text()
    (reason,) = read_json(place / "why.json")
    assert not reason["chosen"]
    assert reason["nearest"] in pool
    assert 1 <= reason["rank_beyond"] <= reason["ranked_beyond"]  # of the sampler and the embedding that the run had
    content = before["config.yaml"][0]
    (folder / "config.yaml").write_bytes(content[: len(content) // 3])
    code, said = evolve_in(place, "schedule.rounds=3")
    assert code == 2
    assert "config.yaml: " in said
    assert "restore it, or delete it and run the same `diverseevol evolve` again" in said
    (folder / "config.yaml").unlink()
    assert evolve_in(place, "schedule.rounds=3")[0] == 0
    assert (folder / "config.yaml").read_bytes() == content
