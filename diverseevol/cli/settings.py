"""What a command may ask of the configuration: plain values and typed objects (see `diverseevol.cli.configuration`)."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from diverseevol.errors import InputError
from diverseevol.runs.saved_config import SavedChoice

T = TypeVar("T")

MOST_THREADS = 1024  # more than any processor has cores for; far more of them end the process


def check_threads(threads: int | None) -> None:
    """Check a number of torch's threads.

    Raises:
        InputError: there can be no so many.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise InputError(
            f"threads is {threads}; it must be at least 1 and at most {MOST_THREADS}, or null for all cores"
        )


@runtime_checkable
class Settings(Protocol):
    """A composed configuration.

    Attributes:
        choices: group -> the choice made.
    """

    choices: Mapping[str, str]

    def value(self, key: str, kind: Any = Any) -> Any:
        """A plain value, or a dictionary of them, that fits an annotation."""

    def options(self, key: str, kind: type[T]) -> T:
        """A node as a dataclass, checked."""

    def part(self, key: str, **further: Any) -> Any:
        """A node's target, called with its options and what is only known now."""

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What one command makes once, however often it asks for it under this name."""

    def recorded(self, key: str) -> Any:
        """A node as run folders hold it: the name of its choice and plain options, no module paths."""

    def shipped(self, group: str, saved: SavedChoice, **further: Any) -> Any:
        """What a run folder names, made from the choice of that name that ships with the package."""

    def text(self) -> str:
        """All of it, resolved, as YAML; nodes as `recorded` has them."""

    def differs_from_default(self, keys: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
        """Which leaves of these nodes differ from what the named groups' choices alone would give."""
