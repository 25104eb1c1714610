"""What of the data is left out, cut or not used, and why: said once, before anything is done with the rows."""

from collections.abc import Iterator

import numpy as np

from diverseevol.prompt import Encoded, PromptOptions
from diverseevol.source import Source


def left_out(source: Source, encoded: Encoded, prompt: PromptOptions) -> Iterator[str]:
    """A sentence for each kind of row that is not what its author wrote; none where all are.

    Args:
        source: the rows.
        encoded: the same as tokens.
        prompt: what cut them.
    """
    for reason, count in source.bad.items():
        yield f"{_rows(count)} left out: {reason}"
    if len(source.held_out):
        yield f"{_rows(len(source.held_out))} held out: never trained on, the same for all samplers and seeds"
    removed = int((np.asarray(encoded.response_tokens) == 0).sum())
    shortened = 0 if encoded.lost is None else int((np.asarray(encoded.lost) > 0).sum()) - removed
    limit = f"prompt.max_length={prompt.max_length:,}"
    if removed:
        yield f"{_rows(removed)} ineligible: {limit} leaves no token of the response"
    if shortened:
        yield f"{_rows(shortened)} shortened: {limit} cuts the end of the response"
    if encoded.changed:
        yield f"{_rows(encoded.changed)} changed: the chat template leaves part of the response out"
    for name, count in source.unused.items():
        takes = (
            f"data.fields.input={name} takes it as the input" if name not in ("system", "history") else "no option does"
        )
        yield f"{_rows(count)} with a field {name!r} that nothing uses ({takes})"


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
