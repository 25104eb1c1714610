"""An OpenAI-compatible endpoint: one prompt in, one reply out, whatever the network does in between."""

import asyncio
import logging
import os
import random
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from time import time

import openai

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.access import PART, check_proxies, hidden
from diverseevol.evaluation.judges.bounded import BodyError, BoundedClient
from diverseevol.evaluation.judges.budget import FRAME_TOKENS
from diverseevol.evaluation.judges.completions import ReportedError, UnreadableError, UnusableError, read_completion
from diverseevol.evaluation.judges.refusals import Concern, read_refusal
from diverseevol.evaluation.judges.reply_cache import Reply, encodable

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 300.0
LONGEST_CONNECT_SECONDS = 20.0
UNREACHED_RETRIES = 2  # while an endpoint has never been heard of
LONGEST_WORDS = 300  # characters of what somebody else said


class UnansweredError(Exception):
    """The endpoint will not answer this prompt, whoever asks how often.

    Attributes:
        billed: whether it costs something all the same.
    """

    def __init__(self, reason: str, *, billed: bool = False) -> None:
        super().__init__(reason)
        self.billed = billed


class DoubtfulError(Exception):
    """The endpoint does not answer this prompt, and does not tell whether it would answer another.

    Attributes:
        verdict: what it is if the endpoint answers no other prompt, either.
        passing: whether it may have been the moment's fault, though it was asked as often as it may be.
    """

    def __init__(self, words: str, verdict: Exception, *, passing: bool = False) -> None:
        super().__init__(words)
        self.verdict = verdict
        self.passing = passing


class _AgainError(Exception):
    """The call failed in a way that may pass.

    Attributes:
        wait: seconds that the endpoint asks to wait, where it does.
        billed: whether it may cost something: the endpoint may have done its work.
        prompt: whether this prompt may be why.
        unusable: whether that is because there is a reply, though none that can be used.
        reached: whether the endpoint was heard of at all.
    """

    def __init__(
        self,
        what: str,
        wait: float | None = None,
        *,
        billed: bool = True,
        prompt: bool = False,
        unusable: bool = False,
        reached: bool = True,
    ) -> None:
        super().__init__(what)
        self.wait = wait
        self.billed = billed
        self.prompt = prompt or unusable
        self.unusable = unusable
        self.reached = reached


@dataclass
class Call:
    """One request: how it ended, for the account."""

    reply: Reply | None = None
    billed: bool = True


Admission = Callable[[], AbstractAsyncContextManager[Call]]


