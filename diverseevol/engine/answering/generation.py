"""Answers to questions: batched, and the same whatever the batch."""

import functools
import inspect
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from transformers import (
    DynamicCache,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.cache_utils import DynamicLayer

from diverseevol.engine import fast_path
from diverseevol.engine.fast_path import batches_at_once, quick_products
from diverseevol.engine.memory import is_out_of_memory, release_memory
from diverseevol.engine.padding import reads_padding_before
from diverseevol.engine.side_by_side import side_by_side
from diverseevol.errors import InputError, warn_once
from diverseevol.options import Generation

log = logging.getLogger(__name__)


class GumbelNoise(LogitsProcessor):
    """Sampling as a maximum: argmax(logits / temperature + Gumbel noise) is distributed as softmax sampling.

    Each prompt has a noise stream of its own, so its answer depends on its seed and on nothing else: not on the batch
    it is in, not on the process that answers it, not on where an interrupted run went on. (Gumbel-max trick: Gumbel
    1954; Maddison, Tarlow & Minka 2014, section 2.)
    """

    def __init__(self, temperature: float, seeds: Sequence[Sequence[int]], ahead: bool = False) -> None:
        """Start the streams.

        Args:
            temperature: of the sampling.
            seeds: of each prompt.
            ahead: draw the next noise while a device computes what it is added to: for 80 prompts and a vocabulary of
                152,000, drawing takes a thread several times as long as a GPU takes for the logits.
        """
        self.temperature = temperature
        self.streams = [np.random.default_rng(list(seed)) for seed in seeds]
        self.ahead = ahead
        self.drawn: tuple[torch.Tensor, list[Future[None]]] | None = None

    def of(self, rows: Sequence[int]) -> "GumbelNoise":
        """The noise of these rows, continued from its present state."""
        noise = GumbelNoise(self.temperature, [], self.ahead)
        noise.streams = [self.streams[row] for row in rows]
        if self.drawn is not None:
            drawn, drawing = self.drawn
            wait(drawing)
            noise.drawn = drawn[list(rows)], []
        return noise

    def __call__(
        self, input_ids: Int[torch.Tensor, "batch length"], scores: Float[torch.Tensor, "batch vocabulary"]
    ) -> Float[torch.Tensor, "batch vocabulary"]:
        """Add each row's next noise to its scores."""
        noise, drawing = self.drawn or self._draw(scores.shape[-1])
        for row in drawing:
            row.result()
        if self.ahead:
            self.drawn = self._draw(scores.shape[-1])
        if scores.device.type == "mps":  # Apple's GPUs have no double precision
            return kept_in_single((scores.cpu().double() / self.temperature).sub_(noise)).to(scores.device)
        return (scores.to(torch.float64) / self.temperature).sub_(noise.to(scores.device, non_blocking=True))

    def _draw(self, vocabulary: int) -> tuple[torch.Tensor, list[Future[None]]]:
        """The next noise, and its rows that are still being drawn."""
        pinned = self.ahead and torch.cuda.is_available()
        noise = torch.empty(len(self.streams), vocabulary, dtype=torch.float64, pin_memory=pinned)
        rows = list(zip(self.streams, noise.numpy(), strict=True))
        if self.ahead:
            return noise, [_threads().submit(_fill, *row) for row in rows]
        for row in rows:
            _fill(*row)
        return noise, []


def kept_in_single(scores: Float[torch.Tensor, "batch vocabulary"]) -> Float[torch.Tensor, "batch vocabulary"]:
    """Scores in single precision with the same largest one in each row: it is 0, and all others stay below."""
    return (scores - scores.amax(dim=-1, keepdim=True)).float()


def _fill(stream: np.random.Generator, row: Float[np.ndarray, " vocabulary"]) -> None:
    stream.standard_exponential(out=row)
    np.log(row, out=row)  # minus the logarithm of an exponential variate is Gumbel's, and drawn faster


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


class HalfEnded(StoppingCriteria):
    """Stop when half of the rows have ended, so that the rest can continue without them."""

    def __init__(self, stop_tokens: list[int]) -> None:
        self.stop_tokens = stop_tokens

    def __call__(
        self, input_ids: Int[torch.Tensor, "batch length"], scores: Any, **kwargs: Any
    ) -> Bool[torch.Tensor, " batch"]:
        """The same value for all rows; the last token of an ended row is a stop token."""
        ended = torch.isin(input_ids[:, -1], torch.tensor(self.stop_tokens, device=input_ids.device))
        return (2 * ended.sum() >= len(ended)).expand(len(ended))


def generate(
    model: PreTrainedModel,
    prompts: Sequence[list[int]],
    seeds: Sequence[Sequence[int]],
    options: Generation,
    stop_tokens: list[int],
    on_done: Callable[[int], None] = lambda prompts: None,
    on_full: Callable[[int], None] | None = None,
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
        on_full: called with the halved size of a batch each time that the device is full; without it, the error is
            raised.

    Returns:
        The new token ids of each prompt, in the prompts' order, without the stop token.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    at_once = batches_at_once(model.eval())

    def of(batch: list[int]) -> list[list[int]]:
        inputs = [prompts[i] for i in batch], [seeds[i] for i in batch]
        with quick_products(model):
            return _generate_batch(model, *inputs, options, stop_tokens)

    configuration = model.generation_config
    model.generation_config = GenerationConfig(**until(stop_tokens))  # else it would fill in our gaps
    try:
        batch_size = options.batch_size
        if batch_size > 1 and len(prompts) > 1 and reads_padding_before(model, prompts[order[0]]):
            kind = type(model).__name__
            warn_once(log, "%s reads padding, so that prompts are answered one at a time: it takes longer", kind)
            batch_size = 1
        turns = -(-len(order) // (batch_size * at_once)) or 1
        size = -(-len(order) // (turns * at_once)) or 1  # even batches, so that no thread waits
        while order:
            batches = [order[start : start + size] for start in range(0, min(len(order), size * at_once), size)]
            try:
                replies = side_by_side(of, batches)
            except Exception as error:
                if on_full is None or size == 1 or not is_out_of_memory(error):
                    raise
                size //= 2
                on_full(size)
                replies = []
            if not replies:
                release_memory()
                continue
            for i, tokens in zip(itertools.chain(*batches), itertools.chain(*replies), strict=True):
                answers[i] = tokens
            done = sum(map(len, batches))
            order = order[done:]
            on_done(done)
    finally:
        model.generation_config = configuration
    return answers


def own_ends(model: PreTrainedModel) -> list[int]:
    """The ids at which a checkpoint itself ends its answers: there may be several, for turns, calls and texts."""
    ends = model.generation_config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def until(stop_tokens: list[int]) -> dict[str, Any]:
    """What every generation sets: a checkpoint's own configuration may ask for sampling, penalties or another end."""
    return {"do_sample": False, "num_beams": 1, "pad_token_id": stop_tokens[0], "eos_token_id": stop_tokens}


def _generate_batch(
    model: PreTrainedModel,
    prompts: list[list[int]],
    seeds: list[Sequence[int]],
    options: Generation,
    stop_tokens: list[int],
) -> list[list[int]]:
    """Answer prompts together, padded on the left.

    On the fast path rows leave the batch whenever half of them have ended: ended rows cost no more time.
    """
    longest, pad = max(map(len, prompts)), stop_tokens[0]
    ids = torch.tensor([[pad] * (longest - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    noise = GumbelNoise(options.temperature, seeds, model.device.type == "cuda") if options.temperature > 0 else None
    cache, end = _cache_to_drop_rows_from(model), longest + options.max_new_tokens
    answers: list[list[int]] = [[] for _ in prompts]
    going = list(range(len(prompts)))
    while True:
        with torch.no_grad():
            ids = model.generate(
                input_ids=ids,
                attention_mask=mask,
                generation_config=GenerationConfig(max_new_tokens=end - ids.shape[1], **until(stop_tokens)),
                past_key_values=cache,
                logits_processor=LogitsProcessorList([noise] if noise else []),
                stopping_criteria=StoppingCriteriaList([] if cache is None else [HalfEnded(stop_tokens)]),
            )
        for row, tokens in zip(going, ids[:, longest:].tolist(), strict=True):
            answers[row] = list(itertools.takewhile(lambda token: token not in stop_tokens, tokens))
        kept = [i for i, token in enumerate(ids[:, -1].tolist()) if token not in stop_tokens and ids.shape[1] < end]
        if not kept or cache is None:
            return answers
        going, noise = [going[i] for i in kept], noise and noise.of(kept)
        rows = torch.tensor(kept, device=ids.device)
        ids, mask = ids[rows], mask[rows]
        cache.batch_select_indices(rows)
        mask = torch.nn.functional.pad(mask, (0, ids.shape[1] - mask.shape[1]), value=1)


def _cache_to_drop_rows_from(model: PreTrainedModel) -> DynamicCache | None:
    """An empty cache, on the fast path; None where a model takes none, or a layer keeps windows or states instead."""
    if not fast_path.enabled() or "past_key_values" not in inspect.signature(model.forward).parameters:
        return None
    cache = DynamicCache(config=model.config)
    return cache if {type(layer) for layer in cache.layers} == {DynamicLayer} else None


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
