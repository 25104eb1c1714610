"""What a command refuses at once: options, rows, files and places that cannot be, before seconds of imports.

Nothing here imports torch, Lightning or transformers; what needs them is checked where it is used.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from diverseevol.cli.checked_options import AnswerOptions, EvolveOptions, SelectOptions, has_model, schedule_of
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.naming import run_path
from diverseevol.cli.output_files import check_writable, choice_file
from diverseevol.cli.rows import bad_rows_file, load_dataset
from diverseevol.data.formats.base import BadRecord
from diverseevol.data.hub_names import MODEL_ID, is_table
from diverseevol.data.json_reader import read_records
from diverseevol.data.row_numbers import EXPECTED
from diverseevol.errors import InputError
from diverseevol.options import Embedding, Generation, PromptOptions, Tuning
from diverseevol.output.console import Console, log_to
from diverseevol.progress import Shown
from diverseevol.runs.run_folder import RunFolder
from diverseevol.storage.cache import cache_folder, checked_in_full
from diverseevol.storage.reading import refuse_special

# Public names whose options are known; code that the user names checks its own.
ROWS, LAB_ROWS = "diverseevol.data.load", "diverseevol.lab.load"
MODELS = ("diverseevol.models.Pretrained", "diverseevol.lab.foundation_model")
BENCHMARK, PAPER = "diverseevol.benchmarks.load", "diverseevol.benchmarks.load_paper"
LOCAL, OPENAI, REPLAY = (f"diverseevol.judges.{name}" for name in ("Local", "OpenAI", "Replay"))
QUESTIONS = "a benchmark is a JSONL file with one question per line"
JUDGED = "give the folder or archive that holds the judgements"


def refuse_early(verb: str, settings: Configuration) -> None:
    """Refuse what can be seen to be wrong without the libraries that a command needs.

    Args:
        verb: the command.
        settings: its configuration.

    Raises:
        InputError: a file or folder that the command reads is missing or of another kind, or one that it writes to is
            in use or somebody else's.
    """
    CHECKS.get(verb, lambda settings: None)(settings)


def _evolve(settings: Configuration) -> None:
    options = settings.options("", EvolveOptions)
    schedule_of(settings)
    _nodes(settings, generation=Generation, tuning=Tuning, embedding=Embedding, prompt=PromptOptions)
    _part(settings, "sampler")
    _part(settings, "logger")
    for name in settings.value("metric", dict):
        _part(settings, f"metric.{name}")
    _first_row(settings)
    _model(settings)
    _benchmark(settings)
    _judge(settings)
    _run_folder(settings)
    _exam(settings)
    cache = cache_folder(settings.value("cache", str | None))
    _rows(settings, cache, bad_rows_file(settings, cache), options.verify_cache)


def _select(settings: Configuration) -> None:
    options = settings.options("", SelectOptions)
    _nodes(settings, embedding=Embedding, prompt=PromptOptions)
    sampler = _part(settings, "sampler")
    for name in ("embeddings", "lengths", "taken"):
        value = settings.value(name, str | None)
        if value is not None:
            label, taken = f"{name}={value}", name == "taken"
            if Path(value).expanduser().is_dir():
                raise InputError(f"{label}: is a folder; {EXPECTED if taken else 'name a file in it'}")
            _file(value, label, EXPECTED if taken else "check the path")
    out = choice_file(settings)
    if settings.value("data") is not None and options.embeddings is None and options.lengths is None:
        with_model = _is_set(settings, "model")
        if sampler is not None:
            with_model = has_model(settings, sampler.needs)
        if with_model:
            _model(settings)
        _first_row(settings)
        cache = cache_folder(settings.value("cache", str | None))
        _rows(settings, cache, out.with_suffix(".bad_rows.jsonl"), options.verify_cache)


def _answer(settings: Configuration) -> None:
    settings.options("", AnswerOptions)
    _nodes(settings, generation=Generation, prompt=PromptOptions)
    _model(settings)
    _benchmark(settings)
    out = settings.value("out", str)
    if os.path.lexists(out) and not Path(out).is_dir():
        raise InputError(f"out={out}: is a file; give a folder, which gets answers/BENCHMARK.jsonl")
    check_writable(Path(out), f"out={out}: cannot be written", "another folder")
    _exam(settings)


def _judging(settings: Configuration) -> None:
    _folder(settings.value("folder", str), "give a run folder, or one above some")
    _benchmark(settings)
    _judge(settings)


def _judgements(settings: Configuration) -> None:
    for name in ("folder", *(("recorded",) if settings.value("recorded") is not None else ())):
        _must_exist(settings.value(name, str), JUDGED)


def _score(settings: Configuration) -> None:
    _must_exist(settings.value("folder", str), JUDGED)


def _report(settings: Configuration) -> None:
    for name in ("folder", "judgements"):
        value = settings.value(name)
        for path in value if isinstance(value, list) else [value]:
            if isinstance(path, str) and path and not os.path.lexists(path):
                raise InputError(f"{path}: no such folder; give one that holds run folders or judgements")


CHECKS: Mapping[str, Callable[[Configuration], None]] = {
    "evolve": _evolve, "select": _select, "answer": _answer, "judge": _judging, "score": _score, "compare": _score,
    "agreement": _judgements, "report": _report,
}  # fmt: skip


def _is_set(settings: Configuration, key: str) -> bool:
    try:
        settings.value(key)
    except InputError:
        return False
    return True


def _node(settings: Configuration, key: str) -> dict[str, Any]:
    node = settings.value(key)
    return node if isinstance(node, dict) else {}


def _nodes(settings: Configuration, **kinds: type) -> None:
    """Nodes of plain options are what they should be."""
    for name, kind in kinds.items():
        settings.options(name, kind)


def _part(settings: Configuration, name: str, **arguments: Any) -> Any:
    """A part of the project's own, made with its options; None where that takes seconds, or is the user's code."""
    target = str(_node(settings, name).get("_target_"))
    return settings.part(name, **arguments) if target.startswith("diverseevol.") and target != LOCAL else None


def _rows(settings: Configuration, cache: Path, bad_rows: Path, verify_cache: bool) -> None:
    """All rows that lie here are what they should be; what the hub has is fetched after all else is known to be right.

    Of several processes each would do it at once: they take turns later.
    """
    node = _node(settings, "data")
    is_local = isinstance(path := node.get("path"), str) and (
        not is_table(Path(path)) or Path(path).expanduser().exists()
    )
    if _alone() and (node.get("_target_") == LAB_ROWS or (node.get("_target_") == ROWS and is_local)):
        console = Console(stderr=True)
        log_to(console)
        with checked_in_full(verify_cache):
            load_dataset(settings, cache, bad_rows, Shown(console))


def _exam(settings: Configuration) -> None:
    """The questions can be asked, and the judge be made; of several processes each would fetch what is not here."""
    if _alone():
        if settings.value("judge") is not None:
            _part(settings, "judge")
        _part(settings, "benchmark", cache=cache_folder(settings.value("cache", str | None)))


def _alone() -> bool:
    return os.environ.get("WORLD_SIZE", "1") == "1" and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2


def _first_row(settings: Configuration) -> None:
    """The rows' file is there, and its first record is one."""
    node = _node(settings, "data")
    where = node.get("path")
    if node.get("_target_") != ROWS or not isinstance(where, str) or not where:
        return
    path = Path(where).expanduser()
    if os.path.isdir(path):  # noqa: PTH112 - has no word against folders that nobody may look into
        return
    if is_table(path):
        if path.suffix.lower() == ".parquet":
            _file(str(path), str(path), "check data.path")
        return
    with closing(read_records(path)) as records:
        located = next(records, None)
    if located is None:
        raise InputError(f"{path}: there are no records in it; give a file with instruction rows")
    record, number, _ = located
    if isinstance(record, BadRecord) and node.get("on_bad_rows") != "skip":
        raise InputError(f"{path}, line {number}: {record}")


