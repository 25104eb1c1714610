"""What a report reads and concludes: run folders and judgements to points, curves and verdicts."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from judgement_files import authors_record, lay
from run_folders import RISING, World, lay_run, several_runs

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.comparison import compare
from diverseevol.evaluation.scores.scoreboard import score_folder
from diverseevol.evaluation.scores.tables import comparison_tables
from diverseevol.evolution.metrics import KNOWN
from diverseevol.output.console import Console
from diverseevol.report.charts.curves import curves, levels
from diverseevol.report.charts.gallery import gallery
from diverseevol.report.charts.lines import LOOKS, dashes, labels, line_of, look, schedule_names
from diverseevol.report.charts.maps import read_maps
from diverseevol.report.collect import Collection, collect, lines_below
from diverseevol.report.stopping import stops
from diverseevol.report.tables import pool_table, stopping_table
from diverseevol.report.verdicts import verdicts
from diverseevol.runs.metrics import MetricDescription, write_descriptions
from diverseevol.storage.files import read_json

DATA = os.environ.get("DIVERSEEVOL_TEST_DATA")
VICUNA = Path(DATA) / "gpt4_judgments" if DATA else None


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return several_runs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def collection(outputs) -> Collection:
    return collect([outputs])


# --- folders to points ---


def test_every_whole_round_of_every_run_is_a_point_of_each_of_its_metrics(collection, outputs):
    files = list(outputs.rglob("round.json"))
    losses = list(collection.frame[collection.frame.metric == "train_loss"].itertuples())
    assert len(losses) == len(files)
    for file in files:
        there = read_json(file)
        assert any(p.value == there["metrics"]["train_loss"] and p.rows == len(there["trained_on"]) for p in losses)


def test_scores_are_those_of_the_score_command(collection, outputs):
    expected = sorted(score_folder(outputs).frame.value)
    found = sorted(collection.frame.value[collection.frame.metric == "relative_score/toybench"])
    assert found == expected


def test_a_cut_run_is_read_as_far_as_it_got(collection):
    (cut,) = [run for run in collection.runs if not run.complete]
    assert (cut.line.sampler, len(cut.rounds), cut.planned) == ("margin", 2, 3)
    assert [c.rows for c in curves(collection.frame, "vendi_score") if c.line == cut.line] == [(10, 20)]


def test_the_mean_and_the_band_are_over_the_seeds(collection):
    (curve,) = [
        c
        for c in curves(collection.frame, "coverage_radius")
        if (c.line.sampler, c.line.kind) == ("random", "iterative")
    ]
    values = [1 / ((1.0 + 0.05 * seed) * 10) for seed in range(3)]
    assert curve.mean[0] == pytest.approx(np.mean(values))
    assert (curve.low[0], curve.high[0], curve.seeds[0]) == (min(values), max(values), 3)


def test_all_rows_are_a_level_and_no_curve(collection):
    assert levels(collection.frame, "vendi_score") == {"toy/tiny": pytest.approx(1 + 0.1 * np.log(60))}
    assert all(curve.line.kind != "full" for curve in curves(collection.frame, "vendi_score"))


def test_a_folder_below_another_is_read_once(outputs, collection):
    twice = collect([outputs, outputs / "toy"], [outputs / "toy" / "tiny"])
    assert len(twice.frame) == len(collection.frame)


def test_one_run_in_two_places_is_no_second_seed(outputs, tmp_path):
    run = outputs / "toy" / "tiny" / "kcenter-one_time" / "seed0"
    shutil.copytree(run, tmp_path / "toy" / "tiny" / "kcenter-one_time" / "seed0")
    with pytest.raises(InputError, match="report on one of them"):
        collect([run, tmp_path])


def test_a_metric_that_is_no_number_is_no_point(tmp_path):
    lay_run(tmp_path, World(), extra={"odd": 98765.5, "said": "x", "flag": True, "share": 0.5})
    for file in tmp_path.rglob("round.json"):  # as others may write it
        file.write_text(file.read_text().replace("98765.5", "NaN"))
    metrics = set(collect([tmp_path]).frame.metric)
    assert "share" in metrics
    assert not {"odd", "said", "flag"} & metrics


def test_a_metric_that_a_run_folder_describes_has_its_title_unit_column_and_stopping_round(tmp_path):
    own = MetricDescription("reach", "reach of the pool", "rows reached", pays_while="rising", heading="reach")
    for seed in range(2):
        folder = lay_run(tmp_path, World(), seed=seed, rounds=6, size=8, extra={"reach": 3.0, "nameless": 1.0})
        write_descriptions(folder, [own])
    collection = collect([tmp_path])
    (entry,) = [each for each in gallery(collection) if each.name == "other_metrics"]
    shown = {axes.get_title(loc="left"): axes.get_ylabel() for axes in entry.figure.axes}
    assert shown == {"nameless": "nameless", "reach of the pool": "rows reached"}
    table = pool_table(collection.frame)
    assert table.rows[0][table.head.index("reach of the pool")] == "3 [3, 3]"
    assert "reach" in {each.metric for each in stops(collection.frame)}
    assert "reach of the pool: paid" in stopping_table(stops(collection.frame)).head


def test_a_run_folder_cannot_redefine_a_metric_of_the_projects(tmp_path):
    folder = lay_run(tmp_path, World())
    write_descriptions(folder, [MetricDescription("vendi_score", "taken over", "bananas", higher_is="worse")])
    frame = collect([tmp_path]).frame
    (description,) = set(frame.description[frame.metric == "vendi_score"])
    assert description == KNOWN["vendi_score"]


def test_a_run_in_a_folder_of_the_users_own_is_named_by_its_fingerprint(outputs, tmp_path):
    own = tmp_path / "mine"
    shutil.copytree(outputs / "toy" / "tiny" / "kcenter-iterative" / "seed2", own)
    (run,) = collect([own]).runs
    assert (run.line.sampler, run.line.schedule, run.seed) == ("kcenter", "mine", 2)


def test_judgements_that_were_put_elsewhere_are_placed_on_the_curve_of_their_run(outputs, tmp_path):
    bare, elsewhere = tmp_path / "bare", tmp_path / "elsewhere"
    shutil.copytree(outputs, bare)
    for file in bare.rglob("judgements"):
        target = elsewhere / file.relative_to(bare)
        target.parent.mkdir(parents=True)
        shutil.move(file, target)
    for file in bare.rglob("fingerprint.json"):
        shutil.copy(file, elsewhere / file.relative_to(bare)) if (
            elsewhere / file.relative_to(bare).parent
        ).exists() else None
    apart = collect([bare], [elsewhere])
    found = apart.frame[apart.frame.metric == "relative_score/toybench"]
    assert len(found) == len(score_folder(outputs).frame)
    assert apart.unplaced == 0
    assert collect([], [elsewhere]).unplaced == len(found) - 1  # but for the one on all rows


def test_released_schedules_have_the_published_sizes(tmp_path):
    for t in (0, 3):
        lay(tmp_path / "vicuna_test" / "kc_dolly_initRAND100" / f"rd_{t}_vs_chat.jsonl",
            [authors_record(model=f"kc_dolly_initRAND100/rd_{t}")])  # fmt: skip
    lay(tmp_path / "vicuna_test" / "baseline_dolly" / "rd_0_vs_chat.jsonl",
        [authors_record(model="baseline_dolly/rd_0")])  # fmt: skip
    released = collect([], [tmp_path])
    (curve,) = curves(released.frame, "relative_score/vicuna", "gpt-4")
    assert (curve.rows, curve.line.sampler, curve.line.released) == ((100, 400), "kcenter", True)
    assert levels(released.frame, "relative_score/vicuna", "gpt-4") == {"dolly": pytest.approx(60.0)}
    assert released.unplaced == 0


def test_the_authors_curve_stands_beside_ours_on_their_data_set_and_benchmark(tmp_path):
    for sampler in ("kc", "ms"):
        for t in (0, 1, 2):
            name = f"{sampler}_dolly_initRAND100"
            lay(tmp_path / "released" / "vicuna_test" / name / f"rd_{t}_vs_chat.jsonl",
                [authors_record(model=f"{name}/rd_{t}")])  # fmt: skip
    for place in ("databricks-dolly-15k/llama", "other/llama"):
        lay_run(tmp_path / "own", World(name=place, benchmark="vicuna"), scores=RISING)
    (entry,) = [e for e in gallery(collect([tmp_path])) if e.name == "relative_score"]
    (legend,) = entry.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["K-Center", "K-Center (authors)", "margin"]
    drawn = {
        axes.get_title(loc="left"): [(line.get_color(), line.get_linewidth()) for line in axes.lines[::2]]
        for axes in entry.figure.axes
    }
    kcenter, margin = look("kcenter")[0], look("margin")[0]
    assert drawn["databricks-dolly-15k/llama\nvicuna, judge gpt-x"] == [(kcenter, 1.5), (kcenter, 0.9)]
    assert drawn["other/llama\nvicuna, judge gpt-x"] == [(kcenter, 1.5)]
    assert drawn["dolly\nvicuna, judge gpt-4"] == [(kcenter, 1.5), (margin, 1.5)]


@pytest.mark.parametrize(("judge", "meaning"), [("gold", "all right = 100"), ("gpt-x", "competitor = 100")])
def test_the_curve_says_what_a_score_of_100_is_by_its_judge(tmp_path, judge, meaning):
    lay_run(tmp_path, World(judge=judge), scores=RISING)
    (entry,) = [e for e in gallery(collect([tmp_path])) if e.name == "relative_score"]
    assert meaning in entry.figure.axes[0].get_ylabel()


@pytest.mark.skipif(VICUNA is None, reason="DIVERSEEVOL_TEST_DATA names no folder with the released judgements")
def test_the_released_judgements_give_the_scores_that_are_known():
    released = collect([], [VICUNA])
    (curve,) = [
        c for c in curves(released.frame, "relative_score/vicuna", "gpt-4") if c.line.schedule == "kc_dolly_initRAND100"
    ]
    assert curve.rows == tuple(range(100, 1101, 100))
    assert [round(curve.mean[t], 2) for t in (6, 10)] == [79.69, 77.90]
    assert round(levels(released.frame, "relative_score/vicuna", "gpt-4")["dolly"], 2) == 73.84
    held, _ = verdicts(released)
    assert {v.samplers.verdict for v in held} == {"cannot tell: 1 seed"}  # one seed says nothing of a sampler


# --- names and looks ---


def test_a_samplers_look_is_its_own_whatever_stands_beside_it():
    assert len({look(name)[0] for name in LOOKS}) == len({look(name)[2] for name in LOOKS}) == len(LOOKS)
    assert look("my_sampler") == look("my_sampler")
    assert look("my_sampler")[0] in {colours[1] for colours in LOOKS.values()}


def test_lines_of_one_source_have_names_and_dashes_that_tell_them_apart():
    lines = [
        line_of("a/b", "kcenter-iterative"),
        line_of("a/b", "kcenter-one_time"),
        line_of("a/b", "kcenter-iterative-0123abcd"),
        line_of("a/b", "random-iterative"),
        line_of("a/b", "random-full"),
        line_of("a/b", "uncertain_kcenter-iterative"),
    ]
    names = labels(lines)
    assert len(set(names.values())) == len(lines)
    assert names[lines[3]] == "random"
    assert names[lines[4]] == "all rows"
    assert len({dashes(lines)[line] for line in lines if line.sampler == "kcenter"}) == 3
    assert dashes(lines)[lines[0]] == ()


def test_arms_are_told_apart_by_the_options_that_differ_and_by_the_hash_where_these_are_not_known(tmp_path):
    for choices, drop in (("", 0.0), ("0123abcd", 0.1)):
        options = {"sampler.drop": drop, "tuning.epochs": 3, "model.digest": "f" * 64}
        lay_run(tmp_path, World(), options=options, choices=choices, scores=RISING)
    lay_run(tmp_path, World(), "random", options={"tuning.epochs": 3})
    collection = collect([tmp_path])
    assert sorted(labels(collection.lines).values()) == ["K-Center, drop=0", "K-Center, drop=0.1", "random"]
    assert {*collection.board.frame.line} < {*collection.lines}
    for file in tmp_path.rglob("config.yaml"):
        file.unlink()
    bare = collect([tmp_path])
    names = labels(bare.board.frame.line)
    assert sorted(names.values()) == ["K-Center", "K-Center, 0123abcd"]


def test_compare_names_arms_as_the_report_does_by_what_differs_and_not_by_a_hash(tmp_path):
    for drop, choices in ((0.1, "0123abcd"), (0.0, "4567abcd")):
        for seed in range(2):
            lay_run(tmp_path, World(), seed=seed, options={"sampler.drop": drop}, choices=choices, scores=RISING)
    lay_run(tmp_path, World(), "random", scores=RISING)
    names = schedule_names(lines_below(tmp_path))
    assert names == {
        "kcenter-iterative-0123abcd": "kcenter-iterative, drop=0.1",
        "kcenter-iterative-4567abcd": "kcenter-iterative, drop=0",
    }
    console = Console(record=True, width=300)
    for table in comparison_tables(compare(score_folder(tmp_path).frame, "random-*"), names):
        console.print(table)
    text = console.export_text()
    assert "kcenter-iterative, drop=0.1" in text
    assert "seed 1: random-iterative has no scores" in text
    assert "abcd" not in text
    for file in tmp_path.rglob("fingerprint.json"):
        file.unlink()
    assert schedule_names(lines_below(tmp_path)) == {}


def test_lines_with_the_same_options_keep_their_hash():
    facts = {"sampler.drop": 0.1}
    lines = [line_of("a/b", name, facts) for name in ("kcenter-iterative-0123abcd", "kcenter-iterative-4567abcd")]
    assert sorted(labels(lines).values()) == ["K-Center, 0123abcd", "K-Center, 4567abcd"]


def test_an_arm_named_after_a_sampler_is_called_by_its_name():
    names = labels(line_of("a/b", f"{arm}-iterative") for arm in ("kcenter_foundation", "vendi_50", "mine_2", "margin"))
    assert sorted(names.values()) == ["K-Center, foundation", "Vendi, 50", "margin", "mine_2"]


# --- verdicts ---


def test_verdicts_are_those_of_compare(collection, outputs):
    found, notes = verdicts(collection)
    scores = score_folder(outputs).frame
    only = scores[scores.schedule.isin(["kcenter-iterative", "margin-iterative", "random-iterative"])]
    expected = {v.schedule: v._asdict() for v in compare(only, "random-iterative").samplers.itertuples()}
    against_random = {v.line.schedule: v.samplers for v in found if v.against.kind != "full"}
    assert {name: verdict._asdict() for name, verdict in against_random.items()} == expected
    assert against_random["kcenter-iterative"].verdict == "better"
    assert {note.split(";")[0] for note in notes} == {
        "left aside: toy/tiny, random-iterative against margin-iterative, seed 0: rounds 2 to 3 (30 to 40 rows)"
    }
    assert {v.line.schedule: v.says for v in found if v.against.kind == "full"} == {
        "kcenter-iterative": "cannot tell: 1 seed",
        "margin-iterative": "cannot tell: 1 seed",
        "random-iterative": "cannot tell: 1 seed",
    }


def test_a_verdict_that_cannot_be_told_says_why(collection):
    found, _ = verdicts(collection)
    says = [v.says for v in found if v.line.sampler == "margin"]
    assert says == ["cannot tell: 1 seed", "cannot tell: 1 seed"]


def test_two_random_runs_that_both_could_be_meant_are_not_guessed_between(tmp_path):
    world = World()
    for name in ("random-iterative-0000aaaa", "random-iterative-0000bbbb", "kcenter-iterative-0000cccc"):
        sampler, _, rest = name.partition("-")
        lay_run(tmp_path, world, sampler, 0, schedule=rest, scores=RISING)
    found, notes = verdicts(collect([tmp_path]))
    assert not found
    assert "2 random runs under other schedules or choices" in notes[0]


# --- folders that are damaged, maps ---


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("rounds/01/round.json", "{", "not valid JSON"),
        ("rounds/00/round.json", "[]", "lacks trained_on"),
        ("rounds/01/chosen.jsonl", "", "round.json, chosen: expected"),
        ("fingerprint.json", "[]", "holds no object"),
        ("config.yaml", "a: [", "cannot be read"),
        ("config.yaml", "- a", "holds no configuration"),
        ("map.npy", "x", "is not a .npy array"),
        ("rounds/02/judgements/toybench.jsonl", "{}", "judge this model's answers again"),
    ],
)
def test_a_damaged_folder_is_named(outputs, tmp_path, file, content, complaint):
    run = shutil.copytree(outputs / "toy" / "tiny" / "kcenter-iterative" / "seed0", tmp_path / "run")
    (run / file).write_text(content)
    with pytest.raises(InputError, match=re.escape(complaint)) as found:
        read_maps(collect([tmp_path]).runs)
    assert str(run / file) in str(found.value) or str((run / file).parent) in str(found.value)


def test_another_projection_is_read_where_somebody_put_one(outputs, tmp_path):
    run = shutil.copytree(outputs / "toy" / "tiny" / "kcenter-iterative" / "seed0", tmp_path / "run")
    np.save(run / "map-tsne.npy", np.zeros((60, 2), dtype=np.float32))
    (mapped,) = read_maps(collect([run]).runs, "tsne").values()
    assert (mapped.xy == 0).all()
    assert (mapped.quantised() == 0).all()  # one place for all rows is no division by zero


def test_rows_join_for_the_round_that_first_trains_on_them(collection):
    run = collection.runs[0]
    when = run.joined
    for done in run.rounds:
        assert {row for row, t in when.items() if t <= done.index} == set(done.trained_on)
