"""`torchrun … -m sharded_fits FOLDER`: fits of small models by several processes, each by DDP and by FSDP2.

`FOLDER/<strategy>/<fit>/` gets what a round keeps, and `fit.json` with losses and with how much of the weights each
process held.
"""

import functools
import gc
import json
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import families
import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.precision.precision import Precision
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import AutoModelForCausalLM

from diverseevol.engine.launch import join
from diverseevol.engine.learner import Learner
from diverseevol.engine.pretrained import Pretrained
from diverseevol.engine.tuning import compiled
from diverseevol.engine.tuning.optimizer import RoundingAdamW, first_element
from diverseevol.engine.tuning.sharding import Shards
from diverseevol.options import LoRA, Tuning
from diverseevol.parallel.processes import Processes, leave

USUAL: dict[str, Any] = {
    "learning_rate": 1e-2, "steps": 4, "batch_size": 4, "micro_batch_tokens": 60, "warmup_ratio": 0.0,
}  # fmt: skip
FULL, ADAPTERS = Tuning(**USUAL), LoRA(**USUAL, rank=4)


@dataclass(frozen=True)
class Case:
    """What is fitted, and how."""

    family: str = "llama"
    tied: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)
    dtype: str = "float32"
    precision: str = "32-true"
    tuning: Tuning = FULL


CASES = {
    "tied": Case(),
    "untied": Case(tied=False, tuning=replace(FULL, gradient_checkpointing=True, weight_decay=0.1)),
    "clipped": Case(tuning=replace(FULL, max_grad_norm=0.05)),
    "mixed": Case(precision="bf16-mixed"),
    "converted": Case(precision="bf16-true"),
    "capped": Case("gemma2"),
    "compiled": Case(tuning=replace(FULL, compile=True)),
    "packed": Case(tuning=replace(FULL, packing=True, gradient_checkpointing=True)),
    "rounded": Case(dtype="bfloat16", tuning=replace(FULL, moments="bfloat16", rounding="stochastic")),
    "transposed": Case("gpt2", changes={"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}),
    "lora": Case(tuning=ADAPTERS),
    "lora beside bfloat16": Case(
        tied=False, dtype="bfloat16", tuning=replace(ADAPTERS, gradient_checkpointing=True)
    ),
}  # fmt: skip


def save(folder: Path) -> None:
    """The models that are fitted."""
    for case in CASES.values():
        if not checkpoint(folder, case).exists():
            families.save(case.family, checkpoint(folder, case), tie_word_embeddings=case.tied, **case.changes)


def checkpoint(folder: Path, case: Case) -> Path:
    """Where a model is before it is fitted."""
    return folder / f"{case.family}-{case.tied}"


def run(folder: Path, name: str, strategy: str, processes: Processes) -> None:
    """One fit, which leaves what it made."""
    case, kept = CASES[name], folder / strategy / name
    options = {"precision": case.precision} | ({"strategy": strategy} if processes.world > 1 else {})
    learner = Learner(
        foundation=Pretrained(str(checkpoint(folder, case)), dtype=case.dtype), prompt=families.prompt(),
        encoded=families.rows(), tuning=case.tuning, processes=processes,
        trainer=functools.partial(lightning.Trainer, accelerator="cpu", **options),
    )  # fmt: skip
    with mock.patch.object(compiled, "BACKEND", "eager"):  # traced alone: compilers take minutes
        fit = learner.fit(np.arange(len(learner.encoded)), (0,))
    shares = processes.gather(SHARES.pop() if SHARES else 1.0)
    tied = fit.model.get_input_embeddings().weight is fit.model.get_output_embeddings().weight
    # Every process has the complete model afterwards.
    sums = processes.gather(float(sum(weight.detach().double().abs().sum() for weight in fit.model.parameters())))
    if processes.first:
        learner.models.save(fit.model, kept)
        record = {"losses": [point["loss"] for point in fit.curve], "shares": shares, "tied": tied, "sums": sums}
        gc.collect()  # as happens after the fit of a model that is not small
        record["open"] = len([*Path("/proc/self/fd").iterdir()])
        (kept / "fit.json").write_text(json.dumps(record))
    processes.barrier()


def round_alike(folder: Path, strategy: str, processes: Processes) -> None:
    """Two steps in bfloat16 from the same gradients in any number of processes: only the rounding is drawn."""
    torch.manual_seed(0)
    config = families.config_of("llama", vocab_size=321)  # an odd number of rows, so halves are unequal
    model = AutoModelForCausalLM.from_config(config).to(torch.bfloat16)
    shards = Shards(model, torch.device("cpu"), processes.world, Precision()) if processes.world > 1 else None
    weights = [*(shards.sharded if shards else model).parameters()]
    optimizer = RoundingAdamW(weights, 1e-2, 0.0, moments=torch.bfloat16, stochastic=True, seed=(0, 1))
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        for weight in weights:
            gradient = torch.randn(weight.shape, generator=generator).to(torch.bfloat16)
            if isinstance(weight, DTensor):
                weight.grad = distribute_tensor(gradient, weight.device_mesh, weight.placements)
            else:
                weight.grad = gradient
        optimizer.step()
    complete = shards.gathered() if shards else model
    if processes.first:
        complete.save_pretrained(folder / strategy / "rounding")
    processes.barrier()


SHARES: list[float] = []


def watch() -> None:
    """Note how much of a sharded model's weights this process holds; the optimizer knows which part it is."""
    gathered = Shards.gathered

    def noted(self: Shards) -> Any:
        weights = [*self.sharded.parameters()]
        for weight in weights:
            first, part = first_element(weight), weight.to_local().flatten()  # type: ignore[attr-defined]
            complete = weight.full_tensor().flatten()  # type: ignore[attr-defined]
            assert torch.equal(complete[first : first + len(part)], part)
        held = sum(weight.to_local().numel() for weight in weights)  # type: ignore[attr-defined]
        SHARES.append(held / sum(weight.numel() for weight in weights))
        return gathered(self)

    Shards.gathered = noted  # type: ignore[method-assign]


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    watch()
    peers = join()
    for strategy in ("ddp", "fsdp"):
        for name in CASES:
            run(Path(sys.argv[1]), name, strategy, peers)
    round_alike(Path(sys.argv[1]), "fsdp", peers)
    leave(peers)
