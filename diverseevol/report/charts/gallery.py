"""Which figures a report shows: each from points alone, with a caption that says how to read it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib
from matplotlib.figure import Figure

from diverseevol.data.held_out import interval_of
from diverseevol.evaluation.scores.scoreboard import PAPER_QUESTIONS
from diverseevol.report.charts.bars import draw_win_tie_lose
from diverseevol.report.charts.curves import BAND, Curve, curves, levels
from diverseevol.report.charts.lines import FULL, dashes, labels, sources
from diverseevol.report.charts.run_figures import LOSS, WARNING_LIGHT, loss_names, questions_of, score_label
from diverseevol.report.charts.scatter import draw_diversity_against_score
from diverseevol.report.charts.style import CROWDED, STYLE, Drawn, Panel, draw_panels
from diverseevol.report.collect import ALL_PHASES, JUDGE_CALLS, PEAK_MEMORY, Collection, Point

TITLES: Mapping[str, tuple[str, str]] = {  # what a metric is called, and its unit
    "vendi_score": ("as in the paper", "Vendi-Score (effective rows)"),
    "vendi_score_centred": ("centred by the mean over all rows", "Vendi-Score (effective rows)"),
    "vendi_score_current": ("in the round's own space", "Vendi-Score (effective rows)"),
    "coverage_radius": ("coverage radius", "largest distance to the pool"),
    "train_loss": ("training loss", LOSS),
    "held_out_loss": ("loss on held-out rows", LOSS),
    "reference_loss": ("loss on references", LOSS),
    "skills_covered": ("skills covered", "skills in the pool"),
    "noisy_share": ("noisy rows", "share of the pool"),
    "duplicate_share": ("duplicates", "share of the pool"),
}
SHOWN_ELSEWHERE = {"pool_size", "round", *list(TITLES)[:7]}
INTERVALS = (*interval_of("held_out_loss"), *interval_of("reference_loss"))
AMOUNTS = {"seconds", "gigabytes", "calls", "share", "share of the pool"}
SCORES = ("relative_score", "win", "tie", "lose")
FAMILIES = {
    "dolly": ("dolly",),
    "davinci": ("davinci", "alpaca_data"),
    "gpt4": ("gpt4", "gpt-4"),
}  # in a data set's name


@dataclass(frozen=True)
class Entry:
    """One figure: its file's name, the heading over it, how to read it, and the drawing."""

    name: str
    title: str
    caption: str
    figure: Figure


def gallery(collection: Collection) -> list[Entry]:
    """Every figure that the points allow."""
    with matplotlib.rc_context(STYLE):
        return [entry for make in FIGURES for entry in make(collection)]


def _relative_score(collection: Collection) -> Iterator[Entry]:
    names, patterns = labels(collection.lines), dashes(collection.lines)
    scored = [p for p in collection.points if p.metric.startswith("relative_score/")]
    benchmarks = sorted({_of(p) for p in scored}, key=lambda name: ([*PAPER_QUESTIONS, name].index(name), name))
    grid, overlaid = [], False
    order = sources(collection.lines)
    for source, judge in sorted({(p.line.source, p.judge) for p in scored}, key=lambda key: (order.index(key[0]), key)):
        row: list[Panel | None] = []
        for name in benchmarks:
            metric = f"relative_score/{name}"
            own = [Drawn(c, names[c.line], patterns[c.line]) for c in _at(source, scored, metric, judge)]
            theirs = [Drawn(c, f"{names[c.line]} (authors)", (), True) for c in _authors(own, scored, metric)]
            height = levels(scored, metric, judge).get(source)
            overlaid = overlaid or bool(theirs)
            full = {} if height is None else {"all rows": height}
            title = questions_of(name, judge)
            title = f"{source}\n{title}" if len(order) > 1 else title
            row.append(Panel(title, score_label([judge]), [*own, *theirs], full) if own else None)
        grid.append(row)
    grid = _flowing(grid)
    if grid:
        also = "dotted and hollow: the authors' released run" if overlaid else ""
        caption = (
            "100 · Σ model scores / Σ competitor scores against the rows trained on (the paper's figure 2); for judge "
            f"gold the competitor is the right answer. {_band()} "
            "Dashed grey: a model trained on all rows, where there is one."
        )
        yield Entry("relative_score", "Relative score", caption, draw_panels(grid, BAND, also))


def _flowing(grid: list[list[Panel | None]]) -> list[list[Panel | None]]:
    """The grid as it is where it has no holes; else its panels in reading order, three in a row."""
    present: list[Panel | None] = [panel for row in grid for panel in row if panel]
    if present and len(present) == sum(map(len, grid)) and len(grid[0]) > 1:
        return grid
    columns = 2 if len(present) in (2, 4) else 3
    return [present[i : i + columns] for i in range(0, len(present), columns)]


def _band() -> str:
    return (
        "A line is the mean over seeds, its band goes from the lowest to the highest seed, and a line without a band "
        f"is one seed; panels of more than {CROWDED} lines have none. Hollow markers: not all seeds came this far. "
        "Hollow and joined by dots: all chosen at once, with nothing measured between."
    )


