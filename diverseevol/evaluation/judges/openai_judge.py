"""Any OpenAI-compatible endpoint as the judge."""

import importlib.util
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.access import check_address, read_key
from diverseevol.evaluation.judges.base import AnswerSheet, Capabilities, Judgement
from diverseevol.evaluation.judges.budget import OPENAI, Account, Estimate, LimitReachedError, price_of
from diverseevol.evaluation.judges.pairwise import JudgePrompt, Showing, Verdicts, both_orders, load_prompt
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache
from diverseevol.storage.cache import cache_folder

LONGEST_TIMEOUT = 86_400.0  # seconds
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
            raise InputError("judge=openai needs the official client: pip install 'diverseevol[judge]'")
        for name, least, most in (
            ("max_tokens", 16, 10_000_000),
            ("concurrency", 1, 10_000),
            ("retries", 0, 1_000),
            ("backoff", 0, 3_600),
            ("max_unparsed", 0, 1),
            ("temperature", 0, 100),
        ):
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise InputError(f"judge.{name} is {value}; it must be a number from {least} to {most:,}")
        if not 0 < self.timeout <= LONGEST_TIMEOUT:
            raise InputError(
                f"judge.timeout is {self.timeout}; it must be above 0 and at most {LONGEST_TIMEOUT:,} seconds"
            )
        if not self.model.strip() or not self.model.isprintable():
            raise InputError(f"judge.model is {self.model!r}; it must be the name of a model at the endpoint")
        if self.key_variable is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", self.key_variable):
            # The value may be a key: it is not repeated.
            raise InputError(
                "judge.key_variable is not the name of an environment variable (capitals, digits and '_'); put the key "
                "into such a variable, and give its name"
            )
        self.base_url = check_address(self.base_url)
        self.wording: JudgePrompt = load_prompt(self.prompt)
        price = price_of(self.model, self.base_url, self.price)
        self.account = Account(price, self.max_tokens, self.max_calls, self.budget_usd)
        self._other_models: set[str] = set()
        if self.max_calls != 0:
            self._key()

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
        from diverseevol.evaluation.judges.endpoint import Endpoint

        showings, benchmark = both_orders(sheet), sheet.benchmark.name
        refused: list[tuple[Showing, str]] = []
        verdicts = Verdicts(
            showings, self.name, self.wording.version, benchmark, self.max_unparsed,
            f"judge.max_tokens={self.max_tokens}",
        )  # fmt: skip
        with sheet.progress.track(f"judge {benchmark}", len(showings)) as advance:

            def on_reply(showing: Showing, replies: Sequence[Reply]) -> None:
                advance(1)
                verdicts.add(showing, replies)

            asking = Asking(
                lambda: Endpoint(
                    self.base_url, self.model, self._key(), self.key_variable, self._limits(), self.timeout,
                    self.retries, self.backoff,
                ),
                self._file, self.account, self.wording, self._identity, self.concurrency,
                on_reply=on_reply, on_model=self._answered_by, retry_unanswered=self.retry_unanswered,
                on_unanswered=lambda showing, words: refused.append((showing, words)),
            )  # fmt: skip
            try:
                asking.ask(showings)
            except LimitReachedError as limit:
                raise self._stopped(str(limit), sheet) from limit
            finally:
                self._tell_refused(refused, showings, benchmark)
        return verdicts.all()

    def estimate(self, sheet: AnswerSheet) -> Estimate:
        """What judging these answers would take."""
        showings = both_orders(sheet)
        version = self.wording.version
        asks = [Ask(self._identity, version, s.question_id, s.order, self.wording.ask(s)) for s in showings]
        with ReplyCache(self._file) as cache:
            known = (lambda ask: cache.get(ask) is not None) if self.retry_unanswered else cache.knows
            missing = [ask for ask in asks if not known(ask)]
        priced = self.account.price is not None
        return Estimate(len(asks), len(missing), sum(self.account.likely(a.text) for a in missing) if priced else None)

    @property
    def _identity(self) -> str:
        temperature = "" if self.temperature is None else f" temperature={self.temperature:g}"
        return f"{self.base_url} {self.model}{temperature} {self.token_parameter}={self.max_tokens}"

    def _limits(self) -> dict[str, float]:
        temperature = {} if self.temperature is None else {"temperature": self.temperature}
        return {self.token_parameter: self.max_tokens, **temperature}

    @property
    def _file(self) -> Path:
        return cache_folder(self.cache) / "judgements.sqlite"

    def _stopped(self, limit: str, sheet: AnswerSheet) -> LimitReachedError:
        left = self.estimate(sheet)
        dollars = "" if left.dollars is None else f", about ${left.dollars:.2f}"
        return LimitReachedError(
            f"{limit} stops the judging before it is passed ({self.account}); of {left.judgements} judgements of "
            f"benchmark {sheet.benchmark.name} {left.missing} remain{dollars}: raise it and run the same command "
            f"again, all replies are kept"
        )

    def _tell_refused(self, refused: Sequence[tuple[Showing, str]], asked: Sequence[Showing], benchmark: str) -> None:
        if not refused:
            return
        showing, words = min(refused, key=lambda refusal: asked.index(refusal[0]))
        log.warning(
            "benchmark %s: %s does not answer %d of %d prompts, which are recorded without scores (the first: question "
            "%r, order %d: %s); they are not asked again unless you give judge.retry_unanswered=true",
            benchmark, self.base_url, len(refused), len(asked), showing.question_id, showing.order, words,
        )  # fmt: skip

    def _answered_by(self, model: str | None) -> None:
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

    def _key(self) -> str | None:
        return read_key(self.key_variable, self.base_url)
