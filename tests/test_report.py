"""The report's figures, tables and page, and its command, on run folders made up on the spot."""

import csv
import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from run_folders import HOSTILE, World, lay_run, several_runs

from diverseevol.cli import main
from diverseevol.report.charts.gallery import Entry, gallery
from diverseevol.report.charts.lines import labels, look
from diverseevol.report.collect import Collection, collect
from diverseevol.report.contamination import contaminated
from diverseevol.report.page.answers import answers_payload
from diverseevol.report.page.html import script_safe
from diverseevol.report.page.publish import publish
from diverseevol.report.stopping import stops
from diverseevol.storage.files import read_jsonl


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return several_runs(tmp_path_factory.mktemp("outputs"))


@pytest.fixture(scope="module")
def collection(outputs) -> Collection:
    return collect([outputs])


@pytest.fixture(scope="module")
def published(collection, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("report")
    publish(collection, out)
    return out


@pytest.fixture(scope="module")
def drawn(collection) -> list[Entry]:
    return gallery(collection)


@pytest.fixture
def smallest(outputs) -> str:
    """The folder whose report is drawn soonest: one run of one round."""
    return f"folder={outputs / 'toy/tiny/random-full'}"


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


# --- figures and files ---


def test_every_figure_is_drawn_and_saved_as_png_and_svg(drawn, published):
    names = {entry.name for entry in drawn} | {"map"}
    assert names == {
        "relative_score", "vendi_score", "score_against_vendi", "coverage_and_loss", "win_tie_lose", "cost", "memory",
        "other_metrics", "map",
    }  # fmt: skip
    assert {file.name for file in (published / "figures").iterdir()} == {
        f"{n}.{k}" for n in names for k in ("png", "svg")
    }


def test_axes_are_labelled_and_ticked_at_rows_that_were_measured(drawn):
    for entry in drawn:
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
    assert len(points) == len(collection.frame)
    assert {row["metric"] for row in points} == set(collection.frame.metric)
    picks = table(published, "picks")
    assert len(picks) == sum(len(done.chosen) for run in collection.runs for done in run.rounds)
    assert len(table(published, "scores")) == len(collection.board.frame)
    final = {(row["sampler"]): row for row in table(published, "final_rounds")}
    assert final["K-Center, iterative"]["final round"] == "3"
    assert "picked after the fact" in ",".join(final["K-Center, iterative"])


@pytest.mark.slow
def test_the_same_folders_give_the_same_files(collection, published, tmp_path):
    publish(collection, tmp_path)
    files = [file for file in published.rglob("*.*") if file.suffix in (".html", ".svg", ".csv")]
    assert {file.suffix for file in files} == {".html", ".svg", ".csv"}
    for file in files:
        assert (tmp_path / file.relative_to(published)).read_bytes() == file.read_bytes(), file


def test_colours_and_texts_of_the_svg_follow_the_page(published):
    page = (published / "report.html").read_text()
    svg = page[page.index('<figure id="figure-relative_score">') :].split("</svg>")[0]
    assert "var(--ink)" in svg
    assert "var(--s-kcenter)" in svg
    assert "#1b1b1c" not in svg


# --- the page ---


def test_a_cut_run_is_said_to_be_cut(published):
    assert "incomplete: 2 of 4 rounds are complete" in (published / "report.html").read_text()


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
        assert listed["score"] == ("far & <wide>" if any(done.chosen for done in run.rounds) else None)


def test_one_map_is_carried_for_all_runs_on_one_data_set(published):
    (one,) = payload(published, "data-rows")["maps"].values()
    assert one["rows"] == 60


def test_answers_keep_both_orders_and_fit_their_budget(collection, monkeypatch):
    names = labels(collection.lines)
    whole = answers_payload(collection, names)
    judged = [model for model in whole["models"] if model["judged"]]
    assert len(judged) == len(collection.board.frame)
    assert all(len(both) == 2 for model in judged for found in model["judged"].values() for both in found)
    monkeypatch.setattr("diverseevol.report.page.answers.BUDGET", 9000)
    small = answers_payload(collection, names)
    assert len(json.dumps(small, ensure_ascii=False)) <= 9000
    assert small["which"] == "the last round"


def test_what_answers_are_held_against_is_shown_where_all_runs_agree_on_it(tmp_path):
    for seed in range(2):
        lay_run(tmp_path, World(), "kcenter", seed)
    whole = collect([tmp_path])
    (kinds,) = answers_payload(whole, labels(whole.lines))["beside"].values()
    assert list(kinds) == ["the competitor's answer"]
    assert [text.partition(" ")[0] for text in kinds["the competitor's answer"]] == ["q0,", "q1,", "q2,", "q3,"]
    file = whole.runs[1].folder / "questions" / "toybench.jsonl"
    file.write_text(file.read_text().replace("q2, says", "q2, another says"))
    (kinds,) = answers_payload(whole, labels(whole.lines))["beside"].values()
    assert [text is None for text in kinds["the competitor's answer"]] == [False, False, True, False]


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
    ("out", "sentence"),
    [
        ("mine", "mine: holds 'notes.txt' but no report; give out=…"),
        ("mine/notes.txt", "mine/notes.txt: is a file, expected a folder; give out=…"),
        ("", "out is empty: give out=… a new folder"),
    ],
)
def test_a_folder_that_holds_no_report_is_left_alone(command, outputs, tmp_path, out, sentence):
    (tmp_path / "mine").mkdir()
    for name in ("notes.txt", "report.html"):
        (tmp_path / "mine" / name).write_text("<title>mine</title>")
    code, _, said = command(f"folder={outputs / 'toy/tiny/random-iterative'}", f"out={out}")
    assert (code, said.count("\n")) == (2, 1)
    assert sentence in said
    assert {file.name for file in (tmp_path / "mine").iterdir()} == {"notes.txt", "report.html"}
    assert (tmp_path / "mine/report.html").read_text() == "<title>mine</title>"


