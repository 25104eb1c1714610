"""The only place where text becomes token ids: the template, the tokeniser, the border between prompt and response.

In the Alpaca template a row's ids are `prompt + response + end`, the response tokenised apart from its prompt; further
exchanges follow in the same way. In a chat template they are those of the rendered conversation, as
`apply_chat_template` gives them. Either is cut at `max_length`; the responses with their ends are the stretches of a
row that are learned, and the rest is not.

Rows of one exchange take the template of `prompt.template`. Other conversations take the model's chat template where it
has one, and go on in the Alpaca template otherwise.

The text of a control token ("</s>", "<|im_start|>") in data, questions or answers is text like any other: only the
template and this module write control tokens.
"""

import copy
import datetime
import hashlib
import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

from transformers import BatchEncoding, PreTrainedTokenizerBase

from diverseevol.data.alpaca import ALPACA, ALPACA_WITH_INPUT, alpaca, alpaca_turns
from diverseevol.data.chat_template import ChatTemplate, shared_start
from diverseevol.data.chat_turns import ChatTurns, Written
from diverseevol.data.control_tokens import REMEDY, ControlTokens, in_row, literals, note_turn_markers
from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.dataset import in_batches
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions

# The tokeniser takes some hundred bytes a character, and hears no signal before it is done with a batch. A text that is
# longer by itself is tokenised in pieces: where they meet, far beyond what a model reads, there may be a token more.
BATCH_CHARACTERS = 1 << 18
BATCH_TURNS = 20_000  # squared: what a chat template writes at a time, in less than a second

RULE = "control tokens are the template's alone"  # part of the identity, so that no older tokens are used


class Row(NamedTuple):
    """A row as token ids.

    Attributes:
        ids: prompt and response, cut at `max_length`.
        spans: the stretches [start, end) that are learned; none where the cut left nothing of the response.
        lost: tokens that the cut removed.
        complete: whether the template wrote all that is learned.
        cut: how many stretches the cut removed, and how many it shortened.
    """

    ids: list[int]
    spans: tuple[tuple[int, int], ...]
    lost: int = 0
    complete: bool = True
    cut: tuple[int, int] = (0, 0)


