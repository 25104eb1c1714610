"""Many questions to one endpoint at once: known replies first, limits before each request, every reply kept."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import TypeVar

from diverseevol.evaluation.judges.budget import Account, LimitReachedError
from diverseevol.evaluation.judges.endpoint import Call, DoubtfulError, Endpoint, UnansweredError
from diverseevol.evaluation.judges.pairwise import JudgePrompt, Showing
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache
from diverseevol.evaluation.judges.verdicts import to_ask_again

T = TypeVar("T")
CLAIM_SECONDS = 60.0  # beyond a request's time-out, for which a process that is at work keeps others from asking
POLL_SECONDS = 0.2
TRIALS, TRIAL_RETRIES = 2, 2  # prompts that an endpoint which fails at one is asked beside it, and their retries


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
        on_reply: called with each showing and its replies: one, or two where the first could not be read; an exception
            ends all asking, as any other does.
        on_model: called with the name of the model that answered.
        on_unanswered: called with what was refused, and the endpoint's words.
        retry_unanswered: whether what the endpoint refused before is asked again.
    """

    open_endpoint: Callable[[], Endpoint]
    file: Path
    account: Account
    prompt: JudgePrompt
    identity: str
    concurrency: int
    on_reply: Callable[[Showing, Sequence[Reply]], None] = lambda showing, replies: None
    on_model: Callable[[str | None], None] = lambda model: None
    on_unanswered: Callable[[Showing, str], None] = lambda showing, words: None
    retry_unanswered: bool = False

    def ask(self, showings: Sequence[Showing]) -> None:
        """Ask about each showing.

        Raises:
            LimitReachedError: a limit of the account stops it; what was asked before is kept.
            InputError, ConnectionError: as `Endpoint.ask`.
        """
        in_own_loop(_Session(self).run(showings))


