"""Answering: a model's answers to questions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lightning.pytorch.plugins.precision import MixedPrecision
from transformers import PreTrainedModel

from diverseevol.engine.answering.continuous import check_continuous, generate_continuously
from diverseevol.engine.answering.generation import fitting, generate, own_ends
from diverseevol.engine.memory import HALF_WEIGHTS, explain_out_of_memory
from diverseevol.engine.model_job import ModelJob
from diverseevol.engine.model_limits import check_ids, positions
from diverseevol.engine.trainers import cast_once, device_of
from diverseevol.options import Generation

OPTION = "generation.batch_size"


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
        halved: list[int] = []  # by a full device
        # In the trainer's precision, as Lightning's loops run: answers are generated outside of them.
        remedy = f"lower generation.max_new_tokens, {HALF_WEIGHTS}"
        with explain_out_of_memory("a single question", lambda: remedy), cast_once(trainer, model):
            model = model.to(device)
            mine = [prompts[i] for i in share]
            if options.continuous:
                check_continuous(device, autocast=isinstance(trainer.precision_plugin, MixedPrecision))
                ids = generate_continuously(model, mine, options.max_new_tokens, stops)
                advance(len(prompts))
            else:
                ids = generate(
                    model, mine, [seeds[i] for i in share],
                    replace(options, batch_size=self.budgets.of(OPTION, options.batch_size)), stops,
                    lambda done: advance(done * world), halved.append,
                )  # fmt: skip
        answers = [""] * len(prompts)
        size = min(halved, default=options.batch_size)
        shares = self.processes.gather(([self.prompt.text(tokens) for tokens in ids], size))
        self.budgets.lower(OPTION, options.batch_size, min(size for _, size in shares), "questions")
        for sender, (texts, _) in enumerate(shares):
            answers[sender::world] = texts
        return answers
