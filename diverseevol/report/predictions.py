"""How long phases were going to take, beside how long they took."""

from collections.abc import Iterable
from dataclasses import dataclass

from diverseevol.runs.round_folder import Round


@dataclass(frozen=True)
class Predicted:
    """A phase over all rounds in which it was predicted.

    Attributes:
        phase: its name.
        by: whose rates were used, as far as they differ.
        predicted: seconds.
        took: seconds.
        rounds: in how many rounds.
    """

    phase: str
    by: str
    predicted: float
    took: float
    rounds: int

    def cells(self) -> tuple[str, ...]:
        """As the tables have it, under `HEAD`."""
        ratio = f"{self.predicted / self.took:.2f}" if self.took else ""
        return self.phase, str(self.rounds), f"{self.predicted:,.1f}", f"{self.took:,.1f}", ratio, self.by


HEAD = ("phase", "rounds", "predicted, s", "took, s", "predicted / took", "by")
PREVIOUS = "round "  # how a source begins that is an earlier round


def predictions(rounds: Iterable[Round]) -> list[Predicted]:
    """Each phase that was predicted and done, and all of them together; nothing where nothing was predicted."""
    sums: dict[str, list[tuple[str, float, float]]] = {}
    for done in rounds:
        if done.predicted is not None:
            by = "the round before" if done.predicted.by.startswith(PREVIOUS) else done.predicted.by
            for phase, seconds in done.predicted.seconds.items():
                if phase in done.seconds:
                    sums.setdefault(phase, []).append((by, seconds, done.seconds[phase]))
    lines = [_line(phase, parts) for phase, parts in sums.items()]
    every = [part for parts in sums.values() for part in parts]
    return [*lines, _line("together", every)] if len(lines) > 1 else lines


def _line(phase: str, parts: list[tuple[str, float, float]]) -> Predicted:
    sources = ", ".join(dict.fromkeys(by for by, _, _ in parts))
    return Predicted(phase, sources, sum(p for _, p, _ in parts), sum(t for _, _, t in parts), len(parts))
