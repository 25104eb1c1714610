"""The foundation model's tokeniser, and its text as one long array of tokens."""

import itertools
import re
import time

import numpy as np
from jaxtyping import UInt16
from text import Writer
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from diverseevol.data.alpaca import ALPACA, ALPACA_WITH_INPUT
from diverseevol.lab.skill import World
from diverseevol.output.terminal import say

VOCABULARY = 1792
END, UNKNOWN = "<end>", "<unk>"
DOCUMENTS = 20_000  # that the tokeniser learns from
WEIGHT = 400  # how often it sees the template and each phrasing, so that their words become single tokens


def train_tokenizer(world: World, seed: int, positions: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of the world's text, the template's words, and the phrasings without their arguments."""
    documents = itertools.islice(Writer(world, np.random.default_rng([seed, 1])).documents(), DOCUMENTS)
    frames = [re.sub(r"\{\w+\}", "", frame) for frame in (ALPACA, ALPACA_WITH_INPUT)]
    phrasings = [re.sub(r"\{\w+\}", "", each) for skill in world for each in (*skill.phrasings, skill.response)]
    tokenizer = Tokenizer(models.BPE())
    # A word has the same token at the beginning of a line, of an input and of a response as in a sentence; without
    # this the model knows words in sentences that it does not know where a response begins.
    lines = pre_tokenizers.Split(Regex("\n+"), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([lines, pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[UNKNOWN, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(itertools.chain(documents, frames * WEIGHT, phrasings * (WEIGHT // 8)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, eos_token=END, pad_token=END, model_max_length=positions
    )


def write_tokens(
    world: World, tokenizer: PreTrainedTokenizerFast, tokens: int, seed: int
) -> UInt16[np.ndarray, " tokens"]:
    """Documents, each closed by the end token, until there are this many tokens."""
    documents = Writer(world, np.random.default_rng([seed, 2])).documents()
    filled, start = 0, time.time()
    out = np.empty(tokens, dtype=np.uint16)
    while filled < tokens:
        batch = list(itertools.islice(documents, 5000))
        for encoding in tokenizer.backend_tokenizer.encode_batch([document + END for document in batch]):
            ids = encoding.ids[: tokens - filled]
            out[filled : filled + len(ids)] = ids
            filled += len(ids)
        say(f"text: {filled:,} of {tokens:,} tokens, {time.time() - start:.0f} s")
    return out
