"""The report's records, figures, tables and page, on run folders made up on the spot."""

import csv
import html
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from judgement_files import authors_record, lay
from run_folders import HOSTILE, World, lay_run

from diverseevol.cli import main
from diverseevol.errors import InputError
from diverseevol.evaluation.comparison import compare
from diverseevol.evaluation.scoreboard import score_folder
from diverseevol.files import read_json, read_jsonl
from diverseevol.report.answering import answers_payload
from diverseevol.report.collection import collect
from diverseevol.report.curves import curves, levels, stops
from diverseevol.report.gallery import gallery
from diverseevol.report.lines import LOOKS, dashes, labels, line_of, look
from diverseevol.report.maps import joined, read_maps
from diverseevol.report.page import script_safe
from diverseevol.report.publishing import publish
from diverseevol.report.verdicts import verdicts

DATA = os.environ.get("DIVERSEEVOL_TEST_DATA")
VICUNA = Path(DATA) / "gpt4_judgments" if DATA else None
RISING = (4.0, 5.0, 6.0, 6.5)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    """Two samplers with three seeds, one run cut short, all rows, and an unjudged one-time schedule."""
    folder = tmp_path_factory.mktemp("outputs")
    world = World(texts={int(np.random.default_rng(0).permutation(60)[0]): HOSTILE})
    for seed in range(3):
        lay_run(folder, world, "kcenter", seed, scores=[s + 0.1 * seed for s in RISING], extra={"skills_covered": 5.0})
        lay_run(folder, world, "random", seed, scores=[s - 1 - 0.1 * seed for s in RISING])
    lay_run(folder, world, "margin", 0, scores=RISING, done=2)
    lay_run(folder, world, "random", 0, schedule="full", rounds=0, size=60, scores=[7.0])
    lay_run(folder, world, "kcenter", 0, schedule="one_time", rounds=1)
    return folder


@pytest.fixture(scope="module")
def collection(outputs):
    return collect([outputs])


@pytest.fixture(scope="module")
def published(collection, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    publish(collection, out)
    return out


@pytest.fixture
def command(monkeypatch, capfd, tmp_path) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["diverseevol", "report", *map(str, arguments)])
        monkeypatch.setattr("signal.signal", lambda *_: None)
        capfd.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        said = capfd.readouterr()
        return int(str(stopped.value.code)), said.out, said.err

    return run


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "tables" / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


# --- folders to points ---


def test_every_whole_round_of_every_run_is_a_point_of_each_of_its_metrics(collection, outputs):
    files = list(outputs.rglob("round.json"))
    losses = [point for point in collection.points if point.metric == "train_loss"]
    assert len(losses) == len(files)
    for file in files:
        there = read_json(file)
        assert any(p.value == there["metrics"]["train_loss"] and p.rows == len(there["trained_on"]) for p in losses)


def test_scores_are_those_of_the_score_command(collection, outputs):
    expected = sorted(each.scores.relative_score for each in score_folder(outputs).rounds)
    found = sorted(p.value for p in collection.points if p.metric == "relative_score/toybench")
    assert found == expected


def test_a_cut_run_is_shown_as_far_as_it_got_and_said_to_be_cut(collection, published):
    (cut,) = [run for run in collection.runs if not run.complete]
    assert (cut.line.sampler, len(cut.rounds), cut.planned) == ("margin", 2, 3)
    assert [c.rows for c in curves(collection.points, "vendi_score") if c.line == cut.line] == [(10, 20)]
    page = (published / "report.html").read_text()
    assert "incomplete: 2 of 4 rounds are whole" in page


def test_the_mean_and_the_band_are_over_the_seeds(collection):
    (curve,) = [
        c
        for c in curves(collection.points, "coverage_radius")
        if (c.line.sampler, c.line.kind) == ("random", "iterative")
    ]
    values = [1 / ((1.0 + 0.05 * seed) * 10) for seed in range(3)]
    assert curve.mean[0] == pytest.approx(np.mean(values))
    assert (curve.low[0], curve.high[0], curve.seeds[0]) == (min(values), max(values), 3)


