"""A report over runs that have come differently far: no models of different pool sizes side by side unsaid."""

import re

import pytest
from run_folders import RISING, World, lay_run

from diverseevol.report.charts.bars import draw_win_tie_lose
from diverseevol.report.charts.lines import labels
from diverseevol.report.collect import collect
from diverseevol.report.page.publish import publish
from diverseevol.report.tables import final_table, pool_table, verdict_table
from diverseevol.report.verdicts import verdicts


@pytest.fixture
def uneven(tmp_path):
    """One seed of K-Center has come to 40 rows, everything else to 20; and all rows."""
    for seed in range(2):
        lay_run(tmp_path, World(), "kcenter", seed, rounds=1 if seed else 3, scores=RISING)
        lay_run(tmp_path, World(), "random", seed, rounds=1, scores=[value - 1 for value in RISING])
    lay_run(tmp_path, World(), "random", 0, schedule="full", rounds=0, size=60, scores=[7.0])
    return collect([tmp_path])


def titles(figure) -> list[str]:
    return [
        axes.get_title(loc=where) for axes in figure.axes for where in ("left", "center") if axes.get_title(loc=where)
    ]


def test_verdicts_are_of_one_size_and_say_which_and_what_was_left_aside(uneven):
    found, notes = verdicts(uneven)
    table = verdict_table(found)
    column = table.head.index("rows")
    assert [row[column] for row in table.rows] == ["20", "20 and 60", "20 and 60"]
    assert table.about == "pools of 20 rows"
    assert [note for note in notes if note.startswith("left aside")] == [
        "left aside: toy/tiny, kcenter-iterative, seed 0: rounds 2 to 3 (30 to 40 rows); compared is a pool of 20 "
        "rows, the largest that all arms of a seed have; round=… compares another"
    ]


def test_bars_are_drawn_at_the_size_that_all_have(uneven):
    (title,) = titles(draw_win_tie_lose(uneven.frame, labels(uneven.lines)))
    assert title.endswith("\nat a pool of 20 rows")


@pytest.mark.parametrize(
    ("size", "sizes"), [(15, "at a pool of 30 rows"), (25, "final rounds: pools of 40 to 50 rows")]
)
def test_bars_of_lines_that_grew_by_other_steps_say_how_large_their_pools_are(tmp_path, size, sizes):
    lay_run(tmp_path, World(), "kcenter", size=10, rounds=3, scores=RISING)
    lay_run(tmp_path, World(), "random", size=size, rounds=1, scores=RISING)
    collection = collect([tmp_path])
    (title,) = titles(draw_win_tie_lose(collection.frame, labels(collection.lines)))
    assert title.endswith(f"\n{sizes}")


def test_tables_of_final_rounds_say_that_their_pools_differ_and_only_then(uneven, tmp_path_factory):
    assert final_table(uneven).about == pool_table(uneven.frame).about == "pools of different sizes"
    even = tmp_path_factory.mktemp("even")
    for sampler in ("kcenter", "random"):
        lay_run(even, World(), sampler, scores=RISING)
    collection = collect([even])
    assert final_table(collection).about == pool_table(collection.frame).about == ""
    (title,) = titles(draw_win_tie_lose(collection.frame, labels(collection.lines)))
    assert "rows" not in title


def test_the_page_has_it_in_its_headings_and_notes(uneven, tmp_path_factory, monkeypatch):
    monkeypatch.setattr("diverseevol.report.page.publish.gallery", lambda collection: [])
    out = tmp_path_factory.mktemp("out")
    notes = publish(uneven, out)
    headings = re.findall("<h3>(.*?)</h3>", (out / "report.html").read_text())
    assert "Better than random, and as good as all rows? (pools of 20 rows)" in headings
    assert "The final pools (pools of different sizes)" in headings
    assert "Scores (pools of different sizes)" in headings
    assert sum(note.startswith("left aside") for note in notes) == 1
