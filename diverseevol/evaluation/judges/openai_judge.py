"""Any OpenAI-compatible endpoint as the judge."""

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diverseevol.errors import InputError, not_installed
from diverseevol.evaluation.endpoints.access import check_address, check_variable, read_key
from diverseevol.evaluation.judges.base import AnswerSheet, Capabilities, Judgement
from diverseevol.evaluation.judges.budget import OPENAI, Account, Estimate, LimitReachedError, price_of
from diverseevol.evaluation.judges.pairwise import JudgePrompt, Verdicts, load_prompt
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache
from diverseevol.storage.cache import cache_folder

MOST_OTHER_MODELS = 3  # of which a warning is given

log = logging.getLogger(__name__)


@dataclass
class OpenAI:
    """Shows each question with both answers, in either order, to a model behind an OpenAI-compatible endpoint.

    Attributes:
        model: the model's name at the endpoint; recorded as the judge.
        base_url: the endpoint.
        key_variable: the environment variable that holds the key, the only place it is read from; None sends none.
        prompt: a text file with a wording of the user's own; None is the project's.
        max_tokens: of the longest reply.
        token_parameter: what the endpoint calls that limit; reasoning models accept only `max_completion_tokens`.
        temperature: None leaves it to the endpoint, as reasoning models want it.
        concurrency: requests under way at a time.
        timeout: seconds for a request.
        retries: further requests after one that failed in a way that may pass.
        backoff: seconds before the first of them, doubled each time, unless the endpoint says how long to wait.
        max_unparsed: the greatest share of a benchmark's judgements that may be without two scores;
            prompts that are not answered do not count.
        max_calls: requests of one command; None is no limit.
        budget_usd: US dollars of one command; None is no limit.
        price: [prompt, completion] in US dollars per million tokens; None takes the project's table.
        retry_unanswered: whether prompts that the endpoint refused before are asked again.
        cache: the folder with the replies; None is the project's cache folder.
        account: what was spent, and the limits.
        witness: the prompt that the endpoint has answered last, in whatever benchmark: what it is asked again to find
            out whether it still answers.
    """

    model: str
    base_url: str = OPENAI
    key_variable: str | None = "OPENAI_API_KEY"
    prompt: str | None = None
    max_tokens: int = 512
    token_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    temperature: float | None = 0.0
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 6
    backoff: float = 1.0
    max_unparsed: float = 0.02
    max_calls: int | None = None
    budget_usd: float | None = None
    price: Any = None
    retry_unanswered: bool = False
    cache: str | None = None

    account: Account = field(init=False)

    def __post_init__(self) -> None:
        if importlib.util.find_spec("openai") is None:
            raise not_installed("judge=openai", "judge")
        for name, least, most in (
            ("max_tokens", 16, 10_000_000),
            ("concurrency", 1, 10_000),
            ("retries", 0, 1_000),
            ("backoff", 0, 3_600),
            ("max_unparsed", 0, 1),
            ("temperature", 0, 100),
            ("timeout", 0.001, 86_400),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"judge.{name} is {value}; it must be a number from {least} to {most:,}")
        if not self.model.strip() or not self.model.isprintable():
            raise InputError(f"judge.model is {self.model!r}; it must be the name of a model at the endpoint")
        check_variable(self.key_variable)
        self.base_url = check_address(self.base_url)
        self.wording: JudgePrompt = load_prompt(self.prompt)
        price = price_of(self.model, self.base_url, self.price)
        self.account = Account(price, self.max_tokens, self.max_calls, self.budget_usd)
        self.witness: Ask | None = None
        self._other_models: set[str] = set()
        if self.max_calls != 0:
            self.key()

    @property
    def name(self) -> str:
        """The model's."""
        return self.model

    @property
    def capabilities(self) -> Capabilities:
        """It compares with a competitor, and is paid by the call."""
        return Capabilities("competitor", self.wording.version, costs=self)

    def judge(self, sheet: AnswerSheet) -> list[Judgement]:
        """Judge every answer against the competitor's, in both orders.

        Raises:
            InputError: an answer is missing, the endpoint does not accept the key, model or request, a limit is
                reached, or too many replies hold no scores.
            ConnectionError: the endpoint does not answer.
        """
        from diverseevol.evaluation.judges.asking import Asking

        asks, benchmark = self._asks(sheet), sheet.benchmark.name
        verdicts = Verdicts(asks, self.name, benchmark, self.max_unparsed, f"judge.max_tokens={self.max_tokens}")
        refused: dict[Ask, str] = {}
        with sheet.progress.track(f"judge {benchmark}", len(asks)) as advance:

            def on_reply(ask: Ask, replies: Sequence[Reply]) -> None:
                advance(1)
                if replies[-1].unanswered:
                    refused[ask] = replies[-1].text
                verdicts.add(ask, replies)

            try:
                Asking(self, on_reply).ask(asks)
            except LimitReachedError as limit:
                left = self.estimate(sheet)
                dollars = "" if left.dollars is None else f", about ${left.dollars:.2f}"
                raise LimitReachedError(
                    f"{limit} stops the judging before it is passed ({self.account}); of {left.judgements} judgements "
                    f"of benchmark {benchmark} {left.missing} remain{dollars}: raise it and run the same command "
                    f"again, all replies are kept"
                ) from limit
            finally:
                if refused:
                    first = next(ask for ask in asks if ask in refused)
                    log.warning(
                        "benchmark %s: %s does not answer %d of %d prompts, which are recorded without scores (the "
                        "first: question %r, order %d: %s); they are not asked again unless you give "
                        "judge.retry_unanswered=true",
                        benchmark, self.base_url, len(refused), len(asks), first.question_id, first.order,
                        refused[first],
                    )  # fmt: skip
        return verdicts.all()

    def estimate(self, sheet: AnswerSheet) -> Estimate:
        """What judging these answers would take."""
        asks = self._asks(sheet)
        with ReplyCache(self.file) as cache:
            missing = [ask for ask in asks if cache.get(ask, refusals=not self.retry_unanswered) is None]
        priced = self.account.price is not None
        return Estimate(len(asks), len(missing), sum(self.account.likely(a.text) for a in missing) if priced else None)

    def _asks(self, sheet: AnswerSheet) -> list[Ask]:
        temperature = "" if self.temperature is None else f" temperature={self.temperature:g}"
        identity = f"{self.base_url} {self.model}{temperature} {self.token_parameter}={self.max_tokens}"
        return self.wording.asks(sheet, identity)

    def limits(self) -> dict[str, float]:
        """What each request says of the reply: its greatest length and the temperature."""
        temperature = {} if self.temperature is None else {"temperature": self.temperature}
        return {self.token_parameter: self.max_tokens, **temperature}

    @property
    def file(self) -> Path:
        """The cache of replies."""
        return cache_folder(self.cache) / "judgements.sqlite"

    def key(self) -> str | None:
        """The key from its environment variable."""
        return read_key(self.key_variable, self.base_url)

    def note_model(self, model: str | None) -> None:
        """Warn, once per name, where another model answers than the one that was asked for."""
        if model is None or model == self.model or model.startswith(f"{self.model}-") or model in self._other_models:
            return
        if len(self._other_models) == MOST_OTHER_MODELS:
            return
        self._other_models.add(model)
        log.warning(
            "%s was asked for the model %s and answers with %s; its judgements are recorded under the name asked for",
            self.base_url, self.model, model,
        )  # fmt: skip
