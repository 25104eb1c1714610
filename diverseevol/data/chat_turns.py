"""Conversations of many turns in a chat template: their text, and where in it the assistant's turns are.

A template with `{% generation %}` says itself what an assistant wrote. With any other, an answer begins where the
prompt of the turns before it ends, and ends with the control token that ends the turn. A template may write a turn
otherwise once others follow it (Qwen's leave earlier reasoning out, gpt-oss' end the last turn with a token of its
own), so both places are checked, and a row in which one cannot be found is refused.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from transformers.utils.chat_template_utils import mark_control_tokens, render_jinja_template

from diverseevol.data.chat_template import ChatTemplate, Message
from diverseevol.data.control_tokens import ControlTokens
from diverseevol.data.conversation import Conversation
from diverseevol.errors import InputError

GENERATION = re.compile(r"{%[-+]?\s*generation\s*[-+]?%}")
REASONING = ("reasoning_content", "reasoning", "thinking")  # what messages call the reasoning that they keep apart
CALLS = ("tool_calls", "function_call")
MARK = mark_control_tokens("x", re.compile("x"))[0]  # comes before a control token that a turn holds


class Written(NamedTuple):
    """A conversation as text.

    Attributes:
        text: what the template writes, with marks around the control tokens that the turns hold.
        learned: where in it the turns that are learned are, [start, end) each.
        marked: whether there are marks.
        complete: whether the template wrote all of what is learned.
    """

    text: str
    learned: list[tuple[int, int]]
    marked: bool
    complete: bool


class ChatTurns:
    """A chat template for conversations of many turns.

    Attributes:
        chat: the template.
        control: the control tokens of its tokeniser.
    """

    def __init__(self, chat: ChatTemplate, control: ControlTokens, *, last: bool, keep: bool) -> None:
        """Bind a template to what is learned.

        Args:
            chat: the template.
            control: the control tokens of its tokeniser.
            last: whether the assistant's last turn alone is learned.
            keep: whether what is left of a turn is learned where the template leaves part of it out.
        """
        self.chat, self.control, self.last, self.keep = chat, control, last, keep
        self.marks_answers = GENERATION.search(chat.text) is not None
        added = [re.escape(token.content) for token in chat.tokenizer.added_tokens_decoder.values()]
        self.added = re.compile("|".join(added) or "(?!)")

    def own_tokens(self, text: str) -> list[re.Match[str]]:
        """The control tokens in a text that the template wrote."""
        return [m for m in self.control.pattern.finditer(text) if not m.start() or text[m.start() - 1] != MARK]

    def written(self, conversation: Conversation) -> Written:
        """A conversation as text. The template runs, so `ChatTemplate.confined` should have it do so in a child.

        Raises:
            InputError: the template refuses a turn or leaves one out, or answers cannot be told from the rest.
        """
        return _Writing(self, conversation).written()


class _Writing:
    """One conversation as it is written."""

    def __init__(self, turns: ChatTurns, conversation: Conversation) -> None:
        self.turns, self.chat, self.control = turns, turns.chat, turns.control
        self.messages, tools = self.chat.messages_of(conversation), tools_of(conversation)
        self.before = len(self.messages) - len(conversation.turns)  # prompt.system is no turn of the row
        self.marked = any(map(self.control.in_text, _texts([self.messages, tools])))
        if self.marked:
            self.messages, tools = mark_control_tokens([self.messages, tools], self.control.pattern)
        self.options = {} if tools is None else {"tools": tools}
        self.text = self._text()

    def written(self) -> Written:
        """The text, and what is learned of it."""
        self._check_context()
        answers = [number for number, message in enumerate(self.messages) if message["role"] == "assistant"]
        if self.turns.last:
            answers = answers[-1:]
        if self.turns.marks_answers:
            learned = self._marked_answers(answers[-1] if self.turns.last else 0)
            parts = ["".join(self.text[start:end] for start, end in learned)] * len(answers)
        else:
            learned = [self._answer(number) for number in answers]
            parts = [self.text[start:end] for start, end in learned]
        changed = [n for n, part in zip(answers, parts, strict=True) if not _holds(part, self.messages[n])]
        if changed and not self.turns.keep:
            last = "" if changed[0] == answers[-1] else "prompt.learn=last to learn the last turn alone, "
            raise self._fault(
                changed[0],
                f"the chat template leaves part of the response out (it may cut the text between <think> and "
                f"</think>); give prompt.changed_response=keep to learn what is left, {last}or use {self.chat.instead}",
            )
        return Written(self.text, [span for span in learned if span[0] < span[1]], self.marked, not changed)

    def _text(self) -> str:
        try:
            return self._render(self.messages)
        except InputError:
            for number in range(len(self.messages)):
                try:
                    self._render(self.messages[: number + 1])
                except InputError as refusal:
                    raise self._fault(number, str(refusal)) from refusal
            raise

    def _render(self, messages: list[Message], **options: Any) -> str:
        return self.chat.render(messages, **self.options, **options)

    def _marked_answers(self, first: int) -> list[tuple[int, int]]:
        """What `{% generation %}` is around, in the messages from the first on."""
        ((text,), (marked,)) = render_jinja_template(
            [self.messages], chat_template=self.chat.settled, return_assistant_tokens_mask=True,
            **self.options, **self.chat.variables,
        )  # fmt: skip
        begin = 0
        if first and marked:
            before = self._render(self.messages[:first])
            begin = len(before) if text.startswith(before) else marked[-1][0]
        return [(start, end) for start, end in marked if start >= begin]

    def _answer(self, number: int) -> tuple[int, int]:
        """Where a message of the assistant is in the text, the control token that ends it included."""
        prompt = self._render(self.messages[:number], add_generation_prompt=True).removesuffix(self.chat.beyond)
        start = next((end for end in self._ends(prompt, number) if self.text.startswith(prompt[:end])), None)
        is_last = number + 1 == len(self.messages)
        turns = self.text if is_last else self._render(self.messages[: number + 1])
        if start is None or not turns.startswith(prompt[:start]):
            raise self._inseparable(number)
        return start, self._end(start, turns[start:], number)

    def _ends(self, prompt: str, number: int) -> Iterator[int]:
        """Where a prompt may end: at its end, or before what a prompt alone opens, such as reasoning."""
        yield len(prompt)
        least = len(self._render(self.messages[:number]))
        for token in reversed(list(self.turns.added.finditer(prompt, least))):
            if self.control.pattern.fullmatch(token[0]):
                return
            yield token.start()

    def _end(self, start: int, turn: str, number: int) -> int:
        """Where the turn that begins at `start` ends.

        Args:
            start: the first character of the turn in the text.
            turn: the turn as it is written where no other follows.
            number: of its message.
        """
        closing = self._closing(turn, self.messages[number])
        body = turn if closing is None else turn[: closing.start()]
        # It may be written without its beginning: reasoning is left out of turns that others follow.
        for left_out in range(len(body) + 1):
            rest = body[left_out:]
            if not self.text.startswith(rest[:1], start) or not self.text.startswith(rest, start):
                continue
            stop = start + len(rest)
            if closing is None and rest:
                return stop
            token = self.control.pattern.match(self.text, stop)
            if closing and token and (rest or token[0] == closing[0]):  # another token may end the last turn
                return token.end()
        raise self._inseparable(number)

    def _closing(self, turn: str, message: Message) -> re.Match[str] | None:
        """The control token that ends a turn: the first after what is said; where tools are called, the last."""
        tokens = self.turns.own_tokens(turn)
        if not tokens:
            return None
        content = message["content"].strip()
        if not any(map(message.get, CALLS)):
            begins = [0, *(token.end() for token in tokens)]
            for begin, token in reversed(list(zip(begins, tokens, strict=False))):
                if content in turn[begin : token.start()]:
                    return token
        usual = [token for token in tokens if self.chat.tokenizer.convert_tokens_to_ids(token[0]) == self.chat.turn_end]
        return (usual or tokens)[-1]

    def _check_context(self) -> None:
        """Check that all that is said to the assistant is in the text, in order, and the calls of tools are."""
        after = 0
        for number, message in enumerate(self.messages):
            content = message["content"].strip()
            if message["role"] == "assistant" or not content:
                continue
            # The results of tools may be written as JSON.
            places = [
                (self.text.find(form, after), form) for form in (content, json.dumps(content, ensure_ascii=False))
            ]
            where = [(begin, form) for begin, form in places if begin >= 0]
            if not where:
                raise self._fault(
                    number,
                    f"the chat template leaves out what the {message['role']} says, or part of it; remove the row, or "
                    f"use {self.chat.instead}",
                )
            if message["role"] != "system":  # some templates write it into the last question
                after = where[0][0] + len(where[0][1])
        calling = [number for number, message in enumerate(self.messages) if any(map(message.get, CALLS))]
        if calling and self._ignores_calls():
            raise self._fault(
                calling[0],
                "the chat template leaves out which tools are called; remove the row, or use a model whose chat "
                "template has tools",
            )

    def _ignores_calls(self) -> bool:
        without = [{name: value for name, value in m.items() if name not in CALLS} for m in self.messages]
        try:
            return self._render(without) == self.text
        except InputError:
            return False

    def _inseparable(self, number: int) -> InputError:
        return self._fault(
            number,
            f"the chat template writes the conversation up to it otherwise than once it goes on, so the response "
            f"cannot be told from what surrounds it; remove the row, or use {self.chat.instead}",
        )

    def _fault(self, number: int, problem: str) -> InputError:
        return InputError(f"turn {number + 1 - self.before}: {problem}")


def tools_of(conversation: Conversation) -> list[Any] | None:
    """The tools that a conversation may call, of its record's field `tools`: a list, or JSON text of one.

    Raises:
        InputError: the field holds something else.
    """
    tools = conversation.extra.get("tools")
    if not tools:
        return None
    try:
        tools = json.loads(tools) if isinstance(tools, str) else tools
    except ValueError:
        tools = None
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise InputError('field "tools" does not hold a list of tools, each an object; correct it, or rename the field')
    return tools or None


def _holds(part: str, message: Message) -> bool:
    """Whether all that an assistant says is in a part of the text, its reasoning included."""
    texts = [message["content"], *(message[name] for name in REASONING if isinstance(message.get(name), str))]
    return all(text.strip() in part for text in texts)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a nested value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