def test_all_rows_are_a_level_and_no_curve(collection):
    assert levels(collection.points, "vendi_score") == {"toy/tiny": pytest.approx(1 + 0.1 * np.log(60))}
    assert all(curve.line.kind != "full" for curve in curves(collection.points, "vendi_score"))


def test_a_folder_below_another_is_read_once(outputs, collection):
    twice = collect([outputs, outputs / "toy"], [outputs / "toy" / "tiny"])
    assert len(twice.points) == len(collection.points)


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
    found = [p for p in apart.points if p.metric == "relative_score/toybench"]
    assert len(found) == len(score_folder(outputs).rounds)
    assert apart.unplaced == 0
    assert collect([], [elsewhere]).unplaced == len(found) - 1  # but for the one on all rows


def test_released_schedules_have_the_published_sizes(tmp_path):
    for t in (0, 3):
        lay(tmp_path / "vicuna_test" / "kc_dolly_initRAND100" / f"rd_{t}_vs_chat.jsonl",
            [authors_record(model=f"kc_dolly_initRAND100/rd_{t}")])  # fmt: skip
    lay(tmp_path / "vicuna_test" / "baseline_dolly" / "rd_0_vs_chat.jsonl",
        [authors_record(model="baseline_dolly/rd_0")])  # fmt: skip
    released = collect([], [tmp_path])
    (curve,) = curves(released.points, "relative_score/vicuna", "gpt-4")
    assert (curve.rows, curve.line.sampler, curve.line.released) == ((100, 400), "kcenter", True)
    assert levels(released.points, "relative_score/vicuna", "gpt-4") == {"dolly": pytest.approx(60.0)}
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
    said = {axes.get_title(loc="left"): [text.get_text() for text in axes.texts] for axes in entry.figure.axes}
    assert said["databricks-dolly-15k/llama\nvicuna, judge gpt-x"] == ["K-Center", "K-Center (authors)"]
    assert said["other/llama\nvicuna, judge gpt-x"] == ["K-Center"]
    assert said["dolly\nvicuna, judge gpt-4"] == ["K-Center", "margin"]


@pytest.mark.skipif(VICUNA is None, reason="DIVERSEEVOL_TEST_DATA names no folder with the released judgements")
def test_the_released_judgements_give_the_scores_that_are_known():
    released = collect([], [VICUNA])
    (curve,) = [
        c
        for c in curves(released.points, "relative_score/vicuna", "gpt-4")
        if c.line.schedule == "kc_dolly_initRAND100"
    ]
    assert curve.rows == tuple(range(100, 1101, 100))
    assert [round(curve.mean[t], 2) for t in (6, 10)] == [79.69, 77.90]
    assert round(levels(released.points, "relative_score/vicuna", "gpt-4")["dolly"], 2) == 73.84
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


# --- verdicts ---


def test_verdicts_are_those_of_compare(collection, outputs):
    found, notes = verdicts(collection)
    only = [
        r
        for r in score_folder(outputs).rounds
        if r.schedule in ("kcenter-iterative", "margin-iterative", "random-iterative")
    ]
    expected = {v.schedule: v for v in compare(only, "random-iterative").samplers}
    against_random = {v.line.schedule: v.samplers for v in found if v.against.kind != "full"}
    assert against_random == expected
    assert against_random["kcenter-iterative"].verdict == "better"
    assert not notes
    assert {v.line.schedule: v.says for v in found if v.against.kind == "full"} == {
        "kcenter-iterative": "cannot tell: 1 seed",
        "margin-iterative": "cannot tell: 1 seed",
        "random-iterative": "cannot tell: 1 seed",
    }


def test_a_verdict_that_cannot_be_told_says_why(collection):
    found, _ = verdicts(collection)
    assert [v.says for v in found if v.line.sampler == "margin"] == ["cannot tell: 1 seed", "cannot tell: 1 seed"]


def test_two_random_runs_that_both_could_be_meant_are_not_guessed_between(tmp_path):
    world = World()
    for name in ("random-iterative-0000aaaa", "random-iterative-0000bbbb", "kcenter-iterative-0000cccc"):
        sampler, _, rest = name.partition("-")
        lay_run(tmp_path, world, sampler, 0, schedule=rest, scores=RISING)
    found, notes = verdicts(collect([tmp_path]))
    assert not found
    assert "2 random runs under other schedules or choices" in notes[0]


