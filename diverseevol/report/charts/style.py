"""How figures look, are laid out and are saved: one ink, a sampler's own colour; PNG and SVG, and SVG for the page."""

import re
import textwrap
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from diverseevol.output.pictures import lay_out, rendered
from diverseevol.report.charts.lines import LOOKS
from diverseevol.storage.files import atomic_write

# Neutral colours that are used for nothing else, so that the page can put its own in their place, light or dark.
INK, MUTED, GRID, PAPER = "#1b1b1c", "#6a6a6b", "#e4e4e5", "#fffffe"
NEUTRALS = {"ink": INK, "muted": MUTED, "grid": GRID, "paper": PAPER}
STYLE: Any = {
    "font.size": 8.5, "axes.titlesize": 9, "axes.labelsize": 8.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": MUTED, "axes.labelcolor": INK, "text.color": INK, "xtick.color": MUTED, "ytick.color": MUTED,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "axes.facecolor": "none", "figure.facecolor": "none",
    "axes.titlelocation": "left", "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": 0.7,
    "axes.axisbelow": True, "axes.linewidth": 0.7, "xtick.major.width": 0.7, "ytick.major.width": 0.7,
    "xtick.major.size": 3, "ytick.major.size": 3, "legend.frameon": False, "svg.fonttype": "none",
    "svg.hashsalt": "diverseevol", "axes.formatter.useoffset": False, "text.parse_math": False,
    "figure.constrained_layout.h_pad": 0.06, "figure.constrained_layout.w_pad": 0.09,
}  # fmt: skip
LEGEND_SIZE = 8  # points of a letter
LEGEND_GAPS = 3.9  # letters around a handle and its text
SIDE_BY_SIDE = 3  # panels, at most


def panels_across(groups: Sequence[Hashable]) -> int:
    """How many panels stand side by side: those of a group, where all groups have as many and these have room.

    Args:
        groups: of each panel, such as its source.
    """
    sizes = {*Counter(groups).values()}
    if len(sizes) == 1 and 1 < max(sizes) <= SIDE_BY_SIDE:
        return max(sizes)
    return 2 if len(groups) in (2, 4) else min(SIDE_BY_SIDE, len(groups))


def facets(
    count: int, columns: int, width: float, height: float, layout: Any = "constrained"
) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels in reading order, each with `width` × `height` inches, and their axes."""
    deep = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * deep), dpi=200, layout=layout)
    grid = figure.subplots(deep, columns, squeeze=False).ravel()
    for spare in grid[count:]:
        spare.set_visible(False)
    return figure, list(grid[:count])


def write_title(axes: Axes, *lines: str) -> None:
    """The lines above a panel, each broken where the panel ends; empty ones are left out."""
    grid = axes.get_gridspec()
    inches = axes.figure.bbox.width / axes.figure.dpi / (grid.ncols if grid else 1)
    width = int(12 * inches)  # letters that have room, at some 12 to the inch
    broken = (textwrap.wrap(line, width, break_long_words=False, break_on_hyphens=False) for line in lines)
    axes.set_title("\n".join(part for parts in broken for part in parts))


def write_legend(figure: Figure, entries: Mapping[str, Any], handle: float = 2) -> None:
    """A legend above the panels, not at their cost, and no wider than they are.

    Args:
        figure: whose it is.
        entries: artists by what they are called.
        handle: length of one, in letters.
    """
    columns = legend_columns(list(entries), figure.get_figwidth(), handle)
    figure.set_figheight(figure.get_figheight() + 0.17 * -(-len(entries) // columns) + 0.1)
    figure.legend(
        list(entries.values()), list(entries), loc="outside upper left", fontsize=LEGEND_SIZE, handlelength=handle,
        ncols=columns,
    )  # fmt: skip


def legend_columns(labels: Sequence[str], width: float, handle: float = 3) -> int:
    """How many columns of a legend have room side by side, a column as wide as its longest entry.

    Args:
        labels: of the entries, which fill one column after another.
        width: of the figure, in inches.
        handle: length of one, in letters.
    """
    gaps = (handle + LEGEND_GAPS) * LEGEND_SIZE / 72
    widths = [TextPath((0, 0), label, size=LEGEND_SIZE).get_extents().width / 72 if label else 0.0 for label in labels]
    for columns in range(min(6, len(labels)), 1, -1):
        longest = [float(part.max()) for part in np.array_split(widths, columns)]  # as a legend shares them out
        if sum(longest) + gaps * len(longest) <= width:
            return columns
    return 1


def write_note(figure: Figure, note: str) -> None:
    """A line below a figure, or as many as it needs, that says how to read it when it stands alone."""
    if note:
        width = int(17 * figure.get_figwidth())  # letters that have room, at some 17 to the inch
        lines = [part for line in note.splitlines() for part in textwrap.wrap(line, width)]
        figure.set_figheight(figure.get_figheight() + 0.14 * len(lines) + 0.1)  # not at the cost of the panels
        figure.supxlabel("\n".join(lines), x=0.008, ha="left", fontsize=7.5, color=MUTED)


def save_png(figure: Figure, path: Path) -> Path:
    """Write a PNG file, on white."""
    with matplotlib.rc_context(STYLE), atomic_write(path, "wb") as file:
        file.write(rendered(figure, "png", facecolor="white"))
    return path


def save(figure: Figure, folder: Path, name: str) -> str:
    """Write NAME.png and NAME.svg.

    Returns:
        The SVG for the page: its colours are the page's, and its ids its own.
    """
    with matplotlib.rc_context(STYLE):
        lay_out(figure)
        save_png(figure, folder / f"{name}.png")
        svg = rendered(figure, "svg", metadata={"Date": None, "Creator": None}).decode()
    with atomic_write(folder / f"{name}.svg") as out:
        out.write(svg)
    return _inline(svg[svg.index("<svg") :], name)


def _inline(svg: str, name: str) -> str:
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(?<=[" ;])font: ([^;"]*?[\d.]+px) [^;"]*', r"font: \1 var(--sans)", svg)
    for variable, colour in (*NEUTRALS.items(), *((colour_name(name), LOOKS[name][1]) for name in LOOKS)):
        svg = re.sub(colour, f"var(--{variable})", svg, flags=re.IGNORECASE)
    width, height = (float(value) for value in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    size = f'viewBox="0 0 {width:g} {height:g}" style="--natural: {width * 1.4:.0f}px" role="img"'
    return re.sub(r"<svg[^>]*>", f'<svg xmlns:xlink="http://www.w3.org/1999/xlink" {size}>', svg, count=1).strip()


def colour_name(sampler: str) -> str:
    """The page's variable with a sampler's colour."""
    return f"s-{sampler.replace('_', '-')}"
