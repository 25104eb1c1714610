"""What an endpoint sends back, whatever a server puts there: JSON within bounds, a completion, a refusal.

A refusal concerns the prompt (too long, against a content policy), or all prompts (the account, the key, the model, a
parameter), or it may pass. Where its words do not tell, it is in doubt, and another prompt shows which it is.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

from diverseevol.storage.reading import DEEPEST, integer

LONGEST_BODY = 100_000  # characters that are looked at
MOST_NODES = 1_000  # parts of a body that are looked at


def read_json(text: str) -> Any:
    """Untrusted JSON: what is nested deeper than 100 levels becomes null, and numbers beyond reason are not finite.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text, parse_int=integer)
    except RecursionError:
        return json.loads(_shallow(text), parse_int=integer)


def _shallow(text: str) -> str:
    """JSON with null for what is nested deeper than 100 levels."""
    kept, depth, start = [], 0, 0
    for match in re.finditer(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[{]|[\]}]', text, re.DOTALL):
        if match[0] in "[{":
            depth += 1
            if depth == DEEPEST:
                kept.append(text[start : match.start()] + "null")
        elif match[0] in "]}":
            depth -= 1
            if depth == DEEPEST - 1:
                start = match.end()
    return "".join(kept) + (text[start:] if depth < DEEPEST else "")


def plain_text(body: str) -> str:
    """HTML or text as words."""
    text = re.sub(r"(?is)<(script|style|head)\b(?!er).*?</\1>", _title, body) if "<" in body else body
    return " ".join(re.sub(r"<[^<>]*>", " ", text).split())


def _title(match: re.Match[str]) -> str:
    title = re.search(r"(?is)<title[^>]*>(.*?)</title>", match[0])
    return f" {title[1]}: " if title else " "


class UnusableError(ValueError):
    """A body that is not a reply; another request may bring one."""


@dataclass(eq=False)
class ReportedError(Exception):
    """A body that holds an error, as JSON, in place of a reply, and the HTTP status that it names, or 200."""

    status: int
    body: str


def read_completion(body: bytes, kind: str) -> tuple[dict[str, Any], list[Any]]:
    """Read a body that came with HTTP 200.

    Args:
        body: all of it.
        kind: what it should be, such as a chat completion.

    Returns:
        The completion and its choices, as they came.

    Raises:
        UnusableError: the body is no completion.
        ReportedError: the body holds an error.
    """
    try:
        completion = read_json(body.decode(json.detect_encoding(body), "replace"))
    except ValueError:
        raise UnusableError("the reply is not valid JSON") from None
    if not isinstance(completion, dict):
        raise UnusableError(f"the reply is not a {kind}")
    if error := completion.get("error"):
        code = error.get("code") if isinstance(error, dict) else None
        raise ReportedError(code if isinstance(code, int) and 400 <= code < 600 else 200, json.dumps(error))
    if "choices" not in completion:
        raise UnusableError(f"the reply is not a {kind}")
    choices = completion["choices"]
    if not isinstance(choices, list):
        raise UnusableError("the reply holds no choices")
    return completion, choices


class Concern(Enum):
    """What a refusal concerns."""

    PROMPT = "this prompt alone"
    KEY = "the key"
    ACCOUNT = "the account"
    MODEL = "the model"
    REQUEST = "every request"
    PASSING = "this moment"
    DOUBT = "this prompt or all"