@dataclass
class Endpoint:
    """Where a model answers, and how patiently it is asked.

    Attributes:
        client: the official client, without retries of its own: each request passes the account.
        key: the key in use, so that it can be kept out of every message.
        key_variable: the environment variable that holds it.
        limits: what each request says of the reply: its longest length and the temperature.
        timeout: seconds for a request, from the first byte to the last.
        retries: further requests after a failed one.
        backoff: seconds before the first of them; each further wait is twice as long, and a part of it random.
        reached: whether it was heard of before.
    """

    client: openai.AsyncOpenAI
    model: str
    key: str | None = field(repr=False)
    key_variable: str | None
    limits: Mapping[str, float]
    timeout: float
    retries: int
    backoff: float
    reached: bool = field(init=False, default=False)

    async def ask(
        self, text: str, admission: Admission, pause: Callable[[float], Awaitable[None]], retries: int | None = None
    ) -> Reply:
        """Ask once, and again where it may help.

        Args:
            text: the prompt.
            admission: entered for each request, before it is sent.
            pause: waits for so many seconds before the next one.
            retries: the most further requests; None is the endpoint's own.

        Raises:
            UnansweredError: this prompt cannot be answered.
            DoubtfulError: this prompt is not answered, and perhaps no other.
            InputError: the key, the model or the request is not accepted.
            ConnectionError: every request failed.
        """
        retries = self.retries if retries is None else min(retries, self.retries)
        for attempt in range(retries + 1):
            async with admission() as call:
                try:
                    call.reply = await self._request(text)
                    return call.reply
                except _AgainError as error:
                    call.billed = error.billed
                    failure = error
                except (UnansweredError, DoubtfulError, InputError) as error:
                    call.billed = isinstance(error, UnansweredError) and error.billed
                    raise
            self.reached = self.reached or failure.reached
            # An endpoint may ask for a longer wait; one that asks for none is not asked again at once.
            wait = max(failure.wait or 0.0, self._wait(attempt))
            most = retries if self.reached else min(retries, UNREACHED_RETRIES)
            if attempt >= most or wait > LONGEST_WAIT_SECONDS:
                break
            log.info("%s: %s; asking again in %.1f s", self.client.base_url, failure, wait)
            await pause(wait)
        asked = f", and asks to wait {wait:.6g} s" if wait > LONGEST_WAIT_SECONDS else ""
        kept = (
            "every reply so far is kept: run the same command again later, or with a lower judge.concurrency"
            if self.reached
            else "check judge.base_url and that the server runs; every reply from before is kept"
        )
        verdict = ConnectionError(f"{self.client.base_url}: {failure}{asked} (requests sent: {attempt + 1}); {kept}")
        if failure.prompt and not asked:
            raise DoubtfulError(str(failure), verdict, passing=not failure.unusable)
        raise verdict

    def _wait(self, attempt: int) -> float:
        return float(min(60.0, self.backoff * 2 ** min(attempt, 30)) * random.uniform(0.5, 1))

    async def _request(self, text: str) -> Reply:
        try:
            async with asyncio.timeout(self.timeout):
                response = await self.client.chat.completions.with_raw_response.create(
                    model=self.model, messages=[{"role": "user", "content": encodable(text)}],
                    extra_body=dict(self.limits),
                )  # fmt: skip
        except (TimeoutError, openai.APITimeoutError) as error:
            if any(type(cause).__name__ == "ConnectTimeout" for cause in _causes(error)):
                raise _AgainError("no connection (nobody answers)", billed=False, reached=False) from None
            raise _AgainError(f"no reply within judge.timeout={self.timeout:g} seconds", prompt=True) from None
        except BodyError as error:
            raise _AgainError(self._clean(str(error)), unusable=True) from None
        except openai.APIConnectionError as error:
            raise self._unconnected(error) from None
        except openai.APIStatusError as error:
            # `from None`: the client's own error quotes the server, which may quote the key.
            raise self._refused(error.status_code, error.response.text, _retry_after(error)) from None
        self.reached = True
        return self._reply(response.content, len(text.encode("utf-8", "replace")) + FRAME_TOKENS)

    def _unconnected(self, error: openai.APIConnectionError) -> Exception:
        """What a connection that failed means."""
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
        # Where nothing was sent, there is nothing to bill.
        kinds = {type(cause).__name__ for cause in causes}
        unsent = "ConnectError" in kinds
        what = f"no connection ({self._clean(str(error.__cause__ or error)) or type(error.__cause__).__name__})"
        cut = not unsent and "TooManyRedirects" not in kinds
        return _AgainError(what, billed=not unsent, prompt=cut, reached=not unsent)

    def _reply(self, body: bytes, most_prompt_tokens: int) -> Reply:
        """The reply that a body holds, without the key.

        Args:
            body: what came.
            most_prompt_tokens: the most that the prompt can be by itself.
        """
        longest = self.limits.get("max_tokens") or self.limits.get("max_completion_tokens") or 0
        try:
            reply = read_completion(body, most_prompt_tokens, int(longest))
        except UnusableError as error:
            raise self._unusable(str(error), body) from None
        except UnreadableError as error:
            raise UnansweredError(self._clean(f"HTTP 200: {error}"), billed=True) from None
        except ReportedError as error:
            raise self._refused(error.status, error.body, None, "HTTP 200 with an error") from None
        model = None if reply.model is None else self._clean(reply.model)
        return replace(reply, text=self._without_key(reply.text), model=model)

    def _unusable(self, what: str, body: bytes) -> _AgainError:
        start = self._clean(body[: 4 * LONGEST_WORDS].decode("utf-8", "replace"))
        return _AgainError(f"{what}: {start[:100]!r}" if start else f"{what}: it is empty", unusable=True)

    def _refused(self, status: int, body: str, wait: float | None, what: str | None = None) -> Exception:
        """What an HTTP status and its body mean for this prompt, and for all others.

        Args:
            status: the HTTP status, or the one that a body speaks of.
            body: the words.
            wait: seconds that the endpoint asks to wait.
            what: what to call it; None is the status.
        """
        self.reached = True
        refusal = read_refusal(status, body)
        said = f"{what or f'HTTP {status}'}: {self._clean(refusal.words) or 'the server gives no reason'}"
        url = self.client.base_url
        match refusal.concern:
            case Concern.PROMPT:
                return UnansweredError(said)
            case Concern.KEY:
                place = f"the key in ${self.key_variable}" if self.key_variable else "being asked without a key"
                return InputError(
                    f"{url} does not accept {place} ({said}); set the environment variable that judge.key_variable "
                    f"names to a valid key for this endpoint"
                )
            case Concern.ACCOUNT:
                return InputError(
                    f"{url}: the account has no credit left or may not be used ({said}); settle that there, or use "
                    f"another"
                )
            case Concern.MODEL:
                return InputError(
                    f"{url} has no model {self.model!r} ({said}); give judge.model a name that it serves, or correct "
                    f"judge.base_url, which usually ends in /v1"
                )
            case Concern.PASSING:
                # Too many requests say nothing of the prompt; a server that fails may fail at this one.
                return _AgainError(said, wait, billed=what is not None, prompt=status >= 500 or status == 408)
        if status < 400 and what is not None:  # an error in place of a reply, and no word of what it is
            return _AgainError(said, wait, unusable=True)
        verdict = InputError(f"{url} does not accept the request ({said}); correct the judge's options")
        return verdict if refusal.concern is Concern.REQUEST else DoubtfulError(said, verdict)

    def _without_key(self, text: str) -> str:
        """A reply as it came, but for the key."""
        return text.replace(self.key, "[key]") if self.key and len(self.key) >= PART else text

    def _clean(self, text: str) -> str:
        """The start of what somebody else said, on one line, without the key."""
        shown = hidden(text[: 10 * LONGEST_WORDS], self.key)
        line = " ".join("".join(c if c.isprintable() else " " for c in shown).split())
        return line if len(line) <= LONGEST_WORDS else f"{line[:LONGEST_WORDS]} …"


