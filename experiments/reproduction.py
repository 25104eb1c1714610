"""The runs behind the paper's tables and figures: which they are, where they lie, and the commands for what is missing.

Numbers come from three places that are never mixed: the authors' released judgements, runs of `experiment=paper_*`, and
runs in the lab, a small closed world that takes minutes (README).
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from lab.study import CONDUCT, FULL, ITERATIVE, ONE_TIME
from lab.study import LAB as WORLD

from diverseevol.output.shell import override

RELEASED, FULL_SCALE, LAB = "released", "full_scale", "lab"
ORIGINS = {
    RELEASED: "released: recomputed from the authors' judgements",
    FULL_SCALE: "ours at full scale",
    LAB: "ours in the lab",
}
PAPER = Path(__file__).with_name("paper.yaml")
PAPER_SAMPLERS = ("kcenter", "random", "margin", "least_confidence")
ROUNDS = {"iterative": 10, "one_time": 1, "full": 0}

# The lab's runs are those of `make sweep`, in its folders, and a few more beside them: what is there is not run twice.
# A seed is that of P_0 and of the rows, so that which skill is frequent differs; arms are compared within a seed.
LAB_FOLDER = Path("lab-study/lab/sweep")
LAB_SETTING = tuple(f"{key}={value}" for key, value in {**WORLD, **CONDUCT}.items())
LAB_SEEDS = 5
LAB_SCHEDULES: Mapping[str, Mapping[str, object]] = {"iterative": ITERATIVE, "one_time": ONE_TIME, "full": FULL}
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
        folder: below outputs/, the one above its seeds in the lab; at full scale the data set's, and the rest is as
            `evolve` names it.
        overrides: of `diverseevol evolve`, without the seed.
        rounds: the last one's number.
        seeds: how many are wanted; further ones on disk count, too.
    """

    origin: str
    folder: str
    overrides: tuple[str, ...]
    rounds: int
    seeds: int = 1

    def command(self, seed: int, outputs: Path) -> tuple[str, ...]:
        """The words of the command that runs one of its seeds."""
        if self.origin == LAB:
            folder = outputs / self.folder / f"seed{seed}"
            where = (f"seed={seed}", f"data.seed={seed}", override("folder", folder))
            return ("diverseevol", "evolve", *self.overrides, *where)
        where = (f"seed={seed}", *([] if outputs == Path("outputs") else [override("outputs", outputs)]))
        return ("torchrun", "--nproc-per-node", "4", "-m", "diverseevol", "evolve", *self.overrides, *where)


def lab(sampler: str, schedule: str = "iterative", *more: str, name: str = "", seeds: int = LAB_SEEDS) -> Arm:
    """An arm in the lab; `name` where its folder is not called by the sampler."""
    options = LAB_SCHEDULES[schedule]
    words = (f"{key}={value}" for key, value in options.items())
    overrides = (*LAB_SETTING, f"sampler={sampler}", *words, *more)
    rounds = int(str(options.get("schedule.rounds", 0)))
    return Arm(LAB, f"{LAB_FOLDER}/{name or sampler}-{schedule}", overrides, rounds, seeds)


def full_scale(sampler: str, schedule: str = "iterative", *more: str) -> tuple[Arm, ...]:
    """The same arm on each of the paper's data sets, one seed."""
    return tuple(
        Arm(FULL_SCALE, data, (*setting, f"sampler={sampler}", f"schedule={schedule}", *more), ROUNDS[schedule])
        for data, setting in DATA_SETS.items()
    )


@dataclass(frozen=True)
class Found:
    """What is on disk of an arm.

    Attributes:
        folder: above its seeds' run folders.
        missing: seeds whose run is not complete.
        unjudged: complete run folders that hold answers without scores.
    """

    arm: Arm
    folder: Path
    missing: tuple[int, ...]
    unjudged: tuple[Path, ...]

    @property
    def key(self) -> tuple[str, str]:
        """Source and schedule, as a report calls them."""
        folder = self.folder.resolve()  # it may be a link, which a report follows
        return f"{folder.parent.parent.name}/{folder.parent.name}", folder.name

    @property
    def begun(self) -> bool:
        """Whether there is any run folder."""
        return any(self.folder.glob("seed*/fingerprint.json"))


def find(arm: Arm, outputs: Path) -> Found:
    """Look for an arm's runs."""
    folder = outputs / arm.folder
    if arm.origin == FULL_SCALE and folder.is_dir():  # composed only where there is something to find
        folder = outputs / _named(arm)
    missing, unjudged = [], []
    for seed in range(arm.seeds):
        final = folder / f"seed{seed}" / "rounds" / f"{arm.rounds:02d}"
        if not (final / "round.json").exists():
            missing.append(seed)
        elif any(final.glob("answers/*.jsonl")) and not (final / "scores.json").exists():
            unjudged.append(folder / f"seed{seed}")
    return Found(arm, folder, tuple(missing), tuple(unjudged))


@cache
def _named(arm: Arm) -> Path:
    """The folder above an arm's seeds, as `evolve` names it below outputs/."""
    # Here, since they bring torch and Lightning, which take longer to load than most of the rest together.
    from diverseevol.cli.configuration import configure
    from diverseevol.cli.naming import run_path

    return run_path(configure("evolve", [*arm.overrides, "outputs=.", "seed=0"])).parent


def wanted(runs: Iterable[Found], outputs: Path) -> list[tuple[Arm, tuple[str, ...]]]:
    """The commands for what is missing, each once, with its arm."""
    commands: dict[tuple[str, ...], Arm] = {}
    for run in runs:
        commands |= {run.arm.command(seed, outputs): run.arm for seed in run.missing}
        for folder in run.unjudged:
            judge = ("diverseevol", "judge", override("folder", folder), "judge.budget_usd=500")
            commands[judge] = run.arm
    return [(arm, command) for command, arm in commands.items()]


def launch(commands: Sequence[tuple[str, ...]], jobs: int) -> list[tuple[str, ...]]:
    """Run these commands, some at a time; those that failed."""

    def run(command: tuple[str, ...]) -> int:
        program, *words = command
        return subprocess.run([sys.executable, *PROGRAMS[program], *words], check=False).returncode

    with ThreadPoolExecutor(jobs) as pool:
        return [command for command, code in zip(commands, pool.map(run, commands), strict=True) if code]


def paper() -> dict[str, Any]:
    """`paper.yaml`: what the paper claims, what the released judgements say, and what a run costs."""
    return dict(yaml.safe_load(PAPER.read_text(encoding="utf-8")))
