"""`diverseevol export`: chosen rows for other people's trainers, with a card, in a folder or on the hub."""

from pathlib import Path

from diverseevol.cli.checked_options import ExportOptions
from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import check_writable
from diverseevol.cli.rows import load_dataset
from diverseevol.errors import InputError
from diverseevol.export.chosen import Chosen, of_choice, of_run
from diverseevol.export.folder import export, refuse_foreign
from diverseevol.export.hub import check_hub, push
from diverseevol.output.console import Console, log_to
from diverseevol.output.shell import command, override
from diverseevol.output.terminal import say
from diverseevol.progress import Shown
from diverseevol.runs.subset import PICKS
from diverseevol.storage.cache import cache_folder
from diverseevol.storage.files import read_json


def run(settings: Configuration) -> None:
    """Find the rows, write them, and say where they are."""
    options = settings.options("", ExportOptions)
    out = refuse_foreign(options.out, options.replace)
    check_writable(out, f"out={out}: cannot be written", "another folder")
    if options.hub is not None:
        check_hub(options.hub, options.replace)
    chosen = _chosen(settings, options)
    tally = export(chosen, options.format, out, _again(options, settings), options.hub)
    say(f"{out}: {tally.rows:,} rows of {chosen.name} as {options.format}; {out}/README.md says how they are read")
    if options.hub is not None:
        say(f"pushed to {push(out, options.hub, options.hub_private)}")


def _chosen(settings: Configuration, options: ExportOptions) -> Chosen:
    """The subset, from the data where these are given."""
    folder, picks = options.folder, options.picks
    if folder is not None and (Path(folder) / PICKS).is_file() and not (Path(folder) / "config.yaml").exists():
        if options.round is not None:
            raise InputError(
                f"round={options.round}: {folder} holds a choice of select, which has no rounds; leave it out"
            )
        picks, folder = str(Path(folder) / PICKS), None
    chosen = of_choice(Path(str(picks))) if folder is None else of_run(Path(folder), options.round)
    if settings.value("data") is None:
        return chosen
    cache = cache_folder(settings.value("cache", str | None))
    console = Console(stderr=True)
    log_to(console)
    dataset = load_dataset(settings, cache, cache / "bad_rows" / "export.jsonl", Shown(console))
    if folder is not None:
        file = Path(folder) / "fingerprint.json"
        identity = read_json(file)
        if not isinstance(identity, dict) or identity.get("data") != dataset.fingerprint:
            raise InputError(
                f"{dataset.name}: has other rows than the data that {folder} chose from ({file}); give those, or none"
            )
    return chosen.of(dataset)


def _again(options: ExportOptions, settings: Configuration) -> str:
    words = settings.overrides
    if words is None:  # of a sweep
        names = ("folder", "round", "picks", "format", "out")
        words = [override(name, getattr(options, name)) for name in names if getattr(options, name) is not None]
    return command("diverseevol", "export", *words)
