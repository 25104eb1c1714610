"""The ablation: many small selections, each by the newest model, against one large one by the first model.

The released files hold no one-time schedule, so nothing can be recomputed from them here.
"""

from collections.abc import Iterator

from claims import Held, held, is_kcenter, is_one_time
from estimates import Record, curves_figure, estimates, final, record, restrict, with_shared_seeds
from matplotlib.figure import Figure
from reproduction import full_scale, lab

from diverseevol.report.collect import Collection

RUNS = (
    lab("kcenter"), lab("kcenter", "one_time"),
    *full_scale("kcenter"), *full_scale("kcenter", "one_time"),
)  # fmt: skip
METRICS = ("relative_score", "vendi_score_centred")


def frame(collection: Collection) -> list[Record]:
    """A row a schedule, benchmark or metric: final pools alone."""
    return [record(each) for each in final(estimates(_both(collection), *METRICS, "vendi_score", "coverage_radius"))]


def _both(collection: Collection) -> Collection:
    """The two schedules of each source that has both, and the seeds that both have."""
    lines = collection.lines
    complete = {
        source for source in {line.source for line in lines}
        if all(any(line.source == source and pick(line) for line in lines) for pick in (is_kcenter, is_one_time))
    }  # fmt: skip
    pair = restrict(collection, lambda line: line.source in complete and (is_kcenter(line) or is_one_time(line)))
    return with_shared_seeds(pair)


def draw(collection: Collection) -> Figure | None:
    """Both schedules' curves; the one-time one has two points."""
    return curves_figure(estimates(_both(collection), *METRICS))


def compared(collection: Collection) -> Iterator[Held]:
    """The final models, seed by seed."""
    yield from held(_both(collection), "iterative_better", is_kcenter, is_one_time)
