"""A folder of rows from anywhere, looked at before `datasets` opens it.

The library opens every file, unpacks what is packed without a limit, and reads what the folder's README names, also
outside of the folder and on other machines.
"""

import glob
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub import DatasetCard

from diverseevol.data.file_names import PACKINGS, TABLES, TEXTS, form
from diverseevol.errors import InputError
from diverseevol.storage.files import read_json
from diverseevol.storage.packed import refuse_packed
from diverseevol.storage.reading import files_below, read_text, refuse_special

LARGEST_README = 1 << 20
STATE, SPLITS = "state.json", "dataset_dict.json"  # what `save_to_disk` writes beside its tables
REMEDY = "save the data set again, or give a file of its rows"
README, SETTINGS = "README.md", ".huggingface.yaml"  # where `datasets` looks for names of files


def check_folder(folder: Path) -> None:
    """Refuse a folder that would keep the library waiting, fill a disk, or have it read elsewhere.

    Raises:
        InputError: it holds a special or a packed file, or names files outside of itself.
    """
    for file in files_below(folder):
        refuse_special(file)
        if os.path.exists(file):  # noqa: PTH110 # a link may lead nowhere
            refuse_packed(file)
    for name in (README, SETTINGS):
        for named in _named_in(folder / name):
            path = PurePosixPath(named)
            if path.is_absolute() or {"..", "~"} & {*path.parts} or "::" in named or "://" in named:
                raise InputError(
                    f"{folder / name}: names {named[:200]!r} as data, expected files of its own folder; put the files "
                    f"there, or give the one that you mean with data.path=…"
                )


def saved_files(folder: Path) -> dict[str, list[str]]:
    """The Arrow files of each split that `save_to_disk` of `datasets` wrote there; empty where it wrote none.

    Raises:
        InputError: what the library wrote beside them is damaged, or names files elsewhere.
    """
    if (folder / STATE).is_file():
        return {"train": _saved_files(folder)}
    if not (folder / SPLITS).is_file():
        return {}
    splits = read_json(folder / SPLITS, REMEDY)
    names = splits.get("splits") if isinstance(splits, dict) else None
    if not isinstance(names, list) or not names or not all(map(_is_file_name, names)):
        raise InputError(f'{folder / SPLITS}: expected the names of splits below "splits"; {REMEDY}')
    return {name: _saved_files(folder / name) for name in names}


def packed_rows(folder: Path, split: str) -> list[Path]:
    """The files of rows of a folder where some are packed by their names, to be unpacked within limits, one by one.

    Empty where none are, and where the files to be read are named otherwise: by a split, a README or `save_to_disk`.
    """
    names = [file for file in files_below(folder) if form(file) in (*TEXTS, *TABLES)]
    if split != "train" or not any(file.suffix.lower() in PACKINGS and form(file) in TEXTS for file in names):
        return []
    if saved_files(folder) or any(next(_named_in(folder / name), None) for name in (README, SETTINGS)):
        return []
    from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns

    splits = DataFilesDict.from_patterns(sanitize_patterns(get_data_patterns(str(folder))), base_path=str(folder))
    return sorted(Path(file) for file in splits.get("train", ()) if form(file) in (*TEXTS, *TABLES))


def _saved_files(folder: Path) -> list[str]:
    state = read_json(folder / STATE, REMEDY)
    files = state.get("_data_files") if isinstance(state, dict) else None
    names = [file.get("filename") if isinstance(file, dict) else None for file in files or [None]]
    if not all(map(_is_file_name, names)):
        raise InputError(f"{folder / STATE}: expected the names of files of its own folder; {REMEDY}")
    return [glob.escape(str(folder.resolve() / str(name))) for name in names]


def _is_file_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and PurePosixPath(name).name == name


def _named_in(file: Path) -> Iterator[str]:
    """The patterns that a file of settings gives for the files of rows; none where it cannot be read as settings."""
    if not file.is_file():
        return
    text = read_text(file, LARGEST_README)
    try:
        settings = DatasetCard(text, ignore_metadata_errors=True).data.to_dict() if file.suffix == ".md" else None
        settings = yaml.safe_load(text) if settings is None else settings
    except (ValueError, TypeError, AttributeError, yaml.YAMLError):
        return  # whereupon the library says what is wrong
    configs = settings.get("configs") if isinstance(settings, dict) else None
    for config in configs if isinstance(configs, list) else []:
        if isinstance(config, dict):
            yield from _texts([config.get("data_files"), config.get("data_dir")])


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)
