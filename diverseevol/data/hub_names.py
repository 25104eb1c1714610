"""What is a name on the Hugging Face hub, by its form alone."""

import os
import re
from pathlib import Path

DATA_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
MODEL_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


def is_table(path: Path) -> bool:
    """Whether it is, by its name, a parquet file or a data set of the hub."""
    if path.suffix.lower() == ".parquet":
        return True
    maybe_hub = path.suffix.lower() not in {".json", ".jsonl"} and DATA_ID.fullmatch(str(path))
    return bool(maybe_hub) and not os.path.lexists(path)