# Codes of OpenAI, Azure, vLLM, llama.cpp, LiteLLM, OpenRouter, Groq, Gemini and Alibaba, in lower case.
PROMPT_CODES = {
    "content_filter", "content_policy_violation", "context_length_exceeded", "responsibleaipolicyviolation",
    "exceed_context_size_error", "string_above_max_length", "invalid_prompt", "data_inspection_failed",
    "datainspectionfailed", "prohibited_content", "safety", "moderation_blocked", "content_blocked", "prompt_too_long",
    "request_too_large", "contextwindowexceedederror", "contentpolicyviolationerror", "cyber_policy",
}  # fmt: skip
KEY_CODES = {
    "invalid_api_key", "api_key_invalid", "invalid_authentication", "authentication_error", "unauthorized",
    "unauthenticated", "incorrect_api_key", "auth_error", "authenticationerror",
}  # fmt: skip
ACCOUNT_CODES = {
    "insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "account_deactivated", "budget_exceeded",
    "credit_balance_too_low", "access_terminated", "unsupported_country_region_territory", "insufficient_balance",
    "insufficient_funds", "payment_required", "billing_error", "arrearage", "account_suspended",
}  # fmt: skip
MODEL_CODES = {"model_not_found", "deploymentnotfound", "invalid_model", "model_not_available", "unknown_model"}
REQUEST_CODES = {
    "unsupported_parameter", "unknown_parameter", "unsupported_value", "extra_forbidden", "integer_above_max_value",
    "integer_below_min_value", "decimal_above_max_value", "decimal_below_min_value", "unsupportedparamserror",
}  # fmt: skip
UNFIT = (405, 406, 410, 415, 426)  # statuses: no request of this kind is accepted there
SENT_PARAMETERS = r"max_tokens|max_completion_tokens|temperature"
PROMPT_PARAMETER = re.compile(r"(body\.)?(messages?|prompt|inputs?|input_tokens|content)\b")

LENGTH_WORDS = re.compile(
    r"context[ _-]?(length|window|size|limit)"
    r"|(maximum|max) (prompt|input|sequence)[ _-]?length"
    r"|\b(prompt|input|inputs|request|message|messages|payload|entity|body)\b[^.]{0,60}\btoo (long|large|big)\b"
    r"|\btoo (long|large) for (the|this|requested) model"
    r"|\binput (token count|length)\b|\btokens in (the|your) prompt\b"
    r"|`?inputs`? (tokens\b|must have less than)"
    r"|max_tokens must be at least 1, got -"  # vLLM's, where the prompt leaves no room
    r"|\b(prompt|sequence)( length)?( \([0-9]+\))? exceeds\b"
    r"|context shift is disabled"  # llama.cpp's, where it leaves none
)
POLICY_WORDS = re.compile(
    r"content[ _-]?(filter|policy|policies|management|moderation|safety)"
    r"|(usage|safety|community) (polic|guideline)|guardrail|safety[ _]check|moderation"
    r"|\bprompt was (flagged|blocked|rejected)|\b(input|content|text) was flagged"
    r"|responsible ?ai|safety (system|filter|reasons|settings)|(prohibited|inappropriate|sensitive)[ _]content"
    r"|content exists risk|considered high risk|data[ _]?inspection[ _]?failed|sensitive (words|information)"
)
KEY_WORDS = re.compile(r"api[ _-]?key|authenticat|unauthori[sz]ed|credential|access token|bearer")
ACCOUNT_WORDS = re.compile(
    r"insufficient[ _](quota|balance|funds|credits?)|credit balance|payment required|overdue|arrears|out of credits"
    r"|current quota|more credits|billing (hard limit|not active)"
    r"|\b(account|organi[sz]ation|project|subscription)\b[^.]{0,60}"
    r"(deactivated|suspended|disabled|blocked|flagged|not active|terminated|expired|banned|restricted)"
    r"|location is not supported|(country|region)\b[^.]{0,40}not supported"
)
# These do not pass, even with a status that otherwise may.
LASTING = re.compile(r"insufficient[ _](quota|balance|funds|credits?)|credit balance")
MODEL_WORDS = re.compile(
    r"\bmodel\b[^.]{0,100}\b(not found|not exist|not supported|not available|unknown|no access|not loaded)"
    r"|(invalid|unknown|unsupported|no such) model\b|no model\b"
)
REQUEST_WORDS = re.compile(
    rf"\b({SENT_PARAMETERS})\b"
    r"|(unsupported|unknown|unrecogni[sz]ed|unexpected|extra) (request )?(parameter|argument|field|input|key)"
)


@dataclass(frozen=True)
class Refusal:
    """What a refusal concerns, and the server's words; empty where it has none."""

    concern: Concern
    words: str


