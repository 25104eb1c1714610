"""Many prompts to a server that completes them: every answer is handed on as it comes, whatever becomes of the rest."""

import asyncio
import logging
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from anyio import CancelScope
from anyio.from_thread import start_blocking_portal

from diverseevol.errors import InputError, warn_once
from diverseevol.evaluation.endpoints.bodies import (
    Concern,
    ReportedError,
    UnusableError,
    read_completion,
    read_json,
    read_refusal,
)
from diverseevol.evaluation.endpoints.connection import Connection, PassingError
from diverseevol.evaluation.endpoints.server import Running

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 300.0
UNREACHED_RETRIES = 2  # while a server has never responded
POLL_SECONDS = 0.5
HOPELESS = 3  # refusals in a row, and no answer in between, that end the asking
CHATS_ONLY = re.compile(r"chat model\b|chat/completions|support (the )?completions api")  # of OpenAI and vLLM
ENDED = ("stop", "length", "eos", "eos_token", "stop_sequence", "end_turn", "max_tokens")  # reasons to finish


@dataclass(frozen=True)
class Completion:
    """What a server answered.

    Attributes:
        text: without the tokens that end it.
        ids: the same as token ids, where the server gives them.
        finish: why it ended, in the server's word.
        tokens: how many were made, where the server says so.
    """

    text: str
    ids: tuple[int, ...] | None
    finish: str
    tokens: int | None


class RefusedError(Exception):
    """The server does not answer this prompt."""


