"""Many questions to one endpoint at once: known replies first, limits before each request, every reply kept."""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anyio import CancelScope
from anyio.from_thread import start_blocking_portal

from diverseevol.evaluation.judges.budget import Account, LimitReachedError
from diverseevol.evaluation.judges.endpoint import Call, DoubtfulError, Endpoint, UnansweredError
from diverseevol.evaluation.judges.pairwise import JudgePrompt, Showing, to_ask_again
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache

CLAIM_SECONDS = 60.0  # beyond a request's time-out, for which a process keeps others from asking the same
POLL_SECONDS = 0.2
TRIALS, TRIAL_RETRIES = 2, 2  # how many other prompts test an endpoint that fails at one, and their retries


class _StoppedError(Exception):
    """Another question has failed for a reason that concerns all: this one is no longer asked."""


@dataclass
class Asking:
    """What it takes to ask; `ask` does it, once.

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
    on_reply: Callable[[Showing, Sequence[Reply]], None]
    on_model: Callable[[str | None], None]
    on_unanswered: Callable[[Showing, str], None]
    retry_unanswered: bool = False

    _cache: ReplyCache = field(init=False)
    _endpoint: Endpoint | None = field(init=False, default=None)
    _failure: Exception | None = field(init=False, default=None)
    # The requests made or under way, by the ask's key.
    _requests: dict[str, "asyncio.Task[Reply]"] = field(init=False, default_factory=dict)
    # Prompts that were refused and wait to learn whether it is their own fault, and the key of the one ask that goes on
    # meanwhile.
    _doubts: int = field(init=False, default=0)
    _trial: str | None = field(init=False, default=None)
    # When the last answered request of each question was sent.
    _answered: dict[str, float] = field(init=False, default_factory=dict)

    def ask(self, showings: Sequence[Showing]) -> None:
        """Ask about each showing.

        The event loop runs in a thread of its own: the caller's thread only waits, so that a signal interrupts it at
        once, and it may have an event loop itself. After an interruption all requests are cancelled and have ended.

        Raises:
            LimitReachedError: a limit of the account stops it; what was asked before is kept.
            InputError, ConnectionError: as `Endpoint.ask`.
        """
        self._showings = showings
        with start_blocking_portal() as portal:
            portal.call(self._run)

    async def _run(self) -> None:
        self._turn, self._failed = asyncio.Condition(), asyncio.Event()
        self._gate, self._settling = asyncio.Semaphore(self.concurrency), asyncio.Lock()
        # Few questions are begun at a time: otherwise those that must be asked again would come after all others.
        self._begun = asyncio.Semaphore(2 * self.concurrency)
        with ReplyCache(self.file) as self._cache:
            try:
                # All of them end by themselves, even after a failure: replies on their way may have been paid for.
                await asyncio.gather(*map(self._ask, self._showings), return_exceptions=True)
            finally:
                if self._endpoint is not None:
                    with CancelScope(shield=True):
                        await self._endpoint.client.close()
        if self._failure is not None:
            raise self._failure

    async def _ask(self, showing: Showing) -> None:
        try:
            async with self._begun:
                if self._failure is not None:
                    raise _StoppedError
                try:
                    replies = await self._replies(showing)
                except UnansweredError as error:
                    replies = [Reply(str(error), unanswered=True)]
                    self.on_unanswered(showing, str(error))
            self.on_reply(showing, replies)
        except _StoppedError:
            raise
        except Exception as error:  # whatever it is, it ends all others before it propagates
            self._fail(error)
            async with self._turn:
                self._turn.notify_all()
            raise

    async def _replies(self, showing: Showing) -> list[Reply]:
        prompt = self.prompt
        first = await self._reply(showing, prompt.ask(showing))
        if not to_ask_again(first):
            return [first]
        try:
            return [first, await self._reply(showing, prompt.ask_again(showing, first.text))]
        except UnansweredError as error:
            self.on_unanswered(showing, str(error))
            return [first, Reply(str(error), unanswered=True)]

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._failed.set()

    def _ask_of(self, showing: Showing, text: str | None = None) -> Ask:
        prompt = self.prompt
        text = prompt.ask(showing) if text is None else text
        return Ask(self.identity, prompt.version, showing.question_id, showing.order, text)

    async def _reply(self, showing: Showing, text: str) -> Reply:
        ask, doubted = self._ask_of(showing, text), False
        while True:
            doubt = None
            async with self._gate:
                if (known := self._known(ask)) is not None:
                    return known
                if self._claim(ask):
                    try:
                        return await (self._request(ask, 0) if doubted else self._request(ask))
                    except DoubtfulError as error:
                        doubt, refused_at = error, time.monotonic()
            if doubt is None:  # another process asks it: leave the gate to others meanwhile
                await self._pause(POLL_SECONDS)
                if self._failure is not None:
                    raise _StoppedError
                continue
            if not doubted:
                await self._settle(ask, doubt, refused_at)
            if doubted or not doubt.passing:
                self._cache.put_unanswered(ask, str(doubt))
                raise UnansweredError(str(doubt))
            doubted = True  # another prompt was just answered, so that what may pass has passed: once more

    def _known(self, ask: Ask) -> Reply | None:
        """The reply from before, or the refusal from before as an error."""
        if (known := self._cache.get(ask)) is not None:
            self.account.known += 1
            return known
        reason = None if self.retry_unanswered else self._cache.unanswered(ask)
        if reason is not None:
            self.account.known += 1
            raise UnansweredError(reason)
        return None

    def _claim(self, ask: Ask) -> bool:
        if self._endpoint is None:
            self._endpoint = self.open_endpoint()
        return self._cache.claim(ask, self._endpoint.timeout + CLAIM_SECONDS)

    async def _request(self, ask: Ask, retries: int | None = None) -> Reply:
        """What the endpoint says now; those that want the same meanwhile wait for the same request.

        Args:
            ask: what to ask.
            retries: see `Endpoint.ask`; 0 asks anew what was asked before.
        """
        if retries == 0 or ask.key not in self._requests:
            self._requests[ask.key] = asyncio.ensure_future(self._asked(ask, retries))
        return await self._requests[ask.key]

    async def _asked(self, ask: Ask, retries: int | None) -> Reply:
        """What the endpoint says now; only this process asks it."""
        assert self._endpoint is not None
        try:
            if (known := self._cache.get(ask)) is not None:  # it came between the look-up and the claim
                self.account.known += 1
                return known
            reply = await self._endpoint.ask(ask.text, lambda: self._admit(ask), self._pause, retries)
        except UnansweredError as error:
            self._cache.put_unanswered(ask, str(error))
            raise
        finally:
            self._cache.give_up(ask)
        self.on_model(reply.model)
        return reply

    async def _settle(self, ask: Ask, doubt: DoubtfulError, refused_at: float) -> None:
        """Find out whether a refusal that may concern every prompt does, by asking another question.

        Nothing else is sent until that is known. Returns if the prompt alone is at fault.

        Raises:
            InputError, ConnectionError: the other question is refused as well, or there is none to ask.
        """
        self._doubts += 1
        try:
            async with self._settling:
                if self._failure is not None:
                    raise _StoppedError
                if not self._answered_since(refused_at, ask) and not await self._another_is_answered(ask, doubt):
                    self._fail(doubt.verdict)
                    raise doubt.verdict
        finally:
            self._doubts -= 1
            async with self._turn:
                self._turn.notify_all()

    def _answered_since(self, moment: float, ask: Ask) -> bool:
        return any(at >= moment for question, at in self._answered.items() if question != ask.question_id)

    async def _another_is_answered(self, ask: Ask, doubt: DoubtfulError) -> bool:
        """Whether the endpoint answers another question: one of those that are still to be asked, where there are any.

        A server that fails is asked a few, and finally one that it has answered before: the only call that is made, and
        may be paid for, just to find out.
        """
        others = [self._ask_of(showing) for showing in self._showings if showing.question_id != ask.question_id]
        refused: set[str] = set()
        # What was sent before a refusal says less, and is waited for only when nothing else is left. Where a server
        # fails, such a request has failed a few times already, and is the first to tell.
        for trial in sorted(others, key=lambda trial: (trial.key in self._requests) is not doubt.passing):
            sent = self._requests.get(trial.key)
            if (sent is not None and sent.done()) or self._cache.knows(trial) or not self._claim(trial):
                continue
            if trial.question_id in refused:  # its other order is likely to fail for the same reason
                continue
            try:
                async with self._on_trial(trial):
                    await self._request(trial, TRIAL_RETRIES if doubt.passing else None)
                return True
            except UnansweredError:  # that prompt is at fault, which says nothing about others
                continue
            except DoubtfulError:
                refused.add(trial.question_id)
                if len(refused) == (TRIALS if doubt.passing else 1):
                    break
        if not doubt.passing:
            return not refused and self._answered_since(-math.inf, ask)
        known = next((ask for ask in others if self._cache.get(ask) is not None), None)
        if known is None:
            return False
        assert self._endpoint is not None
        try:
            async with self._on_trial(known):
                await self._endpoint.ask(known.text, lambda: self._admit(known), self._pause, TRIAL_RETRIES)
        except (UnansweredError, DoubtfulError):
            return False
        return True

    @asynccontextmanager
    async def _on_trial(self, ask: Ask) -> AsyncIterator[None]:
        """Let only this ask be sent."""
        self._trial = ask.key
        async with self._turn:
            self._turn.notify_all()
        try:
            yield
        finally:
            self._trial = None

    @asynccontextmanager
    async def _admit(self, ask: Ask) -> AsyncIterator[Call]:
        """Around each request: before it, wait for room in the account; after it, the reply is on disk."""
        account = self.account
        most = account.most(ask.text)
        async with self._turn:
            # Requests under way hold back the most that they can cost: once they end, there may be room.
            await self._turn.wait_for(
                lambda: (
                    self._failure is not None
                    or (self._may_go(ask) and (account.reached(most) is None or account.in_flight == 0))
                )
            )
            if self._failure is not None:
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
                self._cache.put(ask, call.reply)
                self._answered[ask.question_id] = sent_at
            account.end(most, call.reply, billed=call.billed)
            async with self._turn:
                self._turn.notify_all()

    def _may_go(self, ask: Ask) -> bool:
        return not self._doubts or ask.key == self._trial

    async def _pause(self, seconds: float) -> None:
        """Wait, unless asking ends meanwhile."""
        try:
            async with asyncio.timeout(seconds):
                await self._failed.wait()
        except TimeoutError:
            pass
