"""One HTML file that holds everything and asks the network for nothing."""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from diverseevol import __version__
from diverseevol.evaluation.comparison import AFTER_THE_FACT, MODELS, SAMPLERS
from diverseevol.report.drawing import colour_name
from diverseevol.report.lines import FULL, LOOKS, Line, look
from diverseevol.report.maps import COLOURS
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
        title, lead: above all.
        names: of the lines in the tables.
        tables: by name; empty ones are left out.
        notes: what a reader must know, such as what is incomplete.
        pictures: in their order.
        rows: see `texts.rows_payload`; None where no run was found.
        answers: see `answering.answers_payload`.
    """

    title: str
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
        f'<link rel="icon" href="data:,"><title>{escape(content.title)}</title><style>{style}</style></head><body>'
        f'<header><h1>{escape(content.title)}</h1><p class="lead">{escape(content.lead)}</p></header>'
        f"<nav><div>{links}</div></nav><main>{body}"
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
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _sections(content: Content) -> list[tuple[str, str, str]]:
    """Id, title and inner markup; a section without content is empty."""
    runs, rows = content.tables["runs"], content.rows or {"runs": [], "maps": {}}
    picked = any(any(run["picks"]) for run in rows["runs"])
    return [
        ("short", "In short", _short(content)),
        ("figures", "Figures", "".join(map(_figure, content.pictures))),
        ("tables", "Final rounds", _finals(content)),
        ("map", "Map of the rows", MAP.format(colours=escape(json.dumps(COLOURS))) if rows["maps"] else ""),
        ("receipts", "Which rows were chosen, and why", RECEIPTS if picked else ""),
        ("answers", "Question by question", _answers(content.answers)),
        ("runs", "What this report is made of", _table(runs, content) if runs.rows else ""),
    ]


def _short(content: Content) -> str:
    notes = "".join(f'<p class="warning">{escape(note)}</p>' for note in content.notes)
    held, stopping = content.tables["verdicts"], content.tables["stopping"]
    verdicts = (
        f"<h3>Better than random, and as good as all rows?</h3>{_table(held, content)}"
        f'<p class="note">Difference: relative score of the sampler less that of what it is held against, final rounds '
        f"as the schedule fixed them. {escape(SAMPLERS)}. {escape(MODELS)}.</p>"
        if held.rows
        else '<p class="note">No verdict: nothing that was judged could be held against random or all rows.</p>'
    )
    stops = (
        f"<h3>When more rows stopped paying</h3>{_table(stopping, content)}"
        f'<p class="note">{escape(RULE)} Where both are there, the relative score decides: coverage radius and '
        "Vendi-Score only say how the pool looks.</p>"
        if stopping.rows
        else ""
    )
    return notes + verdicts + stops


def _finals(content: Content) -> str:
    final, pools = content.tables["final_rounds"], content.tables["final_pools"]
    scores = (
        f'{_table(final, content)}<p class="note">Best rounds are {escape(AFTER_THE_FACT)}; they are shown to be seen '
        "through and enter no verdict.</p>"
        if final.rows
        else ""
    )
    ranges = '<p class="note">Mean over seeds; […] from the lowest to the highest seed.</p>'
    return scores + (f"<h3>The final pools</h3>{_table(pools, content)}{ranges}" if pools.rows else "")


def _figure(picture: Picture) -> str:
    files = " · ".join(f'<a href="figures/{picture.name}.{kind}">{kind.upper()}</a>' for kind in ("png", "svg"))
    return (
        f'<figure id="figure-{picture.name}"><h3>{escape(picture.title)}</h3><div class="wide">{picture.svg}</div>'
        f'<figcaption>{escape(picture.caption)} <span class="files">{files}</span></figcaption></figure>'
    )


def _table(table: Table, content: Content) -> str:
    numeric = [
        all(isinstance(row[i], str) and str(row[i])[:1] in "+-0123456789" for row in table.rows)
        and max(len(str(row[i])) for row in table.rows) < 24
        for i in range(len(table.head))
    ]
    constant = [
        len(table.rows) > 1 and len({row[i] for row in table.rows}) == 1 and "verdict" not in name and name != "sampler"
        for i, name in enumerate(table.head)
    ]
    kept = [i for i in range(len(table.head)) if not constant[i]]
    head = "".join(f"<th{NUMBER if numeric[i] else ''}>{escape(table.head[i])}</th>" for i in kept)
    body = "".join(
        f"<tr>{''.join(_cell(row[i], content.names, numeric[i]) for i in kept)}</tr>" for row in table.rows
    )
    said = " · ".join(
        f"{name}: {_plain(table.rows[0][i], content.names)}" for i, name in enumerate(table.head)
        if constant[i] and table.rows[0][i]
    )  # fmt: skip
    caption = f'<p class="note">{escape(said)}</p>' if said else ""
    files = f'<span class="files note"><a href="tables/{table.name}.csv">CSV</a></span>'
    return f'{caption}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{files}'


NUMBER = ' class="number"'


def _plain(cell: str | Line, names: Mapping[Line, str]) -> str:
    return names[cell] if isinstance(cell, Line) else cell


def _cell(cell: str | Line, names: Mapping[Line, str], numeric: bool) -> str:
    if isinstance(cell, Line):
        shown = next(name for name in LOOKS if LOOKS[name][1] == look(cell.sampler)[0])
        colour = "" if cell.kind == FULL else f' style="--colour: var(--{colour_name(shown)})"'
        return f'<td><span class="line"{colour}>{escape(names[cell])}</span></td>'
    verdict = f' class="{cell}"' if cell in ("better", "worse") else ""
    return f"<td{NUMBER if numeric else verdict}>{escape(cell)}</td>"


def _answers(answers: Mapping[str, Any]) -> str:
    if not answers["models"]:
        return ""
    kept = f"Kept in this page: {answers['which']} of each run, texts cut at {answers['cut']:,} characters."
    return ANSWERS.format(kept=escape(kept))


MAP = """<p class="note">Every row of the data set, placed by the first two principal components of the foundation model's
embeddings or by the projection asked for; colour is the round for which it joined. Point at a row to read it.</p>
<div class="controls interactive"><label>run <select id="map-run"></select></label>
<label>rows up to round <span><input type="range" id="map-round" min="0" value="0"> <output id="map-until"></output></span>
</label></div><div id="map-place" class="keep" data-colours="{colours}"><canvas id="map-canvas"
aria-label="Map of the rows"></canvas><div id="map-tip" role="status" hidden></div></div>
<div class="legend" id="map-legend"></div><p class="note files"><a href="figures/map.png">PNG</a> ·
<a href="figures/map.svg">SVG</a></p>"""
RECEIPTS = """<p class="note">Score is the sampler's own; distance is to the nearest row of the pool, earlier picks
included, in the space that the sampler looked at (none where nothing was embedded). Round: the first one trained on the
row.</p><div class="controls interactive"><label>run <select id="receipt-run"></select></label>
<label>round <select id="receipt-round"></select></label>
<label>search <input type="search" id="receipt-search" placeholder="words or a row number"></label>
<span id="receipt-count" class="note" role="status"></span></div><div class="wide list interactive"><table>
<thead><tr><th class="number">round</th><th class="number">rank</th><th class="number">row</th>
<th class="number">score</th><th class="number">distance</th><th>row's text</th><th>nearest row</th></tr></thead>
<tbody id="receipt-rows"></tbody></table></div><button id="receipt-more" class="interactive" hidden>more</button>
<p class="note files"><a href="tables/picks.csv">CSV of all picks</a></p>"""
ANSWERS = """<p class="note">Two models' answers side by side, with each judge's scores and reasons in both orders.
Lead: the model's score less the competitor's, mean over orders and judges. {kept}</p>
<div class="controls interactive"><label>benchmark <select id="answer-benchmark"></select></label>
<label>model A <select id="answer-one"></select></label><label>model B <select id="answer-two"></select></label>
<label>order <select id="answer-order"><option value="as">as asked</option>
<option value="two">where B leads most</option><option value="one">where A leads most</option></select></label>
<label>search <input type="search" id="answer-search" placeholder="words of question or answers"></label></div>
<div class="wide list interactive"><table><thead><tr><th>question</th><th class="number">lead of A</th>
<th class="number">lead of B</th><th class="number">B − A</th></tr></thead><tbody id="answer-list"></tbody></table></div>
<div id="answer-pair"></div>"""
