"""The latest state of a long fit on disk, from which a fit that was cut goes on and ends as if it had not been.

A checkpoint is a sealed folder: `state.json`, the generators of each process (`random-<rank>.safetensors`), and the
weights that are trained, the model's buffers and the optimizer's state (`tensors-<rank>-<piece>.safetensors`), which
are the same in all processes and so the first one's, or, where they are sharded, of each process its part. The order
of the rows needs no state: it follows from the seed, and the steps that were taken are left out.
"""

import hashlib
import itertools
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import lightning
import numpy as np
import torch
from jaxtyping import Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from diverseevol.engine.tuning.sft import InstructionTuner
from diverseevol.engine.tuning.sharding import local
from diverseevol.errors import InputError
from diverseevol.parallel.processes import Processes
from diverseevol.parallel.signals import Postponed, postponed
from diverseevol.storage.files import read_json, write_json, writing
from diverseevol.storage.sealed import build_complete, damage

STATE = "state.json"
PIECE_BYTES = 1 << 30  # tensors of one file: what is copied from the device at a time
DUE = 1  # below the numbers of the signals that end the program

log = logging.getLogger(__name__)


class Checkpoints(lightning.Callback):
    """Has a fit go on from its checkpoint, and writes further ones: after so many minutes, and before it is ended."""

    def __init__(
        self, folder: Path | None, minutes: float | None, curve: Sequence[dict[str, float]], processes: Processes
    ) -> None:
        """Read and write nothing yet.

        Args:
            folder: the checkpoint's; only the latest is kept. None reads and writes none.
            minutes: how long a fit goes on before another one is written; None writes none.
            curve: the fit's curve as it grows, of the first process.
            processes: this process and its peers.
        """
        self.folder = folder
        self.minutes = None if folder is None else minutes
        self.curve = curve
        self.processes = processes
        self.signals = Postponed()
        self.identity: dict[str, Any] = {}
        self.state: dict[str, Any] | None = None  # of the checkpoint that the fit goes on from
        self.began = self.written = time.monotonic()
        self.announced = False

    def begin(
        self, module: InstructionTuner, rows: Int[np.ndarray, " pool"], seed: Sequence[int]
    ) -> list[dict[str, float]]:
        """Look for a checkpoint of this fit: its curve, a point for each step that was taken and is left out now."""
        weights = [
            (name, list(weight.shape), str(weight.dtype), isinstance(weight, DTensor))
            for name, weight in module.model.named_parameters()
            if weight.requires_grad
        ]
        content = json.dumps([rows.tolist(), list(map(int, seed)), module.total_steps, weights])
        self.identity = {"fit": hashlib.sha256(content.encode()).hexdigest(), "processes": self.processes.world}
        self.state = self.processes.share(self._read() if self.processes.first else None)
        taken = [] if self.state is None else list(self.state["curve"])
        if taken and self.processes.first:
            log.warning("the fit goes on from step %s of %s, by %s", len(taken), module.total_steps, self.folder)
        return taken

    @property
    def earlier(self) -> float:
        """The seconds that the steps took which are left out now."""
        return 0.0 if self.state is None else float(self.state["seconds"])

    def _read(self) -> dict[str, Any] | None:
        """What the checkpoint says; None where there is none that this fit can go on from, which is said."""
        if self.folder is None or not self.folder.exists():
            return None
        flaw = damage(self.folder, full=True)
        if flaw is None:
            state: dict[str, Any] = read_json(self.folder / STATE)
            if state["identity"] == self.identity:
                return state
            before, now = state["identity"]["processes"], self.processes.world
            flaw = f"it is of {before} processes, not {now}" if before != now else "it is of another fit"
        log.warning("%s: this checkpoint is not used (%s); the fit begins anew", self.folder, flaw)
        return None

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While the fit runs, a signal that would end it waits for a checkpoint, where these are written."""
        if self.minutes is None:
            yield
        else:
            with postponed() as self.signals:
                yield

    def on_train_batch_start(self, trainer: Any, module: Any, batch: list[dict[str, torch.Tensor]], index: int) -> None:
        """Before the first step that is left to take, everything becomes as it was after the last one taken."""
        if index == 0 and self.state is not None:
            # What a fit tests and lays out at its first batch, it does before its state is restored.
            with trainer.precision_plugin.train_step_context():
                module.warm_up(batch)
            self._restore(self.state, trainer, module)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, index: int) -> None:
        """After a step, write a checkpoint where one is due; then let a signal that was put off do what it does."""
        if self.minutes is None:
            return
        # After the last step only a signal needs one: the fit that goes on from it has no step left to take.
        left = len(module.losses) < module.total_steps
        due = left and self.processes.first and time.monotonic() - self.written >= 60 * self.minutes
        reason = self.processes.largest(self.signals.number or (DUE if due else 0))
        if reason == 0:
            return
        self._write(trainer, module)
        self.written = time.monotonic()
        if reason != DUE:  # every process gets the signal that one of them got
            self.signals.deliver(reason)

    def _write(self, trainer: lightning.Trainer, module: InstructionTuner) -> None:
        """Write the fit's state in the place of the checkpoint before; a full disk costs the checkpoint alone."""
        # Rank 0 makes the folder and shares its temporary name once, or None where it could not make it.
        self.announced = False
        if not self.processes.first:
            if partial := self.processes.share(None):
                self._fill(partial, trainer, module)
            self.processes.barrier()
            return
        try:
            build_complete(cast(Path, self.folder), lambda partial: self._fill(partial, trainer, module))
        except InputError as error:
            if not self.announced:
                self.processes.share(None)
            log.warning(
                "%s: the checkpoint cannot be written (%s); the fit goes on without it: make room",
                self.folder, error.__cause__ or error,
            )  # fmt: skip
        self.processes.barrier()

    def _fill(self, partial: Path, trainer: lightning.Trainer, module: InstructionTuner) -> None:
        """Put this process's files into the folder; on rank 0, raise what the disk of any process said."""
        if self.processes.first:
            self.announced = bool(self.processes.share(partial))
        refused = None
        try:
            with writing(partial):
                if self.processes.first:
                    write_json(partial / STATE, self._state(trainer))
                _write_tensors(partial, trainer.optimizers[0], module, self.processes.rank)
        except InputError as error:
            refused = str(error.__cause__ or error)
        refusals = [reason for reason in self.processes.gather(refused) if reason]
        if self.processes.first and refusals:
            raise InputError(refusals[0])

    def _state(self, trainer: lightning.Trainer) -> dict[str, Any]:
        """What of the fit's state is no tensor."""
        optimizer = trainer.optimizers[0]
        return {
            "identity": self.identity,
            "seconds": self.earlier + time.monotonic() - self.began,
            "curve": list(self.curve),
            "rates": [group["lr"] for group in optimizer.param_groups],
            "optimizer": [
                {name: value for name, value in optimizer.state[weight].items() if not torch.is_tensor(value)}
                for weight in _weights(optimizer)
            ],
            "scheduler": trainer.lr_scheduler_configs[0].scheduler.state_dict(),
            "precision": trainer.precision_plugin.state_dict(),
        }

    def _restore(self, state: Mapping[str, Any], trainer: lightning.Trainer, module: InstructionTuner) -> None:
        """Make a fit what it was when the checkpoint was written."""
        folder, rank, optimizer = cast(Path, self.folder), self.processes.rank, trainer.optimizers[0]
        weights, buffers = _weights(optimizer), dict(module.model.named_buffers())
        module.losses = [point["loss"] for point in state["curve"]]
        for group, rate in zip(optimizer.param_groups, state["rates"], strict=True):
            group["lr"] = rate
        trainer.lr_scheduler_configs[0].scheduler.load_state_dict(state["scheduler"])
        trainer.precision_plugin.load_state_dict(state["precision"])
        for weight, values in zip(weights, state["optimizer"], strict=True):
            optimizer.state[weight] = dict(values)
        with torch.no_grad():
            for file in sorted(folder.glob(f"tensors-{rank if _sharded(optimizer) else 0}-*.safetensors")):
                with safe_open(file, "pt") as tensors:
                    for name in tensors.keys():  # noqa: SIM118
                        kind, _, part = name.partition("/")
                        if kind == "weight":
                            local(weights[int(part)]).copy_(tensors.get_tensor(name))
                        elif kind == "buffer":
                            buffers[part].copy_(tensors.get_tensor(name))
                        else:
                            i, key, device = part.split("/")
                            held = tensors.get_tensor(name).to(weights[int(i)].device if device != "cpu" else device)
                            optimizer.state[weights[int(i)]][key] = _sharded_like(weights[int(i)], held)
        random = load_file(folder / f"random-{rank}.safetensors")  # last, for anything before may draw
        torch.set_rng_state(random["cpu"])
        if "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], module.device)