# --- figures and files ---


def test_every_figure_is_drawn_and_saved_as_png_and_svg(collection, published):
    names = {entry.name for entry in gallery(collection)} | {"map"}
    assert names == {
        "relative_score", "vendi_score", "score_against_vendi", "coverage_and_loss", "win_tie_lose", "cost",
        "other_metrics", "map",
    }  # fmt: skip
    assert {file.name for file in (published / "figures").iterdir()} == {
        f"{n}.{k}" for n in names for k in ("png", "svg")
    }


def test_axes_are_labelled_and_ticked_at_rows_that_were_measured(collection):
    for entry in gallery(collection):
        for axes in entry.figure.axes:
            if axes.get_visible() and axes.get_xlabel() == "training rows":
                assert set(axes.get_xticks()) <= {10, 20, 30, 40, 60}
        assert any(axes.get_xlabel() for axes in entry.figure.axes), entry.name
        assert any(axes.get_ylabel() for axes in entry.figure.axes) or entry.name == "win_tie_lose", entry.name


def test_a_sampler_has_one_colour_in_all_figures(published):
    for name in ("relative_score", "vendi_score", "cost", "coverage_and_loss"):
        svg = (published / "figures" / f"{name}.svg").read_text().lower()
        assert look("kcenter")[0].lower() in svg
        assert look("random")[0].lower() in svg


def test_tables_are_tidy(collection, published):
    points = table(published, "points")
    assert len(points) == len(collection.points)
    assert {row["metric"] for row in points} == {point.metric for point in collection.points}
    picks = table(published, "picks")
    assert len(picks) == sum(len(done.chosen) for run in collection.runs for done in run.rounds)
    assert len(table(published, "scores")) == len(collection.board.rounds)
    final = {(row["sampler"]): row for row in table(published, "final_rounds")}
    assert final["K-Center, iterative"]["final round"] == "3"
    assert "picked after the fact" in ",".join(final["K-Center, iterative"])


@pytest.mark.slow
def test_the_same_folders_give_the_same_files(collection, published, tmp_path):
    publish(collection, tmp_path)
    for file in published.rglob("*.*"):
        if file.suffix in (".html", ".svg", ".csv"):
            assert (tmp_path / file.relative_to(published)).read_bytes() == file.read_bytes(), file


def test_colours_and_texts_of_the_svg_follow_the_page(published):
    page = (published / "report.html").read_text()
    svg = page[page.index('<figure id="figure-relative_score">') :].split("</svg>")[0]
    assert "var(--ink)" in svg
    assert "var(--s-kcenter)" in svg
    assert "#1b1b1c" not in svg


# --- the page ---


def test_the_page_asks_the_network_for_nothing(published):
    page = (published / "report.html").read_text()
    assert "default-src 'none'" in page
    for address in re.findall(r"https?://[^\s\"'<>\\]+", page):
        assert address.startswith("http://www.w3.org/"), address  # names of XML dialects, never fetched
    assert not re.search(r"<(script|img|iframe|object|embed)[^>]+src=", page)
    assert not re.search(r'<link(?![^>]+href="data:,")', page)


def test_texts_from_data_cannot_leave_their_place(published):
    page = (published / "report.html").read_text()
    assert "alert('row')" in page
    assert "<script>alert" not in page
    assert "<img" not in page
    assert page.count("</script>") == 3  # two of data, one of code
    assert "\u2028" not in page


def test_json_in_the_page_reads_back_as_it_was():
    value = {"text": HOSTILE + "<!-- --> \u2029 ü", "n": [1, None, 2.5]}
    assert json.loads(script_safe(value)) == value


def payload(published: Path, name: str) -> dict:
    page = (published / "report.html").read_text()
    return json.loads(re.search(rf'id="{name}">(.*?)</script>', page, re.DOTALL)[1])


def test_receipts_in_the_page_are_those_on_disk(published, collection):
    rows = payload(published, "data-rows")
    assert len(rows["runs"]) == len(collection.runs)
    for listed, run in zip(rows["runs"], collection.runs, strict=True):
        for t, picks in enumerate(listed["picks"]):
            file = run.folder / "rounds" / f"{t:02d}" / "chosen.jsonl"
            lines = read_jsonl(file) if file.exists() else []
            assert [pick[0] for pick in picks] == [line["row"] for line in lines]
        assert sorted(listed["initial"]) == sorted(run.rounds[0].trained_on)


