"""What an evolution says at its end."""

from collections.abc import Iterable
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from diverseevol.output.console import Console
from diverseevol.report.charts.gallery import draw_run
from diverseevol.report.terminal import RoundResult, _all_rows, run_frame, show
from diverseevol.runs.metrics import MetricDescription, write_descriptions
from diverseevol.runs.round_folder import Round
from diverseevol.storage.files import read_json, write_json, write_jsonl

METRICS = {"pool_size": 2, "train_loss": 1.0, "vendi_score": 1.5, "vendi_score_centred": 2.0, "coverage_radius": 3.0}
DESCRIBED = (
    MetricDescription("skills_covered", "skills covered", heading="skills", form=".0f"),
    MetricDescription("noisy_share", "noisy rows", heading="noisy", form=".0%"),
    MetricDescription("duplicate_share", "duplicates", heading="repeated", form=".0%"),
)
LAB = {"skills_covered": 7, "noisy_share": 0.25, "duplicate_share": 0.5}


def said(
    folder: Path, further: dict[str, float], questions: int = 9, width: int = 200, names: tuple[str, ...] = ("quiz",)
) -> str:
    lay(folder, range(2), questions, names)
    write_descriptions(folder, DESCRIBED)
    rounds = [Round(t, (0, 1), (), {**METRICS, **further}, {}) for t in range(2)]
    console = Console(record=True, width=width)
    show(folder, rounds, console)
    return console.export_text()


def lay(folder: Path, rounds: Iterable[int], questions: int, names: tuple[str, ...]) -> None:
    for t in rounds:
        home = folder / "rounds" / f"{t:02d}"
        for kind in ("answers", "judgements"):
            (home / kind).mkdir(parents=True)
        answers = [
            {"id": str(i), "instruction": f"What is [bold]{i}[/bold]?", "input": "", "answer": f"answer {i} of {t}"}
            for i in range(questions)
        ]
        judged = [{"question_id": str(i), "model_score": float(t + 2)} for i in range(questions)]
        for name in names:
            write_jsonl(home / f"answers/{name}.jsonl", answers)
            write_jsonl(home / f"judgements/{name}.jsonl", judged)
        score = {"relative_score": 50.0 + t, "ci_low": 40.0, "ci_high": 60.0, "judge": "gold", "label": None}
        write_json(home / "scores.json", dict.fromkeys(names, score))
        write_json(home / "round.json", {"metrics": METRICS})


def test_five_questions_are_shown_with_the_first_and_the_last_answer_and_their_scores(tmp_path):
    text = said(tmp_path, {})
    for i in (0, 2, 4, 6, 8):
        (line,) = (line for line in text.splitlines() if f"What is [bold]{i}[/bold]?" in line)
        assert f"answer {i} of 0  [2]" in line
        assert f"answer {i} of 1  [3]" in line
    assert "answer 1 of" not in text


@pytest.mark.parametrize("questions", [1, 3])
def test_fewer_questions_are_shown_once_each(tmp_path, questions):
    assert said(tmp_path, {}, questions).count("[bold]") == questions


def test_the_questions_can_be_left_out_as_in_a_sweep(tmp_path):
    lay(tmp_path, range(2), 3, ("quiz",))
    console = Console(record=True, width=200)
    rounds = [Round(t, (0, 1), (), METRICS, {}) for t in range(2)]
    show(tmp_path, rounds, console, draw=False, examples=False)
    assert "some answers" not in console.export_text()


@pytest.mark.parametrize("further", [{}, LAB])
def test_what_only_some_rows_can_say_has_its_columns_where_it_is_known(tmp_path, further):
    text = said(tmp_path, further)
    table = text.split("some answers")[0]
    for heading, value in (("skills", " 7 "), ("noisy", "25%"), ("repeated", "50%")):
        assert (heading in table) == (value in table) == bool(further)


def test_losses_that_were_measured_have_columns(tmp_path):
    losses = {"held_out_loss": 2.345, "reference_loss/vicuna": 1.678, "reference_loss_low/vicuna": 1.5}
    table = said(tmp_path, losses).split("some answers")[0]
    assert "held-out" in table
    assert "loss on" in table
    assert "vicuna" in table
    assert ("2.345" in table, "1.678" in table, "1.500" in table) == (True, True, False)


