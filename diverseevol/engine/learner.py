"""The learner: everything that is done with a model, and the only starter of Lightning trainers.

    fit(rows)        the foundation model, fine-tuned on a pool
    probe(model, …)  what a model says of the rows
    answer(model, …) a model's answers to questions

It knows nothing of rounds, samplers or folders.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lightning
import numpy as np
from jaxtyping import Float, Int
from transformers import PreTrainedModel

from diverseevol.data.prompt import Encoded, Prompt
from diverseevol.engine.answering.generation import fitting, generate, own_ends
from diverseevol.engine.batch_dependence import warn_if_batch_dependent
from diverseevol.engine.body_and_head import width
from diverseevol.engine.memory import explain_out_of_memory
from diverseevol.engine.model_limits import check_ids, check_readable, positions
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.probing.committee_probe import Committee
from diverseevol.engine.probing.probe import Probe
from diverseevol.engine.products import quick_products
from diverseevol.engine.trainers import cast_once, device_of, free_old_trainers, seeded, start
from diverseevol.engine.tuning.batches import plan_steps, probe_loader, step_loader
from diverseevol.engine.tuning.sft import InstructionTuner, checkpoint_activations
from diverseevol.options import Embedding, Generation, Tuning
from diverseevol.parallel.processes import Processes
from diverseevol.parallel.shared_arrays import cached_by_all, filled, read_probe
from diverseevol.progress import Progress, Silent


@dataclass(frozen=True)
class Fit:
    """A fine-tuned model, and the loss and learning rate of each optimizer step."""

    model: PreTrainedModel
    curve: list[dict[str, float]]


def final_loss(curve: Sequence[Mapping[str, float]]) -> float:
    """Mean loss of the last tenth of a fit's steps, in nats per response token."""
    return float(np.mean([point["loss"] for point in curve[-max(1, len(curve) // 10) :]]))


@dataclass(frozen=True)
class Learner:
    """A foundation model, the rows as tokens, and how the one meets the other.

    Attributes:
        foundation: the weights that every fit starts from.
        prompt: template and tokeniser.
        encoded: all rows of the data set as tokens.
        tuning: hyper-parameters of a fit.
        embedding: how rows become vectors.
        trainer: makes a Lightning trainer from further keywords.
        processes: this process and its peers.
        progress: what shows how far a phase has come.
    """

    foundation: Pretrained
    prompt: Prompt
    encoded: Encoded
    tuning: Tuning
    embedding: Embedding = field(default_factory=Embedding)
    trainer: Callable[..., lightning.Trainer] = lightning.Trainer
    processes: Processes = field(default_factory=Processes)
    progress: Progress = field(default_factory=Silent)

    def fit(
        self,
        rows: Int[np.ndarray, " pool"],
        seed: Sequence[int],
        on_step: Callable[[int, dict[str, float]], None] = lambda step, values: None,
        what: str = "fine-tune",
    ) -> Fit:
        """Fine-tune the foundation model on a pool: always from its own weights, never from an earlier round's.

        Args:
            rows: [pool] row numbers; they may repeat (a bootstrap resample).
            seed: what the order of the rows and dropout come from; the same seed gives the same weights.
            on_step: called with each step's number, loss and learning rate.
            what: the phase's name in the progress display.
        """
        rng = np.random.default_rng(list(seed))
        tuning = self.tuning
        plan = plan_steps(
            self.encoded, rows, epochs=tuning.epochs, steps=tuning.steps, batch_size=tuning.batch_size,
            micro_batch_tokens=tuning.micro_batch_tokens, rng=rng,
        )  # fmt: skip
        curve: list[dict[str, float]] = []
        with self.progress.track(what, len(plan)) as advance:

            def note(step: int, values: dict[str, float]) -> None:
                curve.append({"step": step, **values})
                on_step(step, values)
                advance(1)

            place = self.processes
            trainer = start(self.trainer, place, max_epochs=1, max_steps=len(plan))
            device = device_of(trainer)
            dropout, budget = int(rng.integers(2**62)), tuning.micro_batch_tokens
            with seeded(device, dropout), explain_out_of_memory("tuning.micro_batch_tokens", budget):
                model = self.foundation.load()
                check_readable(model, self.encoded)
                model = model.to(device)
                warn_if_batch_dependent(model, self.encoded.lengths[rows])
                model.train()
                if tuning.gradient_checkpointing:
                    checkpoint_activations(model, "enable")
                free_old_trainers(model)
                module = InstructionTuner(model, tuning, len(plan), note)
                threads = module.at_once if place.world == 1 else 1
                loader = step_loader(self.encoded, plan, self.prompt.end, place.rank, place.world, threads)
                with quick_products(model):
                    trainer.fit(module, loader)
        if tuning.gradient_checkpointing:
            checkpoint_activations(model, "disable")
        del trainer, module, loader
        free_old_trainers(model)  # this one's optimizer is twice as large as the model
        return Fit(model.eval(), place.share(curve))

    def probe(
        self,
        model: PreTrainedModel,
        rows: Int[np.ndarray, " some"],
        folder: Path,
        *,
        embedding: bool = True,
        statistics: Sequence[str] = (),
        aligned: bool = False,
        what: str = "embed",
    ) -> tuple[Float[np.ndarray, "rows dim"] | None, Mapping[str, Float[np.ndarray, " rows"]]]:
        """What a model says of some rows, written straight into memory-mapped arrays in a folder.

        Args:
            model: the model to ask.
            rows: [some] the rows to ask about, ascending.
            folder: gets `embedding.npy` [some, dim] and `<statistic>.npy` [some], aligned with `rows`.
            embedding: whether embeddings are wanted.
            statistics: names of token statistics (see `diverseevol.engine.probing.token_statistics`).
            aligned: the arrays hold all rows of the data set; those not asked about are zero.
            what: the phase's name in the progress display.

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

        self._pass_over(model, rows, module, shapes, folder, what, aligned)
        return read_probe(folder, embedding=embedding, statistics=statistics)

    def disagreement(
        self,
        models: Sequence[PreTrainedModel],
        rows: Int[np.ndarray, " some"],
        folder: Path,
        statistics: Sequence[str],
    ) -> Mapping[str, Float[np.ndarray, " rows"]]:
        """How far the members of a committee disagree about some rows; files and result as of an aligned `probe`.

        Args:
            models: the members, all of them in memory together.
            rows: [some] the rows to ask about, ascending.
            folder: gets `<statistic>.npy` [rows of the data set].
            statistics: names of disagreements (see `diverseevol.engine.probing.committee_probe`).
        """
        shapes = {name: ((len(self.encoded),), "float32") for name in statistics}
        self._pass_over(
            models[0],
            rows,
            lambda arrays, on_rows: Committee(models, arrays, on_rows=on_rows),
            shapes,
            folder,
            "ask the committee",
            aligned=True,
        )
        return read_probe(folder, embedding=False, statistics=statistics)[1]

    def _pass_over(
        self,
        model: PreTrainedModel,
        rows: Int[np.ndarray, " some"],
        module: Callable[[Mapping[str, np.ndarray], Callable[[int], None]], lightning.LightningModule],
        shapes: Mapping[str, tuple[tuple[int, ...], str]],
        folder: Path,
        what: str,
        aligned: bool,
    ) -> None:
        """Run a module of such a model over rows; its arrays appear in the folder once they are complete."""
        place = self.processes
        among = np.arange(len(self.encoded)) if aligned else rows
        with filled(folder, shapes, place) as arrays, self.progress.track(what, len(rows)) as advance:
            trainer = start(self.trainer, place, inference_mode=False)  # in that mode torch keeps nothing that it cast
            tokens = self.embedding.tokens_on(device_of(trainer).type)
            loader = probe_loader(self.encoded, rows, among, tokens, self.prompt.end, place.rank, place.world)
            asked = module(arrays, lambda done: advance(done * place.world))
            with (
                explain_out_of_memory("embedding.batch_tokens", tokens),
                cast_once(trainer),
                quick_products(model),
            ):
                trainer.predict(asked, loader, return_predictions=False)

    def foundation_embedding(self, cache: Path) -> Float[np.ndarray, "rows dim"]:
        """The foundation model's embedding of every row: computed once, shared by all evolutions on model and data.

        Args:
            cache: where it is kept, under `<key>`: the caller's digest of model, rows, prompt and precision.
        """

        def build(folder: Path) -> None:
            everything = np.arange(len(self.encoded))
            self.probe(self.foundation.load().eval(), everything, folder, what="embed with the foundation model")

        cached_by_all(cache, build, self.processes)
        embedding, _ = read_probe(cache, embedding=True)
        assert embedding is not None
        return embedding

    def answer(
        self,
        model: PreTrainedModel,
        questions: Sequence[tuple[str, str]],
        seeds: Sequence[Sequence[int]],
        options: Generation,
        advance: Callable[[int], None] = lambda done: None,
    ) -> list[str]:
        """A model's answers to questions, each an instruction with its input.

        Args:
            model: the model to ask.
            questions: (instruction, input) of each.
            seeds: what each question's sampling comes from.
            options: length, temperature, batch size.
            advance: called with the number of questions done since the last call.
        """
        place = self.processes
        prompts = self.prompt.ids([q for q, _ in questions], [x for _, x in questions])
        check_ids(model, max((max(ids, default=0) for ids in prompts), default=0))
        if longest := positions(model):
            prompts = fitting(prompts, longest, options)
        mine = range(place.rank, len(prompts), place.world)
        trainer = start(self.trainer, place)
        device = device_of(trainer)
        # In the trainer's precision, as Lightning's loops run: answers are asked of a model without one.
        with explain_out_of_memory("generation.batch_size", options.batch_size), cast_once(trainer):
            ids = generate(
                model.to(device), [prompts[i] for i in mine], [seeds[i] for i in mine], options,
                sorted({*self.prompt.stop_tokens, *own_ends(model)}), lambda done: advance(done * place.world),
            )  # fmt: skip
        texts = [self.prompt.text(tokens) for tokens in ids]
        answers = [""] * len(prompts)
        for rank, share in enumerate(place.gather(texts)):
            answers[rank :: place.world] = share
        return answers
