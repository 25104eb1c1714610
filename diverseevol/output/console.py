"""A rich console on which data is only ever text: no markup, no emoji codes, no highlighting, nothing that steers."""

import logging
from collections.abc import Iterable
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.highlighter import NullHighlighter
from rich.logging import RichHandler
from rich.segment import Segment
from rich.text import Text

from diverseevol.output.terminal import LONGEST, one_line, visible

WIDTH = 120  # of tables that go to a file or a pipe, which wrap nowhere


class Console(RichConsole):
    """Prints strings as they are, a line each, and tables.

    Styles are given by `style=`, or for a part of a line by `styled`; never within the string.
    """

    def __init__(self, **options: Any) -> None:
        """Make a console; `options` are rich's, such as `stderr`, `quiet` and `width`."""
        super().__init__(**options, markup=False, emoji=False, highlight=False, highlighter=NullHighlighter())

    def print(self, *objects: Any, **options: Any) -> None:
        """Print one line of text, which is not broken, or something that fills several, such as a table."""
        if all(isinstance(each, str | Text) for each in objects):
            options.setdefault("soft_wrap", True)  # a path or a command that is broken cannot be copied
        super().print(*(one_line(each) if isinstance(each, str) else each for each in objects), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as text, before its width is measured: cells, titles, headings."""
        return super().render_str(visible(text), **{**options, "markup": False, "emoji": False, "highlight": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What is about to be written, with steering characters visible; only rich's own control codes pass."""
        for segment in super().render(renderable, options):
            plain = segment.text if segment.control else visible(segment.text)
            yield segment if plain == segment.text else Segment(plain, segment.style)


def styled(*parts: str | tuple[str, str]) -> Text:
    """One line of which some parts have a style.

    Args:
        parts: strings, or pairs of a string and its style such as `bold`.
    """
    pairs = ((part, "") if isinstance(part, str) else part for part in parts)
    return Text.assemble(*((one_line(text), style) for text, style in pairs))


def results_console() -> Console:
    """Where results go: standard output, as wide as the terminal, and never cut where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def log_to(console: Console) -> None:
    """Let warnings and errors of all loggers appear on a console, a line each."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_Handler(console)], force=True)


class _Handler(RichHandler):
    def __init__(self, console: Console) -> None:
        super().__init__(console=console, show_path=False, show_time=False, highlighter=NullHighlighter(), keywords=[])

    def render_message(self, record: logging.LogRecord, message: str) -> Text:
        """The message as text, whatever the record asks for."""
        return Text(one_line(message, LONGEST))
