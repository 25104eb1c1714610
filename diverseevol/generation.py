"""Answers to questions: batched, and the same whatever the batch."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from diverseevol.errors import InputError
from diverseevol.workers import batches_at_once, side_by_side

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Generation:
    """How questions are answered.

    Attributes:
        max_new_tokens: an answer's greatest length (the paper: 1,024).
        temperature: of the sampling (the paper: 0.7); 0 is greedy.
        batch_size: questions answered together; speed, not answers, depends on it.
    """

    max_new_tokens: int = 1024
    temperature: float = 0.7
    batch_size: int = 40

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "batch_size"):
            if getattr(self, name) < 1:
                raise InputError(f"generation.{name} is {getattr(self, name)}; it must be at least 1")
        if not self.temperature >= 0:
            raise InputError(f"generation.temperature is {self.temperature}; it must not be negative (0 is greedy)")


class GumbelNoise(LogitsProcessor):
    """Sampling as a maximum: argmax(logits / temperature + Gumbel noise) is distributed as softmax sampling.

    Each prompt has a noise stream of its own, so its answer depends on its seed and on nothing else: not on the batch
    it is in, not on the process that answers it, not on where an interrupted run went on. (Gumbel-max trick: Gumbel
    1954; Maddison, Tarlow & Minka 2014, section 2.)
    """

    def __init__(self, temperature: float, seeds: Sequence[Sequence[int]]) -> None:
        self.temperature = temperature
        self.streams = [np.random.default_rng(list(seed)) for seed in seeds]

    def __call__(
        self, input_ids: Int[torch.Tensor, "batch length"], scores: Float[torch.Tensor, "batch vocabulary"]
    ) -> Float[torch.Tensor, "batch vocabulary"]:
        """Add each row's next noise to its scores."""
        noise = np.stack([stream.gumbel(size=scores.shape[-1]) for stream in self.streams])
        return (scores / self.temperature).to(torch.float64) + torch.from_numpy(noise).to(scores.device)


def generate(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    seeds: Sequence[Sequence[int]],
    options: Generation,
    stop_tokens: list[int],
    on_done: Callable[[int], None] = lambda prompts: None,
) -> list[list[int]]:
    """Complete prompts.

    Prompts are padded on the left, and batches hold prompts of similar length.

    Args:
        model: any causal language model of transformers.
        prompts: token ids of each prompt.
        seeds: what each prompt's randomness comes from, where the temperature is above 0.
        options: see `Generation`.
        stop_tokens: ids at which an answer ends.
        on_done: called with the number of prompts done since the last call.

    Returns:
        The new token ids of each prompt, in the prompts' order, without the stop token.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    at_once = batches_at_once(model.eval())
    turns = -(-len(order) // (options.batch_size * at_once)) or 1
    size = -(-len(order) // (turns * at_once)) or 1  # even batches, so that no thread waits
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    # A configuration of our own: a checkpoint's may ask for sampling, penalties or another end.
    config = GenerationConfig(
        max_new_tokens=options.max_new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=stop_tokens[0],
        eos_token_id=stop_tokens,
    )

    def of(batch: list[int]) -> list[list[int]]:
        noise = [GumbelNoise(options.temperature, [seeds[i] for i in batch])] if options.temperature > 0 else []
        return _generate_batch(model, [prompts[i] for i in batch], config, LogitsProcessorList(noise))

    theirs, model.generation_config = model.generation_config, config  # or it would fill in what ours leaves open
    try:
        for start in range(0, len(batches), at_once):
            together = batches[start : start + at_once]
            for batch, new in zip(together, side_by_side(of, together), strict=True):
                for i, tokens in zip(batch, new, strict=True):
                    answers[i] = tokens
            on_done(sum(map(len, together)))
    finally:
        model.generation_config = theirs
    return answers


def _generate_batch(
    model: PreTrainedModel, prompts: list[list[int]], config: GenerationConfig, noise: LogitsProcessorList
) -> list[list[int]]:
    stops, pad = config.eos_token_id, config.pad_token_id
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    with torch.no_grad():
        out = model.generate(input_ids=ids, attention_mask=mask, generation_config=config, logits_processor=noise)
    answers = []
    for row in out[:, longest:].tolist():
        end = next((i for i, token in enumerate(row) if token in stops), len(row))
        answers.append(row[:end])
    return answers


def fitting(prompts: list[list[int]], longest: int, options: Generation) -> list[list[int]]:
    """The prompts, cut at the front where they leave no room for an answer in the model's positions.

    Raises:
        InputError: no question has any room.
    """
    room = longest - options.max_new_tokens
    if room < 1:
        raise InputError(
            f"generation.max_new_tokens is {options.max_new_tokens}, which leaves no room for a question in the "
            f"model's {longest} positions; lower it"
        )
    cut = sum(len(prompt) > room for prompt in prompts)
    if cut:
        log.warning(
            "%d of %d questions are longer than the %d tokens left for them: cut at the front", cut, len(prompts), room
        )
    return [prompt[-room:] for prompt in prompts]  # the end stays, where the response begins
