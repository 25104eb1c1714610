"""What the report's figures show: whatever was measured, and nothing between; run folders made up on the spot."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from run_folders import RISING, World, lay_run, several_runs

from diverseevol.report.charts.curves import COUNTED, CROWDED
from diverseevol.report.charts.gallery import draw_run, gallery
from diverseevol.report.charts.lines import LOOKS, look
from diverseevol.report.charts.scatter import pools
from diverseevol.report.charts.style import PAPER, legend_columns, write_note
from diverseevol.report.collect import collect


def drawn(folder: Path, name: str) -> Figure:
    (entry,) = [each for each in gallery(collect([folder])) if each.name == name]
    return entry.figure


def test_what_was_chosen_at_once_is_points_alone_and_hollow(tmp_path):
    for schedule, rounds in (("iterative", 3), ("one_time", 1)):
        for seed in range(2):
            scores = [score + seed for score in RISING]
            lay_run(tmp_path, World(), schedule=schedule, seed=seed, rounds=rounds, scores=scores)
    axes = drawn(tmp_path, "relative_score").axes[0]
    assert len(axes.collections) == 2  # a band, and bars at the two sizes
    points = [line.get_xdata() for line in axes.lines if line.get_markerfacecolor() == PAPER]
    assert [list(x) for x in points] == [[10, 20]]
    (dotted,) = [line for line in axes.lines if list(line.get_xdata()) == [10, 20] and line.get_linestyle() != "None"]
    assert dotted.is_dashed()
    spots = [line for axes in drawn(tmp_path, "score_against_vendi").axes for line in axes.lines]
    assert {spot.get_markerfacecolor() for spot in spots} == {look("kcenter")[0], PAPER}
    names = [text.get_text() for text in drawn(tmp_path, "score_against_vendi").legends[0].get_texts()]
    assert names == ["K-Center, iterative", "K-Center, one-time"]


def test_scores_stand_against_both_vendi_scores_where_both_were_measured(tmp_path):
    collection = collect([several_runs(tmp_path)])
    found = {row[3] for row in pools(collection.frame)}
    assert found == {"vendi_score", "vendi_score_centred"}
    plain = collection.frame[collection.frame.metric != "vendi_score_centred"]
    assert {row[3] for row in pools(plain)} == {"vendi_score"}


def test_a_crowded_panel_has_a_legend_with_seeds_and_levels_and_no_bands(tmp_path):
    for i, sampler in enumerate(list(LOOKS)[: CROWDED + 1]):
        for seed in range(1 + i % 2 + 1):
            lay_run(tmp_path, World(judge="gold"), sampler, seed, scores=RISING)
    lay_run(tmp_path, World(judge="gold"), "random", 0, schedule="full", rounds=0, size=60, scores=RISING)
    figure = drawn(tmp_path, "relative_score")
    (axes,) = figure.axes
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == CROWDED + 2
    assert {"K-Center (2)", "random (3)", "all rows"} < {*names}
    assert not axes.collections
    assert not axes.texts
    assert axes.get_title(loc="left") == "toybench"
    assert COUNTED in figure.get_supxlabel()


def test_panels_come_in_one_order_in_all_figures(tmp_path):
    names = ["vicuna", "koala", "wizardlm", "alpha"]
    for benchmark in reversed(names):
        for sampler in ("kcenter", "random"):
            folder = tmp_path / benchmark
            lay_run(folder, World(benchmark=benchmark, judge="gold", name=f"toy/{benchmark}"), sampler, scores=RISING)
            for kind in ("judgements", "answers"):
                for file in folder.rglob(f"rounds/*/{kind}/{benchmark}.jsonl"):
                    target = tmp_path / "one" / "toy/one" / file.relative_to(folder / "toy" / benchmark)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(file.read_bytes())
    for sampler in ("kcenter", "random"):
        lay_run(tmp_path / "runs", World(name="toy/one"), sampler)
    points = collect([tmp_path / "runs"], [tmp_path / "one"])
    for figure in ("relative_score", "win_tie_lose", "score_against_vendi"):
        (entry,) = [each for each in gallery(points) if each.name == figure]
        titles = [axes.get_title(loc="left") for axes in entry.figure.axes]
        shown = [name for title in titles for name in names if name in title]
        assert list(dict.fromkeys(shown)) == names, figure


LOSSES = {
    "held_out_loss": 2.0, "held_out_loss_low": 1.9, "held_out_loss_high": 2.2,
    "reference_loss/vicuna": 3.0, "reference_loss_low/vicuna": 2.5, "reference_loss_high/vicuna": 3.5,
}  # fmt: skip


def test_losses_have_a_figure_with_bands_over_seeds_and_of_one_seed_over_rows(tmp_path):
    for seed in range(2):
        shift = {name: value + 0.2 * seed for name, value in LOSSES.items()}
        lay_run(tmp_path / "two", World(), "kcenter", seed, extra=shift)
        lay_run(tmp_path / "one", World(), ("kcenter", "random")[seed], 0, extra=shift)
    for folder, ends, note in (
        ("two", {(2.0, 2.2), (3.0, 3.2)}, "band: lowest to highest seed"),
        ("one", {(1.9, 2.2), (2.1, 2.4), (2.5, 3.5), (2.7, 3.7)}, "band: 95 % over rows; one seed"),
    ):
        figure = drawn(tmp_path / folder, "losses")
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert titles == ["training loss", "loss on held-out rows", "loss on references, vicuna"]
        bands = [band.get_datalim(axes.transData).intervaly for axes in figure.axes[1:] for band in axes.collections]
        assert {tuple(round(float(y), 6) for y in band) for band in bands} == ends
        assert note in figure.get_supxlabel()
        assert "lower is better; a warning light, not a judge" in figure.get_supxlabel().replace("\n", " ")
        (entry,) = [each for each in gallery(collect([tmp_path / folder])) if each.name == "losses"]
        assert "warning light" in entry.caption
        assert "other_metrics" not in {each.name for each in gallery(collect([tmp_path / folder]))}


def test_where_only_the_trainings_loss_was_measured_there_is_no_figure_of_losses(tmp_path):
    lay_run(tmp_path, World())
    assert "losses" not in {entry.name for entry in gallery(collect([tmp_path]))}


def test_a_run_folder_gets_a_figure_of_the_losses_that_were_measured(tmp_path):
    for name, extra, expected in (("plain", {}, False), ("held", LOSSES, True)):
        folder = lay_run(tmp_path / name, World(), extra=extra, scores=RISING)
        files = draw_run(folder, collect([folder]).frame)
        assert [file.name for file in files] == ["relative_score.png", "vendi_score.png", *["losses.png"] * expected]
        assert all(file.stat().st_size > 10_000 for file in files)


@pytest.mark.parametrize("width", [2.0, 3.6, 7.2])
def test_a_note_stays_on_its_figure(width):
    figure = Figure(figsize=(width, 2), dpi=100)
    write_note(
        figure, "PCA of the foundation model's embeddings; grey: rows that were never chosen, and some more " * 2
    )
    figure.draw_without_rendering()
    assert figure._supxlabel.get_window_extent().x1 < 100 * width


@pytest.mark.parametrize("width", [2.75, 5.5, 8.25, 11.0])
@pytest.mark.parametrize("letters", [(6,), (12, 40, 21, 33), (26,) * 4, (9, 30) * 5, (18,) * 3])
def test_a_legend_is_within_its_figure(width, letters):
    """Where even one column is too wide, there is no help."""
    figure = Figure(figsize=(width, 2.5), dpi=100, layout="constrained")
    figure.subplots()
    labels = [("uncertain K-Center, iterative, " * 2)[:size] for size in letters]
    columns = legend_columns(labels, width)
    handles = [Line2D([], []) for _ in labels]
    figure.legend(handles, labels, loc="outside upper left", fontsize=8, handlelength=3, ncols=columns)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert columns == 1 or legend.get_window_extent().x1 <= figure.bbox.x1
    assert columns > 1 or width < 8 or len(labels) == 1


@pytest.mark.parametrize("count", [4, CROWDED + 2])
def test_no_figures_legend_is_cut_off_or_takes_the_panels_room(tmp_path, count):
    for sampler in [*dict.fromkeys(["uncertain_kcenter", "facility_location", "least_confidence", *LOOKS])][:count]:
        for schedule, rounds in (("iterative", 3), ("one_time", 1)):
            lay_run(tmp_path, World(judge="gold"), sampler, schedule=schedule, rounds=rounds, scores=RISING,
                    extra={"one_more": 1.0})  # fmt: skip
    for entry in gallery(collect([tmp_path])):
        entry.figure.draw_without_rendering()
        room = entry.figure.bbox
        for legend in entry.figure.legends:
            box = legend.get_window_extent()
            assert box.x1 <= room.x1, entry.name
            assert box.y1 <= room.y1, entry.name
        heights = [axes.get_window_extent().height for axes in entry.figure.axes if axes.get_visible()]
        assert min(heights) > 0.15 * room.height / len(entry.figure.axes), entry.name
