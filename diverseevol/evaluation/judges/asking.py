"""Many questions to one endpoint at once: known replies first, limits before each request, every reply kept."""

import asyncio
import logging
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from anyio import CancelScope
from anyio.from_thread import start_blocking_portal

from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.connection import PassingError
from diverseevol.evaluation.judges.budget import LimitReachedError
from diverseevol.evaluation.judges.endpoint import DoubtfulError, Endpoint
from diverseevol.evaluation.judges.openai_judge import OpenAI
from diverseevol.evaluation.judges.pairwise import to_ask_again
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache

log = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 300.0
UNREACHED_RETRIES = 2  # while an endpoint has never responded
CLAIM_SECONDS = 60.0  # beyond a request's time-out, for which a process keeps others from asking the same
POLL_SECONDS = 0.2
TRIALS, TRIAL_RETRIES = 2, 2  # how many other prompts test an endpoint that fails at one, and their retries


@dataclass
class Asking:
    """Asks a judge's endpoint, once.

    Attributes:
        judge: whom, with its cache, its account and how many requests may be under way at a time.
        on_reply: called with each ask and its replies: one, or two where the first could not be read; an exception
            ends all asking, as any other does.
    """

    judge: OpenAI
    on_reply: Callable[[Ask, Sequence[Reply]], None]

    _cache: ReplyCache = field(init=False)
    _endpoint: Endpoint | None = field(init=False, default=None)
    _failure: Exception | None = field(init=False, default=None)
    # The requests made or under way, by the ask's key.
    _requests: dict[str, "asyncio.Task[Reply]"] = field(init=False, default_factory=dict)
    # Prompts that were refused and wait to learn whether it is their own fault, and the key of the one ask
    # that goes on meanwhile.
    _doubts: int = field(init=False, default=0)
    _trial: str | None = field(init=False, default=None)
    # When the last answered request of each question was sent.
    _answered: dict[str, float] = field(init=False, default_factory=dict)

    def ask(self, asks: Sequence[Ask]) -> None:
        """Ask everything.

        The event loop runs in a thread of its own: the caller's thread only waits, so that a signal interrupts it at
        once, and it may have an event loop itself. After an interruption all requests are cancelled and have ended.

        Raises:
            LimitReachedError: a limit of the account stops it; what was asked before is kept.
            InputError: the key, the model or the request is not accepted.
            ConnectionError: the endpoint does not answer.
        """
        self._asks = asks
        with start_blocking_portal() as portal:
            portal.call(self._run)

    async def _run(self) -> None:
        self._turn, self._settling = asyncio.Condition(), asyncio.Lock()
        self._gate = asyncio.Semaphore(self.judge.concurrency)
        # Few questions are begun at a time: otherwise those that must be asked again would come after all others.
        self._begun = asyncio.Semaphore(2 * self.judge.concurrency)
        with ReplyCache(self.judge.file) as self._cache:
            try:
                # All of them end by themselves, even after a failure: replies on their way may have been paid for.
                await asyncio.gather(*map(self._ask, self._asks), return_exceptions=True)
            finally:
                if self._endpoint is not None:
                    with CancelScope(shield=True):
                        await self._endpoint.client.close()
        self._go_on()

    async def _ask(self, ask: Ask) -> None:
        try:
            async with self._begun:
                self._go_on()
                replies = [await self._reply(ask)]
                if to_ask_again(replies[0]):
                    replies.append(await self._reply(self.judge.wording.ask_again(ask, replies[0])))
            self.on_reply(ask, replies)
        except Exception as error:  # whatever it is, it ends all others before it propagates
            await self._fail(error)
            raise

    async def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        await self._notify()

    def _go_on(self) -> None:
        """Raise the failure, where any ask has failed for a reason that concerns all."""
        if self._failure is not None:
            raise self._failure

    async def _notify(self) -> None:
        """Wake those who wait for their turn."""
        async with self._turn:
            self._turn.notify_all()

    async def _reply(self, ask: Ask) -> Reply:
        doubted = False
        while True:
            doubt = None
            async with self._gate:
                if (known := self._known(ask, refusals=not self.judge.retry_unanswered)) is not None:
                    return known
                if self._claim(ask):
                    try:
                        return await self._request(ask, 0 if doubted else None)
                    except DoubtfulError as error:
                        doubt, refused_at = error, time.monotonic()
            if doubt is None:  # another process asks it: leave the gate to others meanwhile
                await self._pause(POLL_SECONDS)
                self._go_on()
                continue
            if not doubted:
                await self._settle(ask, doubt, refused_at)
            if doubted or not doubt.passing:
                refusal = Reply(str(doubt), unanswered=True)
                self._cache.put(ask, refusal)
                return refusal
            doubted = True  # another prompt was just answered, so that what may pass has passed: once more

    def _known(self, ask: Ask, *, refusals: bool = False) -> Reply | None:
        known = self._cache.get(ask, refusals=refusals)
        self.judge.account.known += known is not None
        return known

    def _claim(self, ask: Ask) -> bool:
        if self._endpoint is None:
            self._endpoint = Endpoint(self.judge)  # only now: what is known needs no key
        return self._cache.claim(ask, self.judge.timeout + CLAIM_SECONDS)

    async def _request(self, ask: Ask, retries: int | None = None) -> Reply:
        """What the endpoint says now; those that want the same meanwhile wait for the same request.

        With no retries, what was asked before is asked again.
        """
        if retries == 0 or ask.key not in self._requests:
            self._requests[ask.key] = asyncio.ensure_future(self._asked(ask, retries))
        return await self._requests[ask.key]

    async def _asked(self, ask: Ask, retries: int | None) -> Reply:
        """What the endpoint says now; only this process asks it."""
        try:
            if (known := self._known(ask)) is not None:  # it came between the look-up and the claim
                return known
            reply = await self._with_retries(ask, retries)
        finally:
            self._cache.give_up(ask)
        self.judge.note_model(reply.model)
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
                self._go_on()
                if not self._answered_since(refused_at, ask) and not await self._another_is_answered(ask, doubt):
                    await self._fail(doubt.verdict)
                    raise doubt.verdict
        finally:
            self._doubts -= 1
            await self._notify()

    def _answered_since(self, moment: float, ask: Ask) -> bool:
        return any(at >= moment for question, at in self._answered.items() if question != ask.question_id)

    async def _another_is_answered(self, ask: Ask, doubt: DoubtfulError) -> bool:
        """Whether the endpoint answers another question: one of those that are still to be asked, where there are any.

        A server that fails is asked a few, and finally one that it has answered before, perhaps of another benchmark:
        the only call that is made, and may be paid for, just to find out.
        """
        candidates = [trial for trial in self._asks if trial.question_id != ask.question_id]
        refused: set[str] = set()
        # What was sent before a refusal says less, and is waited for only when nothing else is left. Where a server
        # fails, such a request has failed a few times already, and is the first to tell.
        for trial in sorted(candidates, key=lambda trial: (trial.key in self._requests) is not doubt.passing):
            if trial.question_id in refused:  # its other order is likely to fail for the same reason
                continue
            sent = self._requests.get(trial.key)
            if (sent is not None and sent.done()) or self._cache.get(trial, refusals=True) or not self._claim(trial):
                continue
            try:
                async with self._on_trial(trial):
                    reply = await self._request(trial, TRIAL_RETRIES if doubt.passing else None)
                if not reply.unanswered:  # else that prompt is at fault, which says nothing about others
                    return True
            except DoubtfulError:
                refused.add(trial.question_id)
                if len(refused) == (TRIALS if doubt.passing else 1):
                    break
        if not doubt.passing and (refused or self._answered_since(-math.inf, ask)):
            return not refused
        known = next((trial for trial in candidates if self._cache.get(trial) is not None), self.judge.witness)
        if known is None:
            return False
        try:
            async with self._on_trial(known):
                reply = await self._with_retries(known, TRIAL_RETRIES)
        except DoubtfulError:
            return False
        return not reply.unanswered

    @asynccontextmanager
    async def _on_trial(self, ask: Ask) -> AsyncIterator[None]:
        """Let only this ask be sent."""
        self._trial = ask.key
        await self._notify()
        try:
            yield
        finally:
            self._trial = None

    async def _with_retries(self, ask: Ask, retries: int | None) -> Reply:
        """Ask once, and as often again as may help; each reply is on disk before anything else happens.

        Raises:
            DoubtfulError: this prompt is not answered, and perhaps no other.
            InputError: the key, the model or the request is not accepted, or a limit of the account is reached.
            ConnectionError: every request failed.
        """
        endpoint, account = self._endpoint, self.judge.account
        assert endpoint is not None
        retries = self.judge.retries if retries is None else min(retries, self.judge.retries)
        most = account.most(ask.text)
        for attempt in range(retries + 1):
            await self._admit(ask, most)
            reply, billed, sent_at = None, True, time.monotonic()
            try:
                reply = await endpoint.ask(ask.text)
                return reply
            except PassingError as error:
                billed, failure = error.billed, error
            except (DoubtfulError, InputError):
                billed = False
                raise
            finally:
                if reply is not None:
                    self._cache.put(ask, reply)
                    if not reply.unanswered:
                        self._answered[ask.question_id], self.judge.witness = sent_at, ask
                account.end(most, reply, billed=billed)
                await self._notify()
            # An endpoint may ask for a longer wait; one that asks for none is not asked again at once.
            backoff = min(60.0, self.judge.backoff * 2 ** min(attempt, 30)) * random.uniform(0.5, 1)
            wait = max(failure.wait or 0.0, backoff)
            enough = attempt >= (retries if endpoint.reached else min(retries, UNREACHED_RETRIES))
            if enough or wait > LONGEST_WAIT_SECONDS:
                break
            log.info("%s: %s; asking again in %.1f s", endpoint.client.base_url, failure.words, wait)
            await self._pause(wait)
        long_wait = f", and asks to wait {wait:.6g} s" if wait > LONGEST_WAIT_SECONDS else ""
        remedy = (
            "every reply so far is kept: run the same command again later, or with a lower judge.concurrency"
            if endpoint.reached
            else "check judge.base_url and that the server runs; every reply from before is kept"
        )
        verdict = ConnectionError(
            f"{endpoint.client.base_url}: {failure.words}{long_wait} (requests sent: {attempt + 1}); {remedy}"
        )
        if failure.prompt and not long_wait:
            raise DoubtfulError(failure.words, verdict, passing=not failure.unusable)
        raise verdict

    async def _admit(self, ask: Ask, most: float) -> None:
        """Wait for this request's turn, and for room in the account."""
        account = self.judge.account

        def may_go() -> bool:
            if self._failure is not None:
                return True
            # Requests under way hold back the most that they can cost: once they end, there may be room.
            has_room = account.reached(most) is None or account.in_flight == 0
            return has_room and (not self._doubts or ask.key == self._trial)

        async with self._turn:
            await self._turn.wait_for(may_go)
            self._go_on()
            if (limit := account.reached(most)) is not None:
                raise LimitReachedError(limit)
            account.begin(most)

    async def _pause(self, seconds: float) -> None:
        """Wait, unless asking ends meanwhile."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), self._turn:
                await self._turn.wait_for(lambda: self._failure is not None)
