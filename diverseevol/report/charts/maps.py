"""The rows of a data set on a plane (`map.npy`), and the round in which each joined."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float, UInt16
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from diverseevol.errors import InputError
from diverseevol.geometry.projections import PCA, map_name
from diverseevol.report.charts.lines import FULL, Line
from diverseevol.report.charts.style import GRID, MUTED, STYLE, facets, panels_across, write_note, write_title
from diverseevol.report.collect import Run
from diverseevol.storage.reading import load_array

# Early to late: viridis without its palest end, which white would swallow, and one without its darkest for dark pages.
COLOURS = ("#482173", "#3e4c8a", "#2e6f8e", "#21908d", "#35b779", "#90d743", "#c8c01c")
DARK_COLOURS = ("#a884e0", "#7f95e6", "#4aabd0", "#2fc0a8", "#66d884", "#aee65a", "#f4ec5a")
AXES = {PCA: "PCA", "tsne": "t-SNE"}
STEPS = 65535  # of a coordinate in the page


@dataclass(frozen=True, eq=False)
class Map:
    """Coordinates that several runs may share.

    Attributes:
        key: a digest of them.
        xy: a point a row of the data set, as the file has it.
    """

    key: str
    xy: Float[np.ndarray, "rows 2"]

    def quantised(self) -> UInt16[np.ndarray, "rows 2"]:
        """Both coordinates in 0 … 65535 with one scale, so that distances keep their meaning."""
        low, span = self.xy.min(axis=0), float(np.ptp(self.xy, axis=0).max()) or 1.0
        return np.asarray(np.round((self.xy - low) / span * STEPS), dtype=np.uint16)


def read_maps(runs: Sequence[Run], projection: str = PCA) -> dict[Run, Map]:
    """The maps of the runs that have one; equal ones are one object.

    Raises:
        InputError: no run has this projection, or a file is no [rows, 2] array, or lacks rows.
    """
    maps: dict[Run, Map] = {}
    known: dict[str, Map] = {}
    for run in runs:
        file = run.folder / map_name(projection)
        if file.exists():
            coordinates = _read(file, run)
            maps[run] = known.setdefault(coordinates.key, coordinates)
    if runs and not maps and projection != PCA:
        raise InputError(
            f"projection={projection}: no run folder holds {map_name(projection)}, a [rows, 2] array of floats; put it "
            f"beside map.npy (evolve projection=tsne writes one, of a complete run, too), or leave it at {PCA}"
        )
    return maps


def _read(file: Path, run: Run) -> Map:
    xy = load_array(file, remedy="restore it, or remove it to report without it")
    last = max((max(done.trained_on, default=0) for done in run.rounds), default=0)
    if xy.ndim != 2 or xy.shape[1] != 2 or xy.dtype.kind != "f" or not np.isfinite(xy).all() or len(xy) <= last:
        raise InputError(
            f"{file}: expected a finite point for each row, up to row {last} at least, got an array "
            f"{xy.dtype}{list(xy.shape)}; restore it, or remove it to report without it"
        )
    return Map(hashlib.sha256(np.ascontiguousarray(xy).tobytes()).hexdigest()[:12], xy.astype(np.float32))


def draw_maps(maps: Mapping[Run, Map], names: Mapping[Line, str], projection: str) -> Figure | None:
    """A panel a line, of its first seed that has a map."""
    first: dict[Line, Run] = {}
    for run in maps:
        if run.rounds:
            first.setdefault(run.line, run)
    if not first:
        return None
    first = {line: run for line, run in first.items() if line.kind != FULL} or first  # all rows show nothing
    with matplotlib.rc_context(STYLE):
        figure, grid = facets(len(first), panels_across([line.source for line in first]), 2.9, 2.9, "compressed")
        last = max(max(run.joined.values(), default=0) for run in first.values())
        scale = round_scale(max(last + 1, 2))
        norm = matplotlib.colors.BoundaryNorm(np.arange(scale.N + 1) - 0.5, scale.N)
        several = len({line.source for line in first}) > 1
        for axes, (line, run) in zip(grid, first.items(), strict=True):
            draw_panel(axes, maps[run].xy, run.joined, scale, norm)
            seed = "" if run.seed is None else f", seed {run.seed}"
            write_title(axes, line.source if several else "", f"{names[line]}{seed}")
        bar = figure.colorbar(matplotlib.cm.ScalarMappable(norm, scale), ax=grid, shrink=0.7, pad=0.02)
        bar.set_label("joined for round")
        bar.locator = matplotlib.ticker.MaxNLocator(integer=True, nbins=6)
        bar.minorlocator = matplotlib.ticker.NullLocator()
        bar.update_ticks()
        bar.outline.set_visible(False)  # type: ignore[operator]
        space = f"{AXES.get(projection, projection)} of the foundation model's embeddings"
        write_note(figure, f"{space}; grey: rows that were never chosen")
    return figure


def round_scale(steps: int) -> matplotlib.colors.Colormap:
    """The colours from early to late."""
    return matplotlib.colors.LinearSegmentedColormap.from_list("rounds", COLOURS, N=steps)


def draw_panel(
    axes: Axes,
    xy: Float[np.ndarray, "rows 2"],
    when: Mapping[int, int],
    scale: matplotlib.colors.Colormap,
    norm: matplotlib.colors.Normalize,
) -> None:
    """All rows as points, those that joined above the others and in the colour of when."""
    chosen = sorted(when, key=lambda row: when[row])
    never_chosen = np.setdiff1d(np.arange(len(xy)), chosen)
    size = float(np.clip(9000 / max(len(xy), 1), 1.2, 9))
    # Pixels even in the SVG: fifteen thousand shapes are no figure to open.
    axes.scatter(xy[never_chosen, 0], xy[never_chosen, 1], s=size, c=GRID, linewidths=0, rasterized=True)
    axes.scatter(
        xy[chosen, 0], xy[chosen, 1], s=max(2 * size, 6), c=[when[row] for row in chosen], cmap=scale, norm=norm,
        linewidths=0, rasterized=True,
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, color=MUTED, linewidth=0.4)
