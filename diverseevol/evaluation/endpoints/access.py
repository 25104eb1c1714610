"""Access to an endpoint: its address and the key, checked before anything is sent, and the key hidden in messages.

The key comes from an environment variable and from nowhere else. The address is written down with the results, so it
must not hold a secret.
"""

import base64
import html
import importlib.util
import os
import re
from string import ascii_lowercase, ascii_uppercase
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies

from diverseevol.errors import InputError

LONGEST_KEY = 16_384  # characters; what is longer is a file, not a key
SHORTEST_HIDDEN = 4  # characters; dummy keys such as "x" are not secret, and hiding them would garble every message
PART = 8  # this many characters of a key in a row are hidden wherever they appear
LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)  # other letters may change their length
UNSHOWN = "(the server's words are not shown, because they quote the key)"


def check_address(address: str, group: str = "judge") -> str:
    """An endpoint's address without a slash at its end.

    Args:
        address: as the user wrote it.
        group: whose options messages name.

    Raises:
        InputError: it is not an http or https URL, or holds what may be a secret, which the message does not repeat.
    """
    try:
        parts = urlsplit(address.strip())
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
    except ValueError as error:  # UnicodeError is one
        raise InputError(f"{group}.base_url is not a URL ({_reason(error)}); give https://HOST/v1") from None
    if "@" in parts.netloc:
        raise InputError(
            f"{group}.base_url holds a user name or a password, which would be written down with the results; leave it "
            f"out, and put the key into the environment variable that {group}.key_variable names"
        )
    if parts.query or parts.fragment or "?" in address or "#" in address:
        raise InputError(
            f"{group}.base_url has a part after '?' or '#', where keys are often put and which no request would send; "
            f"leave it out, and put the key into the environment variable that {group}.key_variable names"
        )
    if parts.scheme not in ("http", "https") or not host or not address.strip().isprintable() or " " in address.strip():
        # Before an "@" there may be a password, even in what is not a URL.
        shown = "" if "@" in address else f" is {address[:100]!r}, which"
        raise InputError(f"{group}.base_url{shown} is not an http or https URL; give https://HOST/v1")
    return address.strip().rstrip("/")


def _reason(error: ValueError) -> str:
    """What is wrong with a URL, without quoting it."""
    return "its port is not a number from 0 to 65535" if "ort" in str(error) else "its host name is not valid"


def check_proxies() -> None:
    """Refuse environment variables of proxies that no client can use.

    Raises:
        InputError: one is not an address, which the message does not repeat, for it may hold a password.
    """
    for kind, address in getproxies().items():
        if kind not in ("http", "https", "all"):
            continue
        try:
            parts = urlsplit(address if "://" in address else f"http://{address}")
            usable = bool(parts.hostname) and (parts.port or 0) >= 0 and address.isprintable()
        except ValueError:
            usable = False
        if not usable or parts.scheme not in ("http", "https", "socks5", "socks5h"):
            raise InputError(
                f"the environment variable {kind.upper()}_PROXY is not the address of a proxy; set it to "
                f"http://HOST:PORT, or unset it"
            )
        if parts.scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
            raise InputError(
                f"the environment variable {kind.upper()}_PROXY names a SOCKS proxy, for which the package socksio is "
                f"missing: pip install socksio, or unset the variable"
            )


def check_variable(variable: str | None, group: str = "judge") -> None:
    """Look at the name of the environment variable that holds a key.

    Raises:
        InputError: it is no such name, but perhaps the key, which the message does not repeat.
    """
    if variable is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", variable):
        raise InputError(
            f"{group}.key_variable is not the name of an environment variable (capitals, digits and '_'); put the key "
            f"into such a variable, and give its name"
        )


def read_key(variable: str | None, address: str, group: str = "judge") -> str | None:
    """The key for an endpoint.

    Args:
        variable: the environment variable that holds it; None for an endpoint that needs none.
        address: the endpoint, for the message.
        group: whose options messages name.

    Raises:
        InputError: the variable is not set, or what it holds cannot be a key; the key is never shown.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise InputError(
            f"the environment variable {variable} is not set: put the key for {address} there, or give "
            f"{group}.key_variable=null for an endpoint that needs none"
        )
    if len(key) > LONGEST_KEY:
        raise InputError(
            f"the environment variable {variable} holds {len(key):,} characters, more than any key ({LONGEST_KEY:,}); "
            f"set it to the key only"
        )
    for position, character in enumerate(key, 1):
        if not "!" <= character <= "~":
            raise InputError(
                f"the environment variable {variable} cannot be a key: character {position} of {len(key)} is "
                f"{_kind(character)}, and a key holds only printable ASCII characters; set the variable again, "
                f"without what was copied along with the key"
            )
    return key


def _kind(character: str) -> str:
    if character in "\r\n":
        return "a line break"
    if character.isspace():
        return "white space"
    return "a control character" if character.isascii() else "not an ASCII character"


def hidden(text: str, key: str | None) -> str:
    """The server's words, with [key] where they quote the key or a longer part of it, in either case.

    The key is also recognised in base64, hexadecimal, backwards and percent-encoded; a text that quotes it in other
    escapes, or with characters between, is not shown at all.
    """
    if not key or len(key) < SHORTEST_HIDDEN:
        return text
    parts, size = _parts(key), min(len(key), PART)
    lower = text.translate(LOWER)
    starts = [i for i in range(len(text) - size + 1) if lower[i : i + size] in parts]
    covered = {i for start in starts for i in range(start, start + size)}
    marked = "".join("\0" if i in covered else c for i, c in enumerate(text.replace("\0", " ")))
    shown = re.sub("\0+", "[key]", marked)
    return UNSHOWN if _holds_escaped(shown, key, parts) else shown


def _parts(key: str) -> set[str]:
    """All parts of the key, as written and encoded, by which it is recognised."""
    raw = key.encode()
    forms = [key, quote(key, safe=""), html.escape(key), key[::-1], raw.hex(), raw.hex(" "), raw.hex(":")]
    for shift in range(3):  # three ways to encode it in base64, by what precedes the key
        coded = base64.b64encode(bytes(shift) + raw).decode().rstrip("=")[2 * (shift > 0) :][:-1]
        forms += [coded, coded.replace("+", "-").replace("/", "_")]
    size = min(len(key), PART)
    return {form[i : i + size].translate(LOWER) for form in forms for i in range(len(form) - size + 1)}


def _holds_escaped(text: str, key: str, parts: set[str]) -> bool:
    """Whether a text holds the key once its escapes are resolved, or all but letters and digits are removed."""
    bare = re.sub(r"[^a-z0-9]", "", key.lower())
    if len(bare) >= PART and bare in re.sub(r"[^a-z0-9]", "", text.translate(LOWER)):
        return True
    for _ in range(3):
        before, text = text, _unescaped(text)
        if text != before and any(part in text.translate(LOWER) for part in parts):
            return True
    return False


def _unescaped(text: str) -> str:
    text = html.unescape(unquote(text, errors="replace"))
    code = re.compile(r"\\+u\{?([0-9a-fA-F]{4})\}?|\\+x([0-9a-fA-F]{2})")
    return code.sub(lambda match: chr(int(match[1] or match[2], 16)), text)
