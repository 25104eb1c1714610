"""Win, tie and lose against the competitor at the final round, question by question."""

from collections.abc import Iterator
from dataclasses import replace

from claims import Held
from estimates import Record, data_of, estimates, final, named, record
from figure2 import RUNS as CURVES
from matplotlib.figure import Figure

from diverseevol.report.bars import draw_win_tie_lose
from diverseevol.report.collection import Collection
from diverseevol.report.lines import Line

RUNS = CURVES


def frame(collection: Collection) -> list[Record]:
    """A row a line, benchmark and outcome: questions, mean over seeds."""
    return [record(each) for each in final(estimates(collection, "win", "tie", "lose"))]


def draw(collection: Collection) -> Figure | None:
    """A panel a data set and benchmark, a bar a line."""

    def by_its_own_name(line: Line) -> Line:
        return replace(line, source=data_of(line.source))

    names = {by_its_own_name(line): name for line, name in named(final(estimates(collection, "win"))).items()}
    return draw_win_tie_lose([replace(p, line=by_its_own_name(p.line)) for p in collection.points], names)


def compared(collection: Collection) -> Iterator[Held]:
    """No claim of the paper rests on this figure alone."""
    yield from ()
