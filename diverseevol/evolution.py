"""The loop of DiverseEvol: train on the pool, probe all rows with the new model, let a sampler choose, repeat.

P_0 is drawn at random. Round t fine-tunes the *foundation* model on the pool P_t, measures the pool, lets the model
answer the benchmarks, and asks the sampler for the rows S_t that join: P_{t+1} = P_t ∪ S_t (arXiv 2311.08182,
section 3). The whole state of an evolution is which rows are in the pool, so a round that is on disk is never
repeated, and one that was cut goes on after its last whole phase.
"""

import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from diverseevol.errors import InputError
from diverseevol.evaluation.exam import Exam, examine
from diverseevol.features import Features
from diverseevol.files import read_json, read_jsonl, write_json, write_jsonl
from diverseevol.learner import Learner, read_probe
from diverseevol.measures import coverage_radius, receipt_distances, vendi_score, vendi_score_centred
from diverseevol.runs import Round, RoundFolder, RunFolder, write_selected
from diverseevol.samplers.base import Sampler, Selection, choose
from diverseevol.source import Source
from diverseevol.tracking import NoTracker, RoundLog, RunName, Tracker, opened


@dataclass(frozen=True)
class Schedule:
    """How the pool grows: round 0 trains on `seed_size` random rows, and each of `rounds` adds `step_size`.

    Attributes:
        rounds: T, the number of selections; T + 1 models are trained.
        seed_size: rows of P_0; None takes every eligible row (the upper baseline, without selections).
        step_size: rows of each S_t.
    """

    rounds: int = 10
    seed_size: int | None = 100
    step_size: int = 100

    def __post_init__(self) -> None:
        for name, least in (("rounds", 0), ("seed_size", 1), ("step_size", 0 if self.rounds == 0 else 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"schedule.{name} is {value}; it must be at least {least}")
        if self.seed_size is None and self.rounds > 0:
            raise InputError(
                "schedule.seed_size is null (all rows), which leaves none to choose; set schedule.rounds to 0"
            )

    def fits(self, eligible: int) -> None:
        """Check that there are rows enough.

        Raises:
            InputError: the schedule asks for more rows than can be trained on.
        """
        wanted = (self.seed_size or 0) + self.rounds * self.step_size
        if wanted > eligible or eligible == 0:
            raise InputError(
                f"the schedule needs {wanted:,} rows ({self.seed_size or 0:,} + {self.rounds} × {self.step_size:,}) "
                f"but {eligible:,} can be trained on; lower schedule.rounds, schedule.seed_size or "
                f"schedule.step_size, or bring more rows"
            )


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


@dataclass(frozen=True)
class Evolution:
    """Everything that one evolution is made of.

    Attributes:
        source: the rows D.
        learner: trains, probes and answers.
        sampler: chooses the rows that join.
        schedule: how many, how often.
        run: the folder that keeps it all.
        space: gives the foundation model's embedding of D, [rows, dim], in which rounds compare; called when needed.
        seed: of all randomness.
        exam: benchmarks, judge and generation settings.
        tracker: where each round is logged as a run of its own.
        config: the resolved configuration and provenance, logged with each run.
        keep_models: which rounds' models stay on disk.
        on_round: called with each round as it becomes whole, or is found whole.
    """

    source: Source
    learner: Learner
    sampler: Sampler
    schedule: Schedule
    run: RunFolder
    space: Callable[[], Float[np.ndarray, "rows dim"]]
    seed: int
    exam: Exam = field(default_factory=Exam)
    tracker: Tracker = field(default_factory=NoTracker)
    config: Mapping[str, Any] = field(default_factory=dict)
    keep_models: Literal["all", "last", "none"] = "last"
    on_round: Callable[[Round, bool], None] = lambda done, fresh: None

    @cached_property
    def streams(self) -> Streams:
        """Randomness by purpose."""
        return Streams(self.seed)


def evolve(evolution: Evolution) -> list[Round]:
    """Run an evolution to its end, or the part of it that is missing.

    Raises:
        InputError: the schedule does not fit the rows, or the folder's rounds cannot be trusted.
    """
    run, schedule, first = evolution.run, evolution.schedule, evolution.learner.processes.first
    eligible = np.flatnonzero(evolution.learner.encoded.eligible)
    schedule.fits(len(eligible))
    rounds: list[Round] = []
    rows = tuple(map(int, initial_pool(eligible, schedule.seed_size, evolution.streams)))
    for t in range(schedule.rounds + 1):
        folder = run.round(t)
        done = evolution.learner.processes.share(folder.load(rows) if first else None)
        fresh = done is None or (t < schedule.rounds and not done.chosen)
        if fresh:
            done = evolve_once(t, rows, evolution)
        assert done is not None
        rounds.append(done)
        rows = (*rows, *done.chosen)
        if first:
            _tidy(evolution, t)
            evolution.on_round(done, fresh)
    if first:
        write_selected(run.path / "selected.jsonl", rounds, evolution.source.record)
    return rounds


def initial_pool(
    eligible: Int[np.ndarray, " eligible"], size: int | None, streams: Streams
) -> Int[np.ndarray, " pool"]:
    """P_0: the same for every sampler and schedule of a seed; a smaller one is the start of a larger one."""
    return eligible if size is None else streams.generator(0, "initial pool").permutation(eligible)[:size]


def evolve_once(t: int, rows: tuple[int, ...], evolution: Evolution) -> Round:
    """One round: fit, probe, select, measure, examine; every phase is found in its file or done now.

    Args:
        t: the round's index.
        rows: the pool P_t.
        evolution: what the round is a part of.
    """
    evolution.learner.progress.head(f"round {t}: ")
    work = _Work(t, np.asarray(rows, dtype=np.int64), evolution)
    name = RunName(group=evolution.run.name, name=f"round-{t:02d}", id=evolution.run.round_id(t))
    tracker = evolution.tracker if evolution.learner.processes.first else NoTracker()
    with opened(tracker, name, evolution.run.path, evolution.config) as log:
        work.fit(log)
        chosen = work.select() if t < evolution.schedule.rounds else ()
        metrics = work.measure()
        scores = examine(
            evolution.exam,
            evolution.learner,
            work.model,
            work.folder.path,
            evolution.streams.entropy(t, "answers"),
            work.timed,
        )
        work.log(log, {**metrics, **scores})
        done = Round(t, rows, chosen, metrics, work.seconds())
        if evolution.learner.processes.first and not (work.folder.path / "round.json").exists():
            work.folder.finish(done)
    return done


class _Work:
    """The phases of one round, each found in its file or done now."""

    def __init__(self, t: int, rows: Int[np.ndarray, " pool"], evolution: Evolution) -> None:
        self.t = t
        self.rows = rows
        self.evolution = evolution
        self.learner = evolution.learner
        self.place = evolution.learner.processes
        self.folder: RoundFolder = evolution.run.round(t)
        self._model: PreTrainedModel | None = None

    def model(self) -> PreTrainedModel:
        """The round's model: as it was trained, or as the fit that was found on disk left it."""
        if self._model is None:
            self._model = self.learner.foundation.load(self.folder.model).eval()
        return self._model

    def fit(self, log: RoundLog) -> None:
        """Fine-tune, and keep the training curve and the model."""
        if self._there(self.folder.model):
            for point in read_jsonl(self.folder.path / "training.jsonl"):
                log.curve(int(point.pop("step")), point)
            return
        with self.timed("fit"):
            fit = self.learner.fit(self.rows, self.evolution.streams.entropy(self.t, "training"), log.curve)
            self._model = fit.model
            if self.place.first:
                write_jsonl(self.folder.path / "training.jsonl", fit.curve)
                self.folder.keep_model(self._save)
            self.place.barrier()

    def select(self) -> tuple[int, ...]:
        """Probe what the sampler needs, let it choose, and write the receipt."""
        receipt = self.folder.path / "chosen.jsonl"
        if not self._there(receipt):
            features = self.features()
            with self.timed("select"):
                if self.place.first:
                    write_jsonl(receipt, self._receipt(features, self._choose(features)))
                self.place.barrier()
        return tuple(self.folder.chosen() or ())

    def features(self) -> Features:
        """What the sampler asked to know of every row, and nothing more."""
        needs, learner = self.evolution.sampler.needs, self.learner
        wanted = needs.space == "current"
        statistics = sorted(needs.statistics)
        embedding: Float[np.ndarray, "rows dim"] | None = None
        scores: Mapping[str, Float[np.ndarray, " rows"]] = {}
        if wanted or statistics:
            names = [*statistics, *(["embedding"] if wanted else [])]
            if self._there(*(self.folder.probe / f"{name}.npy" for name in names)):
                embedding, scores = read_probe(self.folder.probe, embedding=wanted, statistics=statistics)
            else:
                with self.timed("probe"):
                    everything = np.arange(len(learner.encoded))
                    embedding, scores = learner.probe(
                        self.model(), everything, self.folder.probe, embedding=wanted, statistics=statistics
                    )
        if needs.space == "foundation":
            embedding = self.evolution.space()
        return Features(np.asarray(learner.encoded.response_tokens), embedding, dict(scores))

    def measure(self) -> dict[str, float]:
        """The pool's metrics, by logged name."""
        file = self.folder.path / "measures.json"
        if not self._there(file):
            with self.timed("measure"):
                own = self._own_embedding()
                if self.place.first:
                    write_json(file, self._metrics(own))
                self.place.barrier()
        metrics: dict[str, float] = self.place.share(read_json(file) if self.place.first else {})
        return metrics

    def log(self, log: RoundLog, metrics: Mapping[str, float]) -> None:
        """The round's metrics and the rows it chose."""
        log.metrics({"round": self.t, **metrics})
        receipt = self.folder.path / "chosen.jsonl"
        if self.place.first and receipt.exists() and (lines := read_jsonl(receipt)):
            log.table("chosen", list(lines[0]), [list(line.values()) for line in lines])

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note how long a phase took, beside what it leaves."""
        began = time.monotonic()
        yield
        if self.place.first:
            write_json(
                self.folder.path / "seconds.json",
                {**self.seconds(), phase: round(time.monotonic() - began, 3)},
            )

    def seconds(self) -> dict[str, float]:
        """Wall time of each phase so far; a phase that was found on disk keeps its own."""
        file = self.folder.path / "seconds.json"
        return dict(read_json(file)) if file.exists() else {}

    def _there(self, *files: Path) -> bool:
        return self.place.share(all(file.exists() for file in files))

    def _save(self, folder: Path) -> None:
        self.model().save_pretrained(folder)
        self.learner.prompt.tokenizer.save_pretrained(folder)

    def _choose(self, features: Features) -> Selection:
        taken = ~np.asarray(self.learner.encoded.eligible)
        taken[self.rows] = True
        rng = self.evolution.streams.generator(self.t, "selection")
        return choose(self.evolution.sampler, features, taken, self.evolution.schedule.step_size, rng)

    def _receipt(self, features: Features, selection: Selection) -> Iterator[dict[str, Any]]:
        distance: Any = [None] * len(selection.rows)
        nearest: Any = [None] * len(selection.rows)
        if features.embedding is not None:
            distance, nearest = receipt_distances(features.embedding, selection.rows, self.rows)
        source = self.evolution.source
        for rank, (row, score, far, near) in enumerate(
            zip(selection.rows, selection.score, distance, nearest, strict=True)
        ):
            example = source[int(row)]
            yield {
                "rank": rank, "row": int(row), "score": float(score),
                "distance": None if far is None else float(far), "nearest": None if near is None else int(near),
                "instruction": _excerpt(example.instruction), "response": _excerpt(example.response),
                "nearest_instruction": None if near is None else _excerpt(source[int(near)].instruction),
            }  # fmt: skip

    def _own_embedding(self) -> Float[np.ndarray, "pool dim"]:
        # Where the sampler had all rows embedded, the pool's are among them, and a resumed round reads the same ones.
        if self._there(self.folder.probe / "embedding.npy"):
            probed, _ = read_probe(self.folder.probe, embedding=True)
            assert probed is not None
            return np.asarray(probed[self.rows])
        folder = self.folder.path / "pool.partial"
        ascending = np.sort(self.rows)
        embedding, _ = self.learner.probe(self.model(), ascending, folder, what="embed the pool")
        assert embedding is not None
        own = np.array(embedding[np.searchsorted(ascending, self.rows)])
        self.place.barrier()
        if self.place.first:
            self.folder.drop(folder)
        return own

    def _metrics(self, own: Float[np.ndarray, "pool dim"]) -> dict[str, float]:
        space = self.evolution.space()
        curve = read_jsonl(self.folder.path / "training.jsonl")
        tail = [point["loss"] for point in curve[-max(1, len(curve) // 10) :]]
        return {
            "pool_size": len(self.rows),
            "train_loss": float(np.mean(tail)),
            "vendi_score": vendi_score(space[self.rows]),
            "vendi_score_centred": vendi_score_centred(space, self.rows),
            "vendi_score_current": vendi_score(own),
            "coverage_radius": coverage_radius(space, self.rows),
        }


def _tidy(evolution: Evolution, t: int) -> None:
    """Remove what round t needed on its way, and the models that are not to be kept, now that it is whole."""
    whole = evolution.run.round(t)
    whole.drop(whole.probe)
    whole.forget("measures.json", "seconds.json")
    if evolution.keep_models == "all":
        return
    for earlier in range(t + 1):
        if earlier < t or evolution.keep_models == "none":
            folder = evolution.run.round(earlier)
            folder.drop(folder.model)


def _excerpt(text: str, length: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"
