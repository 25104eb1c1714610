"""What fitting, probing and answering take: operations and bytes, calculated from a model's shape; no model is needed.

Operations are those of matrix products, an addition and a multiplication apart (Kaplan et al. 2020, arXiv 2001.08361):

    forward     2 · products · tokens  +  4 · layers · attention · Σ length²  +  2 · head · tokens that need logits
    fit, full   3 × forward: the backward pass multiplies twice
    fit, LoRA   2 × forward, whose weights get no gradients,  +  6 · adapters · tokens  +  attention a third time
    checkpoints 1 × forward of the body more

Attention is counted as if every token saw all of its row, which is what torch's own counter does; kernels that leave
out what comes later do half of it. Bytes are of what is alive at the highest moment of a phase, by part. Activations
are counted for decoder layers like Llama's (two norms, attention, a gated MLP); other kinds differ.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from diverseevol.options import Generation, LoRA, Tuning

FLOAT32, HALF = 4, 2  # bytes
LOGITS = 3 * FLOAT32  # bytes per logit of a fit: probabilities, their gradient, and the gradient of the logits
CHUNK_BYTES = 2**28  # of the logits in float32 that a fit makes at a time; more of them are made in chunks
NOISE = 8  # bytes per logit of an answer's next token, which is drawn in double precision


@dataclass(frozen=True)
class Shape:
    """What of a model its costs depend on.

    Attributes:
        weights: how many it has; shared ones count once. Adapters are not among them.
        products: how many of them a token is multiplied with in the body: of experts, those that it visits.
        linear: weights of all linear layers, the head among them.
        vocabulary: logits of a token.
        hidden: width of the hidden states.
        layers: decoder layers.
        attention: width of all queries of a layer together.
        key_value: width of all keys of a layer together, and of all values.
        intermediate: width of the MLP, of experts of those that a token visits together.
        adapters: weights of adapters, which are trained in place of the model's; 0 where all are trained.
    """

    weights: int
    products: int
    linear: int
    vocabulary: int
    hidden: int
    layers: int
    attention: int
    key_value: int
    intermediate: int
    adapters: int = 0

    @property
    def trained(self) -> int:
        """How many weights a fit changes."""
        return self.adapters or self.weights

    @property
    def head(self) -> int:
        """Weights of the head, shared with the embedding or not."""
        return self.hidden * self.vocabulary


def llama(
    hidden: int,
    intermediate: int,
    layers: int,
    heads: int,
    vocabulary: int,
    key_value_heads: int | None = None,
    head_width: int | None = None,
    *,
    tied: bool = False,
    rank: int = 0,
    biases: bool = False,
) -> Shape:
    """The shape of a Llama or a model built like one (Qwen 2 has biases of queries, keys and values; SmolLM2).

    Args:
        hidden: width of the hidden states.
        intermediate: width of the MLP.
        layers: decoder layers.
        heads: heads of the queries.
        vocabulary: entries of the embedding.
        key_value_heads: heads of the keys and of the values; None for as many as queries have.
        head_width: width of a head; None for hidden / heads.
        tied: whether head and embedding are the same weights.
        rank: of adapters on all linear layers; 0 for none.
        biases: whether queries, keys and values have biases.
    """
    width = head_width or hidden // heads
    attention, key_value = heads * width, (key_value_heads or heads) * width
    layer = 2 * hidden * (attention + key_value) + 3 * hidden * intermediate
    vectors = 2 * hidden + (attention + 2 * key_value) * biases
    embedding = hidden * vocabulary
    # An adapter of a layer has its inputs and its outputs `rank` times.
    ends = 2 * (hidden + attention) + 2 * (hidden + key_value) + 3 * (hidden + intermediate)
    return Shape(
        weights=layers * (layer + vectors) + hidden + embedding * (1 if tied else 2),
        products=layers * layer, linear=layers * layer + embedding, vocabulary=vocabulary, hidden=hidden,
        layers=layers, attention=attention, key_value=key_value, intermediate=intermediate,
        adapters=rank * layers * ends,
    )  # fmt: skip


@dataclass(frozen=True)
class Amount:
    """How much text passes through a model.

    Attributes:
        tokens: of all rows together.
        squares: sum of the squares of the rows' lengths.
        logits: tokens whose logits are computed.
    """

    tokens: float = 0
    squares: float = 0
    logits: float = 0

    def __add__(self, more: "Amount") -> "Amount":
        return Amount(self.tokens + more.tokens, self.squares + more.squares, self.logits + more.logits)

    def __mul__(self, times: float) -> "Amount":
        return Amount(self.tokens * times, self.squares * times, self.logits * times)

    @classmethod
    def of(cls, lengths: Int[np.ndarray, " rows"], response_tokens: Int[np.ndarray, " rows"] | None = None) -> "Amount":
        """Of rows; without their response tokens no logits are computed."""
        logits = 0 if response_tokens is None else int(response_tokens.sum())
        return cls(int(lengths.sum()), int((lengths.astype(np.int64) ** 2).sum()), logits)


def forward(shape: Shape, amount: Amount) -> float:
    """Operations of reading text with a model and its adapter."""
    body = 2 * (shape.products + shape.adapters) * amount.tokens
    return body + _attention(shape, amount) + 2 * shape.head * amount.logits


def fit(shape: Shape, amount: Amount, checkpointing: bool = False) -> float:
    """Operations of training on text."""
    repeated = forward(shape, Amount(amount.tokens, amount.squares)) if checkpointing else 0.0
    if not shape.adapters:
        return 3 * forward(shape, amount) + repeated
    frozen = 2 * shape.products * amount.tokens + 2 * shape.head * amount.logits
    return 2 * frozen + 3 * _attention(shape, amount) + 6 * shape.adapters * amount.tokens + repeated


def _attention(shape: Shape, amount: Amount) -> float:
    return 4 * shape.layers * shape.attention * amount.squares


@dataclass(frozen=True)
class Numbers:
    """How numbers are held and multiplied.

    Attributes:
        weight: bytes of a weight.
        arithmetic: bytes of a number in a product.
    """

    weight: int = FLOAT32
    arithmetic: int = FLOAT32

    @classmethod
    def of(cls, dtype: str, precision: str) -> "Numbers":
        """From `model.dtype` and `trainer.precision`: 32-true, bf16-mixed, 16-mixed, bf16-true or 16-true."""
        half = "16" in precision
        if half and precision.endswith("-true"):
            return cls(HALF, HALF)
        weight = HALF if dtype in ("bfloat16", "float16") else FLOAT32
        return cls(weight, HALF if half else weight)

    @property
    def casts(self) -> bool:
        """Whether products take copies of the weights in another precision."""
        return self.arithmetic != self.weight


def memory_of_fit(
    shape: Shape, tuning: Tuning, numbers: Numbers, processes: int = 1, sharded: bool = False
) -> dict[str, int]:
    """Bytes that a fit holds on each device at its highest moment, by part.

    Args:
        shape: the model's, with adapters where these are trained.
        tuning: micro-batches and what saves memory.
        numbers: how weights are held, and multiplied.
        processes: how many there are, a device each.
        sharded: whether each holds a part of weights, gradients and moments (FSDP), not all of them (DDP).
    """
    parts = processes if sharded else 1
    trained, moment = _bytes_of_trained(shape, tuning, numbers)
    tokens = tuning.micro_batch_tokens
    memory = {
        "weights": (shape.weights * numbers.weight + shape.adapters * FLOAT32) // parts,
        "gradients": shape.trained * trained // parts,
        "moments": 2 * shape.trained * moment // parts,
        "activations": activations(shape, tokens, numbers, tuning.gradient_checkpointing),
        "logits": min(shape.vocabulary * tokens * LOGITS, CHUNK_BYTES // FLOAT32 * LOGITS),
    }
    gathers = sharded and processes > 1
    if numbers.casts:  # autocast keeps a copy of each weight until the backward pass is over; layers are sent cast
        memory["copies"] = (shape.head if gathers else shape.linear) * numbers.arithmetic
    if gathers:
        # Two layers at a time are complete, with the gradients of one, which are sent in the weights' precision; the
        # embedding and the head always are, and their gradients to the end of the backward pass.
        layer, outside = shape.products // max(1, shape.layers), shape.weights - shape.products
        learned = 0 if shape.adapters else 1
        memory["gathered"] = layer * (2 * numbers.arithmetic + learned * (numbers.arithmetic + numbers.weight))
        memory["gathered"] += outside * numbers.weight * (1 + learned)
    elif processes > 1:  # DDP sums gradients in buckets of its own
        memory["buckets"] = shape.trained * trained
    return memory  # the optimizer's step takes less than the backward pass: it has no copies of all weights


def activations(shape: Shape, tokens: int, numbers: Numbers, checkpointing: bool = False) -> int:
    """Bytes that the forward pass of a fit keeps for the backward pass, of a batch of so many tokens."""
    h, kv, i, a = shape.hidden, shape.key_value, shape.intermediate, numbers.arithmetic
    # A norm keeps its input in float32 and, where its own weight is trained, the normalised states. Each product
    # keeps its input: where it is cast, a copy of its own.
    norms = 2 * h * (FLOAT32 + (0 if shape.adapters else numbers.weight))
    separate = numbers.casts or (bool(shape.adapters) and a < FLOAT32)
    inputs = a * (5 * h + shape.attention if separate else 2 * h + shape.attention)
    attention = a * ((2 if shape.adapters else 1) * shape.attention + 2 * kv)
    layer = norms + inputs + attention + 4 * a * i
    kept = h * numbers.weight * shape.layers + layer if checkpointing else layer * shape.layers
    return kept * tokens


def memory_of_probe(
    shape: Shape, tokens: int, numbers: Numbers, statistics: bool = False, members: int = 0
) -> dict[str, int]:
    """Bytes of a probe that reads batches of so many tokens, where logits are needed or not.

    Args:
        shape: the model's.
        tokens: of a batch.
        numbers: how weights are held, and multiplied.
        statistics: whether logits are needed.
        members: further models of a committee, on the device together; adapters share the weights beneath.
    """
    # One layer's states are alive: what goes in, what attention and MLP make of it.
    states = tokens * (4 * shape.hidden * FLOAT32 + 3 * shape.intermediate * numbers.arithmetic)
    memory = {**_to_read(shape, numbers), "activations": states}
    if members:
        memory["committee"] = members * (shape.adapters * FLOAT32 or sum(_to_read(shape, numbers).values()))
    return {**memory, "logits": 2 * FLOAT32 * shape.vocabulary * tokens} if statistics else memory


def memory_of_answers(
    shape: Shape, generation: Generation, numbers: Numbers, prompt_tokens: int, questions: int | None = None
) -> dict[str, int]:
    """Bytes of answering a batch of questions, each to its greatest length.

    Args:
        shape: the model's.
        generation: the size of a batch and the length of an answer.
        numbers: how weights are held, and multiplied.
        prompt_tokens: of the longest question.
        questions: how many there are at all; None for many.
    """
    batch = min(generation.batch_size, questions or generation.batch_size)
    length = prompt_tokens + generation.max_new_tokens
    # Keys are turned by their positions in the weights' precision, values stay in that of the products.
    cache = batch * length * shape.layers * shape.key_value * (numbers.weight + numbers.arithmetic)
    logits = batch * shape.vocabulary * (FLOAT32 + NOISE)
    return {**_to_read(shape, numbers), "cache of keys and values": cache, "logits": logits}


def _to_read(shape: Shape, numbers: Numbers) -> dict[str, int]:
    """Weights that are not trained now: mixed precision casts each once, and keeps it (`cast_once`)."""
    weights = {"weights": shape.weights * numbers.weight + shape.adapters * FLOAT32}
    return {**weights, "copies": shape.linear * numbers.arithmetic} if numbers.casts else weights


def bytes_of_answers(
    shape: Shape, generation: Generation, numbers: Numbers, prompt_tokens: float, questions: int
) -> float:
    """Bytes read from memory while questions are answered: in every step all weights, and what is cached so far."""
    batches = -(-questions // generation.batch_size) if questions else 0
    weights = (shape.linear + shape.adapters) * numbers.arithmetic
    pair = shape.layers * shape.key_value * (numbers.weight + numbers.arithmetic)
    steps = generation.max_new_tokens
    return batches * steps * weights + questions * steps * (prompt_tokens + steps / 2) * pair


def amount_of_answers(generation: Generation, prompt_tokens: float, questions: int) -> Amount:
    """What passes through the model when questions are answered, each to its greatest length."""
    length = prompt_tokens + generation.max_new_tokens
    return Amount(questions * length, questions * length**2 / 2, questions * generation.max_new_tokens)


def bytes_kept(shape: Shape, tuning: Tuning, weight: int = FLOAT32) -> int:
    """Bytes of what a round keeps: the model, or the adapter alone."""
    return (shape.adapters * FLOAT32) if isinstance(tuning, LoRA) else shape.weights * weight


def bytes_of_checkpoint(shape: Shape, tuning: Tuning, numbers: Numbers) -> int:
    """Bytes of a fit's state on disk: the weights that are trained, and their moments."""
    trained, moment = _bytes_of_trained(shape, tuning, numbers)
    return shape.trained * (trained + 2 * moment)


def _bytes_of_trained(shape: Shape, tuning: Tuning, numbers: Numbers) -> tuple[int, int]:
    """Bytes of a weight that is trained, and of each of its moments."""
    trained = FLOAT32 if shape.adapters else numbers.weight  # adapters are held in float32
    return trained, {None: trained, "float32": FLOAT32, "bfloat16": HALF}[tuning.moments]


def total(memory: Mapping[str, int]) -> int:
    """All parts of a phase's memory together."""
    return sum(memory.values())
