"""Control tokens: which of a tokeniser's tokens steer a model, and how text is kept from becoming one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise

import jinja2
from transformers import PreTrainedTokenizerBase

from diverseevol.errors import InputError

PAIR = re.compile(r"<(/?)([^<>|/]+)>")
REMEDY = (
    "remove it from the data, or give prompt.control_tokens=as_tokens where your data are meant to hold control tokens"
)


class ControlTokens:
    """The control tokens of a tokeniser: those flagged special, and those that its chat template marks turns with."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, meant: bool = False) -> None:
        """Find them.

        Args:
            tokenizer: its chat template has been examined, see `note_turn_markers`.
            meant: whether texts are meant to hold them, so that none is kept from becoming one.
        """
        self.tokenizer = tokenizer
        self.meant = meant
        markers = set(tokenizer.chat_control_tokens or ())
        tokens = [t.content for t in tokenizer.added_tokens_decoder.values() if t.special or t.content in markers]
        by_length = sorted(tokens, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, by_length)) or "(?!)")
        # Letters that a tokeniser does not know become the unknown token, whatever they are.
        self._ids = {int(tokenizer.convert_tokens_to_ids(t)) for t in tokens if t != tokenizer.unk_token}

    def in_text(self, text: str) -> bool:
        """Whether a text holds a control token that must not become one."""
        return not self.meant and self.pattern.search(text) is not None

    def as_text(self, text: str) -> list[int]:
        """The ids of a text in which no control token is one.

        Raises:
            InputError: the tokeniser makes one of plain text.
        """
        try:
            ids = self.tokenizer.apply_chat_template(
                [{"role": "user", "content": text}],
                chat_template="{{ messages[0]['content'] }}",
                sanitize_control_tokens=True,
                return_dict=False,
            )
        except ValueError as error:
            raise InputError(f"a control token that a text holds cannot be kept apart ({error}); {REMEDY}") from error
        self.refuse(ids)
        return list(ids)

    def written(self, text: str) -> int:
        """How many control tokens a text spells out."""
        return sum(1 for _ in self.pattern.finditer(text))

    def count(self, ids: Sequence[int]) -> int:
        """How many of some ids are control tokens."""
        return sum(map(self._ids.__contains__, ids))

    def refuse(self, ids: Sequence[int], allowed: int = 0) -> None:
        """Check that no ordinary letters became a control token, as with a tokeniser that takes `＜/s＞` for `</s>`.

        Raises:
            InputError: the ids of a text hold more than the control tokens that are allowed, for other reasons.
        """
        if not self.meant and self.count(ids) > allowed:
            token = next(i for i in reversed(ids) if i in self._ids) if not allowed else None
            name = "a control token" if token is None else repr(self.tokenizer.convert_ids_to_tokens(token))
            raise InputError(f"the tokeniser turns ordinary letters into {name}; {REMEDY}")


@contextmanager
def in_row(number: int | None) -> Iterator[None]:
    """Name the row in an error that is raised within, if it has a number."""
    try:
        yield
    except InputError as error:
        if number is None:
            raise
        raise InputError(f"row {number}: {error}") from error


def note_turn_markers(tokenizer: PreTrainedTokenizerBase, frames: Sequence[str], written: str) -> None:
    """Tell a tokeniser which of its added tokens, not flagged special, its chat template marks turns with.

    Those that come as `<name>` and `</name>` mark a turn if one comes before and the other after a text. Others,
    such as those around reasoning, frame a part of what is said: they stay tokens where a text holds them. White space,
    a token of its own in Gemma's, marks no turn either.

    Args:
        tokenizer: the tokeniser.
        frames: conversations, with a null character for each text.
        written: what else the template may write, such as turns of tools.
    """
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.special]
    all_text = "\0".join([*frames, written])
    markers = {*(tokenizer.chat_control_tokens or ())}
    for token in added:
        name = _name_in_a_pair(token, added)
        if _surrounds_a_text(name, frames) if name else token in all_text and not token.isspace():
            markers.add(token)
    tokenizer.chat_control_tokens = sorted(markers)


def _name_in_a_pair(token: str, added: Sequence[str]) -> str:
    """The name in `<name>` or `</name>` where both are tokens; "" otherwise."""
    match = PAIR.fullmatch(token)
    return match[2] if match and (f"<{match[2]}>" if match[1] else f"</{match[2]}>") in added else ""


def _surrounds_a_text(name: str, frames: Sequence[str]) -> bool:
    opens, closes = f"<{name}>", f"</{name}>"
    for frame in frames:
        for before, after in pairwise(frame.split("\0")):
            end = after.find(closes)
            if before.rfind(opens) > before.rfind(closes) and end >= 0 and opens not in after[:end]:
                return True
    return False


def literals(templates: str | Mapping[str, str] | None) -> str:
    """What the text of templates holds outside of and in the strings of their programs; "" of what is no template."""
    texts = [templates] if isinstance(templates, str) else (templates or {}).values()
    try:
        parts = [part for text in texts for part in jinja2.Environment().lex(text)]
    except jinja2.TemplateError:
        return ""
    return "\0".join(value for _, kind, value in parts if kind in ("data", "string"))