class Uncut(NamedTuple):
    """A row as token ids before the cut at `max_length`; the parts as of `Row`."""

    ids: list[int]
    spans: list[tuple[int, int]]
    complete: bool = True

    def cut(self, limit: int) -> Row:
        """The first tokens of the row."""
        kept = tuple((start, min(end, limit)) for start, end in self.spans if start < min(end, limit))
        shortened = sum(start < limit < end for start, end in self.spans)
        return Row(
            self.ids[:limit], kept, max(0, len(self.ids) - limit), self.complete,
            (len(self.spans) - len(kept), shortened),
        )  # fmt: skip


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
            return self._beginnings(list(map(alpaca, turns)))
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
        numbered = list(enumerate(conversations, start))
        rows: dict[int, Uncut] = {}
        for exchanges, read in ((True, self._exchanges), (False, self._conversations)):
            if some := [(number, row) for number, row in numbered if row.is_exchange is exchanges]:
                numbers, same = zip(*some, strict=True)
                rows |= zip(numbers, read(same, numbers), strict=True)
        return [rows[number].cut(self.options.max_length) for number, _ in numbered]

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
        """A digest of everything that decides the ids of a question, and of a row of one exchange."""
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

    def identity_of_rows(self, conversations: int) -> str:
        """A digest of everything that decides ids and learned stretches of rows.

        Args:
            conversations: how many of the rows are not one exchange; where none is, their options change nothing.
        """
        if not conversations:
            return self.identity
        parts = [self.identity, self.options.learn]
        if (turns := self._turns) is None:
            parts += [ALPACA_WITH_INPUT, ALPACA]
        else:
            date = self.options.date if turns.chat.reads_the_date else ""
            parts += [turns.chat.text, date, turns.control.pattern.pattern]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def conversations_take(self) -> str:
        """What rows that are not one exchange are written in, for messages."""
        return "the Alpaca template" if self._turns is None else "the model's chat template"

    @cached_property
    def _turns(self) -> ChatTurns | None:
        """The chat template of conversations; None where they go on in the Alpaca template."""
        options = self.options
        chat, control = self.chat, self.control
        if chat is None:
            if options.conversations == "alpaca" or not self.tokenizer.chat_template:
                return None
            # A tokeniser of its own: to look at the template changes which tokens are control tokens.
            date = datetime.date.fromisoformat(options.date)
            chat = ChatTemplate(
                copy.deepcopy(self.tokenizer), options.chat_template, None, date, "prompt.conversations=alpaca"
            )
            control = ControlTokens(chat.tokenizer, meant=self.control.meant)
        return ChatTurns(chat, control, last=options.learn == "last", keep=options.changed_response == "keep")

    def _exchanges(self, rows: Sequence[Conversation], numbers: Sequence[int]) -> Iterator[Uncut]:
        questions, responses = [row.turns[0] for row in rows], [row.turns[1].text for row in rows]
        if self.chat is None:
            sides = self._alpaca_rows(questions, responses, numbers)
        else:
            sides = self._chat_rows(self.chat, [turn.message for turn in questions], responses, numbers)
        for prompt, response, complete in sides:
            yield Uncut(prompt + response, [(len(prompt), len(prompt) + len(response))], complete)

    def _conversations(self, rows: Sequence[Conversation], numbers: Sequence[int]) -> Iterator[Uncut]:
        return self._in_alpaca(rows, numbers) if self._turns is None else self._in_chat(self._turns, rows, numbers)

    def _in_alpaca(self, rows: Sequence[Conversation], numbers: Sequence[int]) -> Iterator[Uncut]:
        conversations = []
        for row, number in zip(rows, numbers, strict=True):
            with in_row(number):
                conversations.append(alpaca_turns(row))
        # Each text is tokenised apart, as prompt and response of one exchange are.
        firsts = self._beginnings([asked for (asked, _), *_ in conversations], numbers)
        rest = [list(chain.from_iterable(row))[1:] for row in conversations]
        owners = [number for number, texts in zip(numbers, rest, strict=True) for _ in texts]
        inner = self._continued([text or "" for text in chain.from_iterable(rest)], owners)
        for first, exchanges in zip(firsts, conversations, strict=True):
            ids, spans = list(first), []
            for i, (_, answer) in enumerate(exchanges):
                ids += next(inner) if i else []
                answer_ids = next(inner)
                if answer is not None:
                    spans.append((len(ids), len(ids) + len(answer_ids) + 1))
                    ids += [*answer_ids, self.end]
            yield Uncut(ids, spans[-1:] if self.options.learn == "last" else spans)

    def _in_chat(self, turns: ChatTurns, rows: Sequence[Conversation], numbers: Sequence[int]) -> Iterator[Uncut]:
        texts: list[Written] = []
        # The template writes all turns up to each answer, so its work grows with the square of the turns.
        for batch in in_batches(range(len(rows)), BATCH_TURNS, [len(row.turns) ** 2 for row in rows]):
            texts += self._written(turns, [(numbers[i], rows[i]) for i in batch])
        known = self._by_offsets(texts)
        for i, (row, number, text) in enumerate(zip(rows, numbers, texts, strict=True)):
            with in_row(number):
                ids, spans = known.get(i) or self._by_beginnings(text)
                turns.control.refuse(ids, len(turns.own_tokens(text.text)))
            answers = 1 if self.options.learn == "last" else sum(turn.role == "assistant" for turn in row.turns)
            # A template that leaves an answer out altogether has its end learned nowhere.
            if turns.chat.turn_end is None and row.turns[-1].role == "assistant" and len(spans) == answers:
                ids, spans = [*ids, self.end], [*spans[:-1], (spans[-1][0], len(ids) + 1)]
            yield Uncut(ids, spans, text.complete)

    def _written(self, turns: ChatTurns, rows: Sequence[tuple[int, Conversation]]) -> list[Written]:
        def work() -> list[Written]:
            texts = []
            for number, row in rows:
                with in_row(number):
                    texts.append(turns.written(row))
            return texts

        return [Written(*parts) for parts in turns.chat.confined(work)]  # they come as lists

    def _by_offsets(self, texts: Sequence[Written]) -> dict[int, tuple[list[int], list[tuple[int, int]]]]:
        """Ids and learned stretches of the texts whose tokens say where they come from, by the texts' numbers."""
        known = {}
        sizes = {i: len(text.text) for i, text in enumerate(texts) if not text.marked and self.tokenizer.is_fast}
        short = [i for i, size in sizes.items() if size <= BATCH_CHARACTERS]
        for batch in in_batches(short, BATCH_CHARACTERS, [sizes[i] for i in short]):
            encoded = self._encoded([texts[i].text for i in batch])
            for i, ids, encoding in zip(batch, encoded["input_ids"], encoded.encodings, strict=True):
                starts, ends = zip(*encoding.offsets, strict=True)
                # A token that is partly learned is learned.
                spans = [(bisect_right(ends, start), bisect_left(starts, end)) for start, end in texts[i].learned]
                known[i] = ids, spans
        return known

    def _by_beginnings(self, text: Written) -> tuple[list[int], list[tuple[int, int]]]:
        """The same by what ids the text has up to each place, and from there on."""

        def ids_of(part: str) -> list[int]:
            if not text.marked:
                return self._tokenise([part], special=False)[0]
            try:
                return list(self._encoded([part], sanitize_control_tokens=True)["input_ids"][0])
            except ValueError as error:
                raise InputError(
                    f"a control token that a text holds cannot be kept apart ({error}); {REMEDY}"
                ) from error

        ids, spans = ids_of(text.text), []
        for start, end in text.learned:
            up_to, rest = ids_of(text.text[:end]), ids_of(text.text[start:])
            shared, begin = shared_start(up_to, ids), len(ids) - len(rest)
            if ids[begin:] != rest:  # a token is partly learned, or the tokeniser puts something before every text
                begin = shared_start(ids_of(text.text[:start]), ids)
            spans.append((begin, shared + (shared < len(up_to))))
        return ids, spans

    def _beginnings(self, texts: list[str], numbers: Sequence[int] | None = None) -> list[list[int]]:
        """The ids of texts with which rows begin."""
        prompts = self._tokenise(texts, special=True)
        framing = self.control.count(self._framed)
        for i, text in enumerate(texts):
            with in_row(None if numbers is None else numbers[i]):
                if self.control.in_text(text):
                    prompts[i] = [*self._opening_of_a_text, *self.control.as_text(text)]
                    continue
                self.control.refuse(prompts[i], framing)
            # Tokenisers that close every text: the prompt is not the end.
            if prompts[i] and prompts[i][-1] == self.end:
                prompts[i].pop()
        return prompts

    def _continued(self, texts: list[str], numbers: Sequence[int]) -> Iterator[list[int]]:
        """The ids of texts within rows."""
        for number, text, ids in zip(numbers, texts, self._tokenise(texts, special=False), strict=True):
            with in_row(number):
                if self.control.in_text(text):
                    yield self.control.as_text(text)
                    continue
                self.control.refuse(ids)
            yield ids

    def _alpaca_rows(
        self, questions: Sequence[Turn], responses: list[str], numbers: Sequence[int]
    ) -> Iterator[tuple[list[int], list[int], bool]]:
        prompts = self._beginnings(list(map(alpaca, questions)), numbers)
        for prompt, response in zip(prompts, self._continued(responses, numbers), strict=True):
            yield prompt, [*response, self.end], True

    def _chat_rows(
        self, chat: ChatTemplate, questions: Sequence[str], responses: Sequence[str], numbers: Sequence[int]
    ) -> Iterator[tuple[list[int], list[int], bool]]:
        """The conversation is tokenised as one text, as `apply_chat_template` does; the border is where prompts end."""
        prompts, conversations, kept = chat.confined(lambda: self._rendered(chat, questions, responses, numbers))
        prompt_ids = self._tokenise(prompts, special=False)  # the template writes the special tokens itself
        ids = self._tokenise(conversations, special=False)
        for i, (question, response) in enumerate(zip(questions, responses, strict=True)):
            with in_row(numbers[i]):
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
        self, chat: ChatTemplate, questions: Sequence[str], responses: Sequence[str], numbers: Sequence[int]
    ) -> tuple[list[str], list[str], list[bool]]:
        """Prompts, conversations, and whether each holds all of its response."""
        prompts, conversations, kept = [], [], []
        for number, question, response in zip(numbers, questions, responses, strict=True):
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
        return list(self._encoded(texts, special)["input_ids"])

    def _encoded(self, texts: Sequence[str], special: bool = False, **options: bool) -> BatchEncoding:
        # Ids alone: anything else would be made for every token.
        only_ids = {"return_attention_mask": False, "return_token_type_ids": False}
        return self.tokenizer(texts, add_special_tokens=special, verbose=False, **only_ids, **options)


def pieces(text: str, limit: int) -> Iterator[str]:
    """A text in parts of at most so many characters, cut before white space where there is some."""
    while len(text) > limit:
        cut = max(text.rfind(" ", 1, limit), text.rfind("\n", 1, limit))
        cut = limit if cut < limit // 2 else cut
        yield text[:cut]
        text = text[cut:]
    yield text
