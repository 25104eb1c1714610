"""A causal language model in this process as the judge: an endpoint's prompt, in batches, without key or bill."""

import functools
import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from diverseevol.errors import InputError
from diverseevol.evaluation.benchmarks import Benchmark
from diverseevol.evaluation.judges import Judgement
from diverseevol.evaluation.pairwise import JudgePrompt, both_orders, check_parsed, conclude, load_prompt, parse
from diverseevol.evaluation.replies import Ask, Reply, ReplyCache
from diverseevol.files import cache_folder
from diverseevol.foundation import Pretrained
from diverseevol.generation import Generation, generate, own_ends
from diverseevol.progress import Progress, Silent
from diverseevol.prompt import Prompt, PromptOptions


@dataclass
class LocalJudge:
    """Shows each question with both answers, in either order, to a model of the Hugging Face hub or a local folder.

    The model is loaded when something is to be judged that it was not asked before, and let go afterwards, so that it
    holds no memory while another one is trained.

    Attributes:
        path: a hub name or a folder.
        revision: branch, tag or commit on the hub.
        dtype: how its weights are held.
        attention: the attention implementation.
        trust_remote_code: run code that the model's repository brings.
        template: "chat" for the tokeniser's own template, "alpaca"; None takes chat where there is one.
        prompt: a text file with a wording of the user's own; None is the project's.
        max_tokens: the longest reply.
        batch_size: prompts answered together.
        max_unparsed: the greatest share of a benchmark's judgements that may be without two scores.
        cache: the folder with the replies; None is the project's cache folder.
    """

    path: str
    revision: str | None = None
    dtype: str = "bfloat16"
    attention: str = "sdpa"
    trust_remote_code: bool = False
    template: Literal["chat", "alpaca"] | None = None
    prompt: str | None = None
    max_tokens: int = 256
    batch_size: int = 16
    max_unparsed: float = 0.02
    cache: str | None = None

    progress: Progress = field(init=False, default_factory=Silent)
    label: str | None = field(init=False, default=None)
    compares_with: Literal["reference", "competitor", "nothing"] = field(init=False, default="competitor")

    def __post_init__(self) -> None:
        for name, least in (("max_tokens", 1), ("batch_size", 1), ("max_unparsed", 0)):
            if not least <= getattr(self, name) < math.inf:
                raise InputError(f"judge.{name} is {getattr(self, name)}; it must be a number of at least {least}")
        self.options = Generation(self.max_tokens, 0.0, self.batch_size)
        self.wording: JudgePrompt = load_prompt(self.prompt)
        self.weights = Pretrained(self.path, self.revision, self.dtype, self.attention, self.trust_remote_code)

    @property
    def name(self) -> str:
        """The hub name, or the folder's."""
        return Path(self.path).name if Path(self.path).is_dir() else self.path

    @property
    def prompt_version(self) -> str:
        """Of the wording."""
        return self.wording.version

    def judge(self, benchmark: Benchmark, answers: Mapping[str, str]) -> list[Judgement]:
        """Judge every answer against the competitor's, in both orders.

        Raises:
            InputError: an answer is lacking, the model cannot be loaded, or too many replies hold no scores.
        """
        showings = both_orders(benchmark, answers)
        prompt = self._template()
        identity, version = self._identity(prompt), self.wording.version

        def asks(texts: Mapping[int, str]) -> dict[int, Ask]:
            return {i: Ask(identity, version, showings[i].question_id, showings[i].order, t) for i, t in texts.items()}

        with (
            ReplyCache(cache_folder(self.cache) / "judgements.sqlite") as cache,
            self.progress.track(f"judge {benchmark.name}", len(showings)) as advance,
        ):
            model = functools.cache(lambda: _load(self.weights))
            first = self._replies(
                asks({i: self.wording.ask(s) for i, s in enumerate(showings)}), cache, prompt, model, advance
            )
            unread = {i: self.wording.ask_again(showings[i], said) for i, said in first.items() if parse(said) is None}
            second = self._replies(asks(unread), cache, prompt, model)
        replies = [[first[i], second[i]] if i in second else [first[i]] for i in range(len(showings))]
        judgements = [conclude(s, said, self.name, version) for s, said in zip(showings, replies, strict=True)]
        check_parsed(judgements, self.max_unparsed, benchmark.name)
        return judgements

    def _replies(
        self,
        asks: Mapping[int, Ask],
        cache: ReplyCache,
        prompt: Prompt,
        model: Callable[[], PreTrainedModel],
        advance: Callable[[int], None] = lambda done: None,
    ) -> dict[int, str]:
        """Replies by the asks' keys; each batch is kept as soon as it is there."""
        found = {i: reply.text for i, ask in asks.items() if (reply := cache.get(ask)) is not None}
        advance(len(found))
        missing = [i for i in asks if i not in found]
        for start in range(0, len(missing), self.batch_size):
            batch = missing[start : start + self.batch_size]
            said, unsaid = self._generate(model(), prompt, {i: asks[i].text for i in batch})
            for i, text in said.items():
                cache.put(asks[i], Reply(text, self.name))
            found.update({**said, **unsaid})
            advance(len(batch))
        return found

    def _generate(
        self, model: PreTrainedModel, prompt: Prompt, texts: Mapping[int, str]
    ) -> tuple[dict[int, str], dict[int, str]]:
        """What the model says, and why it says nothing to the others, which is no reply to keep."""
        ids = dict(zip(texts, prompt.ids(list(texts.values()), [""] * len(texts)), strict=True))
        # Models that tell places by distance, such as Bloom, have no longest prompt.
        longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
        # A prompt that does not fit is not cut, which would hide an answer: it has no verdict.
        fitting = [i for i, tokens in ids.items() if len(tokens) + self.max_tokens <= longest]
        stops = sorted({*prompt.stop_tokens, *own_ends(model)})
        said = generate(model, [ids[i] for i in fitting], [(0,)] * len(fitting), self.options, stops)
        decoded = [prompt.text(tokens) for tokens in said]
        return dict(zip(fitting, decoded, strict=True)), {
            i: f"(the prompt of {len(tokens)} tokens leaves no room for {self.max_tokens} in {longest})"
            for i, tokens in ids.items()
            if i not in fitting
        }

    def _template(self) -> Prompt:
        tokenizer = self.weights.tokenizer()
        return Prompt(tokenizer, PromptOptions(self.template or ("chat" if tokenizer.chat_template else "alpaca")))

    def _identity(self, prompt: Prompt) -> str:
        options = [self.weights.identity(), prompt.identity, self.attention, self.max_tokens]
        return f"local {hashlib.sha256(json.dumps(options).encode()).hexdigest()}"


def _load(weights: Pretrained) -> PreTrainedModel:
    return weights.load().to(torch.device("cuda" if torch.cuda.is_available() else "cpu")).eval()
