"""An OpenAI-compatible endpoint: one prompt in, one reply out, whatever the network does in between."""

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import openai
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from diverseevol.errors import InputError
from diverseevol.evaluation.bounded import BodyError, BoundedClient
from diverseevol.evaluation.replies import Reply

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 300.0
# What the endpoint says of one prompt and not of all: recorded as unparsed, not asked again.
PROMPT_AT_FAULT = ("content_filter", "context_length_exceeded", "content_policy_violation")


class UnansweredError(Exception):
    """The endpoint will not answer this prompt, whoever asks how often."""


class _AgainError(Exception):
    """The call failed in a way that may pass.

    Attributes:
        wait: seconds that the endpoint asks to wait, where it does.
        billed: whether it may cost something: the endpoint may have done its work.
    """

    def __init__(self, what: str, wait: float | None = None, *, billed: bool = True) -> None:
        super().__init__(what)
        self.wait = wait
        self.billed = billed


@dataclass
class Call:
    """One request: how it ended, for the account."""

    reply: Reply | None = None
    billed: bool = True


Admission = Callable[[], AbstractAsyncContextManager[Call]]


@dataclass(frozen=True)
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
    """

    client: openai.AsyncOpenAI
    model: str
    key: str | None = field(repr=False)
    key_variable: str | None
    limits: Mapping[str, float]
    timeout: float
    retries: int
    backoff: float

    async def ask(self, text: str, admission: Admission, pause: Callable[[float], Awaitable[None]]) -> Reply:
        """Ask once, and again where it may help.

        Args:
            text: the prompt.
            admission: entered for each request, before it is sent.
            pause: waits for so many seconds before the next one.

        Raises:
            UnansweredError: this prompt cannot be answered.
            InputError: the key, the model or the request is not accepted.
            ConnectionError: every request failed.
        """
        for attempt in range(self.retries + 1):
            async with admission() as call:
                try:
                    call.reply = await self._request(text)
                    return call.reply
                except _AgainError as error:
                    call.billed = error.billed
                    failure = error
                except (UnansweredError, InputError):
                    call.billed = False
                    raise
            # An endpoint may ask for a longer wait; one that asks for none is not asked again at once.
            wait = max(failure.wait or 0.0, self._wait(attempt))
            if attempt == self.retries or wait > LONGEST_WAIT_SECONDS:
                break
            log.info("%s: %s; asking again in %.1f s", self.client.base_url, failure, wait)
            await pause(wait)
        asked = f", and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT_SECONDS else ""
        raise ConnectionError(
            f"{self.client.base_url}: {failure}{asked} (requests sent: {attempt + 1}); every reply so far is kept: run "
            f"the same command again later, or with a lower judge.concurrency"
        )

    def _wait(self, attempt: int) -> float:
        return float(min(60.0, self.backoff * 2**attempt) * random.uniform(0.5, 1))

    async def _request(self, text: str) -> Reply:
        try:
            async with asyncio.timeout(self.timeout):
                completion = await self.client.chat.completions.create(
                    model=self.model, messages=[{"role": "user", "content": text}], extra_body=dict(self.limits)
                )
        except (TimeoutError, openai.APITimeoutError):
            raise _AgainError(f"no reply within judge.timeout={self.timeout:g} seconds") from None
        except BodyError as error:
            raise _AgainError(str(error)) from None
        except openai.APIConnectionError as error:
            raise _AgainError(self._clean(f"no connection ({error.__cause__ or error})")) from None
        except openai.APIStatusError as error:
            # `from None`: the client's own error quotes the server, which may quote the key.
            raise self._refused(error) from None
        except (openai.APIResponseValidationError, json.JSONDecodeError) as error:
            raise _AgainError(f"the reply is not valid JSON ({type(error).__name__})") from None
        return self._reply(completion)

    def _reply(self, completion: Any) -> Reply:
        """The reply's text: empty where there is no choice or no content, a refusal where there is one.

        Only these are replies, to be kept. Whatever else comes with HTTP 200 is a failure that may pass.
        """
        if not isinstance(completion, ChatCompletion):
            raise _AgainError("the reply is no chat completion")
        choices: Any = completion.choices  # the client checks no types
        error = (completion.model_extra or {}).get("error")
        if error:
            said = error if not isinstance(error, dict) else error.get("message") or error
            if isinstance(error, dict) and str(error.get("code")) in PROMPT_AT_FAULT:
                raise UnansweredError(self._clean(f"HTTP 200: {said}"))
            raise _AgainError(self._clean(f"HTTP 200 with an error: {said}"))
        if not isinstance(choices, list):
            raise _AgainError("the reply holds no choices")
        message = getattr(choices[0], "message", None) if choices else None
        if choices and not isinstance(message, ChatCompletionMessage):
            raise _AgainError("the reply's choice holds no message")
        text: Any = (getattr(message, "content", None) or getattr(message, "refusal", None) or "") if message else ""
        if not isinstance(text, str):
            raise _AgainError(f"the reply's text is a {type(text).__name__}")
        model: Any = completion.model
        counts = [getattr(completion.usage, name, None) for name in ("prompt_tokens", "completion_tokens")]
        prompt_tokens, completion_tokens = (count if isinstance(count, int) else None for count in counts)
        return Reply(text, model if isinstance(model, str) else None, prompt_tokens, completion_tokens)

    def _refused(self, error: openai.APIStatusError) -> Exception:
        """What an HTTP status means for this prompt, and for all others."""
        status, code = error.status_code, str(error.code or "")
        inner = error.body.get("message") if isinstance(error.body, dict) else None
        url, said = self.client.base_url, self._clean(str(inner or error.message))
        if status in (401, 403):
            place = f"the key in ${self.key_variable}" if self.key_variable else "being asked without a key"
            return InputError(
                f"{url} does not accept {place} (HTTP {status}); set the environment variable that "
                f"judge.key_variable names to a valid key for this endpoint"
            )
        if status == 404:
            return InputError(
                f"{url} has no model {self.model!r} (HTTP 404: {said}); give judge.model a name that it "
                f"serves, or mend judge.base_url, which usually ends in /v1"
            )
        if code == "insufficient_quota":
            return InputError(
                f"{url}: the account has no credit left (HTTP {status}: {said}); add some, or use another"
            )
        if status in (408, 409, 429) or status >= 500:
            return _AgainError(f"HTTP {status}: {said}", _retry_after(error), billed=False)
        if code in PROMPT_AT_FAULT:
            return UnansweredError(f"HTTP {status}: {said}")
        return InputError(f"{url} does not accept the request (HTTP {status}: {said}); mend the judge's options")

    def _clean(self, text: str) -> str:
        """One line of what somebody else said, without the key."""
        hidden = text.replace(self.key, "[key]") if self.key else text
        return " ".join(hidden.split())[:200]


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
    client = openai.AsyncOpenAI(
        api_key=key or "none", base_url=base_url, max_retries=0, timeout=timeout,
        http_client=BoundedClient(timeout=timeout),
    )  # fmt: skip
    return Endpoint(client, model, key, key_variable, limits, timeout, retries, backoff)


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