@dataclass
class Completing:
    """Puts prompts to a server, once.

    Attributes:
        running: the server.
        requests: the fields of each request but for the model, by a number of the caller's.
        on_answer: called with that number, the model's name and the answer, in the order in which answers come.
    """

    running: Running
    requests: Mapping[int, Mapping[str, Any]]
    on_answer: Callable[[int, str, Completion], None]

    refused: dict[int, str] = field(init=False, default_factory=dict)
    _failure: Exception | None = field(init=False, default=None)
    _in_a_row: int = field(init=False, default=0)
    _model: str = field(init=False, default="")

    def run(self) -> None:
        """Ask everything; what is refused is in `refused`, by number, with the server's words.

        The event loop runs in a thread of its own: the caller's thread only waits, so that a signal interrupts it.

        Raises:
            InputError: the server's model is not the one that was asked for, or it does not accept the key or the
                requests, or it answers no prompt.
            ConnectionError: the server does not answer.
        """
        with start_blocking_portal() as portal:
            portal.call(self._run)

    async def _run(self) -> None:
        server = self.running.server
        self._connection = Connection("answers", server.base_url, server.key(), server.key_variable, server.timeout)
        self._gate = asyncio.Semaphore(server.concurrency)
        try:
            if self.running.process is not None:
                await self._wait_for_the_server()
            self._model = await self._served_model()
            # All of them end by themselves, even after a failure: answers may be on their way.
            await asyncio.gather(*map(self._ask, self.requests), return_exceptions=True)
        finally:
            with CancelScope(shield=True):
                await self._connection.client.close()
        if self._failure is not None:
            raise self._failure

    async def _wait_for_the_server(self) -> None:
        """Wait until the server that the command started, or has told to load a model, is ready.

        Raises:
            InputError: the command failed, or it does not end or the server does not answer in time.
        """
        deadline = time.monotonic() + self.running.server.startup
        base = self.running.server.base_url
        while not (self.running.check() and await self._is_ready(base)):
            if time.monotonic() > deadline:
                raise self.running.late()
            await asyncio.sleep(POLL_SECONDS)

    async def _is_ready(self, base_url: str) -> bool:
        """Whether the server has its model: it says that it is well, or lists models and knows no such question."""
        health = await self._status(f"{base_url.removesuffix('/v1')}/health")
        if health is None or health == 200:
            return health == 200
        return health < 500 and await self._status(f"{base_url}/models") == 200

    async def _status(self, url: str) -> int | None:
        """The HTTP status of an address; None where nobody answers."""
        headers = {"authorization": f"Bearer {self._connection.key}"} if self._connection.key else {}
        try:
            response = await self._connection.http_client.get(url, headers=headers, timeout=10.0)
        except InputError:
            raise
        except Exception:  # whatever the library calls it, there is no answer yet
            return None
        return int(response.status_code)

    async def _served_model(self) -> str:
        """The name of the model to ask: the user's, or the only one that the server lists.

        Raises:
            InputError: there is none, or there are several.
            ConnectionError: the server does not answer.
        """
        asked, url = self.running.server.model, f"{self.running.server.base_url}/models"
        try:
            response = await self._connection.send(lambda client: client.models.with_raw_response.list())
        except PassingError as error:
            raise ConnectionError(f"{url}: {error.words}; check answers.base_url and that the server runs") from None
        names = _names(response.body) if response.status == 200 else []
        shown = self._connection.clean(", ".join(names))
        if asked is not None:
            if names and asked not in names:
                warn_once(log, "%s lists %s and not answers.model=%s, which is asked all the same", url, shown, asked)
            return asked
        if response.status != 200:
            refusal = read_refusal(response.status, response.body.decode("utf-8", "replace"))
            if refusal.concern is Concern.KEY:
                raise self._connection.verdict(refusal.concern, self._connection.clean(refusal.words), None)
        if len(names) != 1:
            problem = f"lists {len(names)} models ({shown})" if names else "does not say which model it serves"
            raise InputError(f"{url} {problem}; give answers.model=… the name of the one to ask")
        return names[0]

    async def _ask(self, number: int) -> None:
        try:
            async with self._gate:
                if self._failure is not None:
                    return
                answer = await self._with_retries(self.requests[number])
            self._in_a_row = 0
            self.on_answer(number, self._model, answer)
        except RefusedError as error:
            self.refused[number] = str(error)
            self._in_a_row += 1
            if self._in_a_row >= HOPELESS and self._failure is None:
                self._failure = InputError(
                    f"{self._connection.client.base_url} refuses one question after another ({error}); correct "
                    f"answers.…; every answer so far is kept"
                )
        except Exception as error:  # whatever it is, it ends all others before it propagates
            self._failure = self._failure or error

    async def _with_retries(self, request: Mapping[str, Any]) -> Completion:
        """Ask once, and as often again as may help.

        Raises:
            RefusedError: this prompt is not answered.
            InputError: no prompt is.
            ConnectionError: every request failed.
        """
        server, connection = self.running.server, self._connection
        for attempt in range(server.retries + 1):
            try:
                return await self._request(request)
            except PassingError as error:
                failure = error
            self.running.check()
            backoff = min(60.0, server.backoff * 2 ** min(attempt, 30)) * random.uniform(0.5, 1)
            wait = max(failure.wait or 0.0, backoff)
            enough = attempt >= (server.retries if connection.reached else min(server.retries, UNREACHED_RETRIES))
            if enough or wait > LONGEST_WAIT_SECONDS or self._failure is not None:
                break
            await asyncio.sleep(wait)
        words = f"{failure.words} (requests sent: {attempt + 1})"
        if failure.prompt:  # the server answers, and this prompt may be what it fails at
            raise RefusedError(words)
        raise ConnectionError(
            f"{connection.client.base_url}: {words}; check that the server runs, and run the same command again: every "
            f"answer so far is kept"
        )

    async def _request(self, request: Mapping[str, Any]) -> Completion:
        connection = self._connection
        fields = {"model": self._model, **request}
        known = {name: fields.pop(name) for name in ("model", "prompt", "max_tokens", "temperature", "seed")}
        response = await connection.send(
            lambda client: client.completions.with_raw_response.create(**known, extra_body=fields)
        )
        if response.status != 200:
            raise self._refusal(response.status, response.body.decode("utf-8", "replace"), response.wait)
        try:
            completion, choices = read_completion(response.body, "completion")
            answer = _first(choices, completion.get("usage"))
        except ReportedError as error:
            raise self._refusal(error.status, error.body, None) from None
        except UnusableError as error:
            raise PassingError(connection.clean(str(error)), prompt=True, unusable=True) from None
        name = completion.get("model")
        if isinstance(name, str) and name.partition("@")[0] != self._model.partition("@")[0]:
            raise InputError(
                f"{connection.client.base_url} was asked for the model {self._model} and answers as "
                f"{connection.clean(name)}; its answers are not kept: give answers.model the name of the model to ask"
            )
        return answer

    def _refusal(self, status: int, body: str, wait: float | None) -> Exception:
        """What a refusal means for this prompt, or for all."""
        connection = self._connection
        refusal = read_refusal(status, body)
        words = f"HTTP {status}: {connection.clean(refusal.words) or 'the server gives no reason'}"
        if refusal.concern is Concern.PASSING:
            return PassingError(words, wait, prompt=status >= 500 or status == 408)
        absent = status in (404, 405) and "model" not in body.lower()
        unclear = refusal.concern in (Concern.MODEL, Concern.REQUEST, Concern.DOUBT)
        if unclear and (absent or CHATS_ONLY.search(refusal.words.lower())):
            return InputError(
                f"{self.running.server.base_url}/completions is not to be had ({words}); answers=server needs a server "
                f"that completes texts, and chat completions alone cannot be used: give another answers.base_url, "
                f"which usually ends in /v1"
            )
        if refusal.concern in (Concern.PROMPT, Concern.DOUBT):
            return RefusedError(words)
        return connection.verdict(refusal.concern, words, self._model)


def _names(body: bytes) -> list[str]:
    """The models that a server lists."""
    try:
        listed = read_json(body.decode("utf-8", "replace"))
    except ValueError:
        return []
    models = listed.get("data") if isinstance(listed, dict) else None
    names = [model.get("id") for model in models if isinstance(model, dict)] if isinstance(models, list) else []
    return [name for name in names if isinstance(name, str)]


def _first(choices: Sequence[Any], usage: Any) -> Completion:
    """The first choice of a completion.

    Raises:
        UnusableError: there is none, it holds no text, or it did not come to an end.
    """
    choice = choices[0] if choices else None
    text = choice.get("text") if isinstance(choice, dict) else None
    if not isinstance(choice, dict) or not isinstance(text, str):
        raise UnusableError("the reply's choice holds no text")
    finish = str(choice.get("finish_reason")).lower()
    if finish not in ENDED:
        raise UnusableError(f"the answer did not come to an end (finish_reason {finish})")
    tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
    ids = choice.get("token_ids")
    known = tuple(ids) if isinstance(ids, list) and all(type(token) is int for token in ids) else None
    return Completion(text, known, finish, tokens if type(tokens) is int else None)
