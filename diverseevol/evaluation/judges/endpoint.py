"""An OpenAI-compatible endpoint: one prompt in, one reply out, whatever the network does in between.

The official client sends the requests. Three things are our own, because its options do not reach them: bodies are read
up to a limit, redirects to another server are refused, and retries (`Asking`) pass the account one by one, wait as long
as the server asks, and also follow errors that come with HTTP 200.
"""

import asyncio
import os
import ssl
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import openai

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.access import PART, check_proxies, hidden
from diverseevol.evaluation.judges.budget import FRAME_TOKENS
from diverseevol.evaluation.judges.openai_judge import OpenAI
from diverseevol.evaluation.judges.reply_cache import Reply, encodable
from diverseevol.evaluation.judges.responses import (
    Concern,
    ReportedError,
    UnusableError,
    read_completion,
    read_refusal,
)
from diverseevol.storage.reading import size

LARGEST_BODY = 1 << 24  # bytes, unpacked; a judge's longest reply has about a thousandth of that
LONGEST_CONNECT_SECONDS = 20.0
LONGEST_QUOTE = 300  # characters of the server's words in a message


class BodyError(Exception):
    """A response's body is too large, or is compressed in a way that was not asked for."""


class BoundedClient(openai.DefaultAsyncHttpxClient):
    """The official client's own transport, except that it reads each body itself, up to `LARGEST_BODY`."""

    def __init__(self, **options: Any) -> None:
        hooks = {"response": [_refuse_redirect]}  # runs before a redirect is followed
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


async def _refuse_redirect(response: Any) -> None:
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
            f"judge.base_url"
        )
    raise InputError(
        f"{origin}: redirects to another server, {address} (HTTP {response.status_code}), which is not given the key; "
        f"if it is the right one, give it as judge.base_url"
    )


class DoubtfulError(Exception):
    """The endpoint does not answer this prompt, and does not say whether it would answer another one.

    Attributes:
        verdict: the error if the endpoint does not answer another prompt either.
        passing: whether the failure may be temporary, although all retries were used.
    """

    def __init__(self, words: str, verdict: Exception, *, passing: bool = False) -> None:
        super().__init__(words)
        self.verdict = verdict
        self.passing = passing


@dataclass(eq=False)
class PassingError(Exception):
    """The request failed in a way that may pass."""

    words: str
    wait: float | None = None  # seconds that the endpoint asks to wait
    billed: bool = True  # the endpoint may have done its work
    prompt: bool = False  # this prompt may be the cause
    unusable: bool = False  # it is, because a reply arrived that cannot be used