@dataclass
class _Session:
    """One run of an event loop."""

    asking: Asking
    cache: ReplyCache = field(init=False)
    endpoint: Endpoint | None = None
    failure: Exception | None = None
    requests: dict[str, "asyncio.Task[Reply]"] = field(default_factory=dict)  # by the ask's key
    doubts: int = 0  # prompts that are refused and wait to learn whether it is their own fault
    trial: str | None = None  # the key of the one ask that goes on meanwhile
    answered: dict[str, float] = field(default_factory=dict)  # question -> when its last answered request was sent

    async def run(self, showings: Sequence[Showing]) -> None:
        self.showings = showings
        self.turn, self.failed = asyncio.Condition(), asyncio.Event()
        self.gate, self.settling = asyncio.Semaphore(self.asking.concurrency), asyncio.Lock()
        # Few questions are begun at a time: those that have to be asked again would come after all others.
        self.begun = asyncio.Semaphore(2 * self.asking.concurrency)
        with ReplyCache(self.asking.file) as self.cache:
            try:
                # All come to an end, even after a failure: replies that are on their way may have been paid for.
                await asyncio.gather(*map(self._ask, showings), return_exceptions=True)
            finally:
                if self.endpoint is not None:
                    await self.endpoint.client.close()
        if self.failure is not None:
            raise self.failure

    async def _ask(self, showing: Showing) -> None:
        try:
            async with self.begun:
                if self.failure is not None:
                    raise _StoppedError
                try:
                    replies = await self._replies(showing)
                except UnansweredError as error:
                    replies = [Reply(str(error), unanswered=True)]
                    self.asking.on_unanswered(showing, str(error))
            self.asking.on_reply(showing, replies)
        except _StoppedError:
            raise
        except Exception as error:  # whatever it is, it ends all others before it leaves
            self._fail(error)
            async with self.turn:
                self.turn.notify_all()
            raise

    async def _replies(self, showing: Showing) -> list[Reply]:
        prompt = self.asking.prompt
        first = await self._reply(showing, prompt.ask(showing))
        if not to_ask_again(first):
            return [first]
        try:
            return [first, await self._reply(showing, prompt.ask_again(showing, first.text))]
        except UnansweredError as error:
            self.asking.on_unanswered(showing, str(error))
            return [first, Reply(str(error), unanswered=True)]

    def _fail(self, error: Exception) -> None:
        self.failure = self.failure or error
        self.failed.set()

    def _ask_of(self, showing: Showing, text: str | None = None) -> Ask:
        prompt = self.asking.prompt
        text = prompt.ask(showing) if text is None else text
        return Ask(self.asking.identity, prompt.version, showing.question_id, showing.order, text)

    async def _reply(self, showing: Showing, text: str) -> Reply:
        ask, doubted = self._ask_of(showing, text), False
        while True:
            doubt = None
            async with self.gate:
                if (known := self._known(ask)) is not None:
                    return known
                if self._claim(ask):
                    try:
                        return await (self._request(ask, 0) if doubted else self._request(ask))
                    except DoubtfulError as error:
                        doubt, refused_at = error, time.monotonic()
            if doubt is None:  # another process asks it: others have the place at the gate meanwhile
                await self._pause(POLL_SECONDS)
                if self.failure is not None:
                    raise _StoppedError
                continue
            if not doubted:
                await self._settle(ask, doubt, refused_at)
            if doubted or not doubt.passing:
                self.cache.put_unanswered(ask, str(doubt))
                raise UnansweredError(str(doubt))
            doubted = True  # another was answered just now, so that what may pass has passed: once more

    def _known(self, ask: Ask) -> Reply | None:
        """The reply from before, or the refusal from before as an error."""
        if (known := self.cache.get(ask)) is not None:
            self.asking.account.known += 1
            return known
        reason = None if self.asking.retry_unanswered else self.cache.unanswered(ask)
        if reason is not None:
            self.asking.account.known += 1
            raise UnansweredError(reason)
        return None

    def _claim(self, ask: Ask) -> bool:
        if self.endpoint is None:
            self.endpoint = self.asking.open_endpoint()
        return self.cache.claim(ask, self.endpoint.timeout + CLAIM_SECONDS)

    async def _request(self, ask: Ask, retries: int | None = None) -> Reply:
        """What the endpoint says now; whoever wants the same meanwhile waits for the same request.

        Args:
            ask: what to ask.
            retries: see `Endpoint.ask`; 0 asks anew what was asked before.
        """
        if retries == 0 or ask.key not in self.requests:
            self.requests[ask.key] = asyncio.ensure_future(self._asked(ask, retries))
        return await self.requests[ask.key]

    async def _asked(self, ask: Ask, retries: int | None) -> Reply:
        """What the endpoint says now, which this process alone asks."""
        assert self.endpoint is not None
        try:
            if (known := self.cache.get(ask)) is not None:  # it came between the look and the claim
                self.asking.account.known += 1
                return known
            reply = await self.endpoint.ask(ask.text, lambda: self._admit(ask), self._pause, retries)
        except UnansweredError as error:
            self.cache.put_unanswered(ask, str(error))
            raise
        finally:
            self.cache.give_up(ask)
        self.asking.on_model(reply.model)
        return reply

    async def _settle(self, ask: Ask, doubt: DoubtfulError, refused_at: float) -> None:
        """Find out whether a refusal that may concern every prompt does: another question is asked.

        Nothing else is sent until that is known. Returns where the prompt alone is at fault.

        Raises:
            InputError, ConnectionError: the other question is refused as well, or there is none to ask.
        """
        self.doubts += 1
        try:
            async with self.settling:
                if self.failure is not None:
                    raise _StoppedError
                if not self._answered_since(refused_at, ask) and not await self._another_is_answered(ask, doubt):
                    self._fail(doubt.verdict)
                    raise doubt.verdict
        finally:
            self.doubts -= 1
            async with self.turn:
                self.turn.notify_all()

    def _answered_since(self, moment: float, ask: Ask) -> bool:
        return any(at >= moment for question, at in self.answered.items() if question != ask.question_id)

    async def _another_is_answered(self, ask: Ask, doubt: DoubtfulError) -> bool:
        """Whether the endpoint answers another question: one of those that are still to be asked, where there are some.

        A server that fails is asked a few, and at last one that it has answered before: the one call that is made, and
        may be paid, for nothing but to know.
        """
        others = [self._ask_of(showing) for showing in self.showings if showing.question_id != ask.question_id]
        refused: set[str] = set()
        # What was sent before a refusal says less, and is waited for only where nothing else is left. Where a server
        # fails, it has failed a few times already, and is the first to tell.
        for other in sorted(others, key=lambda other: (other.key in self.requests) is not doubt.passing):
            sent = self.requests.get(other.key)
            if (sent is not None and sent.done()) or self.cache.knows(other) or not self._claim(other):
                continue
            if other.question_id in refused:  # its other order is likely to be refused for the same reason
                continue
            try:
                async with self._on_trial(other):
                    await self._request(other, TRIAL_RETRIES if doubt.passing else None)
                return True
            except UnansweredError:  # that prompt is at fault, which says nothing of others
                continue
            except DoubtfulError:
                refused.add(other.question_id)
                if len(refused) == (TRIALS if doubt.passing else 1):
                    break
        if not doubt.passing:
            return not refused and self._answered_since(-math.inf, ask)
        known = next((other for other in others if self.cache.get(other) is not None), None)
        if known is None:
            return False
        assert self.endpoint is not None
        try:
            async with self._on_trial(known):
                await self.endpoint.ask(known.text, lambda: self._admit(known), self._pause, TRIAL_RETRIES)
        except (UnansweredError, DoubtfulError):
            return False
        return True

    @asynccontextmanager
    async def _on_trial(self, ask: Ask) -> AsyncIterator[None]:
        """Let this one alone be sent."""
        self.trial = ask.key
        async with self.turn:
            self.turn.notify_all()
        try:
            yield
        finally:
            self.trial = None

    @asynccontextmanager
    async def _admit(self, ask: Ask) -> AsyncIterator[Call]:
        """Around each request: before it, room in the account is waited for; after it, the reply is on disk."""
        account = self.asking.account
        most = account.most(ask.text)
        async with self.turn:
            # Requests under way hold back the most that they can cost: once they are over, there may be room.
            await self.turn.wait_for(
                lambda: (
                    self.failure is not None
                    or (self._may_go(ask) and (account.reached(most) is None or account.in_flight == 0))
                )
            )
            if self.failure is not None:
                raise _StoppedError
            limit = account.reached(most)
            if limit is not None:
                raise LimitReachedError(limit)
            account.begin(most)
        call, sent_at = Call(), time.monotonic()
        try:
            yield call
        finally:
            if call.reply is not None:
                self.cache.put(ask, call.reply)
                self.answered[ask.question_id] = sent_at
            account.end(most, call.reply, billed=call.billed)
            async with self.turn:
                self.turn.notify_all()

    def _may_go(self, ask: Ask) -> bool:
        return not self.doubts or ask.key == self.trial

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
