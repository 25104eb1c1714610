"""Texts in figures: no formulas, no characters that an SVG cannot hold, no warnings of letters missing from a font."""

import functools
import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedFormatter, FuncFormatter

from diverseevol.output.terminal import visible


def rendered(figure: Figure, kind: str, **options: Any) -> bytes:
    """A figure as the content of a file.

    Args:
        figure: whatever its labels hold; they are made plain.
        kind: `png` or `svg`.
        options: of `Figure.savefig`.
    """
    buffer = io.BytesIO()
    with _plain(figure):
        figure.savefig(buffer, format=kind, **options)
    return buffer.getvalue()


def lay_out(figure: Figure) -> None:
    """Place a figure's parts once, for several files that are to look alike."""
    with _plain(figure):
        figure.draw_without_rendering()
    figure.set_layout_engine("none")


@contextmanager
def _plain(figure: Figure) -> Iterator[None]:
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)
        text.set_text(visible(text.get_text()))
    for axes in figure.findobj(Axes):
        assert isinstance(axes, Axes)
        for axis in (axes.xaxis, axes.yaxis):
            form = axis.get_major_formatter()
            if isinstance(form, FuncFormatter):  # which writes the labels again whenever they are drawn
                form.func = functools.partial(_plain_label, form.func)
            elif isinstance(form, FixedFormatter):
                form.seq = [visible(label) for label in form.seq]
    with matplotlib.rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # such a letter is drawn as a box
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # for a name longer than the figure is wide
        yield


def _plain_label(write: Callable[..., str], value: Any, position: int | None = None) -> str:
    return visible(write(value, position))