def test_two_metrics_of_one_heading_have_a_column_each_and_every_heading_is_explained(tmp_path):
    own = MetricDescription("own_loss", "loss of my own", "bits", "worse", heading="loss", form=".2f")
    write_descriptions(tmp_path, [own])
    text = said(tmp_path, {"own_loss": 7.25})
    table, explained = text.split("───")[0], " ".join(text.split())
    assert "train_loss" in table
    assert "own_loss" in table
    assert ("7.25" in text, "1.000" in text) == (True, True)
    assert "own_loss: loss of my own, bits, lower is better; " in explained
    assert "Vendi centred: Vendi-Score, centred, effective rows; " in explained
    assert "RS: relative score; " in explained


@pytest.mark.parametrize("width", [80, 120])
def test_no_number_is_cut_where_there_is_little_room(tmp_path, width):
    table = said(tmp_path, LAB, width=width).split("RS: relative score")[0]
    assert "…" not in table
    for number in ("1.000", "1.50", "2.00", "3.00", "25%", "50%", "50.0", "51.0"):
        assert number in table, number
    assert ("[40.0, 60.0]" in table) == (width == 120)


def test_all_that_the_lab_says_of_a_round_has_a_line_of_eighty_characters(tmp_path):
    table = said(tmp_path, LAB, width=80, names=("lab", "lab_natural")).split("RS: relative score")[0]
    assert max(map(len, map(str.rstrip, table.splitlines()))) <= 80
    for heading in (
        "rows",
        "loss",
        "Vendi",
        "centred",
        "radius",
        "skills",
        "noisy",
        "repeated",
        " lab ",
        "lab_natural",
    ):
        assert heading in table.split("───")[0].replace("\n", " "), heading


def test_where_everything_is_fits_eighty_characters_and_says_the_folder_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("outputs/lab/lab/uncertain_kcenter-iterative[at]/seed0")
    text = said(folder, LAB, width=80, names=("lab", "lab_natural"))
    assert max(map(len, map(str.rstrip, text.splitlines()))) <= 80
    assert f"where everything is: {folder}/" in text
    end = text.split("where everything is")[1].splitlines()[1:]
    assert [line.split()[0] for line in end] == [
        "relative_score.png", "vendi_score.png", "selected.jsonl", "receipts.jsonl", "rounds/", "config.yaml",
    ]  # fmt: skip


def figures(monkeypatch: pytest.MonkeyPatch, folder: Path, *results: RoundResult, **level: RoundResult) -> list[Figure]:
    """What the run's files show."""
    drawn: list[Figure] = []

    def keep(figure: Figure, path: Path) -> Path:
        drawn.append(figure)
        return path

    monkeypatch.setattr("diverseevol.report.charts.gallery.save_png", keep)
    draw_run(folder, run_frame(folder, results, **level), ["gold: a smoke measure"])
    return drawn


@pytest.mark.parametrize(
    ("judge", "meaning"),
    [
        ("gold", "all right = 100, floor = 10"),
        ("gold (words-lcs-1)", "all right = 100, floor = 10"),
        ("openai", "competitor = 100"),
    ],
)
def test_the_axis_says_what_a_score_of_100_is(tmp_path, monkeypatch, judge, meaning):
    score = {"relative_score": 50.0, "ci_low": 40.0, "ci_high": 60.0, "judge": judge}
    results = [RoundResult(rows, METRICS, {"quiz": score, "other": score}) for rows in (50, 75)]
    scores, _ = figures(monkeypatch, tmp_path, *results)
    assert [axes.get_ylabel() for axes in scores.axes] == [f"relative score\n({meaning})", ""]


def test_the_figure_of_one_run_has_its_interval_over_questions_and_what_all_rows_reach(tmp_path, monkeypatch):
    score = {"relative_score": 50.0, "ci_low": 40.0, "ci_high": 60.0, "judge": "gold"}
    results = [RoundResult(rows, METRICS, {"quiz": score}) for rows in (50, 75)]
    scores, _ = figures(monkeypatch, tmp_path, *results, level=RoundResult(999, METRICS, {"quiz": score}))
    (axes,) = scores.axes
    (band,) = axes.collections
    assert tuple(map(float, band.get_datalim(axes.transData).intervaly)) == (40.0, 60.0)
    assert "all rows" in [text.get_text() for text in axes.texts]
    assert scores.get_supxlabel() == "band: 95 % over questions; one seed; gold: a smoke measure"


