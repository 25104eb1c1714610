"""Fitting, embedding and answering: by the project's own learner, and the plain Hugging Face way.

Plain is fair: the same model, precision, rows, optimizer steps, questions, and number of tokens or questions together,
in loops such as transformers' Trainer has. What it lacks is what the project adds: its batches are padded in the order
of the rows, logits are computed for all tokens of a fit, and answers that have ended wait for the last of their batch.
"""

import functools
import gc
import itertools
import math
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from transformers import GenerationConfig, PreTrainedModel, get_scheduler

from diverseevol.data.tokens import Tokens
from diverseevol.engine.answering.generation import own_ends
from diverseevol.engine.learner import Learner
from diverseevol.engine.memory import is_out_of_memory, peak_memory, reset_peak_memory
from diverseevol.engine.shapes import shape_without_weights
from diverseevol.engine.tuning.batches import collate, plan_steps
from diverseevol.options import Generation, LoRA, Tuning
from perf.gpu.subjects import Size, Subject

OURS, PLAIN = "ours", "plain"
SEED = (0,)
EXPECTED = 0.3  # share of the matrix rate, from which the number of rows follows
STEPS = 4  # optimizer steps at least; the first is not timed
MOST_ROWS = 20_000  # rows at most


@dataclass(frozen=True)
class Work:
    """What a turn did: real tokens without padding (of answers, new ones), its seconds, and something to compare."""

    tokens: int
    seconds: float
    result: Any = None


Way = Callable[[], Work]