def connect(
    base_url: str,
    model: str,
    key: str | None,
    key_variable: str | None,
    limits: Mapping[str, float],
    timeout: float,
    retries: int,
    backoff: float,
) -> Endpoint:
    """An endpoint, with an open client that the caller closes; arguments as `Endpoint` has them."""
    check_proxies()
    limits_of_time = openai.Timeout(timeout, connect=min(timeout, LONGEST_CONNECT_SECONDS))
    try:
        http_client = BoundedClient(timeout=limits_of_time)
    except OSError as error:  # it reads certificates, and nothing else
        raise InputError(
            f"SSL_CERT_FILE={os.environ.get('SSL_CERT_FILE', '')}: no certificates can be read there "
            f"({error.strerror or error}); set this environment variable to a file of certificates (PEM), or unset it"
        ) from error
    client = openai.AsyncOpenAI(
        api_key=key or "none", base_url=base_url, max_retries=0, timeout=limits_of_time, http_client=http_client
    )
    for name, value in client.default_headers.items():
        if isinstance(value, str) and not (value.isascii() and value.isprintable()):
            raise InputError(
                f"the header {name}, which the client takes from an environment variable such as OPENAI_ORG_ID, "
                f"OPENAI_PROJECT_ID or OPENAI_CUSTOM_HEADERS, holds other than printable ASCII characters; correct it"
            )
    return Endpoint(client, model, key, key_variable, limits, timeout, retries, backoff)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _retry_after(error: openai.APIStatusError) -> float | None:
    """Seconds to wait by the reply's headers: a number, or a date."""
    headers = error.response.headers
    try:
        if "retry-after-ms" in headers:
            return max(0.0, float(headers["retry-after-ms"]) / 1000)
        return max(0.0, float(headers["retry-after"]))
    except KeyError:
        return None
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(headers["retry-after"]).timestamp() - time())
    except ValueError:
        return None
