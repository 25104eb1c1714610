"""What comes back from an endpoint, as data: bounded in depth and in numbers, whatever a server sends."""

import json
import re
from typing import Any

from diverseevol.storage.reading import DEEPEST, integer


def read_json(text: str) -> Any:
    """JSON from a stranger: what lies deeper than 100 levels is null, and numbers beyond reason are not finite.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(text, parse_int=integer)
    except RecursionError:
        return json.loads(_shallow(text), parse_int=integer)


def _shallow(text: str) -> str:
    """JSON with null for what lies deeper than 100 levels."""
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