def read_refusal(status: int, body: str) -> Refusal:
    """Find out what a refusal concerns.

    Args:
        status: the HTTP status.
        body: what the server sent: JSON of any shape, HTML, text, or nothing.
    """
    codes, parameters, messages = _marks(body[:LONGEST_BODY])
    words = "; ".join(messages)
    return Refusal(_concern(status, codes, parameters, words.lower()), words)


def _concern(status: int, codes: set[str], parameters: list[str], words: str) -> Concern:
    passing = status in (408, 409, 425, 429) or status >= 500
    if status == 402 or codes & ACCOUNT_CODES:
        return Concern.ACCOUNT
    if status in (401, 407) or (codes & KEY_CODES and not passing):
        return Concern.KEY
    if codes & PROMPT_CODES or (status != 404 and LENGTH_WORDS.search(words)):
        return Concern.PROMPT
    if (status == 500 or not passing) and POLICY_WORDS.search(words):
        return Concern.PROMPT
    if LASTING.search(words):
        return Concern.ACCOUNT
    if passing:
        return Concern.PASSING
    for concern, pattern in ((Concern.KEY, KEY_WORDS), (Concern.ACCOUNT, ACCOUNT_WORDS)):
        if pattern.search(words):
            return concern
    if status == 404 or codes & MODEL_CODES:
        return Concern.MODEL
    if status == 413:
        return Concern.PROMPT
    if codes & REQUEST_CODES or not all(map(PROMPT_PARAMETER.match, parameters)):
        return Concern.REQUEST
    if MODEL_WORDS.search(words):
        return Concern.MODEL
    return Concern.REQUEST if REQUEST_WORDS.search(words) or status in UNFIT else Concern.DOUBT


CODES = ("code", "type", "status", "reason", "error_type", "error_code", "error_class", "kind")
WORDS = (
    "message", "msg", "detail", "error", "error_message", "error_description", "description", "title", "raw", "reasons"
)  # fmt: skip
# These fields repeat the prompt, and are not the server's words.
ECHOES = ("input", "ctx", "messages", "prompt", "request", "flagged_input", "body")


def _marks(body: str) -> tuple[set[str], list[str], list[str]]:
    """What a body says to programs, its codes and the parameters that it complains about, and to people."""
    codes: set[str] = set()
    parameters: list[str] = []
    messages: list[str] = []
    try:
        data = read_json(body)
    except ValueError:
        data = plain_text(body)
    for key, value in _walk(data):
        if key in CODES and isinstance(value, str):
            codes.add(value.lower())
        elif key == "param" and isinstance(value, str) and value.lower() not in ("", "none", "null"):
            parameters.append(value.lower())
        elif key == "loc" and isinstance(value, list):
            parameters.append(".".join(str(part) for part in value if part != "body").lower())
        elif key in WORDS and isinstance(value, str):
            messages.append(" ".join(value.split()))
    # LiteLLM names the kind of an error in its message, and one message often repeats another.
    codes |= {word.lower() for text in messages for word in re.findall(r"\b[A-Za-z]+Error\b", text)}
    unique = [text for text in dict.fromkeys(messages) if text]
    return codes, parameters, [a for a in unique if not any(a != b and a in b for b in unique)]


def _walk(data: Any) -> Iterator[tuple[str, Any]]:
    """The parts of a body under their keys, the outer ones first; JSON within a text is parsed, too."""
    waiting, seen = [("message", data)], 0
    while waiting and seen < MOST_NODES:
        key, value = waiting.pop(0)
        seen += 1
        if isinstance(value, dict):
            yield key, None
            waiting.extend((str(k).lower(), v) for k, v in value.items() if str(k).lower() not in ECHOES)
        elif isinstance(value, list):
            yield key, value
            waiting.extend((key, v) for v in value if key != "loc")
        elif isinstance(value, str) and key in WORDS and value.lstrip()[:1] in ("{", "["):
            try:
                waiting.append((key, read_json(value)))
            except ValueError:
                yield key, value
        else:
            yield key, value
