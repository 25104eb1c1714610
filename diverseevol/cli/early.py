"""What a command refuses at once: options, rows, files and places that cannot be, before seconds of imports.

Nothing here imports torch, Lightning or transformers; what needs them is checked where it is used.
"""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from diverseevol.cli.checked_options import (
    AnswerOptions,
    EvolveOptions,
    PlanOptions,
    answers_of,
    card_of,
    metrics_of,
    sampler_of,
    schedule_of,
    stop_of,
    tuning_of,
)
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.naming import run_path
from diverseevol.cli.output_files import check_writable
from diverseevol.cli.rows import bad_rows_file, load_dataset
from diverseevol.data.hub_names import MODEL_ID
from diverseevol.data.mixture import all_here
from diverseevol.errors import InputError, shown
from diverseevol.evaluation.judges.base import Judge, checked_judge
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.evolution.plateau import check_stop
from diverseevol.options import WEIGHTS, Budget, Efficiency, Embedding, Generation, PromptOptions
from diverseevol.output.console import Console, log_to
from diverseevol.progress import Shown
from diverseevol.runs.run_folder import RunFolder
from diverseevol.storage.cache import cache_folder, checked_in_full

# Public names whose options are known; code that the user names checks its own.
ROWS, LAB_ROWS, LOCAL = "diverseevol.data.load", "diverseevol.lab.load", "diverseevol.judges.Local"
WITH_WEIGHTS = ("diverseevol.models.Pretrained", "diverseevol.lab.foundation_model", LOCAL)
KERNELS = {
    "flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface", "flash_attention_4": "flash_attn",
}  # fmt: skip


def refuse_early(verb: str, settings: Configuration) -> None:
    """Refuse what can be seen to be wrong without the libraries that a command needs.

    Commands that import for less than a second check what they read themselves.

    Raises:
        InputError: an option, a row, a file or a folder is not what it should be.
    """
    if verb == "evolve":
        _evolve(settings)
        if _alone():  # the folder is free and no other's; of several processes, the first one looks when all have met
            with RunFolder(run_path(settings), {}).locked():
                pass
        _data(settings)
    elif verb == "plan":
        settings.options("", PlanOptions)
        _evolve(settings)
        _data(settings)
    elif verb == "answer":
        _answer(settings)
    elif verb == "judge":
        check_weights(settings, "judge")


def _evolve(settings: Configuration) -> None:
    settings.options("", EvolveOptions)
    schedule_of(settings)
    stop_of(settings)
    tuning_of(settings)
    server = answers_of(settings)
    if server is not None and server.command is None:
        raise InputError(
            "answers=server has no command, so one model would answer for those of all rounds; give answers.command=…, "
            "which serves each round's model, or ask a running server with diverseevol answer"
        )
    card_of(settings)
    _nodes(
        settings, generation=Generation, embedding=Embedding, prompt=PromptOptions, efficiency=Efficiency, budget=Budget
    )
    if str(_node(settings, "sampler").get("_target_")).startswith("diverseevol."):
        sampler_of(settings)
    _part(settings, "logger")
    metrics_of(settings)
    check_weights(settings, "model")
    check_weights(settings, "judge")


def _data(settings: Configuration) -> None:
    """The questions, what they decide, and the rows are what they should be."""
    judge, benchmarks = _exam(settings)
    if (rule := stop_of(settings)) is not None and benchmarks is not None:
        judged = judge is None or judge.capabilities.judges  # by a model, or by the user's code, which is not made yet
        check_stop(rule, metrics_of(settings), [benchmark.name for benchmark in benchmarks], judged)
    cache = cache_folder(settings.value("cache", str | None))
    check_rows(settings, cache, bad_rows_file(run_path(settings), cache), settings.value("verify_cache", bool))


def _answer(settings: Configuration) -> None:
    settings.options("", AnswerOptions)
    answers_of(settings)
    _nodes(settings, generation=Generation, prompt=PromptOptions)
    check_weights(settings, "model")
    out = settings.value("out", str)
    if os.path.lexists(out) and not Path(out).is_dir():
        raise InputError(f"out={out}: is a file; give a folder, which gets answers/BENCHMARK.jsonl")
    check_writable(Path(out), f"out={out}: cannot be written", "another folder")
    _exam(settings)


def check_weights(settings: Configuration, key: str) -> None:
    """Check that a model's folder is there and may be one; a possible name on the hub is left to the loader.

    Args:
        settings: the configuration.
        key: the node with its path: "model" or "judge".

    Raises:
        InputError: it is not.
    """
    node = _node(settings, key)
    path = node.get("path")
    if node.get("_target_") not in WITH_WEIGHTS or not isinstance(path, str) or not path:
        return
    folder = Path(path).expanduser()
    if folder.is_dir():
        problem = None if os.path.lexists(folder / "config.json") else "has no config.json"
    elif os.path.lexists(folder):
        problem = "is a file"
    else:
        problem = None if MODEL_ID.fullmatch(path) else "no such folder"
    if problem is not None:
        raise InputError(
            f"{key}.path={path}: {problem}; give a hub name or a folder with config.json, a tokeniser and safetensors "
            f"weights"
        )
    if (dtype := node.get("dtype", "float32")) not in WEIGHTS:
        raise InputError(f"{key}.dtype is {shown(dtype)}; choose {', '.join(WEIGHTS[:-1])} or {WEIGHTS[-1]}")
    package = KERNELS.get(attention := str(node.get("attention")))
    if package is not None and not any(find_spec(name) for name in (package, "kernels")):  # which fetches them
        raise InputError(
            f"{key}.attention={attention}: needs the package {package}, which is not installed; install it, or give "
            f"{key}.attention=auto"
        )


def check_rows(settings: Configuration, cache: Path, bad_rows: Path, verify_cache: bool) -> None:
    """Read all rows that lie here; what the hub has is fetched after all else is known to be right.

    Of several processes each would do it at once: they take turns later.

    Args:
        settings: the configuration.
        cache: the project's cache folder.
        bad_rows: the list of those that are left out.
        verify_cache: whether what is used of the cache is read to the last byte.

    Raises:
        InputError: a row is not what it should be.
    """
    node = _node(settings, "data")
    path = node.get("path")
    is_local = bool(path) and all_here(path)
    if _alone() and (node.get("_target_") == LAB_ROWS or (node.get("_target_") == ROWS and is_local)):
        console = Console(stderr=True)
        log_to(console)
        with checked_in_full(verify_cache):
            load_dataset(settings, cache, bad_rows, Shown(console))


def _exam(settings: Configuration) -> tuple[Judge | None, Sequence[Benchmark] | None]:
    """The questions can be asked, and the judge be made, where that takes no seconds.

    Of several processes each would fetch what is not here: they look later.
    """
    if not _alone():
        return None, None
    if (judge := _part(settings, "judge")) is not None:
        judge = checked_judge(judge)
    return judge, _part(settings, "benchmark", cache=cache_folder(settings.value("cache", str | None)))


def _alone() -> bool:
    return os.environ.get("WORLD_SIZE", "1") == "1" and int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) < 2


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
