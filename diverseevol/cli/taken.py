"""Which rows `diverseevol select` may not choose: those that are in already, and those without a response."""

import numpy as np
from jaxtyping import Bool, Int

from diverseevol.data.row_numbers import read_row_numbers
from diverseevol.errors import InputError


def taken_rows(path: str | None, response_tokens: Int[np.ndarray, " rows"], n: int) -> Bool[np.ndarray, " rows"]:
    """True for the rows that a file names, and for those without a response token.

    Raises:
        InputError: the file does not name rows, or fewer than n are left.
    """
    rows = len(response_tokens)
    named = [] if path is None else read_row_numbers("taken", path, rows)
    taken: Bool[np.ndarray, " rows"] = response_tokens == 0
    empty = int(taken.sum())
    taken[named] = True
    left = int((~taken).sum())
    if n > left:
        parts = [f"taken={path} names {len(named):,}"] if named else []
        parts += [f"{empty:,} {'has' if empty == 1 else 'have'} no response token"] if empty else []
        why = f", for {' and '.join(parts)}" if parts else ""
        remedies = [*(["lower n"] if left else []), *(["take fewer"] if named else []), "bring more rows"]
        raise InputError(
            f"n={n}: {left:,} of {rows:,} rows {'is' if left == 1 else 'are'} left to choose from{why}; "
            f"{', '.join(remedies[:-1])}{' or ' * (len(remedies) > 1)}{remedies[-1]}"
        )
    return taken
