"""What a command may ask of the configuration: plain values and typed objects (see `diverseevol.cli.configuration`)."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from diverseevol.saved import SavedChoice

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

    def recorded(self, key: str) -> Any:
        """A node as run folders hold it: the name of its choice and plain options, no module paths."""

    def shipped(self, group: str, saved: SavedChoice, **further: Any) -> Any:
        """What a run folder names, made from the choice of that name that ships with the package."""

    def text(self) -> str:
        """All of it, resolved, as YAML; nodes as `recorded` has them."""

    def differs_from_default(self, keys: Sequence[str], groups: Sequence[str]) -> dict[str, Any]:
        """Which leaves of these nodes differ from what the named groups' choices alone would give."""
