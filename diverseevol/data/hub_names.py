"""What may be a name on the Hugging Face hub, by its form alone."""

import os
import re

from diverseevol.data.file_names import is_file

DATA_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
MODEL_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


def may_be_data_on_hub(where: str) -> bool:
    """Whether it is no file or folder here and may be the name of a data set on the hub."""
    return DATA_ID.fullmatch(where) is not None and not is_file(where) and not os.path.lexists(where)
