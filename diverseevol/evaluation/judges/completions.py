"""A chat completion, as servers send it: the text, who wrote it, and what it cost, as far as that can be right."""

import json
from collections.abc import Mapping
from typing import Any

from diverseevol.evaluation.judges.bodies import read_json
from diverseevol.evaluation.judges.reply_cache import Reply, encodable

# The parts that content may have: those that are read, and those that only lead to them.
TEXTS = ("text", "output_text", "refusal")
THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
CUT = {"length", "max_tokens", "max_output_tokens", "model_length"}  # reasons to finish
FILTERED = ("content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii")  # starts of them
# Tokens by which a usage may pass what was asked for: a server's own instructions, thoughts beyond the limit. A usage
# above that cannot be right.
SLACK_TOKENS = 200_000


class UnusableError(ValueError):
    """A body that is no reply; another try may bring one."""


class UnreadableError(ValueError):
    """A complete reply that holds no text."""


class ReportedError(Exception):
    """A body that holds an error in place of a reply.

    Attributes:
        status: the HTTP status that it speaks of, or 200.
        body: the error, as JSON.
    """

    def __init__(self, status: int, body: str) -> None:
        super().__init__(body)
        self.status, self.body = status, body


def read_completion(body: bytes, most_prompt_tokens: int, most_completion_tokens: int) -> Reply:
    """The reply: its text is empty where there is no choice or no content, a refusal where there is one.

    Args:
        body: what came with HTTP 200.
        most_prompt_tokens: the most that the prompt can be by itself.
        most_completion_tokens: the most that was asked for.

    Raises:
        UnusableError, UnreadableError, ReportedError: there is none, or the endpoint's filter has kept it back.
    """
    try:
        completion = read_json(body.decode(json.detect_encoding(body), "replace"))
    except ValueError:
        raise UnusableError("the reply is not valid JSON") from None
    if not isinstance(completion, dict):
        raise UnusableError("the reply is no chat completion")
    if error := completion.get("error"):
        code = error.get("code") if isinstance(error, dict) else None
        raise ReportedError(code if isinstance(code, int) and 400 <= code < 600 else 200, json.dumps(error))
    if "choices" not in completion:
        raise UnusableError("the reply is no chat completion")
    choices = completion["choices"]
    if not isinstance(choices, list):
        raise UnusableError("the reply holds no choices")
    choice = choices[0] if choices else {"message": {}}
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise UnusableError("the reply's choice holds no message")
    model, usage = completion.get("model"), completion.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    reason = str(choice.get("finish_reason")).lower()
    text = _text(message)
    if not text and reason.startswith(FILTERED):
        raise UnreadableError(f"the reply is kept back (finish_reason {reason})")
    return Reply(
        encodable(text),
        model if isinstance(model, str) else None,
        _count(counts.get("prompt_tokens"), most_prompt_tokens + SLACK_TOKENS),
        _count(counts.get("completion_tokens"), most_completion_tokens + SLACK_TOKENS),
        reason in CUT,
    )


def _text(message: Mapping[str, Any]) -> str:
    """The content, its parts joined; else a refusal. Thoughts, in fields or parts of their own, are neither.

    Raises:
        UnreadableError: the content is nothing that can be read.
    """
    content, refusal = message.get("content"), message.get("refusal")
    texts = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
        if part is None or kind in THOUGHTS:
            continue
        if kind not in TEXTS or not isinstance(text, str):
            what = f"of type {kind!r}" if isinstance(part, dict) else f"that is a {type(part).__name__}"
            raise UnreadableError(f"the reply holds a part {what}, not text")
        texts.append(text)
    return "".join(texts) or (refusal if isinstance(refusal, str) else "")


def _count(tokens: Any, most: float) -> int | None:
    """A number of tokens; None where it cannot be right."""
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens <= most:
        return None
    return int(tokens) if tokens == int(tokens) else None
