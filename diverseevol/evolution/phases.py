"""The phases of one round, each found in its file or done now, so that a crash repeats at most the one that ran."""

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from diverseevol.data.columns import columns_of
from diverseevol.data.tokens import tokens_of
from diverseevol.engine.learner import Learner
from diverseevol.engine.memory import peak_memory, reset_peak_memory
from diverseevol.engine.probing.committee_probe import DISAGREEMENTS
from diverseevol.evaluation.questions.benchmarks import with_references
from diverseevol.evolution.committee import seats
from diverseevol.evolution.log_rounds import log_round
from diverseevol.evolution.metrics.base import MeasuredRound, measure_all, needs_of
from diverseevol.evolution.metrics.losses import mean_loss
from diverseevol.evolution.receipts import receipt
from diverseevol.evolution.setup import Evolution
from diverseevol.parallel.shared_arrays import read_probe
from diverseevol.runs.metrics import Estimate
from diverseevol.runs.round_folder import RoundFolder
from diverseevol.runs.tracking import RoundLog
from diverseevol.samplers.base import Selection, choose
from diverseevol.samplers.features import Features
from diverseevol.storage.files import read_json, read_jsonl, temporary, write_json, write_jsonl
from diverseevol.storage.sealed import damage, seal

RESPONSE_LOSS = "response_loss"  # the token statistic that held-out losses are made of

log = logging.getLogger(__name__)


def _sound(file: Path) -> bool:
    if not os.path.lexists(file):
        return False
    flaw = damage(file) if file.suffix == "" else damage(file.parent, [file.name])
    if flaw is not None:
        log.warning("%s: damaged (%s); it is not used, and its phase is done again", file, flaw)
    return flaw is None


