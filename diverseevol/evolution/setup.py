"""What one evolution is made of: a frozen description, which the loop and its phases read."""

import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from diverseevol.data.dataset import Dataset
from diverseevol.data.tags import Tags
from diverseevol.engine.learner import Learner
from diverseevol.evaluation.exam import Exam
from diverseevol.evolution.metrics import DEFAULT, Metric
from diverseevol.evolution.plan import Forecast
from diverseevol.options import Plateau, Schedule
from diverseevol.runs.round_folder import Round
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.tracking import NoLogger, Tracker
from diverseevol.samplers.base import Sampler


@dataclass(frozen=True)
class Streams:
    """Randomness by purpose: a generator per [seed, t, purpose], so nothing depends on what was drawn before.

    All samplers and schedules of one seed share P_0, and a resumed run draws what an uninterrupted one does.
    """

    seed: int

    def entropy(self, t: int, purpose: str) -> tuple[int, int, int]:
        """What the generator of a purpose starts from."""
        return self.seed, t, zlib.crc32(purpose.encode())

    def generator(self, t: int, purpose: str) -> np.random.Generator:
        """A fresh generator."""
        return np.random.default_rng(list(self.entropy(t, purpose)))


class FixedSpace:
    """An embedding of D that is the same for all rounds, computed when a round first asks for it.

    Args:
        phase: what the time that it takes is noted as.
        embed: computes it.
    """

    def __init__(self, phase: str, embed: Callable[[], Float[np.ndarray, "rows dim"]]) -> None:
        self._phase = phase
        self._embed = embed
        self._embedding: Float[np.ndarray, "rows dim"] | None = None

    def embedding(self, timed: Callable[[str], AbstractContextManager[None]]) -> Float[np.ndarray, "rows dim"]:
        """The embedding; the round that asks first has the time noted as a phase of its own."""
        if self._embedding is None:
            with timed(self._phase):
                self._embedding = self._embed()
        return self._embedding


@dataclass(frozen=True)
class Evolution:
    """Everything that one evolution is made of.

    Attributes:
        dataset: the rows D.
        learner: trains, probes and answers.
        sampler: chooses the rows that join.
        schedule: how many, how often.
        run: the folder that keeps it all.
        space: gives the foundation model's embedding of D, [rows, dim], in which rounds compare; called when needed.
        text_space: the same of the rows' words, for a sampler that chooses by them; None where it does not.
        seed: of all randomness.
        metrics: what is measured of each round.
        exam: benchmarks, judge and generation settings.
        tags: what is known of the rows beside what they say, for receipts.
        tracker: where each round is logged as a run of its own.
        config: the resolved configuration and provenance, logged with each run.
        keep_models: which rounds' models stay on disk.
        keep_dtype: None saves weights as they were trained; "source" in the checkpoint's precision, to which they are
            rounded before anything is asked of them.
        forecast: says how long each round will take, to be recorded beside how long it took; None predicts nothing.
        stop: when the evolution ends before the schedule's last round; None: it does not.
        on_round: called with each round as it becomes complete, or is found complete.
    """

    dataset: Dataset
    learner: Learner
    sampler: Sampler
    schedule: Schedule
    run: RunFolder
    space: Callable[[], Float[np.ndarray, "rows dim"]]
    seed: int
    metrics: Sequence[Metric] = DEFAULT
    exam: Exam = field(default_factory=Exam)
    tags: Tags = field(default_factory=Tags)
    tracker: Tracker = field(default_factory=NoLogger)
    config: Mapping[str, Any] = field(default_factory=dict)
    keep_models: Literal["all", "last", "none"] = "last"
    keep_dtype: Literal["source"] | None = None
    forecast: Forecast | None = None
    stop: Plateau | None = None
    text_space: Callable[[], Float[np.ndarray, "rows dim"]] | None = None
    on_round: Callable[[Round, bool], None] = lambda done, fresh: None

    def __post_init__(self) -> None:
        if self.sampler.needs.space == "text" and self.text_space is None:
            raise ValueError("this sampler chooses by the rows' words, and the evolution has no text_space")

    @cached_property
    def spaces(self) -> Mapping[str, FixedSpace]:
        """What `space` and `text_space` give, by samplers' names for them; each computed once for all rounds."""
        known = {"foundation": self.space, "text": self.text_space}
        return {name: FixedSpace(name, embed) for name, embed in known.items() if embed is not None}

    @cached_property
    def streams(self) -> Streams:
        """Randomness by purpose."""
        return Streams(self.seed)
