"""The paper's figure 2: relative score against training rows, each sampler a line, all rows a level."""

from collections.abc import Iterator

from claims import Held, held, is_kcenter, is_random
from estimates import Record, curves_figure, estimates, record
from matplotlib.figure import Figure
from reproduction import PAPER_SAMPLERS, full_scale, lab

from diverseevol.report.collect import Collection

RUNS = (
    *(lab(sampler) for sampler in PAPER_SAMPLERS),
    lab("random", "full"),
    *(arm for sampler in PAPER_SAMPLERS for arm in full_scale(sampler)),
    *full_scale("random", "full"),
)


def frame(collection: Collection) -> list[Record]:
    """A row a line, benchmark and round."""
    return [record(each) for each in estimates(collection, "relative_score")]


def draw(collection: Collection) -> Figure | None:
    """A row of panels a data set, a panel a benchmark."""
    return curves_figure(estimates(collection, "relative_score"))


def compared(collection: Collection) -> Iterator[Held]:
    """K-Center against random at the final round."""
    yield from held(collection, "above_random", is_kcenter, is_random)