def _of(point: Point) -> str:
    return point.metric.partition("/")[2]


def _at(source: str, points: Sequence[Point], metric: str, judge: str = "") -> list[Curve]:
    return [curve for curve in curves(points, metric, judge) if curve.line.source == source]


def _authors(own: Sequence[Drawn], points: Sequence[Point], metric: str) -> list[Curve]:
    """The authors' curves on the same data set and benchmark, for the samplers that our own panel shows."""
    lines = [each.curve.line for each in own if not each.curve.line.released]
    if not lines:
        return []
    data = lines[0].source.partition("/")[0].lower()
    families = {family for family, words in FAMILIES.items() if any(word in data for word in words)}
    released = [p for p in points if p.line.released and p.line.source in families]
    samplers = {line.sampler for line in lines}
    return [c for judge in sorted({p.judge for p in released}) for c in curves(released, metric, judge)
            if c.line.sampler in samplers]  # fmt: skip


def _vendi(collection: Collection) -> Iterator[Entry]:
    keys = ("vendi_score", "vendi_score_centred", "vendi_score_current")
    caption = (
        "The effective number of distinct rows in the pool, by the foundation model's embeddings (the paper's figure "
        "3). Hidden states share a large mean, which squeezes the paper's score towards 1; centred by the mean over "
        f"all rows it spreads out. {_band()}"
    )
    yield from _metrics(collection, "vendi_score", "Vendi-Score", keys, caption)


def _learning(collection: Collection) -> Iterator[Entry]:
    caption = (
        "Coverage radius: the largest distance from any row of the data set to the pool, in the foundation model's "
        "space, which is what K-Center makes small. Training loss: mean over the last tenth of the steps, on the pool "
        f"itself, so pools of other rows are other tasks. {_band()}"
    )
    keys = ("coverage_radius", "train_loss")
    yield from _metrics(collection, "coverage_and_loss", "Coverage radius and training loss", keys, caption)


def _losses(collection: Collection) -> Iterator[Entry]:
    measured = loss_names(point.metric for point in collection.points)
    caption = (
        "The mean loss of a response token: on the pool (training), on rows that no pool holds, and on the benchmarks' "
        "references or the competitor's answers. On the last two lower is better; of training that cannot be said, "
        "for pools of other rows are other tasks. Both are a warning light and not a judge: they tell when a fit has "
        f"gone wrong, and hardly which of two good models answers better. {_band()} Where all lines are one seed, the "
        "band on held-out rows and references is the 95 % interval over these."
    )
    keys = ("train_loss", *measured)
    columns = 0 if len(keys) <= 3 else 2 if len(keys) == 4 else 3
    # Bands of two kinds beside each other would be compared.
    alone = all(max(c.seeds) == 1 for key in measured for c in curves(collection.points, key))
    grid = _grid(collection, [(key, "") for key in keys], columns, over_rows=alone) if measured else []
    if grid:
        band = "band: 95 % over rows; one seed" if alone else BAND
        yield Entry("losses", "Losses", caption, draw_panels(grid, band, WARNING_LIGHT, legend=bool(columns)))


def _over_rows(curve: Curve, metric: str, points: Sequence[Point]) -> Curve:
    """The curve of one seed's loss; its band is the interval over the rows that the loss was measured on."""
    ends = interval_of(metric)
    found = {(p.metric, p.rows): p.value for p in points if p.line == curve.line and p.metric in ends}
    low, high = ([found.get((name, n)) for n in curve.rows] for name in ends)
    there = [(a, b) for a, b in zip(low, high, strict=True) if a is not None and b is not None]
    if len(there) < len(curve.rows):
        return curve
    return replace(curve, low=tuple(a for a, _ in there), high=tuple(b for _, b in there))


def _others(collection: Collection) -> Iterator[Entry]:
    known = (*SHOWN_ELSEWHERE, "seconds", PEAK_MEMORY, JUDGE_CALLS, *SCORES, *INTERVALS)
    keys = sorted({p.metric for p in collection.points if p.metric.partition("/")[0] not in known})
    yield from _metrics(collection, "other_metrics", "Other metrics", keys, f"As logged by the rounds. {_band()}", 4)


def _cost(collection: Collection) -> Iterator[Entry]:
    keys = sorted({p.metric for p in collection.points if p.metric.startswith("seconds/")}, key=_phase)
    calls = sorted({(p.metric, p.judge) for p in collection.points if p.metric.startswith(JUDGE_CALLS)})
    caption = (
        "Wall seconds of each phase of a round, as measured where it ran, and judgements by a language model for each "
        "round: one call each, unless the reply was in the cache. "
        f"{_band()}"
    )
    grid = _grid(collection, [*((key, "") for key in keys), *calls], 4)
    if grid:  # a run on all rows has no curve
        yield Entry("cost", "Cost of a round", caption, draw_panels(grid, BAND, legend=True))


