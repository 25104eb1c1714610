"""Which figures a report shows: each from points alone, with a caption that says how to read it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from diverseevol.report.charts.bars import draw_win_tie_lose
from diverseevol.report.charts.curves import BAND, Curve, curves, levels
from diverseevol.report.charts.lines import Line, dashes, labels, sources
from diverseevol.report.charts.scatter import draw_diversity_against_score
from diverseevol.report.charts.style import CROWDED, STYLE, Panel, draw_panels, save_png
from diverseevol.report.charts.titles import WARNING_LIGHT, benchmark_order, metric_order, questions_of, score_label
from diverseevol.report.collect import ALL_PHASES, JUDGE_CALLS, PEAK_MEMORY, Collection
from diverseevol.report.frame import Frame, descriptions
from diverseevol.runs.metrics import MetricKey

VENDI = ("vendi_score", "vendi_score_centred", "vendi_score_current")
LEARNING = ("coverage_radius", "train_loss")
LOSSES = ("held_out_loss", "reference_loss")
SHOWN_ELSEWHERE = {
    "pool_size", "round", "seconds", PEAK_MEMORY, JUDGE_CALLS, "relative_score", "win", "tie", "lose", *VENDI,
    *LEARNING, *LOSSES,
}  # fmt: skip
AMOUNTS = {"seconds", "gigabytes", "calls", "share", "share of the pool"}
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
    frame = collection.frame
    warnings = {f"{each.judge}: {each.scores.label}" for each in collection.board.rounds if each.scores.label}
    with matplotlib.rc_context(STYLE):
        figures = (entry for make in FIGURES for entry in make(frame))
        return [*_relative_score(frame, warnings), *figures]


def draw_run(folder: Path, frame: Frame, warnings: Iterable[str] = ()) -> list[Path]:
    """Draw relative score, Vendi-Score and losses of one run into its folder, as a report draws them of many.

    Args:
        folder: the run folder.
        frame: of the run, and of one on all rows where that is known.
        warnings: of the judges.

    Returns:
        The PNG files written; the score's is missing where nothing was judged, the losses' where only the training's
        was measured.
    """
    with matplotlib.rc_context(STYLE):
        entries = [*_relative_score(frame, warnings), *_vendi(frame), *_losses(frame)]
        return [save_png(entry.figure, folder / f"{entry.name}.png") for entry in entries]


def _relative_score(frame: Frame, warnings: Iterable[str]) -> Iterator[Entry]:
    names, patterns = _labels(frame)
    scored = frame[frame["name"] == "relative_score"]
    benchmarks = sorted(set(scored.part), key=benchmark_order)
    keys = {*zip(scored.metric, scored.judge, strict=True)}
    alone = _one_seed(scored, keys)
    grid, overlaid = [], False
    order = sources(names)
    for source, judge in sorted(
        {*zip(scored.source, scored.judge, strict=True)}, key=lambda key: (order.index(key[0]), key)
    ):
        row: list[Panel | None] = []
        for name in benchmarks:
            metric = f"relative_score/{name}"
            own = [
                replace(curve, label=names[curve.line], dashes=patterns[curve.line])
                for curve in curves(scored, metric, judge, own_intervals=alone)
                if curve.line.source == source
            ]
            theirs = [
                replace(curve, label=f"{names[curve.line]} (authors)", thin=True)
                for curve in _authors(own, scored, metric)
            ]
            height = levels(scored, metric, judge).get(source)
            overlaid = overlaid or bool(theirs)
            full = {} if height is None else {"all rows": height}
            title = questions_of(name, judge)
            title = f"{source}\n{title}" if len(order) > 1 else title
            row.append(Panel(title, score_label(judge), [*own, *theirs], full) if own else None)
        grid.append(row)
    grid = _flowing(grid)
    if grid:
        also = ["dotted and hollow: the authors' released run" if overlaid else "", *sorted(warnings)]
        caption = (
            "100 · Σ model scores / Σ competitor scores against the rows trained on (the paper's figure 2); for judge "
            f"gold the competitor is the right answer. {_band()} Where all lines are one seed, the band is the 95 % "
            "interval over questions. Dashed grey: a model trained on all rows, where there is one."
        )
        band = "band: 95 % over questions; one seed" if alone else BAND
        yield Entry("relative_score", "Relative score", caption, draw_panels(grid, band, "; ".join(filter(None, also))))


def _labels(frame: Frame) -> tuple[dict[Line, str], dict[Line, tuple[float, ...]]]:
    """What each line is called, and how it is dashed."""
    return labels(frame.line), dashes(frame.line)


def _one_seed(frame: Frame, keys: Iterable[tuple[str, str]]) -> bool:
    """Whether no curve has several seeds: bands of two kinds beside each other would be compared."""
    return all(max(curve.seeds) == 1 for metric, judge in keys for curve in curves(frame, metric, judge))


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


def _authors(own: Sequence[Curve], frame: Frame, metric: str) -> list[Curve]:
    """The authors' curves on the same data set and benchmark, for the samplers that our own panel shows."""
    lines = [curve.line for curve in own if not curve.line.released]
    if not lines:
        return []
    data = lines[0].source.partition("/")[0].lower()
    families = {family for family, words in FAMILIES.items() if any(word in data for word in words)}
    released = frame[frame.source.isin(families) & frame.line.map(lambda line: line.released).astype(bool)]
    samplers = {line.sampler for line in lines}
    drawn = (curve for judge in sorted(set(released.judge)) for curve in curves(released, metric, judge))
    return [curve for curve in drawn if curve.line.sampler in samplers]


