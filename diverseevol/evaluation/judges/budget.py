"""What judging costs: prices, and an account that admits each call, so that no limit is exceeded."""

import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.reply_cache import Reply

log = logging.getLogger(__name__)

OPENAI = "https://api.openai.com/v1"
# US dollars per million tokens, prompt and completion, as listed for api.openai.com in 2025; judge.price overrides.
PRICES = {
    "gpt-4": (30.0, 60.0),
    "gpt-4-turbo": (10.0, 30.0),
    "gpt-4o": (2.5, 10.0),
    "gpt-4o-mini": (0.15, 0.6),
    "gpt-4.1": (2.0, 8.0),
    "gpt-4.1-mini": (0.4, 1.6),
    "gpt-4.1-nano": (0.1, 0.4),
    "gpt-3.5-turbo": (0.5, 1.5),
}
SNAPSHOT = re.compile(r"-\d{4}(-\d{2}-\d{2})?")  # gpt-4-0613 and gpt-4o-2024-08-06 cost what their family does
MOST_DOLLARS = 1e6  # per million tokens: a dollar per token
FRAME_TOKENS = 16  # of a chat message around its text
TYPICAL_REPLY_TOKENS = 150
BYTES_PER_TOKEN = 4  # of English, for estimates; the limit itself assumes the worst, a token per byte


class LimitReachedError(InputError):
    """The next call would exceed `judge.max_calls` or `judge.budget_usd`."""


@dataclass(frozen=True)
class Price:
    """US dollars per million tokens."""

    prompt: float
    completion: float

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """US dollars."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What judging would take: judgements in all, those not known yet, and dollars where the price is known."""

    judgements: int
    missing: int
    dollars: float | None


def price_of(model: str, base_url: str, price: Any) -> Price | None:
    """What a model's tokens cost; None where that is not known.

    Args:
        model: its name.
        base_url: the endpoint; the table holds the prices of OpenAI's own.
        price: the user's [prompt, completion], in US dollars per million tokens.

    Raises:
        InputError: `price` is not two prices.
    """
    if price is not None:
        pair = isinstance(price, Sequence) and not isinstance(price, str) and len(price) == 2
        if not pair or not all(
            isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_DOLLARS
            for value in price
        ):
            raise InputError(f"judge.price is {price!r}; give [prompt, completion] in US dollars per million tokens")
        return Price(float(price[0]), float(price[1]))
    family = SNAPSHOT.sub("", model)
    return Price(*PRICES[family]) if base_url.rstrip("/") == OPENAI and family in PRICES else None


class Account:
    """Calls, tokens and dollars of one command.

    The most that a call can cost is held back until the call is over. A call whose end was not seen (a time-out, a cut
    connection) may have been billed, so it counts as the most.
    """

    def __init__(
        self, price: Price | None, max_tokens: int, max_calls: int | None = None, budget_usd: float | None = None
    ) -> None:
        for name, limit in (("max_calls", max_calls), ("budget_usd", budget_usd)):
            if limit is not None and not 0 <= limit < math.inf:
                raise InputError(f"judge.{name} is {limit}; it must be a number from 0 on, or null for no limit")
        if budget_usd is not None and price is None:
            raise InputError(
                "judge.budget_usd is set but this model's price is not known; give judge.price=[PROMPT,COMPLETION] in "
                "US dollars per million tokens"
            )
        self.price = price
        self.max_tokens = max_tokens
        self.max_calls = max_calls
        self.budget_usd = budget_usd
        self.calls = self.known = self.prompt_tokens = self.completion_tokens = 0
        self.spent = self.held = 0.0
        self.in_flight = 0
        self._warned = False

    def most(self, text: str) -> float:
        """The most that a prompt and its reply can cost, in US dollars; 0 where the price is not known."""
        if self.price is None:
            return 0.0
        return self.price.of(len(text.encode("utf-8", "replace")) + FRAME_TOKENS, self.max_tokens)

    def likely(self, text: str) -> float:
        """What a prompt and its reply will probably cost, in US dollars; 0 where the price is not known."""
        if self.price is None:
            return 0.0
        tokens = len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN + FRAME_TOKENS
        return self.price.of(tokens, min(TYPICAL_REPLY_TOKENS, self.max_tokens))

    def reached(self, most: float) -> str | None:
        """The limit that a call would exceed, as an option and its value; None where there is room."""
        if self.max_calls is not None and self.calls >= self.max_calls:
            return f"judge.max_calls={self.max_calls}"
        if self.budget_usd is not None and self.spent + self.held + most > self.budget_usd:
            return f"judge.budget_usd={self.budget_usd:g}"
        return None

    def begin(self, most: float) -> None:
        """A call is sent."""
        self.calls += 1
        self.in_flight += 1
        self.held += most

    def end(self, most: float, reply: Reply | None, *, billed: bool = True) -> None:
        """A call is over: with a reply, without one that may be billed, or refused and not billed."""
        self.in_flight -= 1
        self.held -= most
        if reply is None or reply.prompt_tokens is None or reply.completion_tokens is None:
            self.spent += most if billed else 0.0
            if reply is not None and not reply.unanswered and self.price is not None and not self._warned:
                self._warned = True
                log.warning(
                    "a reply came without token counts that can be right: such calls are charged at the most that they "
                    "can cost, here $%.4f",
                    most,
                )
            return
        self.prompt_tokens += reply.prompt_tokens
        self.completion_tokens += reply.completion_tokens
        if self.price is not None:
            self.spent += self.price.of(reply.prompt_tokens, reply.completion_tokens)

    def __str__(self) -> str:
        dollars = "" if self.price is None else f", ${self.spent:.2f}"
        return (
            f"{self.calls:,} calls, {self.known:,} replies known before, {self.prompt_tokens:,} + "
            f"{self.completion_tokens:,} tokens{dollars}"
        )
