"""Probing: what a model says of rows, as embeddings, token statistics and a committee's disagreement."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakSet

import lightning
import numpy as np
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from diverseevol.data.tokens import Tokens
from diverseevol.engine.batch_dependence import warn_if_batch_dependent
from diverseevol.engine.body_and_head import width
from diverseevol.engine.fast_path import quick_products
from diverseevol.engine.memory import HALF_WEIGHTS, is_out_of_memory, release_memory, too_little_memory
from diverseevol.engine.model_job import ModelJob
from diverseevol.engine.model_limits import check_readable
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.probing.committee_probe import Committee
from diverseevol.engine.probing.probe import Probe
from diverseevol.engine.trainers import cast_once, device_of
from diverseevol.engine.tuning.batches import probe_loader
from diverseevol.options import Embedding
from diverseevol.parallel.shared_arrays import cached_by_all, filled, read_probe

OPTION = "embedding.batch_tokens"


@dataclass(frozen=True, kw_only=True)
class Prober(ModelJob):
    """Asks models about rows.

    Attributes:
        foundation: the model whose embedding of the rows is the same for all rounds.
        encoded: all rows of the data set as tokens.
        embedding: how rows become vectors.
        resident: complete models that may lie on the device, and leave it while the foundation model embeds all rows.
    """

    foundation: Pretrained
    encoded: Tokens
    embedding: Embedding = field(default_factory=Embedding)
    resident: WeakSet[PreTrainedModel] = field(default_factory=WeakSet)

    def probe(
        self,
        model: PreTrainedModel,
        rows: Int[np.ndarray, " some"],
        folder: Path,
        *,
        embedding: bool = True,
        statistics: Sequence[str] = (),
        aligned: bool = False,
        phase: str = "embed",
    ) -> tuple[Float[np.ndarray, "rows dim"] | None, Mapping[str, Float[np.ndarray, " rows"]]]:
        """Embeddings and token statistics of rows, written straight into memory-mapped arrays in a folder.

        Args:
            model: the model to ask.
            rows: [some] the rows to ask about, ascending.
            folder: gets `embedding.npy` [some, dim] and `<statistic>.npy` [some], aligned with `rows`.
            embedding: whether embeddings are wanted.
            statistics: names of token statistics (see `diverseevol.engine.probing.token_statistics`).
            aligned: the arrays hold all rows of the data set; those not asked about are zero.
            phase: its name in the progress display.

        Returns:
            The embedding (or None) and the statistics by name, memory-mapped read-only.
        """
        check_readable(model, self.encoded)
        warn_if_batch_dependent(model, self.encoded.lengths[rows])
        n = len(self.encoded) if aligned else len(rows)
        shapes: dict[str, tuple[tuple[int, ...], str]] = dict.fromkeys(sorted(statistics), ((n,), "float32"))
        if embedding:
            shapes["embedding"] = ((n, width(model)), self.embedding.dtype)

        def module(arrays: Mapping[str, np.ndarray], on_rows: Callable[[int], None]) -> lightning.LightningModule:
            scores = {name: arrays[name] for name in statistics}
            return Probe(model, self.embedding.region, arrays.get("embedding"), scores, on_rows=on_rows)

        self._pass_over(model, rows, module, shapes, folder, phase, aligned)
        return read_probe(folder, embedding=embedding, statistics=statistics)

    def disagreement(
        self,
        models: Sequence[PreTrainedModel],
        rows: Int[np.ndarray, " some"],
        folder: Path,
        statistics: Sequence[str],
    ) -> Mapping[str, Float[np.ndarray, " rows"]]:
        """How far the members of a committee disagree about some rows; files and result as of an aligned `probe`.

        All members are in memory together; `statistics` are of `diverseevol.engine.probing.committee_probe`.
        """
        shapes = {name: ((len(self.encoded),), "float32") for name in statistics}

        def module(arrays: Mapping[str, np.ndarray], on_rows: Callable[[int], None]) -> lightning.LightningModule:
            return Committee(models, arrays, on_rows=on_rows)

        self._pass_over(models[0], rows, module, shapes, folder, "ask the committee", aligned=True)
        return read_probe(folder, embedding=False, statistics=statistics)[1]

    def _pass_over(
        self,
        model: PreTrainedModel,
        rows: Int[np.ndarray, " some"],
        module: Callable[[Mapping[str, np.ndarray], Callable[[int], None]], lightning.LightningModule],
        shapes: Mapping[str, tuple[tuple[int, ...], str]],
        folder: Path,
        phase: str,
        aligned: bool,
    ) -> None:
        """Run a module of such a model over rows; its arrays appear in the folder once they are complete.

        Where a device is full, what all processes have done is kept, and they share the rest out in smaller batches.
        """
        rank, world = self.processes.rank, self.processes.world
        among = np.arange(len(self.encoded)) if aligned else rows
        with filled(folder, shapes, self.processes) as arrays, self.progress.track(phase, len(rows)) as advance:
            left, asked, budget = rows, 0, 0
            while len(left):
                trainer = self.start(inference_mode=False)  # in that mode torch keeps nothing that it cast
                asked = self.embedding.tokens_on(device_of(trainer).type)
                budget = budget // 2 or self.budgets.of(OPTION, asked)
                loader = probe_loader(self.encoded, left, among, budget, self.prompt.end, rank, world)
                filed: list[int] = []

                def note(done: int, filed: list[int] = filed) -> None:
                    filed.append(done)
                    advance(done * world)

                try:
                    probing = module(arrays, note)
                    with cast_once(trainer, probing), quick_products(model):
                        trainer.predict(probing, loader, return_predictions=False)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                mine = np.concatenate(list(loader.dataset))[sum(filed) :]  # type: ignore[call-overload]  # in order
                left = np.unique(np.concatenate(self.processes.gather(mine)))
                if len(left):
                    if budget <= (longest := int(self.encoded.lengths[left].max())):  # a row at a time is the least
                        raise too_little_memory(
                            f"embedding a row of {longest:,} tokens", f"lower prompt.max_length, {HALF_WEIGHTS}"
                        )
                    del trainer, probing
                    release_memory()
            self.budgets.lower(OPTION, asked, budget, "tokens")

    def foundation_model(self) -> PreTrainedModel:
        """The model that every fit starts from."""
        return self.foundation.load()

    def foundation_embedding(self, cache: Path) -> Float[np.ndarray, "rows dim"]:
        """The foundation model's embedding of every row: computed once, shared by all evolutions on model and data.

        The folder that keeps it is named by the caller's digest of model, rows, prompt and precision.
        """

        def build(folder: Path) -> None:
            for model in self.resident:  # the device may have no room for two
                model.cpu()
            release_memory()
            rows = np.arange(len(self.encoded))
            self.probe(self.foundation_model().eval(), rows, folder, phase="embed with the foundation model")
            release_memory()  # the foundation model's, which its trainer still holds

        cached_by_all(cache, build, self.processes)
        embedding, _ = read_probe(cache, embedding=True)
        assert embedding is not None
        return embedding
