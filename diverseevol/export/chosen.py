"""The rows that are to be exported: which they are, how each came in, and how they were chosen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from diverseevol.data.conversation import Conversation
from diverseevol.data.dataset import Dataset
from diverseevol.data.dataset_info import is_dataset_info
from diverseevol.data.formats.base import Format, as_object
from diverseevol.data.formats.recognise import by_saved_names, recognise
from diverseevol.data.mixture import data_name, named_sources
from diverseevol.errors import InputError
from diverseevol.output.shell import command
from diverseevol.runs.round_folder import shortened
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.saved_config import read_saved, saved_choice
from diverseevol.runs.standing import saved_command
from diverseevol.runs.subset import PICKS, RECEIPTS, SELECTED, read_subset
from diverseevol.storage.files import read_json, read_jsonl
from diverseevol.storage.json_lines import Unreadable, json_lines
from diverseevol.storage.links import refuse_files_from_outside
from diverseevol.storage.reading import decoded, opened

FROM, FINGERPRINT = "Chosen from", "Fingerprint of the data"
GIVE_DATA = "give data.path=… with the data that they were chosen from"


class Row(NamedTuple):
    """A row of the subset.

    Attributes:
        receipt: at least its number, `row`.
        line: as it came in, a line of JSON.
        record: what the line holds.
        where: it was read, for messages.
        conversation: what it says, where the data say so; None: its record does.
    """

    receipt: Mapping[str, Any]
    line: str
    record: Mapping[str, Any]
    where: str
    conversation: Conversation | None = None


@dataclass(frozen=True)
class Chosen:
    """A subset.

    Attributes:
        where: the run folder or the choice, as the user gave it.
        name: what the data are called.
        size: how many rows it has.
        receipts: of the rows, in the order in which they joined; can be asked for again and again.
        rows: likewise; None where only the numbers are known.
        format: how records say a conversation; None: by their fields.
        own_format: whether that is one that is not known: the user's own, or of a `dataset_info.json`.
        facts: heading → what the card says of how the rows were chosen.
        command: that chose them; None where it is not known.
    """

    where: Path
    name: str
    size: int
    receipts: Callable[[], Iterator[Mapping[str, Any]]]
    rows: Callable[[], Iterator[Row]] | None
    format: Format | None = None
    own_format: bool = False
    facts: Mapping[str, str] = field(default_factory=dict)
    command: str | None = None

    def of(self, dataset: Dataset) -> "Chosen":
        """The same rows, taken from the data that they were chosen from.

        Raises:
            InputError: the data have no such rows.
        """
        for receipt in self.receipts():
            if not 0 <= receipt["row"] < len(dataset):
                raise InputError(
                    f"{self.where}: names row {receipt['row']}, expected one from 0 to {len(dataset) - 1}, which the "
                    f"given data have; {GIVE_DATA}"
                )

        def receipts() -> Iterator[Mapping[str, Any]]:
            return ({**receipt, "source": dataset.source_of(receipt["row"]).name} for receipt in self.receipts())

        def rows() -> Iterator[Row]:
            for receipt in receipts():
                number = receipt["row"]
                line = dataset.line(number)
                yield Row(receipt, line, decoded(line), f"{dataset.name}, row {number}", dataset[number])

        format = dataset.format if len(dataset.sources) == 1 else None  # the sources of a mixture may have several
        facts = {
            FROM: ", ".join(source.where for source in dataset.sources), FINGERPRINT: dataset.fingerprint, **self.facts,
        }  # fmt: skip
        return replace(
            self, name=dataset.name, receipts=receipts, rows=rows, format=format, own_format=False, facts=facts
        )

    def read(self, row: Row) -> tuple[Conversation, Format | None]:
        """What a row says, and the format that its record is in; None where there may be several.

        Raises:
            BadRecord: nothing says how its record is to be read.
        """
        if row.conversation is not None:
            return row.conversation, self.format
        format = self.format or recognise(row.record)
        return format.parse(as_object(row.record)), format


def of_run(folder: Path, t: int | None) -> Chosen:
    """The pool of a run folder.

    Args:
        folder: the run folder, of 0.1 also.
        t: the round that was trained on it; None: the last one that is complete.

    Raises:
        InputError: it is no run folder, there is no such round, or a file is damaged.
    """
    refuse_files_from_outside(folder)
    file = folder / "config.yaml"
    if not file.is_file():
        raise InputError(
            f"folder={folder}: holds neither a run of evolve (config.yaml) nor a choice of select ({PICKS}); give one "
            f"that holds one of these"
        )
    complete = sorted(RunFolder(folder, {}).complete())
    if not complete:
        raise InputError(f"folder={folder}: no round of it is complete; wait for one, or run its evolve again")
    if t not in (None, *complete):
        raise InputError(
            f"round={t}: of {folder} the rounds {', '.join(map(str, complete))} are complete; give one of them"
        )
    last = complete[-1] if t is None else t
    done, pool = _round(RunFolder(folder, {}).round(last).path / "round.json")
    config, fingerprint = read_saved(file), read_json(folder / "fingerprint.json")
    data = config["data"] if isinstance(config.get("data"), dict) else {}
    path = data.get("path") or data.get("hub")
    chosen = Chosen(
        folder, str(data.get("name") or (data_name(path) if path else "rows")), len(pool),
        lambda: ({"row": row} for row in pool), None, *_format_of(data),
        {
            FROM: ", ".join(named_sources(path).values()) if path else str(data.get("name")),
            FINGERPRINT: str(fingerprint.get("data")),
            "Chosen by": ", ".join(_choices(config, file)),
            "Rows": f"{len(pool):,}: the pool that round {last} was trained on",
            "Made by": f"diverseevol {done.get('version')}, fingerprint {done.get('fingerprint')}",
        },
        None if (words := saved_command(folder)) is None else command("diverseevol", "evolve", *words),
    )  # fmt: skip
    if not (folder / SELECTED).exists():
        return chosen

    def rows() -> Iterator[Row]:
        numbers = iter(pool)
        for position, member in enumerate(read_subset(folder), start=1):
            if member.receipt["joined"] <= last:
                if member.receipt["row"] != next(numbers, None):
                    break
                yield Row(member.receipt, member.line, member.record, f"{folder / SELECTED}, line {position}")
        else:
            if next(numbers, None) is None:
                return
        raise InputError(
            f"{folder / SELECTED}: does not have the rows that round {last} was trained on; run its evolve again, "
            f"which writes it, or {GIVE_DATA}"
        )

    return replace(chosen, receipts=lambda: (row.receipt for row in rows()), rows=rows)


def of_choice(path: Path) -> Chosen:
    """What `diverseevol select` chose, from its `P.json`, or the `picks.json` of its folder, and the rows beside it.

    Raises:
        InputError: it holds no choice, or the rows beside it are others.
    """
    choice = read_json(path, "give the P.json that diverseevol select wrote")
    numbers = choice.get("chosen") if isinstance(choice, dict) else None
    if not isinstance(numbers, list) or not numbers or not all(type(row) is int for row in numbers):
        raise InputError(
            f"picks={path}: expected a list chosen of row numbers in it, got {shortened(numbers)}; give the P.json "
            f"that diverseevol select wrote"
        )
    in_folder = path.name == PICKS and (path.parent / SELECTED).exists()
    listed = path.with_name(RECEIPTS)  # which have sources and tags, too
    receipts = list(read_jsonl(listed)) if in_folder and listed.exists() else choice.get("receipt")
    kept = receipts if isinstance(receipts, list) and [_number(line) for line in receipts] == numbers else None
    words = choice.get("command")
    chosen = Chosen(
        path, path.parent.name if in_folder else path.stem, len(numbers),
        lambda: iter(kept or ({"row": row} for row in numbers)), None, *_format_of(choice.get("data")), _facts(choice),
        command("diverseevol", "select", *map(str, words)) if isinstance(words, list) else None,
    )  # fmt: skip
    file = path.with_name(SELECTED) if in_folder else path.with_suffix(".jsonl")
    if not file.exists():
        return chosen

    def rows() -> Iterator[Row]:
        receipts = chosen.receipts()
        for where, line, record in _lines(file):
            if (receipt := next(receipts, None)) is None:
                break
            yield Row(receipt, line, record, where)
        else:
            if next(receipts, None) is None:
                return
        raise InputError(f"{file}: does not have the {len(numbers):,} rows of {path}; select again, or {GIVE_DATA}")

    return replace(chosen, rows=rows)


def _facts(choice: Mapping[str, Any]) -> dict[str, str]:
    """What a choice says of how its rows were chosen."""
    if isinstance(how := choice.get("how"), dict):
        return {str(heading).capitalize(): str(fact) for heading, fact in how.items()}
    options, taken = choice.get("options"), choice.get("taken")
    options, taken = options if isinstance(options, dict) else {}, taken if isinstance(taken, list) else []
    return {
        "Chosen by": ", ".join([f"sampler={choice.get('sampler')}", *_options(options)]),
        "Rows": f"{len(choice['chosen']):,}" + (f", beside {len(taken):,} that were taken before" if taken else ""),
    }


def _number(receipt: Any) -> Any:
    return receipt.get("row") if isinstance(receipt, dict) else None


def _format_of(data: Any) -> tuple[Format | None, bool]:
    """The format that saved options of data name, and whether it is one that they do not say."""
    options = data if isinstance(data, dict) else {}
    return by_saved_names(options), options.get("format") is not None or is_dataset_info(options.get("path"))


def _lines(path: Path) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """The lines of a file of rows: where each is, its text, and what it holds."""
    with opened(path) as file:
        for number, value, _, line in json_lines(file):
            where = f"{path}, line {number}"
            if not isinstance(value, dict):
                problem = value.problem if isinstance(value, Unreadable) else "expected a JSON object"
                raise InputError(f"{where}: {problem}; select again, or {GIVE_DATA}")
            yield where, line.decode(), value


def _round(file: Path) -> tuple[Mapping[str, Any], Sequence[int]]:
    """What a round noted, and the rows that it was trained on."""
    done = read_json(file)
    pool = done.get("trained_on") if isinstance(done, dict) else None
    if not isinstance(pool, list) or not all(type(row) is int for row in pool):
        raise InputError(f"{file}, trained_on: expected row numbers, got {shortened(pool)}; restore the file")
    return done, pool


def _choices(config: Mapping[str, Any], file: Path) -> Iterator[str]:
    for group in ("sampler", "schedule", "model", "tuning"):
        if isinstance(config.get(group), dict) and ("choice" in config[group] or "_target_" in config[group]):
            saved = saved_choice(config, group, file)
            yield f"{group}={saved.choice}" if saved else f"{group}=?"
            yield from _options(saved.options if saved and group == "sampler" else {})
    yield f"seed={config.get('seed')}"


def _options(options: Mapping[str, Any]) -> Iterator[str]:
    return (f"sampler.{name}={value}" for name, value in options.items() if value is not None)
