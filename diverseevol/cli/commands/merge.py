"""`diverseevol merge`: a round's adapter and the foundation weights as one model, in the form that other programs load.

The run folder may be a stranger's: which model was adapted says the command line, and the folder's digest is compared.
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from diverseevol.cli.binding import bind
from diverseevol.cli.checked_options import check_peft
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import check_writable
from diverseevol.errors import InputError
from diverseevol.options import LoRA, Tuning
from diverseevol.output.console import Console
from diverseevol.runs.round_folder import RoundFolder
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.saved_config import CHOICE, read_saved, saved_choice
from diverseevol.storage.cache import cache_folder
from diverseevol.storage.files import read_json
from diverseevol.storage.links import refuse_files_from_outside
from diverseevol.storage.sealed import build_complete, damage

if TYPE_CHECKING:  # its module imports for seconds
    from diverseevol.engine.pretrained import Pretrained


@dataclass(frozen=True)
class Options:
    """Whose adapter, and where the model goes; conf/merge.yaml says more."""

    folder: str
    round: int | None
    out: str
    keep_dtype: Literal["source"] | None


def run(settings: Configuration) -> None:
    """Merge and save."""
    options = settings.options("", Options)
    check_peft("merge")
    run, out = Path(options.folder), Path(options.out)
    refuse_files_from_outside(run)
    if not (run / "config.yaml").is_file():
        raise InputError(f"folder={run}: holds no config.yaml, so it is not a run folder; give one of tuning=lora")
    if out.exists():
        raise InputError(f"out={out}: is there already; give a folder that is not there yet")
    check_writable(out, f"out={out}: cannot be written", "another folder")
    config = read_saved(run / "config.yaml")
    lora = _lora(config, run / "config.yaml")
    kept = _adapter_of(run, options.round)
    foundation = _foundation(settings, config, kept)

    # Slow imports, after what can be refused without them.
    from diverseevol.cli.workbench import quieten
    from diverseevol.engine.tuning.lora import Adapters

    console = Console(stderr=True)
    quieten(console)
    identity = read_json(run / "fingerprint.json")
    if not isinstance(identity, dict) or identity.get("model") != foundation.identity(
        cache_folder(settings.value("cache", str | None))
    ):
        raise InputError(
            f"model.path={foundation.path}: is not what {run} was trained from, or is in another precision; give the "
            f"same model, and the same model.dtype"
        )
    merged = Adapters(foundation, lora).merged(kept.adapter)

    def save(folder: Path) -> None:
        foundation.save(merged, folder, options.keep_dtype)
        foundation.tokenizer().save_pretrained(folder)

    build_complete(out, save)
    console.print(f"round {kept.index} of {run} is in {out}: a model for model.path={out}, and for other programs")


def _lora(config: dict[str, Any], file: Path) -> LoRA:
    """How the run's model was adapted."""
    node = config.get("tuning")
    if not isinstance(node, dict) or "rank" not in node:
        raise InputError(
            f"{file}, tuning: has no rank, so that rounds keep complete models (rounds/*/{Tuning.KEPT}/), and there is "
            f"nothing to merge; give the folder of a run with tuning=lora"
        )
    return bind(LoRA, {name: value for name, value in node.items() if name != CHOICE}, f"{file}, tuning")


def _adapter_of(run: Path, index: int | None) -> RoundFolder:
    """The round whose adapter is to be merged."""
    folder = RunFolder(run, {})
    kept = [t for t in sorted(folder.complete()) if folder.round(t).adapter.is_dir()]
    if not kept:
        raise InputError(f"{run}: keeps no adapter; evolve again without keep_models=none")
    if index not in (None, *kept):
        raise InputError(
            f"{run}: the adapter of round={index} is not kept, and that of {', '.join(map(str, kept))} is; give "
            f"another round, or evolve with keep_models=all"
        )
    chosen = folder.round(kept[-1] if index is None else index)
    if flaw := damage(chosen.adapter):
        raise InputError(f"{chosen.adapter}: damaged ({flaw}); restore it, or delete it and evolve again")
    return chosen


def _foundation(settings: Configuration, config: dict[str, Any], kept: RoundFolder) -> "Pretrained":
    """The model that was adapted: the command line's, or where it names none, one that ships and that the run names.

    Raises:
        InputError: no model was given, and the run's does not ship.
    """
    from diverseevol.engine.pretrained import Pretrained  # a slow import

    try:
        settings.value("model")
    except InputError:  # nothing was given
        model, saved = None, saved_choice(config, "model", kept.path.parents[1] / "config.yaml")
        with suppress(InputError):
            model = saved and settings.shipped("model", saved)
    else:
        model = settings.part("model")
    if isinstance(model, Pretrained):
        return model
    file = kept.adapter / "adapter_config.json"
    adapted = read_json(file)
    base = adapted.get("base_model_name_or_path") if isinstance(adapted, dict) else None
    raise InputError(
        f"model.path is missing: give model.path=… with the model that was adapted, if you trust it; {file} says "
        f"{base!r}"
    )
