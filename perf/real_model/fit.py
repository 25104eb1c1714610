"""Fine-tuning on rows, the model's loading included.

Ours: `Learner.fit`. Plain: the loop of transformers' Trainer, with its optimizer, clipping, schedule, loss (normalised
over the optimizer step) and autocast, over the same micro-batches. TRL: `SFTTrainer`, whose loss drops the tokens
without labels before the head, on the same optimizer steps; its micro-batches have a fixed number of rows.
"""

import functools
import tempfile
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from jaxtyping import Int
from transformers import AutoModelForCausalLM, PrinterCallback, get_scheduler

from diverseevol.engine.tuning.batches import Step, collate, plan_steps
from diverseevol.options import Tuning
from perf.real_model.subject import OURS, PLAIN, PRECISIONS, TRL, Candidate, Subject, in_turns, named, plainly
from perf.turns import Report

SIZES = {"smoke": (4, 2, 1), "small": (8, 4, 2), "full": (64, 16, 3)}  # rows, rows of an optimizer step, turns
GOAL = 1.2
SEED = (0,)

Losses = list[float]


def has_trl() -> bool:
    """Whether TRL is installed (with accelerate, which it needs)."""
    return find_spec("trl") is not None and find_spec("accelerate") is not None


def candidates(subject: Subject, rows: Int[np.ndarray, " pool"], batch_size: int) -> dict[str, Candidate]:
    """Each way to fine-tune on some rows: the losses of its optimizer steps."""
    tuning = Tuning(learning_rate=1e-4, epochs=1, batch_size=batch_size, warmup_ratio=0.0)
    ways: dict[str, Candidate] = {}
    for precision in PRECISIONS:
        ways[named(OURS, precision)] = functools.partial(_ours, subject, rows, tuning, precision)
        ways[named(PLAIN, precision)] = functools.partial(_plain, subject, rows, tuning, precision)
        if has_trl():
            ways[named(TRL, precision)] = functools.partial(_trl, subject, rows, tuning, precision)
    return ways


def run(subject: Subject, size: str, report: Report) -> None:
    """Tokens a second, and how far the losses are from the plain way's in the same precision."""
    n, batch_size, turns = SIZES[size]
    rows = subject.rows(n)
    timed = in_turns(candidates(subject, rows, batch_size), candidates(subject, rows[:1], 1), turns)
    lengths, learned = subject.encoded.lengths[rows], subject.encoded.response_tokens[rows]
    report.table(
        f"fine-tuning on {len(rows)} rows of {lengths.mean():.0f} tokens on the average, "
        f"{learned.sum() / lengths.sum():.0%} of them responses; {batch_size} rows an optimizer step",
        [
            {
                "": name,
                "seconds": its.typical,
                "tokens a core-second": lengths.sum() / its.typical,
                "its time / ours": its.ratio(timed[named(OURS, name.split(", ")[1])]),
                "last loss": its.result[-1],
                "largest difference to plain": float(
                    np.abs(np.subtract(its.result, timed[named(PLAIN, name.split(", ")[1])].result)).max()
                ),
            }
            for name, its in timed.items()
        ],
    )
    if not has_trl():
        report.note("TRL and accelerate are not installed: SFTTrainer is left out")
    for precision in PRECISIONS:
        ratio = timed[named(PLAIN, precision)].ratio(timed[named(OURS, precision)])
        report.goal(f"fit, {precision}: the plain way's time / ours", ratio, GOAL)


def _plan(subject: Subject, rows: Int[np.ndarray, " pool"], tuning: Tuning) -> list[Step]:
    """The optimizer steps that `Learner.fit` lays out."""
    return plan_steps(
        subject.encoded, rows, epochs=tuning.epochs, steps=None, batch_size=tuning.batch_size,
        micro_batch_tokens=tuning.micro_batch_tokens, rng=np.random.default_rng(SEED),
    )  # fmt: skip


def _ours(subject: Subject, rows: Int[np.ndarray, " pool"], tuning: Tuning, precision: str) -> Callable[[], Losses]:
    learner = subject.learner(precision, tuning)
    return lambda: [point["loss"] for point in learner.fit(rows, SEED).curve]


def _plain(subject: Subject, rows: Int[np.ndarray, " pool"], tuning: Tuning, precision: str) -> Callable[[], Losses]:
    def work() -> Losses:
        plan = _plan(subject, rows, tuning)
        model = AutoModelForCausalLM.from_pretrained(subject.model, dtype=torch.float32).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=tuning.learning_rate, weight_decay=0.0, fused=True)
        schedule = get_scheduler(tuning.schedule, optimizer, num_warmup_steps=0, num_training_steps=len(plan))
        losses = []
        for step in plan:
            total = 0.0
            for some in step.micro_batches:
                batch = collate(subject.encoded, some, subject.prompt.end)
                inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
                with plainly(precision):
                    loss = model(**inputs, use_cache=False, num_items_in_batch=step.response_tokens).loss
                loss.backward()
                total += loss.item()
            torch.nn.utils.clip_grad_norm_(model.parameters(), tuning.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(total)
        return losses

    return work


def _trl(subject: Subject, rows: Int[np.ndarray, " pool"], tuning: Tuning, precision: str) -> Callable[[], Losses]:
    trl = import_module("trl")  # slow to import, and not everywhere
    encoded, batch_size = subject.encoded, min(tuning.batch_size, len(rows))
    # About as many tokens a micro-batch as ours, and a whole number of micro-batches a step.
    most = max(1, tuning.micro_batch_tokens // int(encoded.lengths[rows].max()))
    micro_batch = max(size for size in range(1, batch_size + 1) if batch_size % size == 0 and size <= most)

    def work() -> Losses:
        torch.use_deterministic_algorithms(False)
        ordered = [row for step in _plan(subject, rows, tuning) for some in step.micro_batches for row in some]
        records = [_record(subject, row) for row in ordered]
        with tempfile.TemporaryDirectory() as folder:
            options: dict[str, Any] = {
                "output_dir": folder, "use_cpu": True, "bf16": precision == "bf16", "fp16": False, "report_to": "none",
                "per_device_train_batch_size": micro_batch, "gradient_accumulation_steps": batch_size // micro_batch,
                "num_train_epochs": 1, "learning_rate": tuning.learning_rate, "lr_scheduler_type": tuning.schedule,
                "warmup_steps": 0, "weight_decay": 0.0, "max_grad_norm": tuning.max_grad_norm, "logging_steps": 1,
                "train_sampling_strategy": "sequential", "save_strategy": "no", "disable_tqdm": True,
                "activation_checkpointing": False, "dataset_kwargs": {"skip_prepare_dataset": True},
            }  # fmt: skip
            model = AutoModelForCausalLM.from_pretrained(subject.model, dtype=torch.float32)
            trainer = trl.SFTTrainer(
                model=model, args=trl.SFTConfig(**options), train_dataset=Dataset.from_list(records),
                processing_class=subject.prompt.tokenizer,
            )  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]

    return work


def _record(subject: Subject, row: int) -> dict[str, list[int]]:
    batch = collate(subject.encoded, [row], subject.prompt.end)
    return {name: batch[name][0].tolist() for name in ("input_ids", "labels")}
