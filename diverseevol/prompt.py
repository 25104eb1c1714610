"""The only place where text becomes token ids: the template, the tokeniser, the border between prompt and response.

The response is tokenised apart from its prompt, so the border is exact and a prompt has the same ids in training,
probing and answering. A row's ids are `prompt + response + end`, cut at `max_length`; the loss is taken from
`response_start` on, so the end token is learned and the prompt is not.
"""

import hashlib
import json
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int
from transformers import PreTrainedTokenizerBase

from diverseevol.errors import InputError
from diverseevol.files import cached_folder
from diverseevol.formats import Example
from diverseevol.source import Source

# The Alpaca template is an exchange format: other wordings would be another experiment.
ALPACA_WITH_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further context. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)
ALPACA = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)


def alpaca(example: Example) -> str:
    """A row's prompt in the Alpaca template."""
    template = ALPACA_WITH_INPUT if example.input else ALPACA
    return template.format(instruction=example.instruction, input=example.input)


@dataclass(frozen=True)
class PromptOptions:
    """How rows become prompts.

    Attributes:
        template: "alpaca" (the paper's), or "chat": the tokeniser's own chat template.
        max_length: tokens of a row, prompt and response together; what is beyond is cut (the paper: 512).
        system: a system message for the chat template; the Alpaca template has none.
    """

    template: Literal["alpaca", "chat"] = "alpaca"
    max_length: int = 512
    system: str | None = None

    def __post_init__(self) -> None:
        if self.template not in ("alpaca", "chat"):
            raise InputError(f"prompt.template is {self.template!r}; choose alpaca or chat")
        if self.max_length < 2:
            raise InputError(f"prompt.max_length is {self.max_length}; it must be at least 2 tokens")
        if self.system is not None and self.template == "alpaca":
            raise InputError(
                "prompt.system is set but the Alpaca template has no system message; use prompt.template=chat"
            )


class Prompt:
    """A template bound to a tokeniser."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: PromptOptions) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "the model's tokeniser has no end token (eos_token), so no response could ever end; set one"
            )
        if options.template == "chat" and not tokenizer.chat_template:
            raise InputError(
                "prompt.template is chat but the model's tokeniser has no chat template; use prompt.template=alpaca"
            )
        self.tokenizer = tokenizer
        self.options = options
        self.end = int(tokenizer.eos_token_id)

    def ids(self, instructions: Sequence[str], inputs: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts without their responses, as the model sees them when it answers."""
        return [
            prompt for prompt, _ in self._encode([Example(i, x, "") for i, x in zip(instructions, inputs, strict=True)])
        ]

    def rows(self, examples: Sequence[Example]) -> list[tuple[list[int], int]]:
        """Token ids of whole rows, cut at `max_length`, each with the index where its response starts.

        A row whose response is gone after the cut has `response_start == len(ids)`.
        """
        limit = self.options.max_length
        return [((prompt + response)[:limit], min(len(prompt), limit)) for prompt, response in self._encode(examples)]

    @property
    def stop_tokens(self) -> list[int]:
        """The ids at which an answer ends: the end token, and the chat template's end of turn."""
        stops = {self.end}
        if self.options.template == "chat":
            (_, response), *_ = self._encode([Example("?", "", "!")])
            special = set(self.tokenizer.all_special_ids)
            stops.update([token for token in response if token in special][:1])
        return sorted(stops)

    @property
    def identity(self) -> str:
        """A digest of everything that decides the ids of a given text."""
        tokenizer = self.tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        vocabulary = backend.to_str() if backend is not None else json.dumps(sorted(tokenizer.get_vocab().items()))
        # Truncation and padding are state that a call may leave in the backend, not part of what ids a text has.
        if backend is not None:
            described = json.loads(vocabulary)
            described["truncation"] = described["padding"] = None
            vocabulary = json.dumps(described, sort_keys=True)
        options = self.options
        templates = (ALPACA_WITH_INPUT, ALPACA) if options.template == "alpaca" else (str(tokenizer.chat_template),)
        parts = [vocabulary, *templates, str(options.max_length), str(options.system), str(self.end)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _encode(self, examples: Sequence[Example]) -> list[tuple[list[int], list[int]]]:
        encode = self._encode_alpaca if self.options.template == "alpaca" else self._encode_chat
        return encode(examples)

    def _encode_alpaca(self, examples: Sequence[Example]) -> list[tuple[list[int], list[int]]]:
        prompts = self._tokenise([alpaca(e) for e in examples], special=True)
        for ids in prompts:
            if ids and ids[-1] == self.end:  # tokenisers that close every text: the prompt is not the end
                ids.pop()
        responses = self._tokenise([e.response for e in examples], special=False)
        return [(prompt, [*response, self.end]) for prompt, response in zip(prompts, responses, strict=True)]

    def _encode_chat(self, examples: Sequence[Example]) -> list[tuple[list[int], list[int]]]:
        prompts, responses = [], []
        for example in examples:
            question = f"{example.instruction}\n\n{example.input}" if example.input else example.instruction
            messages = [{"role": "user", "content": question}]
            if self.options.system is not None:
                messages.insert(0, {"role": "system", "content": self.options.system})
            prompt = self._render(messages, add_generation_prompt=True)
            whole = self._render([*messages, {"role": "assistant", "content": example.response}])
            if not whole.startswith(prompt):
                raise InputError(
                    "the tokeniser's chat template renders a conversation that does not start with its own prompt, so "
                    "the response cannot be told from the prompt; use prompt.template=alpaca"
                )
            prompts.append(prompt)
            responses.append(whole[len(prompt) :])
        prompt_ids = self._tokenise(prompts, special=False)  # the template writes the special tokens itself
        response_ids = self._tokenise(responses, special=False)
        for ids in response_ids:
            if self.end not in ids and not set(ids) & set(self.tokenizer.all_special_ids):
                ids.append(self.end)
        return list(zip(prompt_ids, response_ids, strict=True))

    def _render(self, messages: list[dict[str, str]], **options: Any) -> str:
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, **options))

    def _tokenise(self, texts: list[str], *, special: bool) -> list[list[int]]:
        if not texts:
            return []
        # Ids alone: whatever else is asked for is made for every token.
        only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
        return list(self.tokenizer(texts, add_special_tokens=special, verbose=False, **only_ids)["input_ids"])


