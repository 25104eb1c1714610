"""The folder of a choice: what `select` leaves where no `out=` names a file, for trainers and for readers."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from diverseevol import __version__
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.left_out_rows import list_left_out
from diverseevol.cli.naming import short_name
from diverseevol.cli.output_files import check_writable, refuse_read
from diverseevol.cli.rows import listed_sources
from diverseevol.cli.tagged_rows import list_contamination, list_tagged
from diverseevol.data.dataset import Dataset
from diverseevol.data.tags import Tags
from diverseevol.errors import InputError
from diverseevol.evolution.left_behind import row_facts
from diverseevol.evolution.receipts import row_receipt
from diverseevol.output.shell import command
from diverseevol.output.terminal import say
from diverseevol.report.contamination import CONTAMINATION
from diverseevol.runs.row_facts import FOLDER, write_row_facts
from diverseevol.runs.subset import (
    BAD_ROWS,
    CARD,
    INELIGIBLE,
    PAGE,
    PICKS,
    RECEIPTS,
    SELECTED,
    TAGS,
    write_subset,
)
from diverseevol.samplers.features import Features
from diverseevol.storage.files import read_json, refuse_links, remove, write_json

# All that a choice leaves in it, beside figures/ and rows/.
FILES = (SELECTED, RECEIPTS, PICKS, BAD_ROWS, INELIGIBLE, TAGS, CONTAMINATION, PAGE, CARD)


def choice_folder(settings: Configuration) -> Path:
    """The folder that gets what `select` chose where no `out=` names a file: outputs/select/<data>.

    Whether it holds another choice is known only once the rows are read.

    Raises:
        InputError: it cannot be written, or a file that is read would be written over.
    """
    folder = Path("outputs", "select", short_name(settings, "data"))
    check_writable(folder, f"{folder}: the choice cannot be written there", "a file")
    if folder.exists():
        if not folder.is_dir():
            raise InputError(
                f"{folder}: is a file, where the folder of the choice would be; move it, or say out=P.json"
            )
        refuse_links(folder)
    refuse_read(settings, [folder / name for name in FILES], "")
    return folder


def holds_choice(folder: Path, identity: Mapping[str, Any], replace: bool) -> bool:
    """Whether the folder holds this choice already.

    Args:
        folder: see `choice_folder`.
        identity: what decides the choice.
        replace: whether what is there may be written over.

    Raises:
        InputError: it holds another one, or files of somebody else's.
    """
    if replace:
        return False
    remedy = "give replace=true to have this choice in its place, or out=P.json with a name of its own"
    if not (folder / PICKS).exists():
        if foreign := [name for name in FILES if os.path.lexists(folder / name)]:
            raise InputError(f"{folder}: holds {foreign[0]} but no {PICKS}, so no choice of select; {remedy}")
        return False
    picks = read_json(folder / PICKS, remedy)
    known = picks.get("request") if isinstance(picks, dict) else None
    if not isinstance(known, dict) or (known != identity and not picks.get("unfinished")):
        differing = [name for name in identity if not isinstance(known, dict) or known.get(name) != identity[name]]
        raise InputError(f"{folder}: holds a choice with another {' and another '.join(differing[:3])}; {remedy}")
    if picks.get("unfinished") or not (folder / FOLDER).is_dir():
        return False
    say(f"{folder}: holds this choice already ({identity['n']:,} rows); replace=true makes it again", error=True)
    return True


def write_choice(
    folder: Path,
    settings: Configuration,
    dataset: Dataset,
    tags: Tags,
    features: Features,
    record: Mapping[str, Any],
    *,
    summary: Sequence[str],
    left_out: Sequence[str],
    bad_rows: Path,
    lengths: Int[np.ndarray, " rows"] | None,
) -> list[Path]:
    """Write all that the folder of a choice holds; its numbers come last, so that they say that all of it is there.

    Args:
        folder: see `choice_folder`.
        settings: the configuration.
        dataset: the rows.
        tags: what else is known of them.
        features: what they were chosen by.
        record: what is written of the choice, with its receipts and what decided it.
        summary: the space, and how far the picks are from each other.
        left_out: what of the rows could not be chosen.
        bad_rows: the list that was made as the data were read.
        lengths: tokens of each row; None where no tokeniser has counted them.

    Returns:
        The files that a reader begins with.
    """
    from diverseevol.report.choice import Choice, publish_choice  # here: it takes seconds to import

    words, how = settings.overrides, _how(settings, dataset, record, summary)
    taken = np.array(record["taken"], dtype=np.int64)
    pool = np.concatenate([np.array(record["chosen"], dtype=np.int64), taken])
    facts = row_facts(dataset, features.response_tokens, features.embedding, pool)
    choice = Choice(
        dataset=dataset, tags=tags, picks=record["receipt"], taken=taken,
        eligible=features.eligible, facts=facts, embedding=features.embedding, sampler=record["sampler"],
        how=how, left_out=left_out, repeat=None if words is None else command("diverseevol", "select", *words),
    )  # fmt: skip
    write_json(folder / PICKS, {"unfinished": True, "request": record["request"]})
    for name in (BAD_ROWS, INELIGIBLE, FOLDER):  # of the choice that was there before
        remove(folder / name)
    list_left_out(folder, dataset, features.response_tokens > 0, bad_rows, lengths)
    list_contamination(folder / CONTAMINATION, tags)
    list_tagged(folder / TAGS, tags)
    write_row_facts(folder, facts)
    receipts = (row_receipt(pick["row"], 0, pick, dataset, tags) for pick in choice.picks)
    write_subset(folder, receipts, dataset.line)
    publish_choice(choice, folder)
    sources = listed_sources(dataset, features.response_tokens > 0)
    write_json(folder / PICKS, {**record, "how": how, "command": words, **sources})
    return [folder / name for name in (SELECTED, PAGE)]


def _how(
    settings: Configuration, dataset: Dataset, record: Mapping[str, Any], summary: Sequence[str]
) -> dict[str, str]:
    """What a reader has to know of how rows were chosen."""
    chosen_by = [f"sampler={record['sampler']}"]
    chosen_by += [
        f"sampler.{name}={value}" for name, value in record["options"].items() if value is not None and name != "space"
    ]
    return {
        "chosen from": f"{', '.join(source.name for source in dataset.sources)}: {len(dataset):,} rows",
        "chosen by": ", ".join([*chosen_by, f"seed={settings.value('seed')}"]),
        **({"beside": f"{len(record['taken']):,} rows that were taken before"} if record["taken"] else {}),
        "score": record["score_is"],
        "in short": "; ".join(summary) or "no rows are compared",
        "made by": f"diverseevol {__version__}, fingerprint of the data {dataset.fingerprint[:16]}",
    }