def _model(settings: Configuration) -> None:
    node = _node(settings, "model")
    if node.get("_target_") in MODELS:
        _model_folder(node.get("path"), "model.path")


def _model_folder(path: Any, option: str) -> None:
    """A model's folder is there and may be one; a possible name on the hub is left to the loader."""
    if not isinstance(path, str) or not path:
        return
    folder, remedy = Path(path).expanduser(), "give a hub name or a folder with config.json, a tokeniser and "
    if folder.is_dir():
        problem = None if os.path.lexists(folder / "config.json") else "has no config.json"
    elif os.path.lexists(folder):
        problem = "is a file"
    else:
        problem = None if MODEL_ID.fullmatch(path) else "no such folder"
    if problem is not None:
        raise InputError(f"{option}={path}: {problem}; {remedy}safetensors weights")


def _benchmark(settings: Configuration) -> None:
    """The questions' files are there."""
    node = _node(settings, "benchmark")
    parts = [node, *(part for part in node.values() if isinstance(part, dict) and node.get("_target_") == PAPER)]
    for part in parts:
        if part.get("_target_") == BENCHMARK:
            for name, remedy in (("path", QUESTIONS), ("competitor", "answers are a JSONL file, an answer a line")):
                value = part.get(name)
                if isinstance(value, str) and value and not (name == "competitor" and Path(value).is_dir()):
                    _file(value, value, remedy)
    if node.get("_target_") == PAPER and isinstance(node.get("folder"), str):
        _folder(node["folder"], "give benchmark.folder one that holds the six files")


def _judge(settings: Configuration) -> None:
    """What a judge reads is there."""
    node = _node(settings, "judge")
    target = node.get("_target_")
    if target == REPLAY and isinstance(node.get("judgements"), str):
        _must_exist(node["judgements"], JUDGED)
    if target == LOCAL:
        _model_folder(node.get("path"), "judge.path")
    if target in (LOCAL, OPENAI) and isinstance(node.get("prompt"), str):
        _file(node["prompt"], f"judge.prompt={node['prompt']}", "give a text file")


def _run_folder(settings: Configuration) -> None:
    """The run folder is free and no other's; of several processes, the first one looks when all have met."""
    if _alone():
        with RunFolder(run_path(settings), {}).locked():
            pass


def _file(path: str, label: str, remedy: str) -> None:
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{label}: is a folder; {remedy}")
    if not os.path.lexists(file) or not file.exists():
        raise InputError(f"{label}: no such file; {remedy}")
    refuse_special(file)


def _folder(path: str, remedy: str) -> None:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        problem = "is a file" if folder.exists() else "no such folder"
        raise InputError(f"{path}: {problem}; {remedy}")


def _must_exist(path: str, remedy: str) -> None:
    if not Path(path).expanduser().exists():
        raise InputError(f"{path}: no such file or folder; {remedy}")
