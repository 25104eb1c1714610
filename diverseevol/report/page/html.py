"""One HTML file that holds everything and asks the network for nothing."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape as escape_markup
from pathlib import Path
from string import Template
from typing import Any

from diverseevol import __version__
from diverseevol.evaluation.scores.comparison import AFTER_THE_FACT, MODELS
from diverseevol.evaluation.scores.over_seeds import SAMPLERS
from diverseevol.evaluation.scores.significance import MINIMUM_SEEDS
from diverseevol.output.terminal import escaped, visible
from diverseevol.report.charts.lines import FULL, LOOKS, Line, look
from diverseevol.report.charts.maps import COLOURS, DARK_COLOURS
from diverseevol.report.charts.style import colour_name
from diverseevol.report.page.folder import HEAD, TITLE
from diverseevol.report.stopping import RULE
from diverseevol.report.tables import Table

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True)
class Picture:
    """A figure in the page: its SVG, and the names of the files beside it."""

    name: str
    title: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Content:
    """What the page shows.

    Attributes:
        lead: below the title.
        names: of the lines in the tables.
        tables: by name; empty ones are left out.
        notes: what a reader must know, such as what is incomplete.
        pictures: in their order.
        rows: see `texts.rows_payload`; None where no run was found.
        answers: see `answering.answers_payload`.
    """

    lead: str
    names: Mapping[Line, str]
    tables: Mapping[str, Table]
    notes: Sequence[str]
    pictures: Sequence[Picture]
    rows: Mapping[str, Any] | None
    answers: Mapping[str, Any]


def page(content: Content) -> str:
    """The whole page.

    Everything that comes from data is escaped: text in the markup, and JSON so that nothing in it can end its element.
    A policy in the page forbids whatever is not in the page itself.
    """
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    style = (ASSETS / "report.css").read_text(encoding="utf-8") + _colours()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
    parts = [part for part in _sections(content) if part[2]]
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in parts)
    body = "".join(f'<section id="{name}"><h2>{escape(title)}</h2>{inner}</section>' for name, title, inner in parts)
    data = _data("data-rows", content.rows) + _data("data-answers", content.answers)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{HEAD}<style>{style}</style></head><body>"
        f'<header><h1>{escape(TITLE)}</h1><p class="lead">{escape(content.lead)}</p></header>'
        f"<nav><div>{links}</div></nav><main>"
        "<noscript><p class='warning'>Without JavaScript there are the figures and tables; the map, the receipts and "
        f"the answers need it.</p></noscript>{body}"
        f"<footer>Made by diverseevol {__version__} from run folders and judgements alone.</footer></main>"
        f"{data}<script>{script}</script></body></html>\n"
    )


def _colours() -> str:
    """A variable a sampler, light and dark."""
    light, dark = (
        "".join(f"--{colour_name(name)}:{LOOKS[name][i]};" for name in LOOKS) for i in (1, 2)
    )  # fmt: skip
    return f":root{{{light}}}@media screen and (prefers-color-scheme: dark){{:root{{{dark}}}}}"


def _data(name: str, value: Mapping[str, Any] | None) -> str:
    return "" if value is None else f'<script type="application/json" id="{name}">{script_safe(value)}</script>'


def script_safe(value: Any) -> str:
    """JSON that can stand in a script element: no character of it can end the element or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return re.sub("[<>&]", lambda match: f"\\u{ord(match[0]):04x}", escaped(text))


def escape(text: str) -> str:
    """Text for the markup: nothing in it begins an element, and nothing steers what reads it."""
    return escape_markup(visible(text))


def _sections(content: Content) -> list[tuple[str, str, str]]:
    """Id, title and inner markup; a section without content is empty."""
    runs, rows = content.tables["runs"], content.rows or {"runs": [], "maps": {}}
    colours = json.dumps([COLOURS, DARK_COLOURS])
    picked = any(any(run["picks"]) for run in rows["runs"])
    return [
        ("short", "In short", _short(content)),
        ("figures", "Figures", "".join(map(_figure, content.pictures))),
        ("tables", "Final rounds", _finals(content)),
        (
            "map",
            "Map of the rows",
            _asset("map.html", colours=colours) if rows["maps"] else "",
        ),
        ("receipts", "Which rows were chosen, and why", _asset("receipts.html") if picked else ""),
        ("answers", "Question by question", _answers(content.answers)),
        ("runs", "What this report is made of", _table(runs, content) if runs.rows else ""),
    ]


def _short(content: Content) -> str:
    notes = "".join(f'<p class="warning">{escape(note)}</p>' for note in content.notes)
    held, stopping = content.tables["verdicts"], content.tables["stopping"]
    verdicts = (
        f"<h3>{_titled('Better than random, and as good as all rows?', held)}</h3>{_table(held, content)}"
        f'<p class="note">Difference: relative score of the sampler less that of what it is held against, at the '
        f"largest pool size that all arms of a seed have. Verdict: {escape(SAMPLERS)}. Model against model: "
        f"{escape(MODELS)}.</p>"
        if held.rows
        else '<p class="note">No verdict: nothing that was judged could be held against random or all rows.</p>'
    )
    stops = (
        f"<h3>When more rows stopped paying</h3>{_table(stopping, content)}"
        f'<p class="note">{escape(RULE)} Of several benchmarks the one that paid longest decides; coverage radius '
        "and Vendi-Score, which only say how the pool looks, decide where nothing was judged.</p>"
        if stopping.rows
        else ""
    )
    return notes + verdicts + stops


