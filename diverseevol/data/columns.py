"""Fields of the records besides the conversation, as columns that samplers choose by."""

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Shaped

from diverseevol.data.conversation import Conversation
from diverseevol.errors import InputError

if TYPE_CHECKING:
    from diverseevol.data.dataset import Source

BY_SOURCE = "source"  # the column that says where the rows of a mixture come from


def columns_of(
    batches: Iterable[Sequence[Conversation]], names: Collection[str], sources: Sequence["Source"] = ()
) -> dict[str, Shaped[np.ndarray, " rows"]]:
    """Fields that the records have besides instruction, input and response, as text.

    Args:
        batches: all rows in order.
        names: the fields that are wanted; where none are, no row is read.
        sources: of the rows. Where there are several, they are the column "source", whatever field has that name.

    Returns:
        name -> [rows]; "" where a row lacks the field or it is null, false or 0.

    Raises:
        InputError: no row has such a field.
    """
    if len(sources) > 1 and BY_SOURCE in names:
        column = np.repeat([source.name for source in sources], [source.stop - source.start for source in sources])
        return {BY_SOURCE: column, **columns_of(batches, {*names} - {BY_SOURCE})}
    if not names:
        return {}
    extras = [conversation.extra for batch in batches for conversation in batch]
    known = {key for extra in extras for key in extra}
    for name in sorted(names):
        if name not in known:
            choices = (
                f"the rows' further fields are {', '.join(sorted(known))}" if known else "the rows have no further"
            )
            mixture = " (several paths in data.path would be the sources of the rows)" if name == BY_SOURCE else ""
            raise InputError(
                f"the sampler asks for the rows' field {name!r}, but {choices}{mixture}; name another field"
            )
    texts = {
        name: ["" if extra.get(name) in (None, False, 0) else str(extra[name]) for extra in extras] for name in names
    }
    return {name: np.array(values) for name, values in texts.items()}
