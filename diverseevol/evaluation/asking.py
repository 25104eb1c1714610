"""Many questions to one endpoint at once: known replies first, limits before each request, every reply kept."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TypeVar

from diverseevol.evaluation.endpoint import Call, Endpoint, UnansweredError
from diverseevol.evaluation.pairwise import JudgePrompt, Showing, parse
from diverseevol.evaluation.replies import Ask, ReplyCache
from diverseevol.evaluation.spending import Account, LimitReachedError

T = TypeVar("T")
CLAIM_SECONDS = 60.0  # beyond a request's time-out, for which a process that is at work keeps others from asking
POLL_SECONDS = 0.2


class _StoppedError(Exception):
    """Another question has failed for a reason that concerns all: this one is not asked any more."""


@dataclass
class Asking:
    """What it takes to ask; `replies` does it.

    Attributes:
        open_endpoint: called when there is something to ask: what is known needs no key.
        file: the cache of replies.
        account: asked before each request.
        prompt: the wording.
        identity: what the cache knows this judge by.
        concurrency: requests under way at a time.
        on_reply: called with the number of questions done since the last call.
        on_model: called with the name of the model that answered.
    """

    open_endpoint: Callable[[], Endpoint]
    file: Path
    account: Account
    prompt: JudgePrompt
    identity: str
    concurrency: int
    on_reply: Callable[[int], None] = lambda done: None
    on_model: Callable[[str | None], None] = lambda model: None

    def replies(self, showings: Sequence[Showing]) -> list[list[str]]:
        """The replies to each showing: one, or two where the first could not be read.

        Raises:
            LimitReachedError: a limit of the account stops it; what was asked before is kept.
            InputError, ConnectionError: as `Endpoint.ask`.
        """
        return in_own_loop(_Session(self).run(showings))


@dataclass
class _Session:
    """One run of an event loop."""

    asking: Asking
    cache: ReplyCache = field(init=False)
    endpoint: Endpoint | None = None
    failure: Exception | None = None

    async def run(self, showings: Sequence[Showing]) -> list[list[str]]:
        self.turn, self.failed = asyncio.Condition(), asyncio.Event()
        self.gate = asyncio.Semaphore(self.asking.concurrency)
        with ReplyCache(self.asking.file) as self.cache:
            try:
                # All come to an end, even after a failure: replies that are on their way may have been paid for.
                outcomes = await asyncio.gather(*map(self._ask, showings), return_exceptions=True)
            finally:
                if self.endpoint is not None:
                    await self.endpoint.client.close()
        if self.failure is not None:
            raise self.failure
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]

    async def _ask(self, showing: Showing) -> list[str]:
        try:
            replies = await self._replies(showing)
        except UnansweredError as error:
            replies = [str(error)]
        except _StoppedError:
            raise
        except Exception as error:  # whatever it is, it ends all others before it leaves
            self.failure = self.failure or error
            self.failed.set()
            async with self.turn:
                self.turn.notify_all()
            raise
        self.asking.on_reply(1)
        return replies

    async def _replies(self, showing: Showing) -> list[str]:
        prompt = self.asking.prompt
        first = await self._reply(showing, prompt.ask(showing))
        if parse(first) is not None:
            return [first]
        return [first, await self._reply(showing, prompt.ask_again(showing, first))]

    async def _reply(self, showing: Showing, text: str) -> str:
        asking = self.asking
        ask = Ask(asking.identity, asking.prompt.version, showing.question_id, showing.order, text)
        while True:
            async with self.gate:
                known = self.cache.get(ask)
                if known is not None:
                    asking.account.known += 1
                    return known.text
                if (reason := self.cache.unanswered(ask)) is not None:
                    asking.account.known += 1
                    raise UnansweredError(reason)
                if self.endpoint is None:
                    self.endpoint = asking.open_endpoint()
                if self.cache.claim(ask, self.endpoint.timeout + CLAIM_SECONDS):
                    return await self._asked(self.endpoint, ask)
            # Another process is asking this: its reply is waited for, while others have the place at the gate.
            await self._pause(POLL_SECONDS)
            if self.failure is not None:
                raise _StoppedError

    async def _asked(self, endpoint: Endpoint, ask: Ask) -> str:
        """What the endpoint says now, which this process alone asks."""
        try:
            if (known := self.cache.get(ask)) is not None:  # it came between the look and the claim
                self.asking.account.known += 1
                return known.text
            reply = await endpoint.ask(ask.text, lambda: self._admit(ask), self._pause)
        except UnansweredError as error:
            self.cache.put_unanswered(ask, str(error))
            raise
        finally:
            self.cache.give_up(ask)
        self.asking.on_model(reply.model)
        return reply.text

    @asynccontextmanager
    async def _admit(self, ask: Ask) -> AsyncIterator[Call]:
        """Around each request: before it, room in the account is waited for; after it, the reply is on disk."""
        account = self.asking.account
        most = account.most(ask.text)
        async with self.turn:
            # Requests under way hold back the most that they can cost: once they are over, there may be room.
            await self.turn.wait_for(
                lambda: self.failure is not None or account.reached(most) is None or account.in_flight == 0
            )
            if self.failure is not None:
                raise _StoppedError
            limit = account.reached(most)
            if limit is not None:
                raise LimitReachedError(limit)
            account.begin(most)
        call = Call()
        try:
            yield call
        finally:
            if call.reply is not None:
                self.cache.put(ask, call.reply)
            account.end(most, call.reply, billed=call.billed)
            async with self.turn:
                self.turn.notify_all()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless everything has come to an end meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self.failed.wait()
        except TimeoutError:
            pass


def in_own_loop(work: Coroutine[None, None, T]) -> T:
    """Run a coroutine in a thread with an event loop of its own.

    The caller's thread only waits, so a signal interrupts it at once, and it may have an event loop itself. When it
    is interrupted, the coroutine is cancelled and has ended before the interruption goes on.
    """
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever, name="judge", daemon=True)
    thread.start()
    future = asyncio.run_coroutine_threadsafe(work, loop)
    try:
        return future.result()
    finally:
        future.cancel()
        asyncio.run_coroutine_threadsafe(_rest(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _rest() -> None:
    """Wait for what was cancelled, and for the generators that it leaves."""
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
