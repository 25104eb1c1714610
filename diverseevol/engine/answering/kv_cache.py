"""A cache of keys and values that grows in place, where the library's own is copied at every token."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

ROOM = 64  # tokens that a layer grows by: room for few costs copies, for many memory

States = Float[torch.Tensor, "batch heads length _"]  # values may be narrower than keys (DeepSeek 2)


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, as views of buffers that are longer than they."""

    def update(
        self, key_states: States, value_states: States, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append new states and return all."""
        if not self.is_initialized:
            self._hold([key_states, value_states], key_states.shape[-2])
            return self.keys, self.values
        held = self.get_seq_length()
        length = held + key_states.shape[-2]
        for i, new in enumerate((key_states, value_states)):
            if length > self.buffers[i].shape[-2]:
                self.buffers[i] = _longer([self.buffers[i][:, :, :held]], held, length + ROOM)
            self.buffers[i][:, :, held:length] = new
        self._hold(self.buffers, length)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep some rows alone; their buffers are as long as what they hold."""
        super().batch_select_indices(indices)
        self._hold([self.keys, self.values], self.get_seq_length())

    @classmethod
    def joined(cls, layers: Sequence["GrowingLayer"]) -> "GrowingLayer":
        """The rows of several layers in one; the shorter have zeros on their left."""
        length, whole = max(layer.get_seq_length() for layer in layers), cls()
        sides = [layer.keys for layer in layers], [layer.values for layer in layers]
        whole._hold([_longer(side, length, length + ROOM) for side in sides], length)
        return whole

    def _hold(self, buffers: list[torch.Tensor], length: int) -> None:
        if not self.is_initialized:
            self.lazy_initialization(*buffers)
        self.buffers = buffers
        self.keys, self.values = (buffer[:, :, :length] for buffer in buffers)


def growing_cache(model: PreTrainedModel) -> DynamicCache | None:
    """An empty cache for a model; None where it takes none or a layer does not keep all keys (windows, states)."""
    if "past_key_values" not in inspect.signature(model.forward).parameters:  # RWKV, the first GPT
        return None
    cache = DynamicCache(config=model.config)
    if {type(layer) for layer in cache.layers} != {DynamicLayer}:
        return None
    cache.layers = [GrowingLayer() for _ in cache.layers]
    return cache


def joined(caches: Sequence[DynamicCache]) -> DynamicCache:
    """The rows of several growing caches in one, padded on the left; they are emptied, so that memory holds one."""
    whole = caches[0]
    for i in range(len(whole.layers)):
        whole.layers[i] = GrowingLayer.joined([cache.layers[i] for cache in caches])
        for cache in caches[1:]:
            cache.layers[i] = None
    return whole


def _longer(parts: Sequence[torch.Tensor], held: int, room: int) -> torch.Tensor:
    """Rows of several tensors with their last positions at `held`, in a buffer of `room` positions."""
    _, heads, _, width = parts[0].shape
    buffer = parts[0].new_empty((sum(map(len, parts)), heads, room, width))
    start = 0
    for part in parts:
        rows = buffer[start : start + len(part)]
        rows[:, :, : held - part.shape[-2]] = 0  # masked, but it must be a number
        rows[:, :, held - part.shape[-2] : held] = part
        start += len(part)
    return buffer
