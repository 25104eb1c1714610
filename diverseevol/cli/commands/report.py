"""`diverseevol report`: figures, tables and one HTML page over any set of run folders and judgements."""

from pathlib import Path
from typing import Any

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.output_files import check_writable
from diverseevol.errors import InputError
from diverseevol.output.console import results_console
from diverseevol.report.collect import collect
from diverseevol.report.page.folder import PAGE, refuse_foreign
from diverseevol.storage.files import refuse_links


def run(settings: Configuration) -> None:
    """Read the folders, write the report, and say where it is."""
    folders = _paths(settings.value("folder"), "folder")
    judgements = _paths(settings.value("judgements"), "judgements")
    if not folders and not judgements:
        raise InputError("folder is empty: give folder=… with run folders below, or judgements=…, or both")
    projection = settings.value("projection")
    if not isinstance(projection, str) or not projection.replace("_", "").replace("-", "").isalnum():
        raise InputError(f"projection={projection!r}: give pca, or the NAME of files map-NAME.npy in the run folders")
    requested = settings.value("out", str | None)
    out = Path(requested) if requested is not None else _default_folder((folders or judgements)[0])
    if requested is None and out.is_symlink():
        raise InputError(f"{out}: is a link, and the report would be written behind it; give out=… a folder")
    refuse_foreign(out, requested)
    refuse_links(out)
    if (folders or judgements)[0].exists():
        check_writable(out, f"{out}: the report cannot be written there", "another folder")
    collection = collect(folders, judgements)
    # A slow import, which a refusal does not need.
    from diverseevol.report.page.publish import publish

    console = results_console()
    for note in publish(collection, out, projection):
        console.print(f"note: {note}")
    page = out / PAGE
    console.print(
        f"{page}  {page.stat().st_size / 1e6:.1f} MB: open it in a browser; figures/ and tables/ are beside it",
    )  # fmt: skip


def _paths(value: Any, key: str) -> list[Path]:
    """One path, or a list of them."""
    if value == [] and key == "judgements":  # without folders there may still be judgements
        raise InputError("judgements=[]: names no judgements; leave it out, or give a folder or an archive of some")
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(path, str) and path for path in listed):
        raise InputError(f"{key}={value!r}: give a folder, or several as {key}=[ONE,TWO]")
    return [Path(path) for path in listed]


def _default_folder(path: Path) -> Path:
    return (path if path.is_dir() else path.parent) / "report"
