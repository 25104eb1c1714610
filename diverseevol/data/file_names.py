"""How the rows of a file are written, by the endings of its name."""

from pathlib import Path

PACKINGS = (".gz", ".bz2", ".xz", ".zst")
TABLES = {".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow"}  # -> what `datasets` calls them
DELIMITERS = {".csv": ",", ".tsv": "\t"}
TEXTS = (".json", ".jsonl", ".ndjson", *DELIMITERS)
# Tables that people have their rows in and that are not read.
OTHERS = {
    ".xls": "an Excel sheet", ".xlsx": "an Excel sheet", ".ods": "a spreadsheet", ".pkl": "a pickle",
    ".pickle": "a pickle",
}  # fmt: skip
READ = "JSON, JSONL, CSV, TSV, parquet or Arrow"


def form(path: str | Path) -> str:
    """The ending that says how rows are written, in lower case: ".csv" of rows.csv.gz."""
    return _bare(Path(path)).suffix.lower()


def is_file(path: str | Path) -> bool:
    """Whether a name has an ending of files of rows."""
    return Path(path).suffix.lower() in PACKINGS or form(path) in (*TABLES, *TEXTS, *OTHERS)


def title(path: str | Path) -> str:
    """What rows are called in paths and figures: the file's name without the endings that say how it is written."""
    bare = _bare(Path(path))
    return bare.stem if form(bare) in (*TABLES, *TEXTS, *OTHERS) else bare.name


def _bare(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() in PACKINGS else path
