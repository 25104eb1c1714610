"""The paper's figure 4: relative score against Vendi-Score, pools of one size at a time.

Pools of one size and different diversity come from `sampler=vendi`: each round draws random batches, ranks them by the
Vendi-Score of pool and batch, and takes the one at `sampler.rank`. An evolution so gives a pool of every size, and its
rank's effect adds up round by round. Pools of one seed share P_0, and are compared with one another alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from claims import Held, difference, on
from estimates import Record, title, unit
from matplotlib.figure import Figure
from reproduction import full_scale, lab
from scipy.stats import rankdata

from diverseevol.report.charts.lines import look
from diverseevol.report.charts.style import GRID, MUTED, write_note
from diverseevol.report.collect import Collection
from diverseevol.runs.metrics import MetricKey

RANKS = (1, 50, 100)  # of 100 batches: the most diverse, the middle, the least
SEEDS = 3
SHARES = (0.2, 0.6, 1.0)  # of the rounds: the paper's 300, 700 and 1,100 rows
METRICS = ("vendi_score", "vendi_score_centred")


RUNS = (
    lab("vendi", seeds=SEEDS),  # rank 1
    *(lab("vendi", "iterative", f"sampler.rank={rank}", name=f"vendi_{rank}", seeds=SEEDS) for rank in RANKS[1:]),
    *(arm for rank in RANKS for arm in full_scale("vendi", "iterative", f"sampler.rank={rank}")),
)


@dataclass(frozen=True)
class Pool:
    """One pool with both scores; `arm` tells the ranks apart."""

    data: str
    benchmark: str
    judge: str
    arm: str
    seed: int | None
    rows: int
    vendi: Mapping[str, float]
    relative_score: float


def pools(collection: Collection) -> list[Pool]:
    """The pools of `sampler=vendi` at the three sizes."""
    numbers = collection.frame[collection.frame.rows.notna()]
    points = [p for p in numbers.astype({"rows": int}).itertuples() if p.line.sampler.startswith("vendi")]
    if not points:
        return []
    last = max(p.round for p in points)
    rounds = {round(share * last) for share in SHARES} - {0}
    diversity: dict[tuple[object, ...], dict[str, float]] = {}
    for p in points:
        if p.metric in METRICS:
            diversity.setdefault((p.line, p.seed, p.rows), {})[p.metric] = p.value
    return [
        Pool(p.line.source, MetricKey.parse(p.metric).part, p.judge, p.line.schedule, p.seed, p.rows, known, p.value)
        for p in points
        if p.metric.startswith("relative_score/") and p.round in rounds
        and (known := diversity.get((p.line, p.seed, p.rows)))
    ]  # fmt: skip


def frame(collection: Collection) -> list[Record]:
    """A row a pool and benchmark."""
    ranks = _ranks(collection)
    return [
        {"data": each.data, "benchmark": each.benchmark, "judge": each.judge, "rank": ranks.get(each.arm),
         "seed": each.seed, "rows": each.rows, **{name: each.vendi.get(name) for name in METRICS},
         "relative_score": each.relative_score}
        for each in pools(collection)
    ]  # fmt: skip


def _ranks(collection: Collection) -> dict[str, int]:
    """By arm, from the runs' configuration."""
    samplers = ((run.line.schedule, run.config.get("sampler")) for run in collection.runs)
    return {arm: int(sampler["rank"]) for arm, sampler in samplers if isinstance(sampler, dict) and "rank" in sampler}


def draw(collection: Collection) -> Figure | None:
    """A row of panels a data set and benchmark, a panel a size; the pools of one seed are joined."""
    measured = pools(collection)
    rows = list(dict.fromkeys((each.data, each.benchmark, each.judge) for each in measured))
    sizes = sorted({each.rows for each in measured})
    if not rows:
        return None
    colour, _, marker = look("vendi")
    figure = Figure(figsize=(2.5 * len(sizes) + 0.6, 2.1 * len(rows) + 0.4), dpi=200, layout="constrained")
    grid = figure.subplots(len(rows), len(sizes), squeeze=False)
    for places, (data, benchmark, judge) in zip(grid, rows, strict=True):
        for axes, size in zip(places, sizes, strict=True):
            group = [e for e in measured if (e.data, e.benchmark, e.judge, e.rows) == (data, benchmark, judge, size)]
            for of_seed in _by_seed(group).values():
                x, y = ([*values] for values in zip(*of_seed, strict=True))
                axes.plot(x, y, color=MUTED, linewidth=0.7, alpha=0.7, zorder=1)
                axes.plot(x, y, marker=marker, color=colour, markersize=5, linestyle="none", zorder=2)
            axes.set_title(f"{size:,} rows")
            axes.margins(0.1)
            axes.grid(axis="x", color=GRID)
            axes.locator_params(axis="x", nbins=4)
        metric = f"relative_score/{benchmark}"
        places[0].set_title(f"{title(data, metric, judge)}\n{sizes[0]:,} rows")
        places[0].set_ylabel(unit(metric, judge))
    for axes in grid[-1]:
        axes.set_xlabel("Vendi-Score (effective rows)")
    seeds = len({each.seed for each in measured})
    ranks = ", ".join(str(rank) for rank in sorted(_ranks(collection).values()))
    write_note(
        figure,
        f"a point a pool, grown by batches at one rank of diversity among 100 random ones (ranks {ranks}); a line "
        f"joins the pools\nof one seed, which share their first rows ({seeds} seed{'' if seeds == 1 else 's'})",
    )
    return figure


def _by_seed(measured: Iterable[Pool], name: str = METRICS[0]) -> dict[int | None, list[tuple[float, float]]]:
    """Vendi-Score and relative score of each seed's pools, by the former."""
    seeds: dict[int | None, list[tuple[float, float]]] = {}
    for pool in measured:
        if name in pool.vendi:
            seeds.setdefault(pool.seed, []).append((pool.vendi[name], pool.relative_score))
    return {seed: sorted(at) for seed, at in seeds.items()}


def compared(collection: Collection) -> Iterator[Held]:
    """Each seed's most diverse pool less its least diverse one of the same size, over seeds, and rank correlations."""
    measured = pools(collection)
    for data, benchmark, judge in dict.fromkeys((each.data, each.benchmark, each.judge) for each in measured):
        group = [each for each in measured if (each.data, each.benchmark, each.judge) == (data, benchmark, judge)]
        for name in METRICS:
            says = []
            for size in sorted({each.rows for each in group}):
                of_seeds = _by_seed((each for each in group if each.rows == size), name).values()
                ends = [pairs[-1][1] - pairs[0][1] for pairs in of_seeds if pairs[-1][0] > pairs[0][0]]
                if ends:
                    rho = [correlation for pairs in of_seeds if (correlation := rank_correlation(pairs)) is not None]
                    also = f" (mean ρ {np.mean(rho):+.2f})" if rho else ""
                    says.append(f"{difference(np.array(ends), '+.1f')} at {size:,} rows{also}")
            if says:
                yield Held("diversity_pays", on(data, f"{benchmark} and {name}"), "; ".join(says))


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Spearman's; None for fewer than three pairs or where one side does not vary."""
    if len(pairs) < 3:
        return None
    x, y = (rankdata(values) for values in zip(*pairs, strict=True))
    return None if np.ptp(x) == 0 or np.ptp(y) == 0 else float(np.corrcoef(x, y)[0, 1])
