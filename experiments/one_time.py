"""The ablation: many small selections, each by the newest model, against one large one by the first model.

The released files hold no one-time schedule, so nothing can be recomputed from them here.
"""

from collections.abc import Iterator

from claims import Held, held, is_kcenter, is_one_time
from estimates import Record, estimates, final, panels, record, restrict
from matplotlib.figure import Figure
from reproduction import full_scale, lab

from diverseevol.report.collection import Collection
from diverseevol.report.drawing import draw_panels
from diverseevol.report.gallery import TITLES

RUNS = (
    lab("kcenter"), lab("kcenter", "one_time"),
    *full_scale("kcenter"), *full_scale("kcenter", "one_time"),
)  # fmt: skip
METRICS = ("relative_score", "vendi_score_centred")


def frame(collection: Collection) -> list[Record]:
    """A row a schedule, benchmark or metric: final pools alone."""
    return [record(each) for each in final(estimates(_both(collection), *METRICS, "vendi_score", "coverage_radius"))]


def _both(collection: Collection) -> Collection:
    """The two schedules of each source that has both."""
    lines = collection.lines
    whole = {
        source for source in {line.source for line in lines}
        if all(any(line.source == source and pick(line) for line in lines) for pick in (is_kcenter, is_one_time))
    }  # fmt: skip
    return restrict(collection, lambda line: line.source in whole and (is_kcenter(line) or is_one_time(line)))


def draw(collection: Collection) -> Figure | None:
    """Both schedules' curves; the one-time one has two points."""
    grid, note = panels(estimates(_both(collection), *METRICS), _label)
    return draw_panels(grid, note) if grid else None


def _label(metric: str) -> tuple[str, str]:
    name, _, benchmark = metric.partition("/")
    return (benchmark, "relative score\n(competitor = 100)") if benchmark else TITLES[name]


def compared(collection: Collection) -> Iterator[Held]:
    """The final models, seed by seed."""
    yield from held(_both(collection), "iterative_better", is_kcenter, is_one_time)
