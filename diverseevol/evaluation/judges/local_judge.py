"""A causal language model in this process as the judge: the same prompt as at an endpoint, without key or bill."""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from diverseevol.data.prompt import Prompt
from diverseevol.engine.answering.generation import generate, own_ends
from diverseevol.engine.model_limits import check_ids, positions
from diverseevol.engine.pretrained import Pretrained
from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import AnswerSheet, Capabilities, Judgement
from diverseevol.evaluation.judges.grammar import answer_of, is_mark, opened_thought, thinks
from diverseevol.evaluation.judges.pairwise import JudgePrompt, Verdicts, load_prompt, to_ask_again
from diverseevol.evaluation.judges.reply_cache import Ask, Reply, ReplyCache
from diverseevol.options import Generation, PromptOptions
from diverseevol.storage.cache import cache_folder

CHUNK_PROMPTS = 32  # judged before the verdicts are looked at: enough to give up a judge that never keeps to the form


@dataclass
class Local:
    """Shows each question with both answers, in either order, to a model of the Hugging Face hub or a local folder.

    The model is loaded when it has to judge something new, and released afterwards, so that it holds no memory while
    another one is trained.

    Attributes:
        path: a hub name or a folder.
        revision: branch, tag or commit on the hub.
        dtype: the precision of its weights.
        attention: the attention implementation.
        trust_remote_code: run code from the model's repository.
        template: "chat" for the tokeniser's own template, or "alpaca"; None is chat where there is one.
        prompt: a text file with a wording of the user's own; None is the project's.
        max_tokens: the longest reply: two scores and the reasons.
        max_thought_tokens: the longest thought before it, for models that think before they reply.
        batch_size: prompts answered together.
        max_unparsed: the greatest share of a benchmark's judgements that may be without two scores;
            prompts that are not answered do not count.
        cache: the folder with the replies; None is the project's cache folder.
    """

    path: str
    revision: str | None = None
    dtype: str = "bfloat16"
    attention: str = "auto"
    trust_remote_code: bool = False
    template: Literal["chat", "alpaca"] | None = None
    prompt: str | None = None
    max_tokens: int = 256
    max_thought_tokens: int = 4096
    batch_size: int = 16
    max_unparsed: float = 0.02
    cache: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("max_thought_tokens", 0), ("batch_size", 1), ("max_unparsed", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(f"judge.{name} is {getattr(self, name)}; it must be a number of at least {least}")
        self.wording: JudgePrompt = load_prompt(self.prompt)
        self.weights = Pretrained(self.path, self.revision, self.dtype, self.attention, self.trust_remote_code)

    @property
    def name(self) -> str:
        """The hub name, or the folder's."""
        return Path(self.path).name if Path(self.path).is_dir() else self.path

    @property
    def capabilities(self) -> Capabilities:
        """It compares with a competitor."""
        return Capabilities("competitor", self.wording.version)

    def judge(self, sheet: AnswerSheet) -> list[Judgement]:
        """Judge every answer against the competitor's, in both orders.

        Raises:
            InputError: an answer is missing, the model cannot be loaded, or too many replies hold no scores.
        """
        prompt = self._template()
        asks, benchmark = self.wording.asks(sheet, self._identity(prompt)), sheet.benchmark.name
        limit = f"judge.max_tokens={self.max_tokens} and judge.max_thought_tokens={self.max_thought_tokens}"
        verdicts = Verdicts(asks, self.name, benchmark, self.max_unparsed, limit)
        with (
            ReplyCache(cache_folder(self.cache) / "judgements.sqlite") as cache,
            sheet.progress.track(f"judge {benchmark}", len(asks)) as advance,
        ):
            reply_to = functools.partial(self._replies, cache, prompt, functools.cache(lambda: _load(self.weights)))
            # A few batches at a time: a judge that never keeps to the form is not asked everything.
            size = self.batch_size * math.ceil(CHUNK_PROMPTS / self.batch_size)  # full batches
            for start in range(0, len(asks), size):
                chunk = asks[start : start + size]
                replies = reply_to(chunk)
                again = {ask: self.wording.ask_again(ask, replies[ask]) for ask in chunk if to_ask_again(replies[ask])}
                replies |= reply_to(list(again.values()))
                for ask in chunk:
                    verdicts.add(ask, [replies[asked] for asked in (ask, again.get(ask)) if asked is not None])
                advance(len(chunk))
        return verdicts.all()

    def _replies(
        self, cache: ReplyCache, prompt: Prompt, model: Callable[[], PreTrainedModel], asks: Sequence[Ask]
    ) -> dict[Ask, Reply]:
        """The reply to each ask; each batch is kept as soon as it is done."""
        replies = {ask: reply for ask in asks if (reply := cache.get(ask)) is not None}
        missing = [ask for ask in asks if ask not in replies]
        for start in range(0, len(missing), self.batch_size):
            for ask, reply in self._generate(model(), prompt, missing[start : start + self.batch_size]).items():
                if not reply.unanswered:
                    cache.put(ask, reply)
                replies[ask] = reply
        return replies

    def _generate(self, model: PreTrainedModel, prompt: Prompt, asks: Sequence[Ask]) -> dict[Ask, Reply]:
        """What the model replies, or why it does not."""
        ids = dict(zip(asks, prompt.ids([ask.text for ask in asks], [""] * len(asks)), strict=True))
        # Models with relative positions, such as Bloom, have no longest prompt.
        longest = positions(model) or math.inf
        check_ids(model, max(max(tokens, default=0) for tokens in ids.values()), "judge.path")
        # A prompt that does not fit is not cut, which would hide an answer: it has no verdict.
        stops = sorted({*prompt.stop_tokens, *own_ends(model)})
        rooms = {ask: min(longest - len(t), self.max_tokens + self.max_thought_tokens) for ask, t in ids.items()}
        drafts = {a: _Draft(prompt, ids[a], int(room)) for a, room in rooms.items() if room >= self.max_tokens}
        unfinished, step = list(drafts.values()), self.max_tokens
        while unfinished:
            options = Generation(step, 0.0, self.batch_size)
            prompts = [draft.prompt_ids + draft.tokens for draft in unfinished]
            generated = generate(model, prompts, [(0,)] * len(unfinished), options, stops)
            for draft, tokens in zip(unfinished, generated, strict=True):
                draft.tokens += tokens
                draft.ended = len(tokens) < step
            # Only thoughts continue beyond the limit of a reply, each time to twice their length.
            unfinished = [draft for draft in unfinished if draft.is_thinking() and draft.room > len(draft.tokens)]
            step = min((min(draft.room, 2 * len(draft.tokens)) - len(draft.tokens) for draft in unfinished), default=0)
        replies = {ask: Reply(draft.text(), self.name, cut=not draft.ended) for ask, draft in drafts.items()}
        for ask in ids.keys() - drafts.keys():
            reason = f"(the prompt of {len(ids[ask])} tokens leaves no room for {self.max_tokens} in {longest})"
            replies[ask] = Reply(reason, unanswered=True)
        return replies

    def _template(self) -> Prompt:
        tokenizer = self.weights.tokenizer()
        return Prompt(tokenizer, PromptOptions(self.template or ("chat" if tokenizer.chat_template else "alpaca")))

    def _identity(self, prompt: Prompt) -> str:
        options = [
            self.weights.identity(), prompt.identity, self.attention, self.max_tokens, self.max_thought_tokens,
        ]  # fmt: skip
        return f"local {hashlib.sha256(json.dumps(options).encode()).hexdigest()}"


@dataclass
class _Draft:
    """A reply as it grows."""

    prompt: Prompt
    prompt_ids: list[int]
    room: int  # the most tokens that it may have
    tokens: list[int] = field(default_factory=list)
    ended: bool = False  # by the model

    def text(self) -> str:
        """The reply; special tokens are left out, except those that mark thoughts."""
        tokenizer = self.prompt.tokenizer
        special = tokenizer.added_tokens_decoder
        kept = [i for i in self.tokens if i not in special or not special[i].special or is_mark(special[i].content)]
        opened = opened_thought(tokenizer.decode(self.prompt_ids[-16:], skip_special_tokens=False))
        return f"{opened}{tokenizer.decode(kept, skip_special_tokens=False)}".strip()

    def is_thinking(self) -> bool:
        """Whether it was cut within a thought, or before the line after it had ended."""
        text = self.text()
        return not self.ended and thinks(text) and "\n" not in answer_of(text)


def _load(weights: Pretrained) -> PreTrainedModel:
    return weights.load().to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
