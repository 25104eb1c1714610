"""What a reader is told of one choice of rows: a page with its figures, and a card beside the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from diverseevol import __version__
from diverseevol.data.dataset import Dataset
from diverseevol.data.tags import Tags
from diverseevol.data.text_space import text_of
from diverseevol.evolution.receipts import excerpt
from diverseevol.geometry.projections import pca_map
from diverseevol.output.markdown import plain
from diverseevol.output.shell import command, override
from diverseevol.report.charts.choice import ALL, CHOSEN, draw_choice, draw_lengths
from diverseevol.report.charts.style import save
from diverseevol.report.page.html import stylesheet, template
from diverseevol.runs.row_facts import RowFacts
from diverseevol.runs.subset import CARD, PAGE, PICKS, RECEIPTS, SELECTED
from diverseevol.storage.files import atomic_write

PARTS = {"questions": "instruction", "answers": "response"}  # what is said beside the answers, and these
QUANTILES = {"shortest": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "longest": 1.0}
SHOWN = 5  # picks from the beginning, the middle and the end; rows that were not chosen
LONGEST = 240  # letters of a row


@dataclass(frozen=True)
class Table:
    """Rows of text.

    Attributes:
        head: of the columns.
        rows: as many cells each.
        texts: columns from the left that are no numbers.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True, eq=False)
class Choice:
    """One choice of rows.

    Attributes:
        dataset: the rows chosen from.
        tags: what else is known of them.
        picks: a receipt a pick, in pick order; see `evolution.receipts.receipt`.
        taken: rows that were in the pool before.
        eligible: rows that could be chosen, and those taken.
        facts: how far each row is from those chosen and taken.
        embedding: what rows were compared in; None where they were not.
        sampler: its name.
        how: heading → what a reader has to know of how the rows were chosen.
        left_out: a sentence for each kind of row that could not be chosen, or is not as its author wrote it.
        repeat: the command that makes the same choice; None where it is not known.
    """

    dataset: Dataset
    tags: Tags
    picks: Sequence[Mapping[str, Any]]
    taken: Int[np.ndarray, " taken"]
    eligible: Int[np.ndarray, " eligible"]
    facts: RowFacts
    embedding: Float[np.ndarray, "rows dim"] | None
    sampler: str
    how: Mapping[str, str]
    left_out: Sequence[str] = field(default_factory=tuple)
    repeat: str | None = None

    @property
    def chosen(self) -> Int[np.ndarray, " n"]:
        """The picks' numbers, in pick order."""
        return np.array([pick["row"] for pick in self.picks], dtype=np.int64)

    @property
    def title(self) -> str:
        """How many of how many rows."""
        return f"{len(self.picks):,} of {len(self.dataset):,} rows of {self.dataset.name}"


def publish_choice(choice: Choice, folder: Path) -> None:
    """Write the page with its figures, and the card, into a folder."""
    chosen, lengths = choice.chosen, _lengths(choice.dataset)
    contents = [_length_table(lengths, chosen), *_shares(choice)]
    drawn = {"lengths": save(draw_lengths(lengths, chosen, choice.sampler), folder / "figures", "lengths")}
    if choice.embedding is not None:
        xy = pca_map(choice.embedding, choice.eligible)
        drawn["map"] = save(draw_choice(xy, chosen, choice.taken), folder / "figures", "map")
    farthest, nearest, covered = _not_chosen(choice)
    page = template("choice.html.j2").render(
        title=choice.title,
        lead=f"Chosen by {choice.sampler}, in the order of picking.",
        style=Markup(stylesheet()),
        how=Table(("", ""), [*choice.how.items()], texts=2),
        command=choice.repeat,
        map=Markup(drawn["map"]) if "map" in drawn else None,
        contents=contents,
        lengths=Markup(drawn["lengths"]),
        picks_note=_picks_note(choice),
        picks=[_line(pick) for pick in _some(choice.picks)],
        left_out=[*choice.left_out, *covered],
        farthest=farthest,
        nearest=nearest,
        version=__version__,
    )
    with atomic_write(folder / PAGE) as file:
        file.write(page)
    with atomic_write(folder / CARD) as file:
        file.write(_card(choice, contents, covered, folder))


def _picks_note(choice: Choice) -> str:
    if choice.embedding is None:
        return f"{choice.sampler} compares no rows, so that none has a distance."
    return (
        "The first picks, some of the middle and the last. Distance: to the nearest row chosen or taken before, "
        "0 for rows that are equal in this space."
    )


