"""LLaMA-Factory's `dataset_info.json`: which file is which data set, and what its records call their parts."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeGuard

from diverseevol.data.formats.base import kind_of
from diverseevol.data.formats.flat import Fields
from diverseevol.data.formats.messages import SHAREGPT, Messages, Roles
from diverseevol.data.formats.recognise import Known
from diverseevol.data.hub_names import may_be_data_on_hub
from diverseevol.errors import InputError
from diverseevol.storage.files import read_json

FILE = "dataset_info.json"
SHOWN = 20  # names of data sets that a message lists
# What an entry may say that would make other rows of the file, or that cannot be fetched.
NOT_READ = {
    "ranking": "pairs of answers to choose between",
    "script_url": "a script that makes the rows",
    "ms_hub_url": "a data set of ModelScope",
    "om_hub_url": "a data set of Openmind",
    "cloud_file_name": "a file in a cloud",
    "folder": "a folder within a data set on the hub",
    "num_samples": "a random part of the rows",
}
COLUMNS_NOT_READ = {
    "chosen": "answers to choose between", "rejected": "answers to choose between", "kto_tag": "judged answers",
    "images": "images", "videos": "videos", "audios": "audio",
}  # fmt: skip
TAGS = {
    "user_tag": "user", "assistant_tag": "assistant", "observation_tag": "tool", "function_tag": "call",
    "system_tag": "system",
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One data set of the file.

    Attributes:
        path: its file or folder; None where it is on the hub.
        hub: its hub id.
        split, subset: of it.
        format: how its records say a conversation.
    """

    path: str | None
    hub: str | None
    split: str
    subset: str | None
    format: Known


def is_dataset_info(path: Any) -> TypeGuard[str | Path]:
    """Whether a data path is such a file, by its name."""
    return isinstance(path, str | Path) and Path(path).name == FILE


def read_entry(path: str | Path, name: str | None) -> Entry:
    """The entry of a data set.

    Args:
        path: the `dataset_info.json`.
        name: which of its data sets.

    Raises:
        InputError: there is none of this name, or the entry says what is not read.
    """
    entries = read_json(Path(path).expanduser(), "correct it")
    if not isinstance(entries, dict):
        raise InputError(f"{path}: expected an object with an entry for each data set, got {kind_of(entries)}")
    if name is None or name not in entries:
        listed = ", ".join(list(entries)[:SHOWN]) + (", …" if len(entries) > SHOWN else "")
        problem = "data.name does not say which data set is meant" if name is None else f"has no data set {name!r}"
        raise InputError(f"{path}: {problem} (there are: {listed or 'none'}); give data.name=NAME with one of them")
    where, entry = f"{path}, {name}", _texts(entries[name], f"{path}, {name}")
    columns, tags = (_texts(entry.get(part, {}), f"{where}, {part}") for part in ("columns", "tags"))
    on_hub = "hf_hub_url" in entry
    for key, meaning in NOT_READ.items():
        if entry.get(key) and not (on_hub and key in ("ms_hub_url", "om_hub_url")):
            raise _refusal(where, key, meaning)
    for key, meaning in COLUMNS_NOT_READ.items():
        if columns.get(key):
            raise _refusal(where, f"columns.{key}", meaning)
    if on_hub and not may_be_data_on_hub(str(entry["hf_hub_url"])):
        raise InputError(
            f"{where}: hf_hub_url {entry['hf_hub_url']!r:.100} is a path here, or no name USER/NAME of the hub; "
            f"correct it, or give a path as data.path and its columns as data.fields"
        )
    return Entry(
        None if on_hub else _file(Path(path).expanduser(), entry, where),
        entry["hf_hub_url"] if on_hub else None,
        entry.get("split") or "train",
        entry.get("subset"),
        _format(entry.get("formatting") or "alpaca", columns, tags, where),
    )


def _file(path: Path, entry: Mapping[str, Any], where: str) -> str:
    """The file of an entry, which must lie in the folder of its `dataset_info.json`."""
    if not (name := entry.get("file_name")):
        raise InputError(f"{where}: says neither file_name nor hf_hub_url; add the one that it has")
    relative = Path(os.path.normpath(name))
    if relative.is_absolute() or os.pardir in relative.parts:
        raise InputError(
            f"{where}: file_name {name!r} is outside the folder of {FILE}; move the file there, or give it as "
            f"data.path and its columns as data.fields"
        )
    return str(path.parent / relative)


def _format(formatting: str, columns: Mapping[str, Any], tags: Mapping[str, Any], where: str) -> Known:
    if formatting == "alpaca":
        # Where columns are named, those that are not do not exist.
        usual = {} if columns else {"prompt": "instruction", "query": "input", "response": "output"}
        names = {**usual, **columns}
        if not (names.get("prompt") and names.get("response")):
            raise InputError(
                f"{where}: columns names no prompt, or no response; name both, for rows are read with both"
            )
        return Fields(names["prompt"], names.get("query"), names["response"], names.get("system"), names.get("history"))
    if formatting in ("sharegpt", "openai"):
        roles = {**asdict(SHAREGPT.roles), **{role: tags[tag] for tag, role in TAGS.items() if tags.get(tag)}}
        if formatting == "openai":
            roles["call"] = None  # calls are in the messages' tool_calls
        return Messages(
            columns.get("messages") or SHAREGPT.messages,
            tags.get("role_tag") or SHAREGPT.role,
            tags.get("content_tag") or SHAREGPT.content,
            columns.get("system"),
            Roles(**roles),
        )
    raise InputError(f"{where}: formatting is {formatting!r:.80}, expected alpaca, sharegpt or openai; correct it")


def _texts(values: Any, where: str) -> dict[str, Any]:
    """An object whose values are texts, but for what is not a name."""
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected an object, got {kind_of(values)}; correct it")
    for key, value in values.items():
        if not isinstance(value, str | None) and key not in (*NOT_READ, "columns", "tags"):
            raise InputError(f"{where}: {key} is {kind_of(value)}, expected text; correct it")
    return values


def _refusal(where: str, key: str, meaning: str) -> InputError:
    return InputError(
        f"{where}: {key} says {meaning}, which is not read; give rows of questions with their answers, as data.path"
    )