@dataclass(frozen=True)
class Encoded:
    """All rows of the source as token ids, in one flat memory-mapped array.

    Attributes:
        ids: [tokens] the rows' ids, one row after the other.
        offsets: [rows + 1] where each row starts in `ids`.
        response_start: [rows] index within the row of the first response token.
    """

    ids: Int[np.ndarray, " tokens"]
    offsets: Int[np.ndarray, " rows_and_one"]
    response_start: Int[np.ndarray, " rows"]

    def __len__(self) -> int:
        return len(self.response_start)

    def row(self, row: int) -> Int[np.ndarray, " length"]:
        """The ids of one row."""
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> Int[np.ndarray, " rows"]:
        """Tokens of each row, prompt and response."""
        return np.diff(self.offsets)

    @property
    def response_tokens(self) -> Int[np.ndarray, " rows"]:
        """Tokens of each row's response, the end token included; 0 where truncation left none."""
        return np.asarray(self.lengths - self.response_start)

    @property
    def eligible(self) -> Bool[np.ndarray, " rows"]:
        """Rows that can be trained on."""
        return self.response_tokens > 0


def encode(source: Source, prompt: Prompt, cache: Path, progress: Callable[[int], None] = lambda rows: None) -> Encoded:
    """Tokenise the whole source once; a second call with the same rows, tokeniser and options reads what is there.

    Args:
        source: the rows.
        prompt: template and tokeniser.
        cache: where token arrays are kept, under a key of content.
        progress: called with the number of rows done since the last call.
    """
    key = hashlib.sha256(f"{source.fingerprint} {prompt.identity}".encode()).hexdigest()[:32]

    def build(folder: Path) -> None:
        offsets, starts = array("q", [0]), array("i")
        with (folder / "ids.bin").open("wb") as file:
            for examples in source.iterate(1000):
                rows = prompt.rows(examples)
                np.fromiter(chain.from_iterable(ids for ids, _ in rows), dtype=np.int32).tofile(file)
                for ids, start in rows:
                    offsets.append(offsets[-1] + len(ids))
                    starts.append(start)
                progress(len(examples))
        np.save(folder / "offsets.npy", np.asarray(offsets, dtype=np.int64))
        np.save(folder / "response_start.npy", np.asarray(starts, dtype=np.int64))

    folder = cached_folder(cache / "tokens" / key, build)
    return Encoded(
        ids=np.memmap(folder / "ids.bin", dtype=np.int32, mode="r"),
        offsets=np.load(folder / "offsets.npy", mmap_mode="r"),
        response_start=np.load(folder / "response_start.npy", mmap_mode="r"),
    )
