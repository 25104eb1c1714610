"""The only place where text becomes token ids: the template, the tokeniser, the border between prompt and response.

In the Alpaca template a row's ids are `prompt + response + end`, the response tokenised apart from its prompt. In a
chat template they are those of the rendered conversation, as `apply_chat_template` gives them. Either is cut at
`max_length`; the response with its end is the stretch of a row that is learned, and the prompt is not.

The text of a control token ("</s>", "<|im_start|>") in data, questions or answers is text like any other: only the
template and this module write control tokens.
"""

import datetime
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from diverseevol.data.chat_template import ChatTemplate, shared_start
from diverseevol.data.control_tokens import ControlTokens, in_row, literals, note_turn_markers
from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.dataset import in_batches
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions

# The tokeniser takes some hundred bytes a character, and hears no signal before it is done with a batch. A text that is
# longer by itself is tokenised in pieces: where they meet, far beyond what a model reads, there may be a token more.
BATCH_CHARACTERS = 1 << 18

RULE = "control tokens are the template's alone"  # part of the identity, so that no older tokens are used
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


def alpaca(question: Turn) -> str:
    """A user's turn in the Alpaca template."""
    template = ALPACA_WITH_INPUT if question.input else ALPACA
    return template.format(instruction=question.text, input=question.input)


class Row(NamedTuple):
    """A row as token ids.

    Attributes:
        ids: prompt and response, cut at `max_length`.
        spans: the stretches [start, end) that are learned; none where the cut left nothing of the response.
        lost: tokens that the cut removed.
        complete: whether the template wrote all of the response.
    """

    ids: list[int]
    spans: tuple[tuple[int, int], ...]
    lost: int = 0
    complete: bool = True


