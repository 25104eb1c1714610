"""How long each phase of a round took and how much memory, noted beside what the phase leaves until the round ends."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from diverseevol.engine.memory import peak_memory, reset_peak_memory
from diverseevol.storage.files import read_json, write_json

SECONDS, PEAK_MEMORY = "seconds.json", "peak_memory.json"


class PhaseNotes:
    """The notes of one round; a phase that a resumed run finds on disk keeps its own.

    Args:
        folder: the round's folder.
        first: whether this is the first process, which alone reads and writes them.
    """

    def __init__(self, folder: Path, first: bool) -> None:
        self._folder = folder
        self._first = first

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note a phase's time and peak memory; the time that it took before it was interrupted is added."""
        reset_peak_memory()
        began = time.monotonic()
        yield
        self.add(phase, time.monotonic() - began)
        if self._first:
            peaks = {f"{phase}/{of}" if of == "device" else phase: size for of, size in peak_memory().items()}
            before = self.memory()
            self._note(PEAK_MEMORY, {name: max(size, before.get(name, 0)) for name, size in peaks.items()})

    def add(self, phase: str, seconds: float) -> None:
        """Note that a phase took so much longer."""
        if self._first:
            self._note(SECONDS, {phase: round(self.seconds().get(phase, 0.0) + seconds, 3)})

    def seconds(self) -> dict[str, float]:
        """Wall time of each phase so far."""
        return self._read(SECONDS)

    def memory(self) -> dict[str, int]:
        """The first process's peak memory in each phase so far, in bytes; on a GPU as `<phase>/device`."""
        return {phase: int(size) for phase, size in self._read(PEAK_MEMORY).items()}

    def _read(self, name: str) -> dict[str, float]:
        file = self._folder / name
        return dict(read_json(file)) if self._first and file.exists() else {}

    def _note(self, name: str, values: Mapping[str, float]) -> None:
        write_json(self._folder / name, {**self._read(name), **values})