def _vendi(frame: Frame) -> Iterator[Entry]:
    caption = (
        "The effective number of distinct rows in the pool, by the foundation model's embeddings (the paper's figure "
        "3). Hidden states share a large mean, which squeezes the paper's score towards 1; centred by the mean over "
        f"all rows it spreads out. {_band()}"
    )
    yield from _metrics(frame, "vendi_score", "Vendi-Score", VENDI, caption)


def _learning(frame: Frame) -> Iterator[Entry]:
    caption = (
        "Coverage radius: the largest distance from any row of the data set to the pool, in the foundation model's "
        "space, which is what K-Center makes small. Training loss: mean over the last tenth of the steps, on the pool "
        f"itself, so pools of other rows are other tasks. {_band()}"
    )
    yield from _metrics(frame, "coverage_and_loss", "Coverage radius and training loss", LEARNING, caption)


def _losses(frame: Frame) -> Iterator[Entry]:
    measured = sorted({*frame[frame["name"].isin(LOSSES)].metric}, key=metric_order)
    caption = (
        "The mean loss of a response token: on the pool (training), on rows that no pool holds, and on the benchmarks' "
        "references or the competitor's answers. On the last two lower is better; of training that cannot be said, "
        "for pools of other rows are other tasks. Both are a warning light and not a judge: they tell when a fit has "
        f"gone wrong, and hardly which of two good models answers better. {_band()} Where all lines are one seed, the "
        "band on held-out rows and references is the 95 % interval over these."
    )
    keys = ("train_loss", *measured)
    columns = 0 if len(keys) <= 3 else 2 if len(keys) == 4 else 3
    alone = _one_seed(frame, [(key, "") for key in measured])
    grid = _grid(frame, [(key, "") for key in keys], columns, own_intervals=alone) if measured else []
    if grid:
        band = "band: 95 % over rows; one seed" if alone else BAND
        yield Entry("losses", "Losses", caption, draw_panels(grid, band, WARNING_LIGHT, legend=bool(columns)))


def _others(frame: Frame) -> Iterator[Entry]:
    intervals = {end.name for each in set(frame.description) if each.interval for end in MetricKey(each.name).ends}
    keys = sorted({*frame[~frame["name"].isin(SHOWN_ELSEWHERE | intervals)].metric})
    yield from _metrics(frame, "other_metrics", "Other metrics", keys, f"As logged by the rounds. {_band()}", 4)


def _cost(frame: Frame) -> Iterator[Entry]:
    keys = sorted({*frame[frame["name"] == "seconds"].metric}, key=_phase)
    asked = frame[frame["name"] == JUDGE_CALLS]
    calls = sorted({*zip(asked.metric, asked.judge, strict=True)}, key=lambda key: (key[1], metric_order(key[0])))
    caption = (
        "Wall seconds of each phase of a round, as measured where it ran, and judgements by a language model for each "
        "round: one call each, unless the reply was in the cache. "
        f"{_band()}"
    )
    grid = _grid(frame, [*((key, "") for key in keys), *calls], 4)
    if grid:  # a run on all rows has no curve
        yield Entry("cost", "Cost of a round", caption, draw_panels(grid, BAND, legend=True))


