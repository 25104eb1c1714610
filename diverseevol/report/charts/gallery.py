"""Which figures a report shows: each from points alone, with a caption that says how to read it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from diverseevol.evaluation.scores.frame import Frame
from diverseevol.report.charts.bars import draw_win_tie_lose
from diverseevol.report.charts.curves import BAND, CROWDED, Curve, Panel, curves, draw_panels, levels
from diverseevol.report.charts.lines import dashes, labels, sources
from diverseevol.report.charts.scatter import draw_diversity_against_score
from diverseevol.report.charts.style import STYLE, save_png
from diverseevol.report.charts.titles import WARNING_LIGHT, metric_order, panel_texts
from diverseevol.report.collect import ALL_PHASES, JUDGE_CALLS, PEAK_MEMORY, Collection
from diverseevol.report.frame import descriptions
from diverseevol.report.sources import OF_ALL_ROWS, OF_POOL
from diverseevol.runs.metrics import COSTS, POOL_SIZE, SCORES, MetricKey

VENDI = ("vendi_score", "vendi_score_centred", "vendi_score_current")
LEARNING = ("coverage_radius", "train_loss")
LOSSES = ("held_out_loss", "reference_loss")
AMOUNTS = {"seconds", "gigabytes", "calls", "share", "share of the pool"}
FAMILIES = {
    "dolly": ("dolly",),
    "davinci": ("davinci", "alpaca_data"),
    "gpt4": ("gpt4", "gpt-4"),
}  # in a data set's name
NEGLIGIBLE = 0.01  # of a round's seconds: a phase that takes less has no panel
READING = (
    "A line is the mean over seeds, its band goes from the lowest to the highest seed, and a line without a band is "
    f"one seed; panels of more than {CROWDED} lines have none. Hollow markers: not all seeds came this far. Hollow and "
    "joined by dots: all chosen at once, with nothing measured between. Dashed grey: a model trained on all rows."
)
Key = tuple[str, str]  # a metric by its logged name, and whose judgement it is, "" for what nobody judged


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
    with matplotlib.rc_context(STYLE):
        return [*_relative_score(frame, collection.board.labels), *(entry for make in FIGURES for entry in make(frame))]


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


def _keys(frame: Frame, *names: str) -> list[Key]:
    """All that is there of some metrics, in the order of panels: by judge, metric and benchmark."""
    named = frame[frame["name"].isin(names)]
    keys = dict.fromkeys(zip(named.metric, named.judge, strict=True))
    return sorted(keys, key=lambda key: (key[1], metric_order(key[0])))


def _panels(frame: Frame, keys: Sequence[Key], *, own_intervals: bool = False) -> list[Panel]:
    """A panel a source and metric that has curves.

    Bands are over seeds, or, with `own_intervals`, a number's own over the questions or rows that it was measured on.
    """
    names, patterns, described = labels(frame.line), dashes(frame.line), descriptions(frame)
    metrics = [metric for metric, _ in keys]
    shown = sources(frame[frame.metric.isin(metrics) & ~frame.full & frame.rows.notna()].line)
    panels = []
    for source in shown:
        for metric, judge in keys:
            drawn = [
                replace(curve, label=names[curve.line], dashes=patterns[curve.line])
                for curve in curves(frame, metric, judge, own_intervals=own_intervals)
                if curve.line.source == source
            ]
            if not drawn:
                continue
            drawn += [
                replace(curve, label=f"{names[curve.line]} (authors)") for curve in _authors(drawn, frame, metric)
            ]
            about = described[metric]
            title, axis = panel_texts(metric, judge, about)
            title = f"{source}\n{title}" if len(shown) > 1 else title
            level = levels(frame, metric, judge).get(source) if about.level else None
            full = {} if level is None else {"all rows": level}
            panels.append(Panel(source, title, axis, drawn, full, about.unit in AMOUNTS))
    return panels


def _authors(drawn: Sequence[Curve], frame: Frame, metric: str) -> list[Curve]:
    """The authors' curves on the same data set and benchmark, for the samplers that our own panel shows."""
    if drawn[0].line.released:
        return []
    data = drawn[0].line.source.partition("/")[0].lower()
    families = {family for family, words in FAMILIES.items() if any(word in data for word in words)}
    released = frame[frame.source.isin(families) & frame.line.map(lambda line: line.released).astype(bool)]
    samplers = {curve.line.sampler for curve in drawn}
    theirs = (curve for judge in sorted(set(released.judge)) for curve in curves(released, metric, judge))
    return [replace(curve, thin=True) for curve in theirs if curve.line.sampler in samplers]


def _one_seed(frame: Frame, keys: Iterable[Key]) -> bool:
    """Whether no curve has several seeds: bands of two kinds beside each other would be compared."""
    return all(max(curve.seeds) == 1 for key in keys for curve in curves(frame, *key))


def _entry(
    frame: Frame, name: str, title: str, caption: str, keys: Sequence[Key], band: str = BAND, remarks: str = ""
) -> Iterator[Entry]:
    """The figure of some metrics; none where nothing has a curve, as of a run on all rows."""
    if panels := _panels(frame, keys, own_intervals=band != BAND):
        yield Entry(name, title, caption, draw_panels(panels, band, remarks))


def _relative_score(frame: Frame, warnings: Iterable[str]) -> Iterator[Entry]:
    keys = _keys(frame, "relative_score")
    caption = (
        "100 · Σ model scores / Σ competitor scores against the rows trained on (the paper's figure 2); for judge gold "
        "the competitor is the right answer. Where all lines are one seed, the band is the 95 % interval over "
        "questions. Dotted and hollow, where there are any: the authors' released runs."
    )
    band = "band: 95 % over questions; one seed" if _one_seed(frame, keys) else BAND
    yield from _entry(frame, "relative_score", "Relative score", caption, keys, band, "; ".join(sorted(warnings)))


