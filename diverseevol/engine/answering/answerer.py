"""Answering: a model's answers to questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel

from diverseevol.engine.answering.generation import fitting, generate, own_ends
from diverseevol.engine.memory import explain_out_of_memory
from diverseevol.engine.model_job import ModelJob
from diverseevol.engine.model_limits import check_ids, positions
from diverseevol.engine.trainers import cast_once, device_of
from diverseevol.options import Generation


@dataclass(frozen=True, kw_only=True)
class Answerer(ModelJob):
    """Puts questions to models; it needs no rows."""

    def answer(
        self,
        model: PreTrainedModel,
        questions: Sequence[tuple[str, str]],
        seeds: Sequence[Sequence[int]],
        options: Generation,
        advance: Callable[[int], None] = lambda done: None,
    ) -> list[str]:
        """A model's answers to questions, each an instruction with its input and sampled with a seed of its own.

        `advance` is called with the number of questions done since the last call.
        """
        rank, world = self.processes.rank, self.processes.world
        prompts = self.prompt.ids([question for question, _ in questions], [text for _, text in questions])
        check_ids(model, max((max(ids, default=0) for ids in prompts), default=0))
        if longest := positions(model):
            prompts = fitting(prompts, longest, options)
        share = range(rank, len(prompts), world)
        trainer = self.start()
        device = device_of(trainer)
        stops = sorted({*self.prompt.stop_tokens, *own_ends(model)})
        # In the trainer's precision, as Lightning's loops run: answers are generated outside of them.
        with explain_out_of_memory("generation.batch_size", options.batch_size), cast_once(trainer):
            ids = generate(
                model.to(device), [prompts[i] for i in share], [seeds[i] for i in share], options, stops,
                lambda done: advance(done * world),
            )  # fmt: skip
        answers = [""] * len(prompts)
        for sender, texts in enumerate(self.processes.gather([self.prompt.text(tokens) for tokens in ids])):
            answers[sender::world] = texts
        return answers
