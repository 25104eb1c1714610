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
    folders = _places(settings.value("folder"), "folder")
    judgements = _places(settings.value("judgements"), "judgements")
    if not folders and not judgements:
        raise InputError("folder is empty: give folder=… with run folders below, or judgements=…, or both")
    projection = settings.value("projection")
    if not isinstance(projection, str) or not projection.replace("_", "").replace("-", "").isalnum():
        raise InputError(f"projection={projection!r}: give pca, or the NAME of files map-NAME.npy in the run folders")
    given = settings.value("out", str | None)
    out = Path(given) if given is not None else _beside((folders or judgements)[0])
    if given is None and out.is_symlink():
        raise InputError(f"{out}: is a link, and the report would be written behind it; give out=… a folder")
    refuse_foreign(out, given)
    refuse_links(out)
    if (folders or judgements)[0].exists():
        check_writable(out, f"{out}: the report cannot be written there", "another folder")
    collection = collect(folders, judgements)
    # Here, for it imports for seconds what a refusal does not need.
    from diverseevol.report.page.publish import publish

    console = results_console()
    for note in publish(collection, out, projection):
        console.print(f"note: {note}")
    page = out / PAGE
    console.print(
        f"{page}  {page.stat().st_size / 1e6:.1f} MB: open it in a browser; figures/ and tables/ are beside it",
    )  # fmt: skip


def _places(value: Any, key: str) -> list[Path]:
    """One path, or a list of them."""
    listed = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(each, str) and each for each in listed):
        raise InputError(f"{key}={value!r}: give a folder, or several as {key}=[ONE,TWO]")
    return [Path(each) for each in listed]


def _beside(place: Path) -> Path:
    return (place if place.is_dir() else place.parent) / "report"
