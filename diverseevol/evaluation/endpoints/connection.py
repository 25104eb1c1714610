"""A connection to an OpenAI-compatible endpoint, whatever the network does in between.

The official client sends the requests. Two things are our own, because its options do not reach them: bodies are read
up to a limit, and redirects to another server are refused.
"""

import asyncio
import os
import ssl
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from time import time
from typing import Any, NamedTuple

import openai

from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.access import check_proxies, hidden
from diverseevol.evaluation.endpoints.bodies import Concern
from diverseevol.storage.reading import size

LARGEST_BODY = 1 << 24  # bytes, unpacked; a judge's longest reply has about a thousandth of that
LONGEST_CONNECT_SECONDS = 20.0
LONGEST_QUOTE = 300  # characters of the server's words in a message


class BodyError(Exception):
    """A response's body is too large, or is compressed in a way that was not asked for."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """The official client's own transport, except that it reads each body itself, up to `LARGEST_BODY`."""

    def __init__(self, group: str = "judge", **options: Any) -> None:
        # The hook runs before a redirect is followed.
        hooks: dict[str, list[Callable[..., Any]]] = {"response": [partial(_refuse_redirect, group)]}
        super().__init__(headers={"accept-encoding": "gzip"}, max_redirects=3, event_hooks=hooks, **options)

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request.

        Raises:
            BodyError: the response's body is too large or cannot be unpacked.
        """
        response = await super().send(request, stream=True, **options)
        try:
            body = await _read_body(response)
        finally:
            await response.aclose()
        # The body is unpacked, and read as UTF-8: its type may name an encoding that Python does not know.
        outdated = ("content-encoding", "content-length", "transfer-encoding", "content-type")
        return type(response)(
            response.status_code,
            headers=[(name, value) for name, value in response.headers.multi_items() if name not in outdated],
            content=body,
            request=response.request,
            extensions=response.extensions,
            history=response.history,
        )


async def _read_body(response: Any) -> bytes:
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in ("identity", "gzip", "x-gzip", "deflate"):
        raise BodyError(f"the reply is packed as {packing[:40]}, which was not asked for")
    unpacker = None if packing == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    async for part in response.aiter_raw():
        try:
            # Room for one byte beyond the limit: a body that is too large differs from one that just fits.
            body += unpacker.decompress(part, LARGEST_BODY + 1 - len(body)) if unpacker else part
        except zlib.error as error:
            raise BodyError(f"the reply cannot be unpacked ({error})") from None
        if len(body) > LARGEST_BODY:
            raise BodyError(f"the reply is longer than {size(LARGEST_BODY)}, the longest that is read")
    if unpacker and not unpacker.eof:
        raise BodyError("the reply is cut off before its packing ends")
    return bytes(body)


async def _refuse_redirect(group: str, response: Any) -> None:
    """Refuse a redirect that would take the key to another server, or drop the prompt from the request."""
    if not response.has_redirect_location:
        return
    origin = response.request.url
    try:
        target = origin.join(response.headers["location"])
        address = f"{target.scheme}://{target.netloc.decode('ascii', 'replace').rpartition('@')[2]}{target.path}"
    except Exception:  # whatever the error, it is not an address
        raise InputError(f"{origin}: redirects to what is not an address (HTTP {response.status_code})") from None
    if (origin.scheme, origin.host, origin.port) == (target.scheme, target.host, target.port):
        if response.status_code in (307, 308):
            return
        raise InputError(
            f"{origin}: redirects to {address} (HTTP {response.status_code}), which drops the prompt; correct "
            f"{group}.base_url"
        )
    raise InputError(
        f"{origin}: redirects to another server, {address} (HTTP {response.status_code}), which is not given the key; "
        f"if it is the right one, give it as {group}.base_url"
    )


@dataclass(eq=False)
class PassingError(Exception):
    """The request failed in a way that may pass."""

    words: str
    wait: float | None = None  # seconds that the endpoint asks to wait
    billed: bool = True  # the endpoint may have done its work
    prompt: bool = False  # this prompt may be the cause
    unusable: bool = False  # it is, because a reply arrived that cannot be used


class Response(NamedTuple):
    """What came back: HTTP status, body, and the seconds that the endpoint asks to wait."""

    status: int
    body: bytes
    wait: float | None


class Connection:
    """An endpoint and its open client, which the caller closes.

    Args:
        group: whose options messages name: "judge", "answers".
        base_url: the endpoint.
        key: what it asks for; kept out of every message.
        key_variable: the environment variable that holds it.
        timeout: seconds for a request.
    """

    def __init__(self, group: str, base_url: str, key: str | None, key_variable: str | None, timeout: float) -> None:
        self.group = group
        self.key = key
        self.key_variable = key_variable
        self.timeout = timeout
        self.reached = False  # whether it has ever been connected to
        check_proxies()
        limits = openai.Timeout(timeout, connect=min(timeout, LONGEST_CONNECT_SECONDS))
        try:
            self.http_client = BoundedClient(group, timeout=limits)
        except OSError as error:  # it reads certificates, and nothing else
            raise InputError(
                f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE', '')}: no certificates can be read there "
                f"({error.strerror or error}); set this environment variable to a file of certificates (PEM), or unset "
                f"it"
            ) from error
        self.client = openai.AsyncOpenAI(
            api_key=key or "none", base_url=base_url, max_retries=0, timeout=limits, http_client=self.http_client
        )
        for name, value in self.client.default_headers.items():
            if isinstance(value, str) and not (value.isascii() and value.isprintable()):
                raise InputError(
                    f"the header {name}, which the client takes from an environment variable such as OPENAI_ORG_ID, "
                    f"OPENAI_PROJECT_ID or OPENAI_CUSTOM_HEADERS, holds other than printable ASCII characters; correct "
                    f"it"
                )

    async def send(self, request: Callable[[openai.AsyncOpenAI], Awaitable[Any]]) -> Response:
        """Send one request, which the client makes, and take what comes back.

        Raises:
            PassingError: nothing came back, or what cannot be read; another request may bring a reply.
            InputError: there cannot be a connection.
        """
        try:
            async with asyncio.timeout(self.timeout):
                response = await request(self.client)
        except (TimeoutError, openai.APITimeoutError) as error:
            if any(type(cause).__name__ == "ConnectTimeout" for cause in _causes(error)):
                raise PassingError("no connection (nobody answers)", billed=False) from None
            self.reached = True
            raise PassingError(f"no reply within {self.group}.timeout={self.timeout:g} seconds", prompt=True) from None
        except BodyError as error:
            self.reached = True
            raise PassingError(self.clean(str(error)), prompt=True, unusable=True) from None
        except openai.APIConnectionError as error:
            raise self._unconnected(error) from None
        except openai.APIStatusError as error:
            self.reached = True
            return Response(error.status_code, error.response.content, _retry_after(error.response.headers))
        self.reached = True
        return Response(200, response.content, None)

    def _unconnected(self, error: openai.APIConnectionError) -> Exception:
        """What a failed connection means."""
        causes = list(_causes(error))
        certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if certificate is not None:
            return InputError(
                f"{self.client.base_url}: its certificate is not trusted ({self.clean(certificate.verify_message)}); "
                f"if it is one of your own, set the environment variable SSL_CERT_FILE to a file with the certificate "
                f"that signed it, otherwise somebody may be listening: check {self.group}.base_url"
            )
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return InputError(
                f"{self.client.base_url}: there is no secure connection ({self.clean(str(causes[1]))}); check "
                f"{self.group}.base_url: a server without TLS is asked by http://"
            )
        kinds = {type(cause).__name__ for cause in causes}
        unsent = "ConnectError" in kinds  # nothing was sent, so there is nothing to bill
        words = f"no connection ({self.clean(str(error.__cause__ or error)) or type(error.__cause__).__name__})"
        prompt = not unsent and "TooManyRedirects" not in kinds
        self.reached = self.reached or not unsent
        return PassingError(words, billed=not unsent, prompt=prompt)

    def verdict(self, concern: Concern, words: str, model: str | None) -> InputError:
        """What to tell the user of a refusal that concerns every prompt; `model` is the name that was asked for."""
        url, variable = self.client.base_url, self.key_variable
        used = f"the key in ${variable}" if variable else "being asked without a key"
        remedy = "correct the judge's options"
        if self.group == "answers":
            remedy = "give answers.prompt=text, which sends text and no fields of certain servers, or correct answers.…"
        sentences = {
            Concern.KEY: f"{url} does not accept {used} ({words}); set the environment variable that "
            f"{self.group}.key_variable names to a valid key for this endpoint",
            Concern.ACCOUNT: f"{url}: the account has no credit left or may not be used ({words}); settle that there, "
            f"or use another",
            Concern.MODEL: f"{url} has no model {model!r} ({words}); give {self.group}.model a name that it "
            f"serves, or correct {self.group}.base_url, which usually ends in /v1",
        }
        request = f"{url} does not accept the request ({words}); {remedy}"
        return InputError(sentences.get(concern, request))

    def clean(self, text: str) -> str:
        """The start of the server's words, on one line, without the key."""
        shown = hidden(text[: 10 * LONGEST_QUOTE], self.key)
        line = " ".join("".join(c if c.isprintable() else " " for c in shown).split())
        return line if len(line) <= LONGEST_QUOTE else f"{line[:LONGEST_QUOTE]} …"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the response's headers: a number, or a date."""
    milliseconds, after = headers.get("retry-after-ms"), headers.get("retry-after", "")
    with suppress(ValueError):
        return max(0.0, float(after) if milliseconds is None else float(milliseconds) / 1000)
    with suppress(ValueError):
        return max(0.0, parsedate_to_datetime(after).timestamp() - time())
    return None
