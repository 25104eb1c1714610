"""What the report's figures show: whatever was measured, and nothing between; run folders made up on the spot."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from run_folders import RISING, World, lay_run, several_runs

from diverseevol.report.collection import collect
from diverseevol.report.drawing import COUNTED, CROWDED, PAPER, write_note
from diverseevol.report.gallery import gallery
from diverseevol.report.lines import LOOKS, look
from diverseevol.report.scatter import pools


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
    found = {row[3] for row in pools(collection.points)}
    assert found == {"vendi_score", "vendi_score_centred"}
    plain = [point for point in collection.points if point.metric != "vendi_score_centred"]
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


@pytest.mark.parametrize("width", [2.0, 3.6, 7.2])
def test_a_note_stays_on_its_figure(width):
    figure = Figure(figsize=(width, 2), dpi=100)
    write_note(
        figure, "PCA of the foundation model's embeddings; grey: rows that were never chosen, and some more " * 2
    )
    figure.draw_without_rendering()
    assert figure._supxlabel.get_window_extent().x1 < 100 * width