class Endpoint:
    """Where a judge's model answers; it holds an open client, which the caller closes.

    Args:
        judge: what the user says of the endpoint, and how patiently it is asked.
    """

    def __init__(self, judge: OpenAI) -> None:
        self.judge = judge
        self.reached = False  # whether it has ever been connected to
        self._key = judge.key()  # which is kept out of every message
        check_proxies()
        timeout = openai.Timeout(judge.timeout, connect=min(judge.timeout, LONGEST_CONNECT_SECONDS))
        try:
            http_client = BoundedClient(timeout=timeout)
        except OSError as error:  # it reads certificates, and nothing else
            raise InputError(
                f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE', '')}: no certificates can be read there "
                f"({error.strerror or error}); set this environment variable to a file of certificates (PEM), or unset "
                f"it"
            ) from error
        self.client = openai.AsyncOpenAI(
            api_key=self._key or "none", base_url=judge.base_url, max_retries=0, timeout=timeout,
            http_client=http_client,
        )  # fmt: skip
        for name, value in self.client.default_headers.items():
            if isinstance(value, str) and not (value.isascii() and value.isprintable()):
                raise InputError(
                    f"the header {name}, which the client takes from an environment variable such as OPENAI_ORG_ID, "
                    f"OPENAI_PROJECT_ID or OPENAI_CUSTOM_HEADERS, holds other than printable ASCII characters; correct "
                    f"it"
                )

    async def ask(self, text: str) -> Reply:
        """Send one request.

        Returns:
            The reply, or why this prompt cannot be answered, however often it is asked.

        Raises:
            PassingError: there is no reply, and another request may bring one.
            DoubtfulError: this prompt is not answered, and perhaps no other.
            InputError: the key, the model or the request is not accepted.
        """
        try:
            async with asyncio.timeout(self.judge.timeout):
                response = await self.client.chat.completions.with_raw_response.create(
                    model=self.judge.model, messages=[{"role": "user", "content": encodable(text)}],
                    extra_body=self.judge.limits(),
                )  # fmt: skip
        except (TimeoutError, openai.APITimeoutError) as error:
            if any(type(cause).__name__ == "ConnectTimeout" for cause in _causes(error)):
                raise PassingError("no connection (nobody answers)", billed=False) from None
            self.reached = True
            raise PassingError(f"no reply within judge.timeout={self.judge.timeout:g} seconds", prompt=True) from None
        except BodyError as error:
            self.reached = True
            raise PassingError(self._clean(str(error)), prompt=True, unusable=True) from None
        except openai.APIConnectionError as error:
            raise self._unconnected(error) from None
        except openai.APIStatusError as error:
            wait = _retry_after(error.response.headers)
            return self._refused(error.status_code, error.response.text, wait)
        self.reached = True
        return self._reply(response.content, len(text.encode("utf-8", "replace")) + FRAME_TOKENS)

    def _unconnected(self, error: openai.APIConnectionError) -> Exception:
        """What a failed connection means."""
        causes = list(_causes(error))
        certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
        if certificate is not None:
            return InputError(
                f"{self.client.base_url}: its certificate is not trusted ({self._clean(certificate.verify_message)}); "
                f"if it is one of your own, set the environment variable SSL_CERT_FILE to a file with the certificate "
                f"that signed it, otherwise somebody may be listening: check judge.base_url"
            )
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            return InputError(
                f"{self.client.base_url}: there is no secure connection ({self._clean(str(causes[1]))}); check "
                f"judge.base_url: a server without TLS is asked by http://"
            )
        kinds = {type(cause).__name__ for cause in causes}
        unsent = "ConnectError" in kinds  # nothing was sent, so there is nothing to bill
        words = f"no connection ({self._clean(str(error.__cause__ or error)) or type(error.__cause__).__name__})"
        prompt = not unsent and "TooManyRedirects" not in kinds
        self.reached = self.reached or not unsent
        return PassingError(words, billed=not unsent, prompt=prompt)

    def _reply(self, body: bytes, most_prompt_tokens: int) -> Reply:
        """The reply that a body with HTTP 200 holds, without the key."""
        try:
            reply = read_completion(body, most_prompt_tokens, self.judge.max_tokens)
        except UnusableError as error:
            start = self._clean(body[: 4 * LONGEST_QUOTE].decode("utf-8", "replace"))
            words = f"{error}: {start[:100]!r}" if start else f"{error}: it is empty"
            raise PassingError(words, prompt=True, unusable=True) from None
        except ReportedError as error:
            return self._refused(error.status, error.body, None, "HTTP 200 with an error")
        if reply.unanswered:
            return replace(reply, text=self._clean(f"HTTP 200: {reply.text}"))
        model = None if reply.model is None else self._clean(reply.model)
        # The text stays as it came, except for the key.
        text = reply.text.replace(self._key, "[key]") if self._key and len(self._key) >= PART else reply.text
        return replace(reply, text=text, model=model)

    def _refused(self, status: int, body: str, wait: float | None, kind: str | None = None) -> Reply:
        """Why this prompt alone is not answered, at no cost, by an HTTP status and a body; all else is raised.

        `kind` is what to call it in a message; None is the status.
        """
        self.reached = True
        refusal = read_refusal(status, body)
        words = f"{kind or f'HTTP {status}'}: {self._clean(refusal.words) or 'the server gives no reason'}"
        if refusal.concern is Concern.PROMPT:
            return Reply(words, prompt_tokens=0, completion_tokens=0, unanswered=True)
        # `from None`: the client's own error quotes the server, which may quote the key.
        if refusal.concern is Concern.PASSING:
            # Too many requests say nothing of the prompt; a server that fails may fail because of this one.
            raise PassingError(words, wait, kind is not None, prompt=status >= 500 or status == 408) from None
        unknown = refusal.concern in (Concern.REQUEST, Concern.DOUBT)
        if unknown and status < 400 and kind is not None:  # an error in place of a reply, and no word of its kind
            raise PassingError(words, wait, prompt=True, unusable=True) from None
        url, variable = self.client.base_url, self.judge.key_variable
        used = f"the key in ${variable}" if variable else "being asked without a key"
        request = f"{url} does not accept the request ({words}); correct the judge's options"
        sentences = {
            Concern.KEY: f"{url} does not accept {used} ({words}); set the environment variable that "
            f"judge.key_variable names to a valid key for this endpoint",
            Concern.ACCOUNT: f"{url}: the account has no credit left or may not be used ({words}); settle that there, "
            f"or use another",
            Concern.MODEL: f"{url} has no model {self.judge.model!r} ({words}); give judge.model a name that it "
            f"serves, or correct judge.base_url, which usually ends in /v1",
        }
        verdict = InputError(sentences.get(refusal.concern, request))
        raise (DoubtfulError(words, verdict) if refusal.concern is Concern.DOUBT else verdict) from None

    def _clean(self, text: str) -> str:
        """The start of the server's words, on one line, without the key."""
        shown = hidden(text[: 10 * LONGEST_QUOTE], self._key)
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