def test_a_single_run_of_one_round_gets_a_report_also_over_an_earlier_one(command, smallest, published, tmp_path):
    shutil.copytree(published, tmp_path / "here")
    (tmp_path / "here/notes.txt").touch()
    code, _, said = command(smallest, "out=here")
    assert code == 0, said
    assert (tmp_path / "here/report.html").read_text() != (published / "report.html").read_text()


def test_a_report_that_was_cut_off_is_made_again(command, smallest, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("diverseevol.report.page.publish.draw_maps", lambda *_: 1 / 0)
        code, _, _ = command(smallest, "out=here")
    assert code == 1
    assert (tmp_path / "here/figures").is_dir()
    assert "was not finished" in (tmp_path / "here/report.html").read_text()
    code, _, said = command(smallest, "out=here")
    assert code == 0, said
    assert "was not finished" not in (tmp_path / "here/report.html").read_text()


def test_a_report_that_fails_keeps_the_page_of_the_earlier_one(command, smallest, published, tmp_path, monkeypatch):
    shutil.copytree(published, tmp_path / "here")
    monkeypatch.setattr("diverseevol.report.page.publish.draw_maps", lambda *_: 1 / 0)
    assert command(smallest, "out=here")[0] == 1
    assert (tmp_path / "here/report.html").read_bytes() == (published / "report.html").read_bytes()


@pytest.mark.parametrize(
    "names",
    [
        ("figures/map.png", "tables/scores.csv"),
        ("figures",),
        ("tables/verdicts.csv",),
        ("report.html.mine.partial",),
        ("report.html",),  # with an icon as ours has it
    ],
)
def test_a_folder_of_the_users_own_with_names_of_a_report_is_left_alone(command, outputs, tmp_path, names):
    for name in names:
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text('<link rel="icon" href="data:,"><title>mine</title>')
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "mine").rglob("*")}
    code, _, said = command(f"folder={outputs / 'toy/tiny/random-iterative'}", "out=mine")
    assert (code, said.count("\n")) == (2, 1)
    assert f"mine: holds '{names[0].split('/')[0]}' but no report" in said
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "mine").rglob("*")} == before


def test_what_a_report_left_half_written_is_no_obstacle(command, smallest, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / f"here/report.html.{'0' * 16}.partial").touch()
    code, _, said = command(smallest, "out=here")
    assert code == 0, said


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


def test_runs_without_judgements_make_a_report_too_whatever_they_are_called(tmp_path):
    hostile = "<b onclick=x>$^"
    lay_run(tmp_path / "outputs", World(name=f"toy/{hostile}"), rounds=6, size=8)
    collection = collect([tmp_path / "outputs"])
    publish(collection, tmp_path / "out")
    assert not (tmp_path / "out" / "figures" / "relative_score.png").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "nothing was judged" in page
    assert hostile not in page
    assert html.escape(hostile) in page
    found = {each.metric for each in stops(collection.frame)}
    assert found == {"coverage_radius", "vendi_score", "vendi_score_centred"}


def test_a_run_that_has_just_begun_is_listed_and_no_more(tmp_path):
    lay_run(tmp_path / "outputs", World(), done=0)
    notes = publish(collect([tmp_path / "outputs"]), tmp_path / "out")
    assert any("no round of 4 is complete yet" in note for note in notes)


def test_questions_in_the_pools_are_warned_of_by_benchmark(tmp_path):
    lines = [
        {"row": 3, "benchmark": "toybench", "question": "q1", "same": True, "words": ""},
        {"row": 5, "benchmark": "toybench", "question": "q2", "same": False, "words": "w " * 13},
        {"row": 10**6, "benchmark": "toybench", "question": "q3", "same": True, "words": ""},  # in no pool
        {"row": "3", "benchmark": None, "question": 7},
    ]
    for sampler in ("kcenter", "random"):
        folder = lay_run(tmp_path / "outputs", World(rows=30), sampler, rounds=0, size=30)
        (folder / "contamination.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        lines = lines[:1] + lines[2:]
    lay_run(tmp_path / "outputs", World(rows=30), "random", 1, rounds=0, size=30)
    assert list(contaminated(collect([tmp_path / "outputs"]).runs)) == [
        "contamination: the final pools of 2 of 3 runs hold questions of benchmark toybench, at most 2 "
        "(toy/tiny/kcenter-iterative seed 0); contamination.jsonl in the run folders lists them"
    ]