@pytest.mark.parametrize("sizes", [(50, 75), (2, 3), (7,), (40, 320)])
def test_no_row_on_an_axis_is_a_fraction(tmp_path, monkeypatch, sizes):
    score = {"relative_score": 50.0, "ci_low": 40.0, "ci_high": 60.0, "judge": "gold"}
    results = [RoundResult(rows, METRICS, {"quiz": score}) for rows in sizes]
    for figure in figures(monkeypatch, tmp_path, *results):
        figure.draw_without_rendering()
        for axes in figure.axes:
            ticks = axes.get_xticks()
            assert len(ticks) > 0
            assert all(tick == int(tick) for tick in ticks), ticks


FINGERPRINT = {
    "data": "d",
    "model": "m",
    "tuning.epochs": 4,
    "sampler": "k",
    "schedule.seed_size": 40,
    "seed": 0,
}


@pytest.mark.parametrize(
    ("change", "shown"),
    [({}, True), ({"sampler": "r", "seed": 1}, True), ({"tuning.epochs": 3}, False), ({"data": "e"}, False)],
)
def test_what_all_rows_reach_is_shown_where_a_run_next_door_says_it(tmp_path, change, shown):
    one, full = tmp_path / "kcenter-iterative/seed0", tmp_path / f"random-full/seed{change.get('seed', 0)}"
    lay(full, [0], 3, ("quiz",))
    write_json(full / "rounds/00/round.json", {"metrics": {**METRICS, "pool_size": 4321}})
    write_json(full / "fingerprint.json", {**FINGERPRINT, "schedule.seed_size": None, **change})
    write_json(one / "fingerprint.json", FINGERPRINT)
    text = said(one, {}, questions=3)
    assert ("all  4,321" in text) == shown
    assert ("schedule=full" in text) != shown


@pytest.mark.parametrize(("names", "told"), [(("quiz",), True), ((), False)])
def test_how_to_have_the_upper_line_is_told_where_something_was_judged(tmp_path, names, told):
    assert ("for a line of what all rows reach" in said(tmp_path, {}, names=names)) is told


def test_of_several_full_runs_that_of_the_same_seed_is_shown(tmp_path):
    write_json(tmp_path / "kcenter-iterative/seed1/fingerprint.json", {**FINGERPRINT, "seed": 1})
    for seed in range(3):
        lay(tmp_path / f"random-full/seed{seed}", [0], 3, ("quiz",))
        metrics = {"metrics": {**METRICS, "pool_size": 4000 + seed}}
        write_json(tmp_path / f"random-full/seed{seed}/rounds/00/round.json", metrics)
        write_json(tmp_path / f"random-full/seed{seed}/fingerprint.json", {**FINGERPRINT, "seed": seed})
    text = said(tmp_path / "kcenter-iterative/seed1", {}, questions=3)
    assert "4,001" in text
    assert "4,000" not in text


@pytest.mark.parametrize("change", [{"judge": "overlap"}, {"questions": 2}])
def test_what_all_rows_reach_is_no_score_of_another_judge_or_on_other_questions(tmp_path, change):
    one, full = tmp_path / "kcenter-iterative/seed0", tmp_path / "random-full/seed0"
    lay(full, [0], 3, ("quiz",))
    write_json(full / "rounds/00/round.json", {"metrics": {**METRICS, "pool_size": 4321}})
    scores = read_json(full / "rounds/00/scores.json")
    write_json(full / "rounds/00/scores.json", {"quiz": {**scores["quiz"], "relative_score": 98.7, **change}})
    for folder in (one, full):
        write_json(folder / "fingerprint.json", FINGERPRINT)
    text = said(one, {}, questions=3)
    assert "all  4,321" in text
    assert "98.7" not in text


def test_a_folder_next_door_that_is_no_run_is_passed_over(tmp_path):
    write_json(tmp_path / "random-full/seed0/rounds/00/round.json", {"metrics": METRICS})
    assert "schedule=full" in said(tmp_path / "kcenter-iterative/seed0", {})


def test_a_run_folder_may_lie_at_the_root(tmp_path):
    assert _all_rows(Path("/no-such-run"), RoundResult(1, {}, {})) is None
