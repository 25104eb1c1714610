"""The phases of one round, each found in its file or done now, so that a crash repeats at most the one that ran."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from diverseevol.data.columns import columns_of
from diverseevol.data.dataset import Dataset
from diverseevol.data.tokens import tokens_of
from diverseevol.engine.learner import Learner
from diverseevol.engine.memory import release_memory
from diverseevol.engine.model_limits import positions_of
from diverseevol.engine.probing.committee_probe import DISAGREEMENTS
from diverseevol.evaluation.endpoints.server import Running, Server, serving
from diverseevol.evaluation.questions.benchmarks import Benchmark, with_references
from diverseevol.evolution.committee import Member
from diverseevol.evolution.metrics import Metric
from diverseevol.evolution.metrics.base import MeasuredRound, measure_all, needs_of
from diverseevol.evolution.metrics.losses import mean_loss
from diverseevol.evolution.phase_notes import PhaseNotes
from diverseevol.evolution.receipts import receipt
from diverseevol.evolution.setup import FixedSpace, Streams
from diverseevol.parallel.shared_arrays import read_probe
from diverseevol.runs.metrics import Estimate
from diverseevol.runs.round_folder import RoundFolder
from diverseevol.runs.tracking import RoundLog
from diverseevol.samplers.base import Needs, Sampler, choose
from diverseevol.samplers.features import Features
from diverseevol.storage.files import read_json, read_jsonl, temporary, write_json, write_jsonl
from diverseevol.storage.sealed import damage, seal

RESPONSE_LOSS = "response_loss"  # the token statistic that held-out losses are made of

log = logging.getLogger(__name__)


@dataclass
class Phases:
    """What round t does with its pool: fit, select, measure.

    Attributes:
        t: the round.
        pool: [pool] the rows of P_t, in the order in which they joined.
        folder: the round's folder, which gets a file or folder of each phase.
        dataset: the rows D.
        learner: trains and probes.
        streams: randomness by purpose.
        spaces: embeddings of D that are the same for all rounds: "foundation" and, where it is needed, "text".
        keep_dtype: in which precision models are saved; see `Evolution`.
    """

    t: int
    pool: Int[np.ndarray, " pool"]
    folder: RoundFolder
    dataset: Dataset
    learner: Learner
    streams: Streams
    spaces: Mapping[str, FixedSpace]
    keep_dtype: Literal["source"] | None = None

    def __post_init__(self) -> None:
        self.processes = self.learner.processes
        self.notes = PhaseNotes(self.folder.path, self.processes.first)
        self.kept = self.learner.tuning.KEPT
        self.eligible = np.flatnonzero(self.learner.encoded.eligible)
        self._model: PreTrainedModel | None = None

    def model(self) -> PreTrainedModel:
        """The round's model: as it was trained, or as the fit that was found on disk left it."""
        if self._model is None:
            self._take(self.learner.models.load(self.folder.path / self.kept).eval())
        return cast(PreTrainedModel, self._model)

    def _take(self, model: PreTrainedModel) -> None:
        self._model = model
        if self.kept == "model":  # an adapter shares the foundation's weights
            self.learner.resident.add(model)

    @contextmanager
    def served(self, server: Server) -> Iterator[Running]:
        """The round's model behind a server, which has this process's device to itself; the first process starts it."""
        if self._model is not None:
            self._model.cpu()
            release_memory()
        self.processes.barrier()
        if not self.processes.first:
            yield Running(server)
            return
        foundation, folder = self.learner.foundation, self.folder.path
        known = positions_of(foundation.configuration())
        with serving(server, folder / self.kept, foundation.path, folder / "server.log", known) as running:
            yield running

    def fit(self, log: RoundLog) -> None:
        """Fine-tune on the pool, and keep the training curve and the model."""
        curve = self.folder.path / "training.jsonl"
        if self._intact(curve, self.folder.path / self.kept):
            for point in read_jsonl(curve):
                log.curve(int(point.pop("step")), point)
            self._drop_checkpoint()
            return
        with self.notes.timed("fit"):
            seed = self.streams.entropy(self.t, "training")
            fit = self.learner.fit(self.pool, seed, log.curve, checkpoint=self.folder.checkpoint)
            self._take(fit.model)
            if self.processes.first:
                write_jsonl(curve, fit.curve)
                seal(self.folder.path, [curve.name])
                self.folder.keep_model(self._save, self.kept)
            elif self.keep_dtype is not None:  # saving rounds the model; every process is to ask the same one
                self.learner.models.rounded(fit.model)
            self.processes.barrier()
        self.notes.add("fit", fit.earlier)
        self._drop_checkpoint()

    def select(self, sampler: Sampler, n: int, committee: Sequence[Member]) -> tuple[int, ...]:
        """Probe what the sampler needs, let it choose n rows, and write the receipt.

        Args:
            sampler: chooses among the candidates Q_t, the eligible rows that are not in the pool.
            n: how many rows join.
            committee: the models that the sampler asks beside the round's own.
        """
        file = self.folder.path / "chosen.jsonl"
        if not self._intact(file):
            features = self.features(sampler.needs, committee)
            embedding, space = features.embedding, sampler.needs.space
            # The receipts of a sampler that embeds nothing have distances too: in the foundation's space, which is
            # there for the measures anyway.
            if embedding is None:
                embedding, space = self._fixed("foundation"), "foundation"
            with self.notes.timed("select"):
                if self.processes.first:
                    taken = np.ones(len(self.learner.encoded), dtype=bool)
                    taken[self.eligible] = False
                    taken[self.pool] = True
                    picks = choose(sampler, features, taken, n, self.streams.generator(self.t, "selection"))
                    write_jsonl(file, receipt(picks, self.dataset, embedding, self.pool, space))
                    seal(self.folder.path, [file.name])
                self.processes.barrier()
        # The picks are read from the receipt even right after it was written: a first run and a resumed one then take
        # the same path, and what the file holds is what the next round trains on.
        return tuple(self.processes.share(self.folder.chosen() or [] if self.processes.first else []))

    def features(self, needs: Needs, committee: Sequence[Member]) -> Features:
        """What a sampler needs to know of every row, and nothing more."""
        embedding: Float[np.ndarray, "rows dim"] | None = None
        scores: Mapping[str, Float[np.ndarray, " rows"]] = {}
        current, statistics = needs.space == "current", sorted(needs.statistics - DISAGREEMENTS)
        if current or statistics:
            if self._probed(*statistics, *(["embedding"] if current else [])):
                embedding, scores = read_probe(self.folder.probe, embedding=current, statistics=statistics)
            else:
                with self.notes.timed("probe"):
                    embedding, scores = self.learner.probe(
                        self.model(), self.eligible, self.folder.probe,
                        embedding=current, statistics=statistics, aligned=True,
                    )  # fmt: skip
        if needs.space in ("foundation", "text"):
            embedding = self._fixed(needs.space)
        if disagreements := sorted(needs.statistics & DISAGREEMENTS):
            scores = {**scores, **self._disagreement(disagreements, committee)}
        encoded = self.learner.encoded
        response_tokens = np.where(encoded.eligible, encoded.response_tokens, 0)
        columns = columns_of(self.dataset.iterate(), needs.columns, self.dataset.sources)
        return Features(response_tokens, embedding, dict(scores), columns)

    def measure(self, metrics: Sequence[Metric], benchmarks: Sequence[Benchmark]) -> dict[str, float]:
        """The values of metrics, by logged name; a loss on references is on those of the benchmarks."""
        file = self.folder.path / "measures.json"
        if not self._intact(file):
            needs, first = needs_of(metrics), self.processes.first
            space = self._fixed("foundation") if "foundation_embedding" in needs else None
            with self.notes.timed("measure"):  # all processes embed, one computes
                measured = MeasuredRound(
                    index=self.t,
                    pool=self.pool,
                    dataset=self.dataset,
                    eligible=self.eligible,
                    response_tokens=np.asarray(self.learner.encoded.response_tokens),
                    curve=read_jsonl(self.folder.path / "training.jsonl") if first else [],
                    foundation_embedding=space,
                    current_embedding=self._own_embedding() if "current_embedding" in needs else None,
                    held_out_loss=self._held_out_loss() if "held_out_loss" in needs else None,
                    reference_loss=self._reference_loss(benchmarks) if "reference_loss" in needs else {},
                )
                if first:
                    write_json(file, {"pool_size": len(self.pool), **measure_all(metrics, measured)})
                    seal(self.folder.path, [file.name])
                self.processes.barrier()
        values: dict[str, float] = self.processes.share(read_json(file) if self.processes.first else {})
        return values

    def _fixed(self, space: str) -> Float[np.ndarray, "rows dim"]:
        return self.spaces[space].embedding(self.notes.timed)

    def _intact(self, *files: Path) -> bool:
        """Whether what a phase leaves is there, and as it was left: what is damaged is made again."""
        return self.processes.share(self.processes.first and all(map(_is_intact, files)))

    def _drop_checkpoint(self) -> None:
        if self.processes.first:
            self.folder.drop(self.folder.checkpoint)

    def _probed(self, *names: str) -> bool:
        return self._intact(*(self.folder.probe / f"{name}.npy" for name in names))

    def _save(self, folder: Path) -> None:
        self.learner.models.save(self.model(), folder, self.keep_dtype)
        if self.kept == "model":  # an adapter goes with the foundation's
            self.learner.prompt.tokenizer.save_pretrained(folder)

    def _disagreement(
        self, statistics: Sequence[str], committee: Sequence[Member]
    ) -> Mapping[str, Float[np.ndarray, " rows"]]:
        if not committee:  # a committee of one never disagrees
            return {name: np.zeros(len(self.learner.encoded), dtype=np.float32) for name in statistics}
        if self._probed(*statistics):
            return read_probe(self.folder.probe, embedding=False, statistics=statistics)[1]
        for member in committee:
            if not self._intact(member.folder.path / self.kept):
                if self.kept == "model" and self._model is not None:  # the device may have no room for it beside a fit
                    self._model.to("cpu")
                with self.notes.timed(member.name):
                    member.train_and_save(self.learner, self.keep_dtype)
        with self.notes.timed("disagreement"):
            models = [self.model(), *(member.load(self.learner) for member in committee)]
            return self.learner.disagreement(models, self.eligible, self.folder.probe, statistics)

    def _own_embedding(self) -> Float[np.ndarray, "pool dim"]:
        # Where the sampler had all rows embedded, the pool's are among them, and a resumed round reads the same ones.
        if self._probed("embedding"):
            probed, _ = read_probe(self.folder.probe, embedding=True)
            assert probed is not None
            return np.asarray(probed[self.pool])
        ascending = np.sort(self.pool)
        with self._passing("pool") as folder:
            embedding, _ = self.learner.probe(self.model(), ascending, folder, phase="embed the pool")
            assert embedding is not None
            return np.array(embedding[np.searchsorted(ascending, self.pool)])

    def _held_out_loss(self) -> Estimate | None:
        held_out = self.dataset.held_out
        rows = held_out[np.asarray(self.learner.encoded.response_tokens)[held_out] > 0]
        return self._loss(self.learner, rows, "held-out rows") if len(rows) else None

    def _reference_loss(self, benchmarks: Sequence[Benchmark]) -> dict[str, Estimate]:
        losses = {}
        for benchmark in benchmarks:
            references = tokens_of(self.learner.prompt.rows(with_references(benchmark)))
            if len(rows := np.flatnonzero(references.response_tokens > 0)):
                losses[benchmark.name] = self._loss(replace(self.learner, encoded=references), rows, benchmark.name)
        return losses

    def _loss(self, learner: Learner, rows: Int[np.ndarray, " some"], benchmark: str) -> Estimate:
        with self._passing("loss") as folder:
            _, scores = learner.probe(
                self.model(), rows, folder, embedding=False, statistics=(RESPONSE_LOSS,), phase=f"loss on {benchmark}"
            )
            return mean_loss(np.array(scores[RESPONSE_LOSS]), np.asarray(learner.encoded.response_tokens)[rows])

    @contextmanager
    def _passing(self, name: str) -> Iterator[Path]:
        """A folder of all processes for what a pass says and nobody keeps; gone also where the disk becomes full."""
        folder = self.processes.share(temporary(self.folder.path / name))
        try:
            yield folder
            self.processes.barrier()
        finally:
            if self.processes.first:
                self.folder.drop(folder)


def _is_intact(file: Path) -> bool:
    if not os.path.lexists(file):
        return False
    flaw = damage(file) if file.suffix == "" else damage(file.parent, [file.name])
    if flaw is not None:
        log.warning("%s: damaged (%s); it is not used, and its phase is done again", file, flaw)
    return flaw is None
