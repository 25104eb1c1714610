"""Which shares of a pool come from which source of a mixture, beside the shares of all rows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.models import PROVENANCE
from diverseevol.runs.metrics import MetricDescription
from diverseevol.storage.files import read_json

OF_POOL = MetricDescription("source_share", "", "share of the pool", level=False)
OF_ALL_ROWS = MetricDescription("source_share_of_all", "all rows", "share of the rows", level=False)


@dataclass(frozen=True)
class SourceRows:
    """A source of a run's rows.

    Attributes:
        name: of the source.
        start, stop: its rows, [start, stop).
        eligible: how many of them can be trained on.
    """

    name: str
    start: int
    stop: int
    eligible: int

    def count(self, rows: Sequence[int]) -> int:
        """How many of these rows are its."""
        return sum(self.start <= row < self.stop for row in rows)


def sources_of(folder: Path) -> tuple[SourceRows, ...]:
    """The sources that a run folder names; none where its data are no mixture.

    Raises:
        InputError: what it holds there are no sources.
    """
    file = folder / PROVENANCE
    content = read_json(file) if file.is_file() else {}
    listed = content.get("sources", []) if isinstance(content, dict) else []
    try:
        sources = tuple(SourceRows(**source) for source in listed)
        numbers = [number for source in sources for number in (source.start, source.stop, source.eligible)]
        if all(type(number) is int and number >= 0 for number in numbers):
            return tuple(replace(source, name=str(source.name)) for source in sources)
    except TypeError:
        pass
    raise InputError(f"{file}: expected sources with name, start, stop and eligible; restore the file")


def shares(sources: Sequence[SourceRows], pool: Sequence[int]) -> dict[str, float]:
    """The share of each source, of a pool and of all rows that can be trained on, by the logged names of metrics."""
    eligible = sum(source.eligible for source in sources)
    of_pool = {f"{OF_POOL.name}/{source.name}": source.count(pool) / len(pool) for source in sources if pool}
    of_all = {f"{OF_ALL_ROWS.name}/{source.name}": source.eligible / eligible for source in sources if eligible}
    return {**of_pool, **of_all}