def _finals(content: Content) -> str:
    final, pools = content.tables["final_rounds"], content.tables["final_pools"]
    heading = f"<h3>{_titled('Scores', final)}</h3>" if final.about else ""
    scores = (
        f'{heading}{_table(final, content)}<p class="note">Mean over seeds, with a t-interval from {MINIMUM_SEEDS} '
        f"seeds on. Best rounds are {escape(AFTER_THE_FACT)}; they enter no verdict.</p>"
        if final.rows
        else ""
    )
    ranges = '<p class="note">Mean over seeds; […] from the lowest to the highest seed.</p>'
    return scores + (
        f"<h3>{_titled('The final pools', pools)}</h3>{_table(pools, content)}{ranges}" if pools.rows else ""
    )


def _titled(text: str, table: Table) -> str:
    """A heading, and which pools are side by side below it."""
    return escape(f"{text} ({table.about})" if table.about else text)


def _figure(picture: Picture) -> str:
    files = " · ".join(f'<a href="figures/{picture.name}.{kind}">{kind.upper()}</a>' for kind in ("png", "svg"))
    return (
        f'<figure id="figure-{picture.name}"><h3>{escape(picture.title)}</h3><div class="wide">{picture.svg}</div>'
        f'<figcaption>{escape(picture.caption)} <span class="files">{files}</span></figcaption></figure>'
    )


def _table(table: Table, content: Content) -> str:
    """Our own rows; the authors' released ones fold away where both are there."""
    own = tuple(row for row in table.rows if not any(isinstance(cell, Line) and cell.released for cell in row))
    others = tuple(row for row in table.rows if row not in own)
    files = f'<p class="files note"><a href="tables/{table.name}.csv">CSV</a></p>'
    if not own or not others:
        return _markup(table, content) + files
    folded = f"<details><summary>the authors' released results ({len(others)})</summary>{{}}</details>"
    ours, theirs = (_markup(Table(table.name, table.head, rows), content) for rows in (own, others))
    return ours + folded.format(theirs) + files


def _markup(table: Table, content: Content) -> str:
    """HTML; a column of one and the same value is said once above it, and an empty one is not there."""
    columns = list(zip(*([_plain(cell, content.names) for cell in row] for row in table.rows), strict=True))
    constant = [
        not any(values)
        or (len(set(values)) == 1 < len(values) and len(values[0]) < SHORT and name not in ("sampler", "verdict"))
        for name, values in zip(table.head, columns, strict=True)
    ]
    kept = [i for i in range(len(table.head)) if not constant[i]]
    classes = [f' class="{name}"' if (name := _class(values)) else "" for values in columns]
    head = "".join(f"<th{classes[i]}>{escape(table.head[i])}</th>" for i in kept)
    body = "".join(f"<tr>{''.join(_cell(row[i], content.names, classes[i]) for i in kept)}</tr>" for row in table.rows)
    said = " · ".join(f"{table.head[i]}: {columns[i][0]}" for i in range(len(columns)) if constant[i] and columns[i][0])
    caption = f'<p class="note">{escape(said)}</p>' if said else ""
    return f'{caption}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _class(values: Sequence[str]) -> str:
    """How a column is set: numbers to the right, short texts on one line, long ones with room."""
    longest = max(map(len, values))
    if longest < SHORT and all(value[:1] in "+-0123456789[" for value in values):  # "" is in every string
        return "number"
    return "nowrap" if longest < SHORT else "long" if longest > 2 * SHORT else ""


SHORT = 24
MINUS = "\N{MINUS SIGN}"
NEGATIVE = r"(?<![\w/.-])-(?=\d)"  # a hyphen in a number's place


def _plain(cell: str | Line, names: Mapping[Line, str]) -> str:
    return names[cell] if isinstance(cell, Line) else cell


def _cell(cell: str | Line, names: Mapping[Line, str], kind: str) -> str:
    if isinstance(cell, Line):
        shown = next(name for name in LOOKS if LOOKS[name][1] == look(cell.sampler)[0])
        colour = "" if cell.kind == FULL else f' style="--colour: var(--{colour_name(shown)})"'
        return f'<td><span class="line"{colour}>{escape(names[cell])}</span></td>'
    if cell in ("better", "worse"):
        return f'<td class="{cell}">{cell}</td>'
    return f"<td{kind}>{escape(re.sub(NEGATIVE, MINUS, cell))}</td>"


def _answers(answers: Mapping[str, Any]) -> str:
    if not answers["models"]:
        return ""
    kept = f"Kept in this page: {answers['which']} of each run, texts cut at {answers['cut']:,} characters."
    return _asset("answers.html", kept=kept)


def _asset(name: str, **texts: str) -> str:
    """A section's markup with its texts, escaped, in their places."""
    markup = Template((ASSETS / name).read_text(encoding="utf-8"))
    return markup.substitute({key: escape(text) for key, text in texts.items()})