def test_one_map_is_carried_for_all_runs_on_one_data_set(published):
    (one,) = payload(published, "data-rows")["maps"].values()
    assert one["rows"] == 60


def test_rows_join_for_the_round_that_first_trains_on_them(collection):
    run = collection.runs[0]
    when = joined(run)
    for done in run.rounds:
        assert {row for row, t in when.items() if t <= done.index} == set(done.trained_on)


def test_answers_keep_both_orders_and_fit_their_budget(collection, monkeypatch):
    names = labels(collection.lines)
    whole = answers_payload(collection, names)
    judged = [model for model in whole["models"] if model["judged"]]
    assert len(judged) == len(collection.board.rounds)
    assert all(len(both) == 2 for model in judged for found in model["judged"].values() for both in found)
    monkeypatch.setattr("diverseevol.report.answering.BUDGET", 9000)
    small = answers_payload(collection, names)
    assert len(json.dumps(small, ensure_ascii=False)) <= 9000
    assert small["which"] == "the last round"


# --- the command ---


def test_the_command_writes_the_report_beside_the_runs(command, tmp_path):
    own = tmp_path / "outputs"
    lay_run(own, World(), done=2)
    code, said, _ = command()  # folder=outputs is the default
    assert code == 0
    assert (own / "report" / "report.html").is_file()
    assert "report.html" in said
    assert "incomplete" in said
    assert len(collect([own]).runs) == 1  # a report is no run: it can be made again where it lies


def test_several_folders_and_an_out_are_taken(command, outputs, tmp_path):
    runs = [outputs / "toy" / "tiny" / name for name in ("kcenter-one_time", "random-full")]
    code, _, _ = command(f"folder=[{runs[0]},{runs[1]}]", "out=here")
    assert code == 0
    assert len({row["sampler"] for row in table(tmp_path / "here", "runs")}) == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["folder=nowhere"], "nowhere: no such folder"),
        (["folder=empty"], "holds neither a run folder"),
        (["folder=3"], "folder=3: give a folder"),
        (["folder=null"], "folder is empty"),
        (["folder=run", "projection=umap"], "no run folder holds map-umap.npy"),
        (["folder=run", "projection=../x"], "projection="),
        (["folder=run", "colour=red"], "colour is not an option"),
    ],
)
def test_bad_requests_get_one_sentence_and_code_2(command, outputs, tmp_path, arguments, complaint):
    (tmp_path / "empty").mkdir()
    (tmp_path / "run").symlink_to(outputs / "toy" / "tiny" / "random-iterative")
    code, _, said = command(*arguments)
    assert code == 2
    assert complaint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("rounds/01/round.json", "{", "not valid JSON"),
        ("rounds/00/round.json", "[]", "lacks trained_on"),
        ("rounds/01/chosen.jsonl", "", "its chosen is"),
        ("fingerprint.json", "[]", "holds no object"),
        ("config.yaml", "a: [", "cannot be read"),
        ("config.yaml", "- a", "holds no configuration"),
        ("map.npy", "x", "cannot be read"),
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


def test_runs_without_judgements_make_a_report_too_whatever_they_are_called(tmp_path):
    hostile = "<b onclick=x>"
    lay_run(tmp_path / "outputs", World(name=f"toy/{hostile}"), rounds=6, size=8)
    collection = collect([tmp_path / "outputs"])
    publish(collection, tmp_path / "out")
    assert not (tmp_path / "out" / "figures" / "relative_score.png").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "nothing was judged" in page
    assert hostile not in page
    assert html.escape(hostile) in page
    found = {each.metric for each in stops(collection.points)}
    assert found == {"coverage_radius", "vendi_score", "vendi_score_centred"}


def test_a_run_that_has_just_begun_is_listed_and_no_more(tmp_path):
    lay_run(tmp_path / "outputs", World(), done=0)
    notes = publish(collect([tmp_path / "outputs"]), tmp_path / "out")
    assert any("no round of 4 is whole yet" in note for note in notes)
