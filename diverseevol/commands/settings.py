"""What a command may ask of the configuration: plain values and typed objects (see `diverseevol.cli.configuration`)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

T = TypeVar("T")


@runtime_checkable
class Settings(Protocol):
    """A composed configuration.

    Attributes:
        choices: group -> the choice made.
    """

    choices: Mapping[str, str]

    def value(self, key: str) -> Any:
        """A plain value, or a dictionary of them."""

    def options(self, key: str, kind: type[T]) -> T:
        """A node as a dataclass, checked."""

    def part(self, key: str, **further: Any) -> Any:
        """A node's target, called with its options and what is only known now."""

    def saved(self, file: Path, keys: Sequence[str]) -> "Settings":
        """These keys of a configuration that a run keeps on disk."""

    def text(self) -> str:
        """All of it, resolved, as YAML."""

    def differs_from_default(self, keys: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
        """Which leaves of these nodes differ from what the named groups' choices alone would give."""
