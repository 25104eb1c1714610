"""What one probing pass of a model says about every row of the data set."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, Shaped

from diverseevol.data.formats import Example
from diverseevol.errors import InputError


@dataclass(frozen=True)
class Features:
    """Per-row facts that samplers choose by, aligned with the data set: index i is row i of D.

    Attributes:
        response_tokens: [rows] tokens of each row's response (end token included) after truncation; 0 marks a
            row that cannot be trained on, of which the other facts say nothing.
        embedding: [rows, dim] mean-pooled last hidden states, memory-mapped where large; None where the
            sampler's needs name no space.
        scores: per-row token statistics by name, each [rows]; only those that the sampler's needs name.
        columns: the records' own fields by name, each [rows] as text (see `columns_of`); only those that the
            sampler's needs name.
    """

    response_tokens: Int[np.ndarray, " rows"]
    embedding: Float[np.ndarray, "rows dim"] | None = None
    scores: Mapping[str, Float[np.ndarray, " rows"]] = field(default_factory=dict)
    columns: Mapping[str, Shaped[np.ndarray, " rows"]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows the data set has."""
        return len(self.response_tokens)

    @property
    def eligible(self) -> Int[np.ndarray, " some"]:
        """The rows that can be trained on: means and variances are taken over these."""
        return np.flatnonzero(self.response_tokens > 0)


def columns_of(batches: Iterable[Sequence[Example]], names: Collection[str]) -> dict[str, Shaped[np.ndarray, " rows"]]:
    """Fields that the records have beside instruction, input and response, as text.

    Args:
        batches: all rows in order.
        names: the fields that are wanted; where none are, no row is read.

    Returns:
        name -> [rows]; "" where a row lacks the field or it is null, false or 0.

    Raises:
        InputError: no row has such a field.
    """
    if not names:
        return {}
    extras = [example.extra for batch in batches for example in batch]
    there = {key for extra in extras for key in extra}
    for name in sorted(names):
        if name not in there:
            found = f"the rows' further fields are {', '.join(sorted(there))}" if there else "the rows have no further"
            raise InputError(f"the sampler asks for the rows' field {name!r}, but {found}; name another field")
    texts = {
        name: ["" if extra.get(name) in (None, False, 0) else str(extra[name]) for extra in extras] for name in names
    }
    return {name: np.array(values) for name, values in texts.items()}
