"""Win, tie and lose against the competitor at the final round, question by question."""

from collections.abc import Iterator

from claims import Held
from estimates import HUNDRED, Record, estimates, final, named, record, title
from figure2 import RUNS as CURVES
from matplotlib.figure import Figure

from diverseevol.report.charts.bars import draw_win_tie_lose
from diverseevol.report.collect import Collection

RUNS = CURVES


def frame(collection: Collection) -> list[Record]:
    """A row a line, benchmark and outcome: questions, mean over seeds."""
    return [record(each) for each in final(estimates(collection, "win", "tie", "lose"))]


def draw(collection: Collection) -> Figure | None:
    """A panel a data set and benchmark, a bar a line."""
    wins = final(estimates(collection, "win"))
    judges = {each.judge for each in wins}
    opponent = HUNDRED.get(judges.pop(), "competitor") if len(judges) == 1 else "competitor"
    return draw_win_tie_lose(
        collection.frame,
        named(wins),
        lambda source, judge, benchmark: title(source, f"win/{benchmark}", judge),
        f"\nagainst the {opponent}",
    )


def compared(collection: Collection) -> Iterator[Held]:
    """No claim of the paper rests on this figure alone."""
    yield from ()
