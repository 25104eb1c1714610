"""One HTML file that holds everything and asks the network for nothing."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from diverseevol import __version__
from diverseevol.evaluation.scores.comparison import AFTER_THE_FACT, MINIMUM_SEEDS, MODELS, SAMPLERS
from diverseevol.evaluation.scores.plateau import RULE
from diverseevol.output.tables import SHORT, folded, is_numeric
from diverseevol.output.terminal import escaped, visible
from diverseevol.report.charts.gallery import READING, Entry
from diverseevol.report.charts.lines import FULL, LOOKS, Line, look
from diverseevol.report.charts.maps import COLOURS, DARK_COLOURS
from diverseevol.report.charts.style import colour_name
from diverseevol.report.page.folder import HEAD, TITLE
from diverseevol.report.tables import Cell, Table

ASSETS = Path(__file__).parent / "assets"
TEXTS = {  # what the page says of verdicts and rules, in their own words
    "version": __version__, "title": TITLE, "SAMPLERS": SAMPLERS, "MODELS": MODELS, "RULE": RULE, "READING": READING,
    "AFTER_THE_FACT": AFTER_THE_FACT, "MINIMUM_SEEDS": MINIMUM_SEEDS, "colours": json.dumps([COLOURS, DARK_COLOURS]),
}  # fmt: skip
INTERVAL = r"(\[[^][,;]+,) ([^][,;]+\])"
MINUS = "\N{MINUS SIGN}"
NEGATIVE = r"(?<![\w/.-])-(?=\d)"  # a hyphen in a number's place


def page(
    *,
    lead: str,
    names: Mapping[Line, str],
    tables: Mapping[str, Table],
    notes: Sequence[str],
    figures: Sequence[tuple[Entry, str]],
    rows: Mapping[str, Any] | None,
    answers: Mapping[str, Any],
) -> str:
    """The complete page.

    Everything that comes from data is escaped: text in the markup, and JSON so that nothing in it can end its element.
    A policy in the page forbids whatever is not in the page itself.

    Args:
        lead: below the title.
        names: of the lines in the tables.
        tables: by name; empty ones are left out.
        notes: what a reader must know, such as what is incomplete.
        figures: in their order, with the SVG of each.
        rows: see `rows_payload`; None where no run was found.
        answers: see `answers_payload`.
    """
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    runs = rows["runs"] if rows else []
    sections = {
        "short": ("In short", True),
        "figures": ("Figures", figures),
        "tables": ("Final rounds", tables["final_rounds"].rows or tables["final_pools"].rows),
        "map": ("Map of the rows", rows and rows["maps"]),
        "receipts": ("Which rows were chosen, and why", any(any(run["picks"]) for run in runs)),
        "search": ("Every row: chosen or not, and why", any(run["reasons"] for run in runs)),
        "answers": ("Question by question", answers["models"]),
        "runs": ("What this report is made of", tables["runs"].rows),
    }
    return template("report.html.j2").render(
        TEXTS,
        head=Markup(HEAD),
        style=Markup(stylesheet()),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sections={name: heading for name, (heading, content) in sections.items() if content},
        lead=lead,
        notes=notes,
        figures=[(entry, Markup(svg)) for entry, svg in figures],
        tables={name: [_shown(part, names) for part in _parts(table)] for name, table in tables.items()},
        about={name: f" ({table.about})" if table.about else "" for name, table in tables.items()},
        answers=answers,
        cut=rows["cut"] if rows else None,
        data={"data-rows": rows and Markup(script_safe(rows)), "data-answers": Markup(script_safe(answers))},
    )


def template(name: str) -> Template:
    """A page of the assets.

    Texts are escaped where they enter the markup; what may steer a terminal or a reader's eye is made visible first.
    """
    environment = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, finalize=lambda value: visible(value) if type(value) is str else value,
    )  # fmt: skip
    return environment.get_template(name)


def stylesheet() -> str:
    """How pages look."""
    return (ASSETS / "report.css").read_text(encoding="utf-8") + _colours()


def _colours() -> str:
    """A variable a sampler, light and dark."""
    light, dark = ("".join(f"--{colour_name(name)}:{LOOKS[name][i]};" for name in LOOKS) for i in (1, 2))
    return f":root{{{light}}}@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def script_safe(value: Any) -> str:
    """JSON that can stand in a script element: no character of it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", escaped(text))


def _parts(table: Table) -> list[Table]:
    """Our own rows and the authors' released ones, where both are there; nothing of an empty table."""
    own = tuple(row for row in table.rows if not any(isinstance(cell, Line) and cell.released for cell in row))
    released = tuple(row for row in table.rows if row not in own)
    return [Table(table.name, table.head, rows) for rows in (own, released) if rows]


def _shown(table: Table, names: Mapping[Line, str]) -> dict[str, Any]:
    """What the template needs of a table: columns of one value are said above it, and the others have a class."""
    texts = table.texts(names)
    constants, kept = folded(table.head, texts)
    classes = [_class([row[i] for row in texts]) for i in range(len(table.head))]
    return {
        "name": table.name,
        "constants": constants,
        "head": [(table.head[i], classes[i]) for i in kept],
        "rows": [
            [_cell(row[i], text[i], classes[i]) for i in kept] for row, text in zip(table.rows, texts, strict=True)
        ],
    }


def _class(values: Sequence[str]) -> str:
    """How a column is set: numbers to the right, short texts on one line, long ones with room."""
    longest = max(map(len, values))
    if longest < 2 * SHORT and is_numeric(values):
        return "number"
    return "nowrap" if longest < SHORT else "long" if longest > 2 * SHORT else ""


def _cell(cell: Cell, text: str, kind: str) -> dict[str, Any]:
    """A cell's text, its class, and, of a line, the name of its colour."""
    if not isinstance(cell, Line):
        kind = text if text in ("better", "worse") else kind
        text = re.sub(NEGATIVE, MINUS, re.sub(INTERVAL, "\\1\N{NO-BREAK SPACE}\\2", text))
        return {"text": text, "kind": kind, "is_line": False, "colour": ""}
    shown = next(name for name in LOOKS if LOOKS[name][1] == look(cell.sampler)[0])
    return {"text": text, "kind": "", "is_line": True, "colour": "" if cell.kind == FULL else colour_name(shown)}
