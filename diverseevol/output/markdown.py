"""Texts of others in Markdown."""

from diverseevol.output.terminal import one_line

MARKS = "\\`*_{}[]<>()#+!|~"  # what a backslash before it makes a letter


def plain(text: str) -> str:
    """A text of somebody else's on one line, which is shown and means nothing in Markdown."""
    return "".join(f"\\{letter}" if letter in MARKS else letter for letter in one_line(text))