def _memory(frame: Frame) -> Iterator[Entry]:
    keys = sorted({*frame[frame["name"] == PEAK_MEMORY].metric}, key=_phase)
    caption = (
        "Peak memory of each phase of a round in gigabytes (10⁹ bytes), of the first process: its resident memory, "
        "pages of mapped files included (evolutions one after the other in one process, as in a sweep, add up), "
        "and, where there is a GPU, what torch held on it (“device”). "
        f"{_band()}"
    )
    grid = _grid(frame, [(key, "") for key in keys], 4)
    if grid:
        note = "evolutions that share a process, as in a sweep, add up"
        yield Entry("memory", "Peak memory of a round", caption, draw_panels(grid, BAND, note, legend=True))


def _phase(metric: str) -> tuple[int, str]:
    order = (ALL_PHASES, "foundation", "fit", "probe", "disagreement", "select", "measure", "answer", "judge")
    phase = MetricKey.parse(metric).part
    name = phase if phase in order else phase.partition(" ")[0]  # "answer vicuna" and "answer koala" are one kind
    return (order.index(name) if name in order else len(order), metric)


def _metrics(
    frame: Frame, name: str, title: str, keys: Sequence[str], caption: str, columns: int = 0
) -> Iterator[Entry]:
    grid = _grid(frame, [(key, "") for key in keys], columns)
    if grid:
        yield Entry(name, title, caption, draw_panels(grid, BAND, legend=bool(columns)))


def _grid(
    frame: Frame, keys: Sequence[tuple[str, str]], columns: int, *, own_intervals: bool = False
) -> list[list[Panel | None]]:
    """A row of panels a source, or, where `columns` is given, as many rows as it takes; empty panels left out.

    Bands are over seeds, or, with `own_intervals`, a loss's own over the rows that it was measured on.
    """
    names, patterns = _labels(frame)
    grid: list[list[Panel | None]] = []
    found = sources(frame[frame.metric.isin([key for key, _ in keys]) & ~frame.full].line)
    described = descriptions(frame)
    for source in found:
        row: list[Panel | None] = []
        for key, judge in keys:
            drawn = [
                replace(curve, label=names[curve.line], dashes=patterns[curve.line])
                for curve in curves(frame, key, judge, own_intervals=own_intervals)
                if curve.line.source == source
            ]
            if not drawn:
                row.append(None)
                continue
            about = described[key]
            height = levels(frame, key, judge).get(source) if about.level else None
            full = {} if height is None else {"all rows": height}
            title = about.titled(MetricKey.parse(key).part)
            title = title if len(found) == 1 else f"{source}\n{title}"
            row.append(Panel(title, about.axis, drawn, full, about.unit in AMOUNTS))
        present: list[Panel | None] = [panel for panel in row if panel]
        if columns:
            grid += [present[i : i + columns] for i in range(0, len(present), columns)]
        elif present:
            grid.append(row)
    used = [j for j in range(max(map(len, grid), default=0)) if any(j < len(row) and row[j] for row in grid)]
    return [[row[j] if j < len(row) else None for j in used] for row in grid]


def _against(frame: Frame) -> Iterator[Entry]:
    figure = draw_diversity_against_score(frame)
    if figure is not None:
        caption = (
            "Each point is one run's pool: its Vendi-Score and the relative score of the model trained on it, at equal "
            "numbers of rows (the paper's figure 4). Colour and marker: the sampler; hollow: chosen at once."
        )
        yield Entry("score_against_vendi", "Relative score against Vendi-Score at equal sizes", caption, figure)


def _win_tie_lose(frame: Frame) -> Iterator[Entry]:
    figure = draw_win_tie_lose(frame, _labels(frame)[0])
    if figure is not None:
        caption = (
            "Questions on which the model beats, ties with or loses to the competitor (scores summed over both "
            "orders), in per cent, at the largest number of rows that all lines of a seed have, mean over seeds."
        )
        yield Entry("win_tie_lose", "Win, tie, lose", caption, figure)


FIGURES: tuple[Callable[[Frame], Iterator[Entry]], ...] = (
    _vendi, _against, _learning, _losses, _win_tie_lose, _cost, _memory, _others,
)  # fmt: skip
