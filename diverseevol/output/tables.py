"""Tables for the terminal, the page and spreadsheets: what a column of equal values, a number or an interval is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rich.box import SIMPLE_HEAD
from rich.console import Group, JustifyMethod, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from diverseevol.output.terminal import one_line

KEPT_TOGETHER = 14  # letters of a word that is not broken in a table that is too wide; numbers are shorter
SHORT = 24  # letters of a value that is said above a table, or set on one line
NEVER_FOLDED = ("sampler", "verdict")


@dataclass(frozen=True)
class Table:
    """Cells as texts.

    Attributes:
        title: the line above it.
        head: the columns' names.
        rows: of as many cells each.
        notes: the lines below it; empty ones are left out.
        meanings: what names in `head` mean, said below a table in which they have a value.
    """

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    meanings: Mapping[str, str] = field(default_factory=dict)


def folded(head: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[str, list[int]]:
    """A table without its columns of one value.

    Returns:
        What is the same in all rows, to be said above them, and the places of the other columns. Empty columns are
        neither.
    """
    columns = [[row[i] for row in rows] for i in range(len(head))]

    def is_constant(name: str, values: Sequence[str]) -> bool:
        alike = len(set(values)) == 1 < len(values) and len(values[0]) < SHORT
        return not any(values) or (alike and name not in NEVER_FOLDED)

    constant = [is_constant(name, values) for name, values in zip(head, columns, strict=True)]
    constants = [f"{head[i]}: {columns[i][0]}" for i in range(len(head)) if constant[i] and any(columns[i])]
    return " · ".join(constants), [i for i in range(len(head)) if not constant[i]]


def is_numeric(values: Sequence[str]) -> bool:
    """Whether a column is set to the right; empty cells fit either way."""
    return all(not value or value[0] in "+-0123456789[" for value in values)


def interval(low: float | None, high: float | None, form: str = ".2f") -> str:
    """Both ends of an interval; "" where there is none."""
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def as_text(table: Table) -> Group:
    """A table for the terminal, with its title and notes."""
    constants, kept = folded(table.head, table.rows)
    shown = RichTable(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i in kept:
        column = [row[i] for row in table.rows]
        words = [word for cell in (table.head[i], *column) for word in cell.split()]
        width = min(KEPT_TOGETHER, max(map(len, words), default=0))
        justify: JustifyMethod = "right" if is_numeric(column) else "left"
        shown.add_column(table.head[i], justify=justify, overflow="fold", min_width=width)
    for row in table.rows:
        shown.add_row(*(row[i] for i in kept))
    named = {name for i, name in enumerate(table.head) if any(row[i] for row in table.rows)}
    notes = [*(meaning for name, meaning in table.meanings.items() if name in named), *table.notes]
    above: list[RenderableType] = [
        Text(one_line(table.title), style="bold"),
        *([one_line(constants)] if constants else []),
    ]
    return Group(*above, shown, *map(one_line, filter(None, notes)), "")
