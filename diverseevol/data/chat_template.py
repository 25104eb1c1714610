"""A model's chat template: a conversation as text, what marks the turns in it, and checks of what it writes.

A template is a program that comes with a tokeniser. It may leave out part of a conversation, read the clock, or refuse
a conversation, so its output is checked.
"""

import datetime
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jinja2
from transformers import PreTrainedTokenizerBase

from diverseevol.data.control_tokens import REMEDY, ControlTokens, literals, note_turn_markers
from diverseevol.data.conversation import Conversation
from diverseevol.errors import InputError
from diverseevol.parallel.confined import confined

T = TypeVar("T")
Message = dict[str, Any]
# How a template by somebody else may fail.
FAILURES = (
    jinja2.TemplateError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
GROWTH, FREE = 16, 1 << 20  # times the characters of a conversation, and characters, that its text may have

QUESTION, ANSWER = "Is this the question?", "This is the answer."  # texts that no template writes by itself
DATES = (
    "{% macro strftime_now(form) %}{{ settled_dates[form] if form in settled_dates else settled_dates[''] }}"
    "{% endmacro %}{{ '' }}"
)


class ChatTemplate:
    """The chat template of a tokeniser.

    Attributes:
        tokenizer: the template's; it is set to know which of its tokens mark turns.
        text: the template's own program text.
        settled: the same, with the date settled; it needs the `variables`.
        system: the system message of conversations that have none of their own, or None.
        instead: the option that does without the template, for messages.
        beyond: what the template writes after a question and not before a response, such as the start of reasoning.
        opening: what the template writes between a prompt and a response: reasoning that is empty, a channel's name.
        opening_ids: the ids of `opening` up to its last added token; empty where it is plain text, or nothing.
        turn_end: the id of the control token that ends a response, or None where the template writes none.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        name: str | None,
        system: str | None,
        date: datetime.date,
        instead: str = "prompt.template=alpaca",
    ) -> None:
        """Look at what the template makes of one question and its answer.

        Args:
            tokenizer: whose template it is.
            name: which of several templates; None takes the default.
            system: the system message, or None.
            date: the date that the template writes.
            instead: the option that does without the template.

        Raises:
            InputError: there is no such template, or it cannot be used.
        """
        self.tokenizer = tokenizer
        self.text = _program(tokenizer, name)
        self.system, self.instead = system, instead
        # The library gives templates plain data and no functions: what the clock says is a macro of these texts.
        formats = re.findall(r"strftime_now\(\s*['\"]([^'\"]*)", self.text)
        self._dates = {"": date.isoformat(), **{form: date.strftime(form) for form in formats}}
        self.settled = (DATES if self.reads_the_date else "") + self.text
        # The first time in a child: a program that harms nobody there is run here, too, and kept for the next child.
        self.confined(self._looked_at)
        asked, conversation, with_a_system_message = self._looked_at()
        common = conversation[: shared_start(asked, conversation)]
        if QUESTION not in common:
            raise InputError(
                "the tokeniser's chat template renders a conversation that does not start with its own prompt, so the "
                f"response cannot be told from the prompt; use {instead}"
            )
        start = conversation.find(ANSWER, len(common))
        if start < 0:
            raise InputError(
                f"the tokeniser's chat template leaves a plain response out of the conversation ({ANSWER!r} is not in "
                f"it); use {instead}"
            )
        # White space at the end of a prompt may share a token with what comes before a response (Qwen's empty
        # reasoning): a prompt that ends before it is one that the model has seen.
        if start > len(common) and not self._begins(conversation, common):
            common = common.rstrip()
        # A prompt may go on where no conversation does: R1's opens the reasoning that it leaves out of responses.
        self.beyond = asked[len(common) :]
        self._ids_beyond = len(self._tokens(asked)) - len(self._tokens(common))
        self.opening = conversation[len(common) : start]
        self.opening_ids = self._up_to_an_added_token(self._tokens(conversation[:start])[len(self._tokens(common)) :])
        conversations = (conversation, with_a_system_message)
        frames = [text.replace(QUESTION, "\0").replace(ANSWER, "\0") for text in conversations]
        note_turn_markers(tokenizer, frames, literals(tokenizer.chat_template))
        marker = ControlTokens(tokenizer).pattern.search(conversation, start + len(ANSWER))
        self.turn_end = None if marker is None else int(tokenizer.convert_tokens_to_ids(marker[0]))

    @property
    def variables(self) -> dict[str, Any]:
        """What the settled text reads beside messages."""
        return {"settled_dates": self._dates, **self.tokenizer.special_tokens_map}

    @property
    def reads_the_date(self) -> bool:
        """Whether what it writes depends on the date."""
        return "strftime_now" in self.text

    def messages(self, question: str, response: str | None = None) -> list[Message]:
        """A conversation of one exchange; without a response, what is asked."""
        messages = [{"role": "user", "content": question}]
        if self.system is not None:
            messages.insert(0, {"role": "system", "content": self.system})
        if response is not None:
            messages.append({"role": "assistant", "content": response})
        return messages

    def messages_of(self, conversation: Conversation) -> list[Message]:
        """The turns of a conversation, whose own system turn comes in place of the usual system message."""
        messages = [{**turn.more, "role": turn.role, "content": turn.message} for turn in conversation.turns]
        if self.system is not None and conversation.turns[0].role != "system":
            messages.insert(0, {"role": "system", "content": self.system})
        return messages

    def prompt(self, question: str) -> str:
        """What comes before a response.

        Raises:
            InputError: the template leaves part of the question out, or refuses it.
        """
        prompt = self.render(self.messages(question), add_generation_prompt=True).removesuffix(self.beyond)
        if question.strip() not in prompt:
            raise InputError(
                f"the chat template leaves part of the instruction out; remove the row, or use {self.instead}"
            )
        return prompt

    def conversation(self, question: str, response: str, prompt: str) -> tuple[str, bool]:
        """The prompt with its response, and whether all of the response is in it.

        Raises:
            InputError: it does not start with the prompt, or the template refuses it.
        """
        conversation = self.render(self.messages(question, response))
        if not conversation.startswith(prompt):
            raise InputError(
                f"the chat template renders the row's conversation so that it does not start with its own prompt; "
                f"remove the row, or use {self.instead}"
            )
        return conversation, response.strip() in conversation[len(prompt) :]

    def ids(self, question: str, response: str | None = None) -> list[int]:
        """The ids of a conversation, or of a prompt, in which control tokens of the texts are ordinary text.

        Raises:
            InputError: the tokeniser makes a control token of plain text.
        """
        options: dict[str, Any] = {"add_generation_prompt": True} if response is None else {}
        ids = self._applied(
            self.messages(question, response), sanitize_control_tokens=True, return_dict=False, **options
        )
        return list(ids[: len(ids) - self._ids_beyond] if response is None else ids)

    def _tokens(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _begins(self, text: str, start: str) -> bool:
        """Whether a text begins with these tokens, and not only with these letters."""
        ids = self._tokens(start)
        return self._tokens(text)[: len(ids)] == ids

    def _up_to_an_added_token(self, ids: list[int]) -> list[int]:
        """What comes after the last added token is left out: it may share a token with the response."""
        added = self.tokenizer.added_tokens_decoder
        return ids[: 1 + max((i for i, token in enumerate(ids) if token in added), default=-1)]

    def _looked_at(self) -> tuple[str, str, str]:
        """A question; a conversation of the same; one with a system message, "" where the template refuses it."""
        asked = self.render(self.messages(QUESTION), add_generation_prompt=True)
        messages = self.messages(QUESTION, ANSWER)
        conversation = self.render(messages)
        try:
            return asked, conversation, self.render([{"role": "system", "content": QUESTION}, *messages[-2:]])
        except InputError:
            return asked, conversation, ""

    def confined(self, work: Callable[[], T]) -> T:
        """Render in a child process, where the template can do no harm.

        Args:
            work: gives what JSON can say.

        Raises:
            InputError: work raised one, does not come to an end, or takes too much memory.
        """
        return confined(work, "the tokeniser's chat template", f"use {self.instead}, or another model")

    def render(self, messages: list[Message], **options: Any) -> str:
        """What the template writes.

        Raises:
            InputError: it refuses the messages, or writes what cannot be used.
        """
        text = str(self._applied(messages, tokenize=False, **options))
        characters = len(str(options.get("tools", ""))) + sum(
            len(str(v)) for message in messages for v in message.values()
        )
        limit = FREE + GROWTH * characters
        if len(text) > limit:
            raise InputError(
                f"the tokeniser's chat template makes {len(text):,} characters of a conversation that may become "
                f"{limit:,}; use {self.instead}"
            )
        if re.search("[\ud800-\udfff]", text):
            raise InputError(
                f"the tokeniser's chat template writes an unpaired surrogate, which no tokeniser can read; use "
                f"{self.instead}"
            )
        return text

    def _applied(self, messages: list[Message], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(
                messages, chat_template=self.settled, settled_dates=self._dates, **options
            )
        except FAILURES as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            if "plain text" in reason:
                raise InputError(
                    f"a control token that a text holds cannot be kept apart ({reason}); {REMEDY}"
                ) from error
            if self.system is not None and "system" in reason.lower():
                raise InputError(
                    f"the tokeniser's chat template refuses the system message ({reason}); leave prompt.system out, or "
                    f"put it into the instructions"
                ) from error
            raise InputError(
                f"the tokeniser's chat template fails ({reason}); choose another with prompt.chat_template=NAME where "
                f"there are several, or use {self.instead}"
            ) from error


def shared_start(left: Sequence[Any], right: Sequence[Any]) -> int:
    """How many items two sequences have in common from their start on."""
    if right[: len(left)] == left:
        return len(left)
    pairs = enumerate(zip(left, right, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))


def _program(tokenizer: PreTrainedTokenizerBase, name: str | None) -> str:
    """The template's text, by its name where a tokeniser has several.

    Raises:
        InputError: there is none, or none of this name, or several and none is the default.
    """
    templates = tokenizer.chat_template
    if not templates:
        raise InputError(
            "prompt.template is chat but the model's tokeniser has no chat template; use prompt.template=alpaca"
        )
    if isinstance(templates, str):
        if name is not None:
            raise InputError(
                f"prompt.chat_template is {name!r}, but the model's tokeniser has a single chat template, which has no "
                f"name; leave prompt.chat_template out"
            )
        return templates
    if (name or "default") not in templates:
        asked = f"has none called {name!r}" if name else "has several chat templates and none of them is the default"
        raise InputError(
            f"the model's tokeniser {asked}; give prompt.chat_template=NAME with one of {', '.join(sorted(templates))}"
        )
    return str(templates[name or "default"])