class Prompt:
    """A template bound to a tokeniser."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: PromptOptions) -> None:
        if tokenizer.eos_token_id is None:
            raise InputError(
                "the model's tokeniser has no end token (eos_token), so no response could ever end; set one"
            )
        self.tokenizer = tokenizer
        self.options = options
        self.end = int(tokenizer.eos_token_id)
        self.chat: ChatTemplate | None = None
        if options.template == "chat":
            date = datetime.date.fromisoformat(options.date)
            self.chat = ChatTemplate(tokenizer, options.chat_template, options.system, date)
        else:  # a chat model reads its own turn markers as such in any template, and its answers may end at one
            note_turn_markers(tokenizer, [], literals(tokenizer.chat_template))
        self.control = ControlTokens(tokenizer, meant=options.control_tokens == "as_tokens")

    def ids(self, instructions: Sequence[str], inputs: Sequence[str]) -> list[list[int]]:
        """Token ids of prompts without their responses, as the model sees them when it answers."""
        turns = [Turn("user", text, passage) for text, passage in zip(instructions, inputs, strict=True)]
        if self.chat is None:
            return self._alpaca_prompts(turns)
        chat, questions = self.chat, [turn.message for turn in turns]
        texts = chat.confined(lambda: list(map(chat.prompt, questions)))
        prompts = self._tokenise(texts, special=False)
        for i, (question, text) in enumerate(zip(questions, texts, strict=True)):
            if self.control.in_text(question):
                self.control.as_text(question)
                prompts[i] = chat.ids(question)
            else:
                self.control.refuse(prompts[i], self.control.written(text))
        return prompts

    def rows(self, conversations: Sequence[Conversation], start: int = 0) -> list[Row]:
        """Complete rows as token ids.

        Args:
            conversations: the rows.
            start: the number of the first row, for messages.

        Raises:
            InputError: a row that the template cannot hold, by its number.
        """
        questions, responses = [row.turns[0] for row in conversations], [row.response for row in conversations]
        if self.chat is None:
            sides = self._alpaca_rows(questions, responses, start)
        else:
            sides = self._chat_rows(self.chat, [turn.message for turn in questions], responses, start)
        limit = self.options.max_length
        rows = []
        for prompt, response, kept in sides:
            ids = (prompt + response)[:limit]
            spans = ((len(prompt), len(ids)),) if len(prompt) < len(ids) else ()
            rows.append(Row(ids, spans, len(prompt) + len(response) - len(ids), kept))
        return rows

    def text(self, ids: Sequence[int]) -> str:
        """What an answer says: without control tokens, and without what the template writes before a response."""
        opening = [] if self.chat is None else self.chat.opening_ids
        starts = [i for i in range(len(ids)) if opening and list(ids[i : i + len(opening)]) == opening]
        answer = ids[starts[-1] + len(opening) :] if starts else ids
        return str(self.tokenizer.decode(answer, skip_special_tokens=True)).strip()

    @property
    def stop_tokens(self) -> list[int]:
        """The ids at which an answer ends: the end token, and what ends a response in the chat template."""
        turn_end = None if self.chat is None else self.chat.turn_end
        return sorted({self.end} if turn_end is None else {self.end, turn_end})

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
        options, templates = self.options, (ALPACA_WITH_INPUT, ALPACA)
        if self.chat is not None:
            templates = (self.chat.text, options.date if self.chat.reads_the_date else "")
        parts = [RULE, vocabulary, *templates, str(options.max_length), str(options.system), str(self.end)]
        parts += [self.control.pattern.pattern, options.control_tokens, options.changed_response]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _alpaca_prompts(self, questions: Sequence[Turn], start: int | None = None) -> list[list[int]]:
        texts = list(map(alpaca, questions))
        prompts = self._tokenise(texts, special=True)
        framing = self.control.count(self._framed)
        for i, text in enumerate(texts):
            with in_row(None if start is None else start + i):
                if self.control.in_text(text):
                    prompts[i] = [*self._opening_of_a_text, *self.control.as_text(text)]
                    continue
                self.control.refuse(prompts[i], framing)
            # Tokenisers that close every text: the prompt is not the end.
            if prompts[i] and prompts[i][-1] == self.end:
                prompts[i].pop()
        return prompts

    def _alpaca_rows(
        self, questions: Sequence[Turn], responses: list[str], start: int
    ) -> Iterator[tuple[list[int], list[int], bool]]:
        prompts = self._alpaca_prompts(questions, start)
        response_ids = self._tokenise(responses, special=False)
        for i, (prompt, text, ids) in enumerate(zip(prompts, responses, response_ids, strict=True)):
            with in_row(start + i):
                if self.control.in_text(text):
                    response = self.control.as_text(text)
                else:
                    response = ids
                    self.control.refuse(response)
            yield prompt, [*response, self.end], True

    def _chat_rows(
        self, chat: ChatTemplate, questions: Sequence[str], responses: Sequence[str], start: int
    ) -> Iterator[tuple[list[int], list[int], bool]]:
        """The conversation is tokenised as one text, as `apply_chat_template` does; the border is where prompts end."""
        prompts, conversations, kept = chat.confined(lambda: self._rendered(chat, questions, responses, start))
        prompt_ids = self._tokenise(prompts, special=False)  # the template writes the special tokens itself
        ids = self._tokenise(conversations, special=False)
        for i, (question, response) in enumerate(zip(questions, responses, strict=True)):
            with in_row(start + i):
                if any(map(self.control.in_text, (question, response))):
                    for text in (question, response):
                        self.control.as_text(text)
                    prompt_ids[i], ids[i] = chat.ids(question), chat.ids(question, response)
                else:
                    self.control.refuse(ids[i], self.control.written(conversations[i]))
            # A token may hold the last of the prompt and the first of the response: it counts as the response.
            border = shared_start(prompt_ids[i], ids[i])
            end = [] if chat.turn_end is not None else [self.end]
            yield ids[i][:border], [*ids[i][border:], *end], kept[i]

    def _rendered(
        self, chat: ChatTemplate, questions: Sequence[str], responses: Sequence[str], start: int
    ) -> tuple[list[str], list[str], list[bool]]:
        """Prompts, conversations, and whether each holds all of its response."""
        prompts, conversations, kept = [], [], []
        for number, (question, response) in enumerate(zip(questions, responses, strict=True), start=start):
            with in_row(number):
                prompts.append(chat.prompt(question))
                conversation, complete = chat.conversation(question, response, prompts[-1])
            if not complete and self.options.changed_response == "refuse":
                raise InputError(
                    f"row {number}: the chat template leaves part of the response out (it may cut the text between "
                    f"<think> and </think>); give prompt.changed_response=keep to learn what is left, or use "
                    f"prompt.template=alpaca"
                )
            conversations.append(conversation)
            kept.append(complete)
        return prompts, conversations, kept

    @cached_property
    def _framed(self) -> list[int]:
        """A text with what the tokeniser puts around every text."""
        return self._tokenise(["x"], special=True)[0]

    @cached_property
    def _opening_of_a_text(self) -> list[int]:
        """What the tokeniser puts before every text, such as a token that begins it."""
        (plain,) = self._tokenise(["x"], special=False)
        framed = self._framed
        start = next(i for i in range(len(framed)) if framed[i : i + len(plain)] == plain)
        return framed[:start]

    def _tokenise(self, texts: list[str], *, special: bool) -> list[list[int]]:
        in_pieces = [list(pieces(text, BATCH_CHARACTERS)) for text in texts]
        ids: list[list[int]] = []
        for batch in in_batches([first for first, *_ in in_pieces], BATCH_CHARACTERS):
            ids += self._ids(batch, special)
        for row_ids, (_, *rest) in zip(ids, in_pieces, strict=True):
            if rest:
                closing = [row_ids.pop()] if special and row_ids[-1] == self.end else []
                for piece in rest:
                    row_ids += self._ids([piece], special=False)[0]
                row_ids += closing
        return ids

    def _ids(self, texts: Sequence[str], special: bool) -> list[list[int]]:
        # Ids alone: anything else would be made for every token.
        only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
        return list(self.tokenizer(texts, add_special_tokens=special, verbose=False, **only_ids)["input_ids"])


def pieces(text: str, limit: int) -> Iterator[str]:
    """A text in parts of at most so many characters, cut before white space where there is some."""
    while len(text) > limit:
        cut = max(text.rfind(" ", 1, limit), text.rfind("\n", 1, limit))
        cut = limit if cut < limit // 2 else cut
        yield text[:cut]
        text = text[cut:]
    yield text
