"""The runs behind the paper's tables and figures: which they are, where they lie, and the commands for what is missing.

Numbers come from three places that are never mixed: the authors' released judgements, runs of `experiment=paper_*`, and
runs in the lab, a small closed world that takes minutes (README).
"""

import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from diverseevol.commands.naming import run_path
from diverseevol.configuration import configure

RELEASED, FULL_SCALE, LAB = "released", "full_scale", "lab"
ORIGINS = {
    RELEASED: "released: recomputed from the authors' judgements",
    FULL_SCALE: "ours at full scale",
    LAB: "ours in the lab",
}
PAPER = Path(__file__).with_name("paper.yaml")
PAPER_SAMPLERS = ("kcenter", "random", "margin", "least_confidence")

# What makes a run one of the lab's stands here and nowhere else.
LAB_SETTING = ("data=lab", "model=lab", "benchmark=lab_both")
LAB_SCHEDULES = {
    "iterative": ("schedule=lab",),
    "one_time": ("schedule=one_time", "schedule.seed_size=40", "schedule.step_size=280"),
    "full": ("schedule=full",),
}
LAB_SEEDS = 5
DATA_SETS = {
    "dolly": ("experiment=paper_dolly",),
    "davinci": ("experiment=paper_davinci",),
    "gpt4": ("experiment=paper_gpt4", "data.path=alpaca_gpt4_data.json"),
}
PROGRAMS = {"diverseevol": ("-m", "diverseevol"), "torchrun": ("-m", "torch.distributed.run")}


@dataclass(frozen=True)
class Arm:
    """One way to choose, over seeds.

    Attributes:
        origin: `LAB` or `FULL_SCALE`.
        data: the first folder below outputs/.
        overrides: of `diverseevol evolve`, without the seed.
        seeds: as many are asked for; more that are there count, too.
    """

    origin: str
    data: str
    overrides: tuple[str, ...]
    seeds: int = 1

    def commands(self, seeds: Sequence[int]) -> list[str]:
        """What runs some of its seeds."""
        if self.origin == LAB:
            words = [["diverseevol", "evolve", "-m", *self.overrides, f"seed={','.join(map(str, seeds))}"]]
        else:  # several processes make one evolution: no sweep
            start = ["torchrun", "--nproc-per-node", "4", "-m", "diverseevol", "evolve"]
            words = [[*start, *self.overrides, f"seed={seed}"] for seed in seeds]
        return [shlex.join(each) for each in words]


def lab(sampler: str, schedule: str = "iterative", *further: str, seeds: int = LAB_SEEDS) -> Arm:
    """An arm in the lab."""
    return Arm(LAB, "lab", (*LAB_SETTING, *LAB_SCHEDULES[schedule], f"sampler={sampler}", *further), seeds)


def full_scale(sampler: str, schedule: str = "iterative", *further: str) -> tuple[Arm, ...]:
    """The same arm on each of the paper's data sets."""
    return tuple(
        Arm(FULL_SCALE, data, (*setting, f"sampler={sampler}", f"schedule={schedule}", *further))
        for data, setting in DATA_SETS.items()
    )


@dataclass(frozen=True)
class Found:
    """What is on disk of an arm.

    Attributes:
        folder: above its seeds' run folders.
        missing: seeds whose run is not whole.
        unjudged: run folders that are whole and hold answers without scores.
    """

    arm: Arm
    folder: Path
    missing: tuple[int, ...]
    unjudged: tuple[Path, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Source and schedule, as a report calls them."""
        return f"{self.folder.parent.parent.name}/{self.folder.parent.name}", self.folder.name

    @property
    def begun(self) -> bool:
        """Whether there is any run folder."""
        return any(self.folder.glob("seed*/fingerprint.json"))


def find(arm: Arm, outputs: Path) -> Found:
    """Look for an arm's runs."""
    if not (outputs / arm.data).is_dir():  # without composing what has no place to lie in
        return Found(arm, outputs / arm.data, tuple(range(arm.seeds)), ())
    folder, last = _place(arm, outputs)
    missing, unjudged = [], []
    for seed in range(arm.seeds):
        final = folder / f"seed{seed}" / "rounds" / f"{last:02d}"
        if not (final / "round.json").exists():
            missing.append(seed)
        elif any(final.glob("answers/*.jsonl")) and not (final / "scores.json").exists():
            unjudged.append(folder / f"seed{seed}")
    return Found(arm, folder, tuple(missing), tuple(unjudged))


@cache
def _place(arm: Arm, outputs: Path) -> tuple[Path, int]:
    """The folder above an arm's seeds, and its last round."""
    settings = configure("evolve", [*arm.overrides, f"outputs={outputs}", "seed=0"])
    return run_path(settings).parent, int(settings.value("schedule.rounds"))


def wanted(found: Iterable[Found]) -> list[tuple[Arm, str]]:
    """The commands for what is missing, each once, with its arm."""
    commands: dict[str, Arm] = {}
    for each in found:
        if each.missing:
            commands |= dict.fromkeys(each.arm.commands(each.missing), each.arm)
        for folder in each.unjudged:
            commands[shlex.join(["diverseevol", "judge", f"folder={folder}", "judge.budget_usd=500"])] = each.arm
    return [(arm, command) for command, arm in commands.items()]


def launch(command: str, outputs: Path, jobs: int) -> int:
    """Run one of these commands, the lab's several at a time; its exit code."""
    program, *words = shlex.split(command)
    if "evolve" in words:
        words.append(f"outputs={outputs}")
    if "-m" in words and program == "diverseevol" and jobs > 1:
        words += ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}"]
    return subprocess.run([sys.executable, *PROGRAMS[program], *words], check=False).returncode


def paper() -> dict[str, Any]:
    """`paper.yaml`: what the paper claims, what the released judgements say, and what a run costs."""
    return dict(yaml.safe_load(PAPER.read_text(encoding="utf-8")))