class Phases:
    """Fit, select, measure and log, for round t."""

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
        curve = self.folder.path / "training.jsonl"
        if self._there(curve, self.folder.model):
            for point in read_jsonl(curve):
                log.curve(int(point.pop("step")), point)
            return
        with self.timed("fit"):
            fit = self.learner.fit(self.rows, self.evolution.streams.entropy(self.t, "training"), log.curve)
            self._model = fit.model
            if self.place.first:
                write_jsonl(curve, fit.curve)
                seal(self.folder.path, [curve.name])
                self.folder.keep_model(self._save)
            self.place.barrier()

    def select(self) -> tuple[int, ...]:
        """Probe what the sampler needs, let it choose, and write the receipt."""
        file = self.folder.path / "chosen.jsonl"
        if not self._there(file):
            features = self.features()
            # A sampler that embeds nothing is told apart by its picks, too: the foundation's space is at hand anyway.
            embedding, space = features.embedding, self.evolution.sampler.needs.space
            if embedding is None:
                embedding, space = self._space(), "foundation"
            with self.timed("select"):
                if self.place.first:
                    selection, dataset = self._choose(features), self.evolution.dataset
                    write_jsonl(file, receipt(selection, dataset, embedding, self.rows, space))
                    seal(self.folder.path, [file.name])
                self.place.barrier()
        return tuple(self.place.share(self.folder.chosen() or [] if self.place.first else []))

    def features(self) -> Features:
        """What the sampler asked to know of every row, and nothing more."""
        needs, learner = self.evolution.sampler.needs, self.learner
        wanted = needs.space == "current"
        statistics = sorted(needs.statistics - DISAGREEMENTS)
        embedding: Float[np.ndarray, "rows dim"] | None = None
        scores: Mapping[str, Float[np.ndarray, " rows"]] = {}
        if wanted or statistics:
            names = [*statistics, *(["embedding"] if wanted else [])]
            if self._there(*(self.folder.probe / f"{name}.npy" for name in names)):
                embedding, scores = read_probe(self.folder.probe, embedding=wanted, statistics=statistics)
            else:
                with self.timed("probe"):
                    embedding, scores = learner.probe(
                        self.model(), self._choosable(), self.folder.probe,
                        embedding=wanted, statistics=statistics, aligned=True,
                    )  # fmt: skip
        if needs.space == "foundation":
            embedding = self._space()
        if disagreements := sorted(needs.statistics & DISAGREEMENTS):
            scores = {**scores, **self._disagreement(disagreements)}
        columns = columns_of(self.evolution.dataset.iterate(), needs.columns)
        tokens = np.where(learner.encoded.eligible, learner.encoded.response_tokens, 0)
        return Features(tokens, embedding, dict(scores), columns)

    def measure(self) -> dict[str, float]:
        """The values of the metrics that were chosen, by logged name."""
        file = self.folder.path / "measures.json"
        if not self._there(file):
            needs = needs_of(self.evolution.metrics)
            space = self._space() if "foundation_embedding" in needs else None
            with self.timed("measure"):  # all processes embed, one computes
                measured = MeasuredRound(
                    index=self.t,
                    pool=self.rows,
                    dataset=self.evolution.dataset,
                    eligible=self._choosable(),
                    response_tokens=np.asarray(self.learner.encoded.response_tokens),
                    curve=read_jsonl(self.folder.path / "training.jsonl") if self.place.first else [],
                    foundation_embedding=space,
                    current_embedding=self._own_embedding() if "current_embedding" in needs else None,
                    held_out_loss=self._held_out_loss() if "held_out_loss" in needs else None,
                    reference_loss=self._reference_loss() if "reference_loss" in needs else {},
                )
                if self.place.first:
                    values = measure_all(self.evolution.metrics, measured)
                    write_json(file, {"pool_size": len(self.rows), **values})
                    seal(self.folder.path, [file.name])
                self.place.barrier()
        metrics: dict[str, float] = self.place.share(read_json(file) if self.place.first else {})
        return metrics

    def log(self, log: RoundLog, metrics: Mapping[str, float]) -> None:
        """The round's metrics and the rows it chose."""
        if self.place.first:
            log_round(log, self.t, metrics, self.folder.path / "chosen.jsonl")

    @contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        """Note a phase's time and peak memory beside what it leaves; the time it took before it was cut is added."""
        reset_peak_memory()
        began = time.monotonic()
        yield
        if self.place.first:
            took = self.seconds().get(phase, 0.0) + time.monotonic() - began
            self._note("seconds.json", {phase: round(took, 3)})
            peaks = {f"{phase}/{of}" if of == "device" else phase: size for of, size in peak_memory().items()}
            before = self.memory()
            self._note("peak_memory.json", {name: max(size, before.get(name, 0)) for name, size in peaks.items()})

    def seconds(self) -> dict[str, float]:
        """Wall time of each phase so far; a phase that was found on disk keeps its own."""
        return self._noted("seconds.json")

    def memory(self) -> dict[str, int]:
        """The first process's peak memory in each phase so far, in bytes; on a GPU as `<phase>/device`."""
        return {phase: int(size) for phase, size in self._noted("peak_memory.json").items()}

    def _noted(self, name: str) -> dict[str, float]:
        file = self.folder.path / name
        return dict(read_json(file)) if self.place.first and file.exists() else {}

    def _note(self, name: str, values: Mapping[str, float]) -> None:
        write_json(self.folder.path / name, {**self._noted(name), **values})

    def _space(self) -> Float[np.ndarray, "rows dim"]:
        """The foundation's embedding of all rows; the round that asks first notes how long it took."""
        if "foundation_space" in vars(self.evolution):
            return self.evolution.foundation_space
        with self.timed("foundation"):
            return self.evolution.foundation_space

    def _there(self, *files: Path) -> bool:
        """Whether what a phase leaves is there, and as it was left: what is damaged is made again."""
        return self.place.share(self.place.first and all(map(_sound, files)))

    def _save(self, folder: Path) -> None:
        self.learner.foundation.save(self.model(), folder, self.evolution.keep_dtype)
        self.learner.prompt.tokenizer.save_pretrained(folder)

    def _choosable(self) -> Int[np.ndarray, " some"]:
        """The rows that a model is asked about: those that can be chosen, now or earlier."""
        return np.flatnonzero(self.learner.encoded.eligible)

    def _choose(self, features: Features) -> Selection:
        taken = ~np.asarray(self.learner.encoded.eligible)
        taken[self.rows] = True
        rng = self.evolution.streams.generator(self.t, "selection")
        return choose(self.evolution.sampler, features, taken, self.evolution.schedule.step_size, rng)

    def _disagreement(self, statistics: Sequence[str]) -> Mapping[str, Float[np.ndarray, " rows"]]:
        others = seats(self.t, self.rows, self.evolution)
        if not others:  # who is alone agrees with himself
            return {name: np.zeros(len(self.learner.encoded), dtype=np.float32) for name in statistics}
        if self._there(*(self.folder.probe / f"{name}.npy" for name in statistics)):
            return read_probe(self.folder.probe, embedding=False, statistics=statistics)[1]
        for seat in others:
            if not self._there(seat.folder.model):
                with self.timed(seat.name):
                    seat.fill(self.evolution)
        with self.timed("disagreement"):
            members = [self.model(), *(seat.load(self.learner) for seat in others)]
            return self.learner.disagreement(members, self._choosable(), self.folder.probe, statistics)

    def _own_embedding(self) -> Float[np.ndarray, "pool dim"]:
        # Where the sampler had all rows embedded, the pool's are among them, and a resumed round reads the same ones.
        if self._there(self.folder.probe / "embedding.npy"):
            probed, _ = read_probe(self.folder.probe, embedding=True)
            assert probed is not None
            return np.asarray(probed[self.rows])
        folder = self.place.share(temporary(self.folder.path / "pool"))
        ascending = np.sort(self.rows)
        embedding, _ = self.learner.probe(self.model(), ascending, folder, what="embed the pool")
        assert embedding is not None
        own = np.array(embedding[np.searchsorted(ascending, self.rows)])
        self.place.barrier()
        if self.place.first:
            self.folder.drop(folder)
        return own

    def _held_out_loss(self) -> Estimate | None:
        held_out = self.evolution.dataset.held_out
        rows = held_out[np.asarray(self.learner.encoded.response_tokens)[held_out] > 0]
        return self._loss(self.learner, rows, "held-out rows") if len(rows) else None

    def _reference_loss(self) -> dict[str, Estimate]:
        losses = {}
        for benchmark in self.evolution.exam.benchmarks:
            references = tokens_of(self.learner.prompt.rows(with_references(benchmark)))
            if len(rows := np.flatnonzero(references.response_tokens > 0)):
                losses[benchmark.name] = self._loss(replace(self.learner, encoded=references), rows, benchmark.name)
        return losses

    def _loss(self, learner: Learner, rows: Int[np.ndarray, " some"], what: str) -> Estimate:
        folder = self.place.share(temporary(self.folder.path / "loss"))
        _, scores = learner.probe(
            self.model(), rows, folder, embedding=False, statistics=(RESPONSE_LOSS,), what=f"loss on {what}"
        )
        loss = mean_loss(np.array(scores[RESPONSE_LOSS]), np.asarray(learner.encoded.response_tokens)[rows])
        self.place.barrier()
        if self.place.first:
            self.folder.drop(folder)
        return loss
