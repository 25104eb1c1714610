"""The paper's figure 3: Vendi-Score of the pool against training rows, with the level of all rows.

The released files hold judgements alone, so nothing can be recomputed from them here.
"""

from collections.abc import Iterator

from claims import Held, paired
from estimates import Record, curves_figure, estimates, record
from figure2 import RUNS as CURVES
from matplotlib.figure import Figure

from diverseevol.report.collect import Collection

RUNS = CURVES
METRICS = ("vendi_score", "vendi_score_centred")


def frame(collection: Collection) -> list[Record]:
    """A row a line, metric and round."""
    return [record(each) for each in estimates(collection, *METRICS)]


def draw(collection: Collection) -> Figure | None:
    """A row of panels a data set: the score as in the paper, and centred."""
    return curves_figure(estimates(collection, *METRICS))


def compared(collection: Collection) -> Iterator[Held]:
    """K-Center's last pool against random's of the same seed."""
    for metric in METRICS:
        yield from paired(collection, metric, "more_diverse")