@dataclass(frozen=True)
class Case:
    """A model on a device whose matrix rate was measured, in operations a second."""

    subject: Subject
    size: Size
    device: str
    rate: float

    @cached_property
    def weights(self) -> int:
        """Weights of the layers' products: neither the embedding table nor the head is counted."""
        return shape_without_weights(self.subject.foundation, Tuning()).products

    def operations(self, job: str) -> int:
        """Floating-point operations a token: for each weight 2 forward, 2 to its inputs' gradient, 2 to its own."""
        adapters = isinstance(self.subject.tuning, LoRA)
        return self.weights * ((4 if adapters else 6) if job == "fit" else 2)

    def measure(self, job: str) -> dict[str, Any]:
        """Let both ways take turns at a job; what they took and gave, ready to be written down."""
        clear(self.device)
        with tempfile.TemporaryDirectory() as folder:
            ways = {"fit": self._fit, "embedding": self._embedding, "answers": self._answers}[job](Path(folder))
            measured = self._in_turns(ways)
        for line in measured.values():
            if "seconds" in line:
                rates = [n / s for n, s in zip(line["tokens"], line["seconds"], strict=True)]
                line["tokens_per_second"] = median(rates)
                line["share"] = median(rates) * self.operations(job) / self.rate
        return {"weights": self.weights, "operations_per_token": self.operations(job), "ways": measured}

    def _in_turns(self, ways: dict[str, Way]) -> dict[str, dict[str, Any]]:
        """Forth and back, so that none is always the first; one that fails leaves the others their turns."""
        lines: dict[str, dict[str, Any]] = {name: {"tokens": [], "seconds": []} for name in ways}
        results: dict[str, Any] = {}
        start = time.perf_counter()
        for turn in range(self.size.turns):
            if turn and time.perf_counter() - start > self.size.most_seconds:
                break
            for name in list(ways)[:: -1 if turn % 2 else 1]:
                if "seconds" not in lines[name]:
                    continue
                clear(self.device)
                reset_peak_memory()
                try:
                    work = ways[name]()
                except Exception as error:
                    lines[name] = _failure(error)
                    continue
                lines[name]["tokens"].append(work.tokens)
                lines[name]["seconds"].append(work.seconds)
                peaks = peak_memory()
                lines[name]["peak_bytes"] = peaks.get("device", peaks["processor"])
                results[name] = work.result
        for name in results.keys() - {PLAIN}:
            if PLAIN in results and results[PLAIN] is not None:
                ours, plain = np.asarray(results[name]), np.asarray(results[PLAIN])
                lines[name]["difference_to_plain"] = float(np.abs(ours - plain).mean() / (np.abs(plain).mean() or 1.0))
        return lines

    def _variants(self, job: str, ours: Callable[..., Any]) -> dict[str, Any]:
        """Our ways: `ours` bound to the options of each variant."""
        variants = self.subject.variants.get(job, {"": {}})
        return {named(label): functools.partial(ours, options) for label, options in variants.items()}

    def _rows(self, job: str, multiple: int, least: int) -> Tokens:
        """Rows that take some `seconds`, a multiple of a number of them."""
        mean = float(self.subject.rows(1_000).lengths.mean())
        wanted = self.size.seconds * EXPECTED * self.rate / self.operations(job) / mean
        return self.subject.rows(multiple * math.ceil(min(max(wanted, least), MOST_ROWS) / multiple))

    def _model(self, learner: Learner) -> PreTrainedModel:
        """What a round embeds and answers with, although it has learned nothing."""
        return learner.models.to_train().to(self.device).eval()

    def _fit(self, folder: Path) -> dict[str, Way]:
        tuning = replace(self.subject.tuning, batch_size=self.size.batch_size)
        encoded = self._rows("fit", tuning.batch_size, STEPS * tuning.batch_size)
        learner = replace(self.subject.learner(encoded, self.device), tuning=tuning)
        rows = np.arange(len(encoded))
        plan = plan_steps(
            encoded, rows, epochs=1, steps=None, batch_size=tuning.batch_size,
            micro_batch_tokens=tuning.micro_batch_tokens, rng=np.random.default_rng(SEED),
        )  # fmt: skip
        of_steps = [sorted(itertools.chain(*step.micro_batches)) for step in plan]
        tokens = sum(int(encoded.lengths[some].sum()) for some in of_steps[1:])

        def ours(options: dict[str, Any]) -> Work:
            ends: list[float] = []
            own = replace(learner, tuning=replace(tuning, **options))  # which reads weights of its own
            curve = own.fit(rows, SEED, on_step=lambda step, values: ends.append(time.perf_counter())).curve
            return Work(tokens, ends[-1] - ends[0], [point["loss"] for point in curve])

        def plain() -> Work:
            torch.use_deterministic_algorithms(False)
            model = replace(learner).models.to_train().to(self.device).train()  # likewise
            trained = [weight for weight in model.parameters() if weight.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=tuning.learning_rate, weight_decay=0.0, fused=True)
            warmup = math.ceil(tuning.warmup_ratio * len(plan))
            schedule = get_scheduler(tuning.schedule, optimizer, warmup, len(plan))
            ends, losses = [], []
            for step, some in zip(plan, of_steps, strict=True):
                total = torch.zeros((), device=self.device)
                for batch in self._padded(encoded, some, tuning.micro_batch_tokens):
                    with self._mixed():
                        loss = model(**batch, use_cache=False, num_items_in_batch=step.response_tokens).loss
                    loss.backward()
                    total += loss.detach()
                torch.nn.utils.clip_grad_norm_(trained, tuning.max_grad_norm)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                losses.append(float(total))
                ends.append(time.perf_counter())
            return Work(tokens, ends[-1] - ends[0], losses)

        return {**self._variants("fit", ours), PLAIN: plain}

    def _embedding(self, folder: Path) -> dict[str, Way]:
        encoded = self._rows("embedding", 1, self.size.least_rows)
        learner = self.subject.learner(encoded, self.device)
        model = self._model(learner)

        def ours(options: dict[str, Any], rows: Int[np.ndarray, " some"]) -> Work:
            own = replace(learner, embedding=replace(learner.embedding, **options))
            start = time.perf_counter()
            vectors, _ = own.probe(model, rows, folder)
            return Work(int(encoded.lengths[rows].sum()), time.perf_counter() - start, np.array(vectors))

        def plain(rows: Int[np.ndarray, " some"]) -> Work:
            torch.use_deterministic_algorithms(False)
            model.to(self.device)  # from which a trainer may have moved it
            synchronize(self.device)
            start = time.perf_counter()
            vectors = []
            with torch.no_grad(), self._mixed():  # around the loop, so that weights are cast once
                for batch in self._padded(encoded, rows.tolist(), self.size.embedded_together):
                    hidden = model.base_model(
                        input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
                    ).last_hidden_state
                    mask = batch["attention_mask"][:, :, None]
                    vectors.append(((hidden.float() * mask).sum(dim=1) / mask.sum(dim=1)).cpu().numpy())
            return Work(int(encoded.lengths[rows].sum()), time.perf_counter() - start, np.concatenate(vectors))

        ways = {**self._variants("embedding", ours), PLAIN: plain}
        return self._warmed(ways, np.arange(self.size.least_rows // 3), np.arange(len(encoded)))

    def _answers(self, folder: Path) -> dict[str, Way]:
        learner = self.subject.learner(self.subject.rows(1), self.device)
        model, prompt = self._model(learner), self.subject.prompt
        self.subject.end_answers(model, self.size.end_every)
        ends = sorted({*prompt.stop_tokens, *own_ends(model)})
        questions = self.subject.questions(self.size.questions)
        generation = Generation(max_new_tokens=self.size.new_tokens, temperature=0.7, batch_size=self.size.questions)

        def counted(texts: Sequence[str], start: float) -> Work:
            ids = prompt.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
            return Work(sum(map(len, ids)) + len(texts), time.perf_counter() - start)  # and what ended each

        def ours(options: dict[str, Any], n: int) -> Work:
            start = time.perf_counter()
            return counted(
                learner.answer(model, questions[:n], [(0, i) for i in range(n)], replace(generation, **options)), start
            )

        def plain(n: int) -> Work:
            torch.use_deterministic_algorithms(False)
            model.to(self.device)
            synchronize(self.device)
            start = time.perf_counter()
            asked = prompt.ids([question for question, _ in questions[:n]], [""] * n)
            configuration = GenerationConfig(
                max_new_tokens=generation.max_new_tokens, do_sample=True, temperature=generation.temperature, top_k=0,
                top_p=1.0, eos_token_id=ends, pad_token_id=ends[0],
            )  # fmt: skip
            texts = []
            for begin in range(0, n, generation.batch_size):
                some = asked[begin : begin + generation.batch_size]
                longest = max(map(len, some))
                ids = torch.tensor([[ends[0]] * (longest - len(x)) + x for x in some], device=self.device)
                mask = torch.tensor([[0] * (longest - len(x)) + [1] * len(x) for x in some], device=self.device)
                with self._mixed():
                    out = model.generate(input_ids=ids, attention_mask=mask, generation_config=configuration)
                for new in out[:, longest:].tolist():
                    texts.append(prompt.text(list(itertools.takewhile(lambda token: token not in ends, new))))
            return counted(texts, start)

        return self._warmed({**self._variants("answers", ours), PLAIN: plain}, min(2, len(questions)), len(questions))

    def _warmed(self, ways: dict[str, Callable[[Any], Work]], little: Any, much: Any) -> dict[str, Way]:
        """The ways with all their work, each after a little of it that is not timed."""

        def first_warmed(way: Callable[[Any], Work]) -> Way:
            warm: list[Work] = []

            def work() -> Work:
                if not warm:
                    warm.append(way(little))
                    clear(self.device)
                    reset_peak_memory()
                return way(much)

            return work

        return {name: first_warmed(way) for name, way in ways.items()}

    def _padded(self, encoded: Tokens, rows: Sequence[int], budget: int) -> Iterator[dict[str, torch.Tensor]]:
        """Rows in their order, in batches of at most so many tokens with their padding, on the device."""
        batches: list[list[int]] = [[]]
        for row in rows:
            longest = int(encoded.lengths[[*batches[-1], row]].max())
            if batches[-1] and longest * (len(batches[-1]) + 1) > budget:
                batches.append([])
            batches[-1].append(row)
        for some in batches:
            batch = collate(encoded, some, self.subject.prompt.end)
            yield {name: batch[name].to(self.device) for name in ("input_ids", "attention_mask", "labels")}

    @contextmanager
    def _mixed(self) -> Iterator[None]:
        with torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.subject.precision == "bf16-mixed"):
            yield


def matrix_rate(side: int, device: str) -> float:
    """Operations a second of a bfloat16 matrix product, as it is measured: the median of five."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = []
    products = 50 if device == "cuda" else 2
    for _ in range(6):  # the first warms up
        synchronize(device)
        start = time.perf_counter()
        for _ in range(products):
            a @ b
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 * products / median(seconds[1:])


def synchronize(device: str) -> None:
    """Wait until a device has done its work."""
    if device == "cuda":
        torch.cuda.synchronize()


def clear(device: str) -> None:
    """Free what lies in cycles of references, and what torch keeps of a device's memory."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def named(label: str) -> str:
    """The name of our way with the options of a variant."""
    return f"{OURS}, {label}" if label else OURS


def _failure(error: Exception) -> dict[str, Any]:
    """What is written down of a way that failed: that the device was full is a result."""
    if is_out_of_memory(error.__cause__ or error):
        return {"out_of_memory": True}
    traceback.print_exception(error)
    return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:300]}
