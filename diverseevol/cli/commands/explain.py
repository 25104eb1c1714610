"""`diverseevol explain`: why a row was chosen, or was not, from what the folder of a run or of a choice keeps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diverseevol.cli.beyond import SPACES, Continued, go_on, space_of
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import results_file
from diverseevol.errors import InputError
from diverseevol.output.console import results_console
from diverseevol.report.collect import read_run
from diverseevol.report.reasons import ChoiceReasons, Kept, Reason, Reasons
from diverseevol.report.tables import status
from diverseevol.runs.run_folder import is_at_work
from diverseevol.runs.saved_config import saved_choice
from diverseevol.runs.subset import PICKS
from diverseevol.storage.files import write_json
from diverseevol.storage.links import refuse_files_from_outside

MOST_FOUND = 10  # rows that `find` explains


@dataclass(frozen=True)
class Options:
    """Which rows, and where the reasons go; conf/explain.yaml says more."""

    folder: str
    row: Any
    find: str | None
    beyond: int
    out: str | None

    def __post_init__(self) -> None:
        if (self.row is None) == (self.find is None):
            problem = "neither row nor find is" if self.row is None else "both row and find are"
            raise InputError(f"{problem} given; give row=123, row=[1,2] or find='words of the row'")
        numbers = self.row if isinstance(self.row, list) else [self.row]
        if self.row is not None and not (numbers and all(type(row) is int and row >= 0 for row in numbers)):
            raise InputError(
                f"row={self.row}: expected a row's number from 0 on, or a list of some; give row=123 or row=[1,2]"
            )
        if self.find is not None and not self.find.split():
            raise InputError("find is empty; give words of what the row asks")
        if self.beyond < 1:
            raise InputError(f"beyond is {self.beyond}; it must be at least 1")


def run(settings: Configuration) -> None:
    """Say of each row why."""
    options = settings.options("", Options)
    folder = Path(options.folder)
    of_run = (folder / "config.yaml").is_file() and (folder / "fingerprint.json").is_file()
    if not of_run and not (folder / PICKS).is_file():
        problem = f"holds neither config.yaml and fingerprint.json nor {PICKS}" if folder.exists() else "no such folder"
        raise InputError(
            f"folder={folder}: {problem}; give a run folder, which `diverseevol evolve` wrote, or the folder of a "
            f"choice, which `diverseevol select` wrote without out="
        )
    out = None if options.out is None else results_file(options.out, folder, "why.json")
    refuse_files_from_outside(folder)
    reasons: Reasons | ChoiceReasons
    if of_run:
        reasons = Reasons(read_run(folder))
        if not reasons.run.rounds:
            raise InputError(f"folder={folder}: no round is complete yet; ask again when the first one is")
        saved = saved_choice(reasons.run.config, "sampler", folder / "config.yaml")
        name = reasons.run.line.sampler if saved is None else saved.choice
    else:
        reasons = ChoiceReasons(folder / PICKS)
        name = reasons.picks["sampler"]
        node = {"sampler": {**reasons.picks["options"], "choice": name}}
        saved = saved_choice(node, "sampler", folder / PICKS)
    console = results_console()
    rows = _rows(options, reasons)
    explained = [reasons.of(row) for row in (rows if options.find is None else rows[:MOST_FOUND])]
    behind = reasons.facts is not None and any(map(_behind, explained))
    continued = go_on(settings, options.beyond, reasons, saved, name) if behind else Continued()
    for reason in explained:
        heading, *details = _sentences(reason, reasons, name, continued)
        console.print(heading, style="bold")
        for line in details:
            console.print(f"  {line}")
    if len(rows) > len(explained):
        console.print(f"{len(rows) - len(explained):,} more rows have these words; give more of them, or row=NUMBER")
    if out is not None:
        write_json(out, [_record(reason, reasons, continued) for reason in explained])
        console.print(f"writes {out}")


def _behind(reason: Reason) -> bool:
    """Whether a row could be chosen and was not."""
    return reason.joined is None and reason.left_out is None


def _rows(options: Options, reasons: Reasons | ChoiceReasons) -> Sequence[int]:
    """The rows that are asked for.

    Raises:
        InputError: there is no such row, or none has the words.
    """
    folder, facts = options.folder, reasons.facts
    if options.find is not None:
        if facts is None:
            raise InputError(f"find={options.find!r}: {_without_facts(reasons)}; or give row=NUMBER")
        if not (rows := reasons.find(options.find)):
            of = "all rows" if len(facts.texts) == len(facts.nearest) else "the pool, whose texts alone are kept"
            raise InputError(
                f"find={options.find!r}: no row has all of these words in the beginning of what it asks (of {of}); "
                f"give fewer words, or row=NUMBER"
            )
        return rows
    rows = options.row if isinstance(options.row, list) else [options.row]
    count = None if facts is None else len(facts.nearest)
    for row in rows:
        if count is not None and row >= count:
            raise InputError(
                f"row={row}: there is no such row, for {folder} chose from rows 0 to {count - 1:,}; give another "
                f"number, or find='words of the row'"
            )
    return rows


def _without_facts(reasons: Reasons | ChoiceReasons) -> str:
    """Why the folder says nothing of rows that were not chosen, and what to do."""
    if isinstance(reasons, ChoiceReasons):
        return (
            f"{reasons.folder} keeps nothing of rows not chosen (it has no rows/ of this choice); run the same "
            f"`diverseevol select` again, which writes it"
        )
    run = reasons.run
    if not run.complete:
        at_work = ", and an evolution is at work" if is_at_work(run.folder) else ""
        return f"nothing is known of rows not chosen before the evolution ends ({status(run)}{at_work})"
    return (
        f"{run.folder} keeps nothing of rows not chosen (it has no rows/ of its last pool); run the same `diverseevol "
        f"evolve` again, which writes it and trains nothing"
    )


def _sentences(reason: Reason, reasons: Reasons | ChoiceReasons, name: str, continued: Continued) -> Iterator[str]:
    """What is said of a row, a line each; the first one is the heading."""
    row = f"row {reason.row:,}"
    if reason.joined is not None:
        yield f"{row}: {_chosen(reason, reasons, name)}"
        yield from _receipt(reason, reasons)
    elif reason.left_out is not None:
        yield f"{row}: could not be chosen"
        yield f"why: {reason.left_out}"
    elif reasons.facts is None:
        yield f"{row}: not chosen"
        yield _without_facts(reasons)
    else:
        yield f"{row}: not chosen{_share(reason.nearer_than, reasons)}"
        yield _nearest(reason, reasons)
        larger = "n" if isinstance(reasons, ChoiceReasons) else "the budget"
        yield f"had {larger} been larger: {_rank(reason.row, reasons, continued)}"
    if reason.source is not None:
        yield f"source: {reason.source}"
    if reason.tags:
        yield f"tags: {', '.join(reason.tags)}"
    if reason.text is not None:
        yield f"text: {reason.text}"


def _nearest(reason: Reason, reasons: Reasons | ChoiceReasons) -> str:
    """Which row stands for one that was not chosen."""
    if reason.nearest is None:
        return "nearest: not known, for the choice compared no rows"
    nearest = reasons.of(reason.nearest)
    text = f"at distance {reason.distance:.4g} in {space_of(reasons)}{_quoted(nearest.text)}"
    if isinstance(reasons, ChoiceReasons):
        return f"nearest: row {reason.nearest:,} ({_pick(nearest)}), {text}"
    when = "drawn for the initial pool" if nearest.joined == 0 else f"chosen for round {nearest.joined}"
    return f"nearest: row {reason.nearest:,} of the pool ({when}), {text}"


def _pick(reason: Reason) -> str:
    """When a row of a choice was chosen."""
    return "taken before" if reason.receipt is None else f"chosen as pick {int(reason.receipt['rank']) + 1:,}"


def _chosen(reason: Reason, reasons: Reasons | ChoiceReasons, name: str) -> str:
    assert reason.joined is not None
    if isinstance(reasons, ChoiceReasons):
        if reason.receipt is None:
            return "taken before, so that it could not be chosen again"
        return f"chosen by {name}, as pick {int(reason.receipt['rank']) + 1:,} of {len(reasons.receipts):,}"
    if reason.receipt is None:
        return "drawn at random for the initial pool, which all samplers of a seed share"
    last = reasons.run.rounds[-1].index
    waits = ", which is not complete yet" if reason.joined > last else ""
    return f"chosen by {name} for round {reason.joined}{waits}, as pick {int(reason.receipt['rank']) + 1:,}"


def _receipt(reason: Reason, reasons: Kept) -> Iterator[str]:
    """Why a sampler chose it."""
    receipt = reason.receipt
    if receipt is None:
        return
    yield f"score: {_number(receipt.get('score'))}, {receipt.get('score_is', 'of a kind that is not recorded')}"
    if receipt.get("nearest") is not None:
        before = "taken" if isinstance(reasons, ChoiceReasons) else "of the pool of that round"
        space = SPACES["text"] if receipt.get("space") == "text" else "the space of that round's model"
        if receipt.get("space") == "foundation":
            space = "the space of the foundation model"
        yield (
            f"nearest: row {receipt['nearest']:,} {before} or picked before, at distance "
            f"{_number(receipt.get('distance'))} in {space}{_quoted(receipt.get('nearest_instruction'))}"
        )


def _share(nearer_than: float | None, reasons: Kept) -> str:
    """How near the rows chosen are, beside other rows that were not; "" where that is not known."""
    if nearer_than is None:
        return ""
    pool = "those that were" if isinstance(reasons, ChoiceReasons) else "the pool"
    if nearer_than < 0.5:
        return f", farther from {pool} than {1 - nearer_than:.0%} of the rows not chosen"
    return f", nearer to {pool} than {nearer_than:.0%} of the rows not chosen"


def _rank(row: int, reasons: Kept, continued: Continued) -> str:
    of_choice = isinstance(reasons, ChoiceReasons)
    if continued.why_not:
        return f"no rank is known: {continued.why_not}"
    name, pool, count = continued.name, continued.pool, continued.count
    if count == 0:
        rows = "the rows chosen" if of_choice else "the pool"
        return f"no rank is known: give beyond=10 for one among ten times {rows}"
    if (rank := continued.ranks.get(row)) is not None:
        return (
            f"{name}, going on from the {f'{pool:,} chosen' if of_choice else f'final pool of {pool:,}'}"
            f"{continued.where}, chooses it as row {pool + rank:,}: "
            f"number {rank:,} of the {continued.left:,} rows left"
        )
    times = (pool + count) / pool
    rows = "n" if of_choice else "the pool"
    return f"{name}, going on{continued.where}, does not choose it within {pool + count:,} rows, {times:.3g} × {rows}"


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "not known"


def _quoted(text: Any) -> str:
    return f": {text}" if text else ""


def _record(reason: Reason, reasons: Kept, continued: Continued) -> dict[str, Any]:
    """What `out` gets of a row."""
    receipt: Mapping[str, Any] = reason.receipt or {}
    behind = reasons.facts is not None and _behind(reason)
    space = reasons.space if isinstance(reasons, ChoiceReasons) else "foundation"
    return {
        "row": reason.row, "chosen": reason.joined is not None, "joined": reason.joined, "left_out": reason.left_out,
        **{key: receipt.get(key) for key in ("rank", "score", "score_is")},
        "distance": reason.distance if behind else receipt.get("distance"),
        "nearest": reason.nearest if behind else receipt.get("nearest"),
        "space": space if reason.nearest is not None else receipt.get("space"),
        "nearer_than": reason.nearer_than,
        "rank_beyond": continued.ranks.get(reason.row) if behind else None,
        "ranked_beyond": continued.count if behind and not continued.why_not else None,
        "no_rank": (continued.why_not or None) if behind else None,
        "source": reason.source, "tags": list(reason.tags), "text": reason.text,
    }  # fmt: skip