def _some(picks: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    middle = max(len(picks) // 2 - SHOWN // 2, 0)
    ranks = {*range(SHOWN), *range(middle, middle + SHOWN), *range(len(picks) - SHOWN, len(picks))}
    return [picks[rank] for rank in sorted(ranks) if 0 <= rank < len(picks)]


def _line(pick: Mapping[str, Any]) -> dict[str, Any]:
    far, near = pick["distance"], pick["nearest"]
    return {
        "rank": pick["rank"], "row": pick["row"], "distance": "" if far is None else f"{far:.4g}",
        "instruction": pick["instruction"], "response": pick["response"],
        "nearest": "" if near is None else f"{near}: {pick['nearest_instruction']}",
    }  # fmt: skip


def _not_chosen(choice: Choice) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """The rows left that are farthest from and nearest to the subset, and in a sentence how far all of them are."""
    rest = np.setdiff1d(choice.eligible, [*choice.chosen, *choice.taken])
    if choice.embedding is None or not len(rest):
        return [], [], []
    far, near = choice.facts.distance[rest], choice.facts.nearest[rest]
    order = np.lexsort((rest, far))

    def lines(positions: Int[np.ndarray, " some"]) -> list[dict[str, Any]]:
        return [
            {
                "row": int(rest[i]), "distance": f"{far[i]:.4g}",
                "instruction": excerpt(choice.dataset[int(rest[i])].instruction, LONGEST),
                "response": excerpt(choice.dataset[int(rest[i])].response, LONGEST),
                "nearest": f"{near[i]}: {excerpt(choice.dataset[int(near[i])].instruction, LONGEST)}",
            }
            for i in positions
        ]  # fmt: skip

    median, most, last = np.quantile(far, [0.5, 0.9, 1.0])
    sentence = (
        f"{len(rest):,} rows were not chosen: half of them lie within {median:.4g} of a chosen row, 90 % within "
        f"{most:.4g}, all within {last:.4g}"
    )
    return lines(order[: -SHOWN - 1 : -1]), lines(order[:SHOWN]), [sentence]


def _lengths(dataset: Dataset) -> dict[str, Int[np.ndarray, " rows"]]:
    """Characters of each row's questions and answers."""
    counts: dict[str, list[int]] = {part: [] for part in PARTS}
    for batch in dataset.iterate():
        for part, region in PARTS.items():
            counts[part] += [len(text_of(conversation, region)) for conversation in batch]  # type: ignore[arg-type]
    return {part: np.array(characters, dtype=np.int64) for part, characters in counts.items()}


def _length_table(lengths: Mapping[str, Int[np.ndarray, " rows"]], chosen: Int[np.ndarray, " n"]) -> Table:
    rows = []
    for part, characters in lengths.items():
        for name, values in ((ALL, characters), (CHOSEN, characters[chosen])):
            measured = np.quantile(values, list(QUANTILES.values()), method="nearest")
            rows.append([f"{part}, {name}", *(f"{value:,}" for value in measured)])
    return Table(("characters", *QUANTILES), rows)


def _shares(choice: Choice) -> list[Table]:
    """Where the rows come from, and what else is known of them; nothing where that says nothing."""
    chosen, head = choice.chosen, (ALL, "%", CHOSEN, "%")
    tables = []
    if len(choice.dataset.sources) > 1:
        counts = [
            (source.name, source.stop - source.start, int(((chosen >= source.start) & (chosen < source.stop)).sum()))
            for source in choice.dataset.sources
        ]
        tables.append(Table(("source", *head), [_share(choice, *count) for count in counts]))
    among = choice.tags.counts(chosen.tolist())
    if known := choice.tags.counts():
        counts = [(kind, count, among.get(kind, 0)) for kind, count in known.items()]
        tables.append(Table(("rows with a tag", *head), [_share(choice, *count) for count in counts]))
    return tables


def _share(choice: Choice, name: str, every: int, chosen: int) -> list[str]:
    return [
        name, f"{every:,}", f"{100 * every / len(choice.dataset):.1f}",
        f"{chosen:,}", f"{100 * chosen / len(choice.picks):.1f}",
    ]  # fmt: skip


def _card(choice: Choice, contents: Sequence[Table], covered: Sequence[str], folder: Path) -> str:
    """The card, in Markdown."""
    left_out = "\n".join(f"- {plain(sentence)}" for sentence in (*choice.left_out, *covered))
    picks, out = override("picks", folder / PICKS), override("out", f"{folder}-messages")
    parts = [
        f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {SELECTED}\n---",
        f"# {plain(choice.title)}",
        f"Chosen by diverseevol {__version__}, in the order of picking: `{SELECTED}` has the rows as they came in, "
        f"`{RECEIPTS}` a line for each that says why, `{PAGE}` the figures.",
        "## How they were chosen",
        _markdown(Table(("", ""), [*choice.how.items()], texts=2)),
        *([f"```bash\n{choice.repeat}\n```"] if choice.repeat else []),
        "## What is in them",
        *map(_markdown, contents),
        *(["## What was left out", left_out] if left_out else []),
        "## For a trainer",
        f"```bash\n{command('diverseevol', 'export', picks, 'format=messages', out)}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _markdown(table: Table) -> str:
    lines = [table.head, ["---"] * table.texts + ["---:"] * (len(table.head) - table.texts), *table.rows]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)