def _memory(collection: Collection) -> Iterator[Entry]:
    keys = sorted({p.metric for p in collection.points if p.metric.startswith(f"{PEAK_MEMORY}/")}, key=_phase)
    caption = (
        "Peak memory of each phase of a round in gigabytes (10⁹ bytes), of the first process: its resident memory, "
        "pages of mapped files included (evolutions one after the other in one process, as in a sweep, add up), "
        "and, where there is a GPU, what torch held on it (“device”). "
        f"{_band()}"
    )
    grid = _grid(collection, [(key, "") for key in keys], 4)
    if grid:
        note = "evolutions that share a process, as in a sweep, add up"
        yield Entry("memory", "Peak memory of a round", caption, draw_panels(grid, BAND, note, legend=True))


def _phase(metric: str) -> tuple[int, str]:
    order = (ALL_PHASES, "foundation", "fit", "probe", "disagreement", "select", "measure", "answer", "judge")
    phase = metric.partition("/")[2]
    name = phase if phase in order else phase.partition(" ")[0]  # "answer vicuna" and "answer koala" are one kind
    return (order.index(name) if name in order else len(order), metric)


def _metrics(
    collection: Collection, name: str, title: str, keys: Sequence[str], caption: str, columns: int = 0
) -> Iterator[Entry]:
    grid = _grid(collection, [(key, "") for key in keys], columns)
    if grid:
        yield Entry(name, title, caption, draw_panels(grid, BAND, legend=bool(columns)))


def _grid(
    collection: Collection, keys: Sequence[tuple[str, str]], columns: int, *, over_rows: bool = False
) -> list[list[Panel | None]]:
    """A row of panels a source, or, where `columns` is given, as many rows as it takes; empty panels left out.

    Bands are over seeds, or, with `over_rows`, a loss's own over the rows that it was measured on.
    """
    names, patterns = labels(collection.lines), dashes(collection.lines)
    grid: list[list[Panel | None]] = []
    wanted = {key for key, _ in keys}
    found = sources(p.line for p in collection.points if p.metric in wanted and p.line.kind != FULL)
    for source in found:
        row: list[Panel | None] = []
        for key, judge in keys:
            of_source = _at(source, collection.points, key, judge)
            if over_rows:
                of_source = [_over_rows(curve, key, collection.points) for curve in of_source]
            drawn = [Drawn(c, names[c.line], patterns[c.line]) for c in of_source]
            title, unit = _title(key)
            # The time of another schedule is no level to reach, and the radius of all rows is 0 whatever they are.
            level = not key.startswith(("seconds/", f"{PEAK_MEMORY}/")) and key != "coverage_radius"
            height = levels(collection.points, key, judge).get(source) if level else None
            full = {} if height is None else {"all rows": height}
            title = title if len(found) == 1 else f"{source}\n{title}"
            row.append(Panel(title, unit, drawn, full, unit in AMOUNTS) if drawn else None)
        present: list[Panel | None] = [panel for panel in row if panel]
        if columns:
            grid += [present[i : i + columns] for i in range(0, len(present), columns)]
        elif present:
            grid.append(row)
    used = [j for j in range(max(map(len, grid), default=0)) if any(j < len(row) and row[j] for row in grid)]
    return [[row[j] if j < len(row) else None for j in used] for row in grid]


def _title(key: str) -> tuple[str, str]:
    name, _, of = key.partition("/")
    if name == "seconds":
        return of, "seconds"
    if name == PEAK_MEMORY:
        return of, "gigabytes"
    if name == JUDGE_CALLS:
        return f"{JUDGE_CALLS}, {of}", "calls"
    if of and name in TITLES:
        return f"{TITLES[name][0]}, {of}", TITLES[name][1]
    return TITLES.get(key, (key.replace("_", " "), "share" if key.endswith("_share") else key.replace("_", " ")))


def _against(collection: Collection) -> Iterator[Entry]:
    figure = draw_diversity_against_score(collection.points)
    if figure is not None:
        caption = (
            "Each point is one run's pool: its Vendi-Score and the relative score of the model trained on it, at equal "
            "numbers of rows (the paper's figure 4). Colour and marker: the sampler; hollow: chosen at once."
        )
        yield Entry("score_against_vendi", "Relative score against Vendi-Score at equal sizes", caption, figure)


def _win_tie_lose(collection: Collection) -> Iterator[Entry]:
    figure = draw_win_tie_lose(collection.points, labels(collection.lines))
    if figure is not None:
        caption = (
            "Questions on which the model beats, ties with or loses to the competitor (scores summed over both "
            "orders), in per cent, at the largest number of rows that all lines of a seed have, mean over seeds."
        )
        yield Entry("win_tie_lose", "Win, tie, lose", caption, figure)


FIGURES: tuple[Callable[[Collection], Iterator[Entry]], ...] = (
    _relative_score, _vendi, _against, _learning, _losses, _win_tie_lose, _cost, _memory, _others,
)  # fmt: skip
