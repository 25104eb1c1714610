"""What a run on disk was asked (its own `questions/`, or the shipped choice that it names)."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diverseevol.cli.configuration import Configuration
from diverseevol.errors import InputError
from diverseevol.evaluation.questions.benchmarks import Benchmark, read_questions
from diverseevol.evaluation.questions.find_answers import FoundAnswers
from diverseevol.runs.saved_config import read_complete, saved_choice
from diverseevol.storage.links import refuse_from_outside

GROUP = "benchmark"


class SavedQuestions:
    """The questions of runs, each read once. A run folder may come from anywhere: it names, and never calls.

    Args:
        settings: of the command that reads the run folders.
        cache: the project's cache folder.
    """

    def __init__(self, settings: Configuration, cache: Path) -> None:
        self._settings = settings
        self._cache = cache
        self._config = functools.cache(_config)
        self._kept = functools.cache(_kept)
        self._shipped = functools.cache(self._make)

    def name(self, answered: FoundAnswers) -> Path:
        """What the run is called in dashboards: by the folder that it was made in."""
        if answered.run is None:
            return answered.file.resolve()
        folder = self._config(answered.run).get("folder")
        return Path(folder) if isinstance(folder, str) and folder else answered.run.resolve()

    def benchmark(self, answered: FoundAnswers) -> Benchmark | None:
        """The questions that the answers are to; None where the run's configuration is of other questions.

        Raises:
            InputError: nothing says what was asked, or what says it is damaged or names what a run folder may not.
        """
        run, name = answered.run, answered.benchmark
        if run is None:
            raise InputError(f"{answered.file}: nothing beside it says what was asked; give benchmark=…")
        # First, so that nothing is made of a folder that names code.
        choice = saved_choice(self._config(run), GROUP, run / "config.yaml")
        kept = run / "questions" / f"{name}.jsonl"
        if kept.is_file():
            return self._kept(kept, run)
        if choice is None:
            raise InputError(
                f"{answered.file}: neither questions/{name}.jsonl nor config.yaml in {run} says what was asked; give "
                f"benchmark=…"
            )
        return self._shipped(run).get(name)

    def _make(self, run: Path) -> Mapping[str, Benchmark]:
        choice = saved_choice(self._config(run), GROUP, run / "config.yaml")
        assert choice is not None
        made: tuple[Benchmark, ...] = self._settings.shipped(GROUP, choice, cache=self._cache)
        return {benchmark.name: benchmark for benchmark in made}


def _config(run: Path) -> dict[str, Any]:
    file = run / "config.yaml"
    return read_complete(file) if file.exists() else {}


def _kept(file: Path, run: Path) -> Benchmark:
    refuse_from_outside(file, run)
    return read_questions(file)