def _weights(optimizer: Optimizer) -> list[torch.Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _sharded(optimizer: Optimizer) -> bool:
    return any(isinstance(weight, DTensor) for weight in _weights(optimizer))


def _write_tensors(folder: Path, optimizer: Optimizer, module: InstructionTuner, rank: int) -> None:
    """Write what of this process's state is tensors, in pieces, so that a device's are not all copied at once."""
    save_file(_random_states(module.device), folder / f"random-{rank}.safetensors")
    if rank > 0 and not _sharded(optimizer):
        return
    numbers, piece = itertools.count(), {}
    for name, tensor in _tensors(optimizer, module):
        piece[name] = tensor.detach().to("cpu", copy=True).contiguous()
        if sum(part.nbytes for part in piece.values()) >= PIECE_BYTES:
            save_file(piece, folder / f"tensors-{rank}-{next(numbers)}.safetensors")
            piece = {}
    save_file(piece, folder / f"tensors-{rank}-{next(numbers)}.safetensors")


def _random_states(device: torch.device) -> dict[str, torch.Tensor]:
    """The states of torch's generators, on the processor and the device."""
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _tensors(optimizer: Optimizer, module: InstructionTuner) -> Iterator[tuple[str, torch.Tensor]]:
    for i, weight in enumerate(_weights(optimizer)):
        yield f"weight/{i}", local(weight)
        for key, value in optimizer.state[weight].items():
            if torch.is_tensor(value):
                yield f"optimizer/{i}/{key}/{value.device.type}", local(value)
    for name, buffer in module.model.named_buffers():
        yield f"buffer/{name}", buffer


def _sharded_like(weight: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """A part as large as a sharded weight's, sharded likewise; anything else as it is."""
    if not isinstance(weight, DTensor) or part.shape != weight.to_local().shape:
        return part
    return DTensor.from_local(
        part, weight.device_mesh, weight.placements, run_check=False, shape=weight.shape, stride=weight.stride()
    )
