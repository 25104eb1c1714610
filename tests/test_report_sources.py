"""The report's shares by source: of mixtures a figure and a table, of other data nothing."""

import csv
from pathlib import Path

import pytest
from run_folders import World, lay_run

from diverseevol.errors import InputError
from diverseevol.report.charts.gallery import gallery
from diverseevol.report.collect import collect
from diverseevol.report.page.publish import publish
from diverseevol.report.sources import SourceRows, shares, sources_of
from diverseevol.report.tables import source_table
from diverseevol.storage.files import write_json

SOURCES = [
    {"name": "web/1", "start": 0, "stop": 40, "eligible": 30},
    {"name": "wiki", "start": 40, "stop": 60, "eligible": 20},
]


@pytest.fixture
def mixed(tmp_path) -> Path:
    """A run on a mixture, and one on other data."""
    write_json(lay_run(tmp_path, World()) / "provenance.json", {"sources": SOURCES})
    lay_run(tmp_path, World(name="other/tiny"))
    return tmp_path


def test_shares_are_counted_by_the_sources_of_the_run(mixed):
    collection = collect([mixed])
    run = next(run for run in collection.runs if run.sources)
    assert run.sources == (SourceRows("web/1", 0, 40, 30), SourceRows("wiki", 40, 60, 20))
    frame = collection.frame
    for done in run.rounds:
        wiki = sum(row >= 40 for row in done.trained_on) / len(done.trained_on)
        of_round = frame[(frame["round"] == done.index) & (frame.source == "toy/tiny")]
        values = dict(zip(of_round.metric, of_round.value, strict=True))
        assert values["source_share/wiki"] == pytest.approx(wiki)
        assert values["source_share/web/1"] == pytest.approx(1 - wiki)
        assert values["source_share_of_all/wiki"] == pytest.approx(0.4)
    assert not frame[frame.source == "other/tiny"].metric.str.startswith("source_share").any()


def test_a_figure_and_a_table_show_them(mixed):
    collection = collect([mixed])
    entries = {entry.name: entry for entry in gallery(collection)}
    entry = entries.pop("sources")
    assert [axes.get_title(loc="left") for axes in entry.figure.axes if axes.lines] == ["web/1", "wiki"]
    texts = {text.get_text() for axes in entry.figure.axes for text in axes.texts}
    assert "share of all rows" in texts
    others = [axes.get_title(loc="left") for entry in entries.values() for axes in entry.figure.axes]
    assert "wiki" not in str(others)
    notes = publish(collection, mixed / "report")
    assert notes is not None
    page = (mixed / "report/report.html").read_text()
    assert "Where the pools&#39; rows come from" in page or "Where the pools' rows come from" in page
    with (mixed / "report/tables/sources.csv").open() as file:
        rows = list(csv.DictReader(file))
    run = next(run for run in collection.runs if run.sources)
    wiki = sum(row >= 40 for row in run.rounds[-1].trained_on) / len(run.rounds[-1].trained_on)
    assert [row["rows from"] for row in rows] == ["web/1", "wiki"]
    assert (rows[1]["share of all rows"], rows[1]["share of the last pool"]) == ("40.0%", f"{wiki:.1%}")


def test_of_one_source_nothing_is_shown(tmp_path):
    lay_run(tmp_path, World())
    collection = collect([tmp_path])
    assert source_table(collection.runs).rows == ()
    assert "sources" not in [entry.name for entry in gallery(collection)]
    assert shares((), (1, 2)) == {}


@pytest.mark.parametrize(
    "listed",
    [
        [{"name": "a"}], [{**SOURCES[0], "start": "0"}], [{**SOURCES[0], "stop": -1}], ["web"],
        [{**SOURCES[0], "more": 1}], "web", 5, [{**SOURCES[0], "eligible": True}],
    ],
)  # fmt: skip
def test_what_a_stranger_put_there_is_refused_in_a_sentence(tmp_path, listed):
    write_json(tmp_path / "provenance.json", {"sources": listed})
    with pytest.raises(InputError, match=r"provenance\.json: expected sources with name, start, stop and eligible"):
        sources_of(tmp_path)
