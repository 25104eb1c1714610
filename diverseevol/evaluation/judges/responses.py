"""A chat completion as an endpoint sends it, whatever a server puts there."""

from collections.abc import Mapping
from typing import Any

from diverseevol.evaluation.endpoints.bodies import UnusableError, read_completion
from diverseevol.evaluation.judges.reply_cache import Reply, encodable

# Kinds of parts that a message may have: those that are read, and thoughts, which are not.
TEXTS = ("text", "output_text", "refusal")
THOUGHTS = ("thinking", "redacted_thinking", "reasoning", "reasoning_content")
# Reasons to finish: the limit of tokens, and the starts of those that mean a filter.
CUT = {"length", "max_tokens", "max_output_tokens", "model_length"}
FILTERED = ("content_filter", "safety", "prohibited_content", "blocklist", "recitation", "spii")
# A usage may exceed what was asked for, by a server's own instructions and by thoughts beyond the limit; one that
# exceeds it by more tokens than this cannot be right.
SLACK_TOKENS = 200_000


def read_reply(body: bytes, most_prompt_tokens: int, most_completion_tokens: int) -> Reply:
    """Read the reply: its text is empty where there is no choice or content, and a refusal where there is one.

    Args:
        body: what came with HTTP 200.
        most_prompt_tokens: the most that the prompt can be by itself.
        most_completion_tokens: the most that was asked for.

    Returns:
        The reply; unanswered where it holds something other than text, or the endpoint's filter has withheld it.

    Raises:
        UnusableError: the body is not a chat completion.
        ReportedError: the body holds an error.
    """
    completion, choices = read_completion(body, "chat completion")
    choice = choices[0] if choices else {"message": {}}
    message = choice.get("message") if isinstance(choice, dict) else None
    if not isinstance(message, dict):
        raise UnusableError("the reply's choice holds no message")
    model, usage = completion.get("model"), completion.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    reason = str(choice.get("finish_reason")).lower()
    try:
        text = _text(message)
    except ValueError as error:
        return Reply(str(error), unanswered=True)
    if not text and reason.startswith(FILTERED):
        return Reply(f"the reply is kept back (finish_reason {reason})", unanswered=True)
    return Reply(
        encodable(text),
        model if isinstance(model, str) else None,
        _count(counts.get("prompt_tokens"), most_prompt_tokens + SLACK_TOKENS),
        _count(counts.get("completion_tokens"), most_completion_tokens + SLACK_TOKENS),
        reason in CUT,
    )


def _text(message: Mapping[str, Any]) -> str:
    """The content, its parts joined; or else a refusal. Thoughts in fields or parts of their own are neither.

    Raises:
        ValueError: the content is not text.
    """
    content, refusal = message.get("content"), message.get("refusal")
    texts = []
    for part in content if isinstance(content, list) else [content]:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = part.get("text", part.get("refusal")) if isinstance(part, dict) else part
        if part is None or kind in THOUGHTS:
            continue
        if kind not in TEXTS or not isinstance(text, str):
            kind = f"of type {kind!r}" if isinstance(part, dict) else f"that is a {type(part).__name__}"
            raise ValueError(f"the reply holds a part {kind}, not text")
        texts.append(text)
    return "".join(texts) or (refusal if isinstance(refusal, str) else "")


def _count(tokens: Any, most: float) -> int | None:
    """A number of tokens; None where it cannot be right."""
    if isinstance(tokens, bool) or not isinstance(tokens, int | float) or not 0 <= tokens <= most:
        return None
    return int(tokens) if tokens == int(tokens) else None