def _vendi(frame: Frame) -> Iterator[Entry]:
    caption = (
        "The effective number of distinct rows in the pool, by the foundation model's embeddings (the paper's figure "
        "3). Hidden states share a large mean, which squeezes the paper's score towards 1; centred by the mean over "
        "all rows it spreads out."
    )
    yield from _entry(frame, "vendi_score", "Vendi-Score", caption, _keys(frame, *VENDI))


def _learning(frame: Frame) -> Iterator[Entry]:
    caption = (
        "Coverage radius: the largest distance from any row of the data set to the pool, in the foundation model's "
        "space, which is what K-Center makes small. Training loss: mean over the last tenth of the steps, on the pool "
        "itself, so pools of other rows are other tasks."
    )
    keys = [(metric, "") for metric in LEARNING]
    yield from _entry(frame, "coverage_and_loss", "Coverage radius and training loss", caption, keys)


def _losses(frame: Frame) -> Iterator[Entry]:
    measured = _keys(frame, *LOSSES)
    if not measured:
        return
    described = descriptions(frame)
    titles = dict.fromkeys(described[metric].title for metric, _ in measured)
    caption = (
        "The mean loss of a response token: on the pool (training), on rows that no pool holds, and on the benchmarks' "
        "references or the competitor's answers. On the last two lower is better; of training that cannot be said, "
        "for pools of other rows are other tasks. Both are a warning light and not a judge: they tell when a fit has "
        "gone wrong, and hardly which of two good models answers better. Where all lines are one seed, the band on "
        "held-out rows and references is the 95 % interval over these."
    )
    band = "band: 95 % over rows; one seed" if _one_seed(frame, measured) else BAND
    title = f"Training loss, {', '.join(titles)}"
    yield from _entry(frame, "losses", title, caption, [("train_loss", ""), *measured], band, WARNING_LIGHT)


def _other_metrics(frame: Frame) -> Iterator[Entry]:
    intervals = {end.name for about in set(frame.description) if about.interval for end in MetricKey(about.name).ends}
    described = (POOL_SIZE, *SCORES, *COSTS, OF_POOL, OF_ALL_ROWS)
    shown = {"round", *(each.name for each in described), *VENDI, *LEARNING, *LOSSES}
    keys = _keys(frame, *({*frame["name"]} - shown - intervals))
    yield from _entry(frame, "other_metrics", "Other metrics", "As logged by the rounds.", keys)


def _sources(frame: Frame) -> Iterator[Entry]:
    panels = []
    for metric, judge in _keys(frame, OF_POOL.name):
        of_all = frame[frame.metric == str(MetricKey(OF_ALL_ROWS.name, MetricKey.parse(metric).part))]
        share = {str(source): float(value) for source, value in of_all.groupby("source").value.mean().items()}
        for panel in _panels(frame, [(metric, judge)]):
            panels.append(replace(panel, levels={"share of all rows": share[panel.group]}))
    if panels:
        caption = (
            "Which share of the pool comes from each source of the data. Dashed grey: the source's share of all rows "
            "that can be trained on, which a random choice keeps."
        )
        yield Entry("sources", "Shares of the sources", caption, draw_panels(panels, BAND))


def _cost(frame: Frame) -> Iterator[Entry]:
    seconds = frame[frame["name"] == "seconds"].groupby("metric").value.mean()
    total = seconds.get(f"seconds/{ALL_PHASES}", 0)
    keys = [key for key in _keys(frame, "seconds") if seconds[key[0]] >= NEGLIGIBLE * total]
    caption = (
        "Wall seconds of each phase of a round, as measured where it ran (tables/points.csv has those, too, that take "
        f"less than {NEGLIGIBLE:.0%} of a round), and judgements by a language model for each round: one call each, "
        "unless the reply was in the cache."
    )
    yield from _entry(frame, "cost", "Cost of a round", caption, [*keys, *_keys(frame, JUDGE_CALLS)])


def _memory(frame: Frame) -> Iterator[Entry]:
    caption = (
        "Peak memory of each phase of a round in gigabytes (10⁹ bytes), of the first process: its resident memory, "
        "pages of mapped files included (evolutions one after the other in one process, as in a sweep, add up), "
        "and, where there is a GPU, what torch held on it (“device”)."
    )
    remarks = "evolutions that share a process, as in a sweep, add up"
    keys = _keys(frame, PEAK_MEMORY)
    yield from _entry(frame, "memory", "Peak memory of a round", caption, keys, remarks=remarks)


def _against(frame: Frame) -> Iterator[Entry]:
    figure = draw_diversity_against_score(frame)
    if figure is not None:
        caption = (
            "Each point is one run's pool: its Vendi-Score and the relative score of the model trained on it, at equal "
            "numbers of rows (the paper's figure 4). Colour and marker: the sampler; hollow: chosen at once."
        )
        yield Entry("score_against_vendi", "Relative score against Vendi-Score at equal sizes", caption, figure)


def _win_tie_lose(frame: Frame) -> Iterator[Entry]:
    figure = draw_win_tie_lose(frame, labels(frame.line))
    if figure is not None:
        caption = (
            "Questions on which the model beats, ties with or loses to the competitor (scores summed over both "
            "orders), in per cent, at the largest number of rows that all lines of a seed have, mean over seeds."
        )
        yield Entry("win_tie_lose", "Win, tie, lose", caption, figure)


FIGURES: tuple[Callable[[Frame], Iterator[Entry]], ...] = (
    _vendi, _against, _learning, _losses, _sources, _win_tie_lose, _cost, _memory, _other_metrics,
)  # fmt: skip
