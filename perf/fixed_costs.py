"""What does not grow with the data: start-up, and what a round costs outside and around its phases.

Every figure is of a fresh process, the lab's rows and a tiny model, with nothing left to prepare: rows,
tokens, tokeniser and foundation embedding are in the cache.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from perf.turns import Report

TURNS = {"smoke": 1, "small": 3, "full": 7}
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "diverseevol --help": ["-m", "diverseevol", "--help"],
    "diverseevol evolve --help": ["-m", "diverseevol", "evolve", "--help"],
}
# Inputs that are refused, which takes no library that takes seconds.
REFUSED = {
    "refused: evolve, a missing file": ["evolve", "data=json", "data.path=missing.jsonl", "model=tiny"],
    "refused: evolve, a missing model": ["evolve", "model.path=./missing"],
    "refused: select, missing embeddings": ["select", "embeddings=missing.npy", "n=1", "out=P.json"],
    "refused: answer, a missing benchmark": [
        "answer",
        "out=P",
        "model.path=M",
        "benchmark=questions",
        "benchmark.path=missing",
    ],
    "refused: judge, a missing folder": ["judge", "folder=missing"],
    "refused: compare, a missing folder": ["compare", "folder=missing"],
    "refused: report, a missing folder": ["report", "folder=missing"],
}
IMPORTS = ("torch", "lightning", "transformers", "datasets", "wandb", "sklearn.cluster", "scipy.stats", "matplotlib")
SMALLEST = (
    "evolve", "model=tiny", "sampler=kcenter", "benchmark=lab_natural", "benchmark.questions=120",
    "schedule.seed_size=10", "schedule.step_size=10", "schedule.rounds=3", "tuning.steps=1", "tuning.batch_size=1",
    "generation.max_new_tokens=1", "logger=none", "model.hidden=16", "model.layers=1", "data.size=200",
)  # fmt: skip

# Runs a command with stop-watches on what it is made of, and says what they show. A watch inside another counts for
# both, so that "fit" has the loading of the foundation and the start of a trainer in it.
WATCHED = """
import collections, functools, json, os, sys, time
began = time.time()
import diverseevol.cli
known = time.time()
import diverseevol.cli.commands.evolve
imported = time.time()
import lightning
from diverseevol.engine import model_job, pretrained
from diverseevol.engine.learner import Learner
from diverseevol.evolution import loop, phases
from diverseevol.runs.round_folder import RoundFolder
seconds, calls = collections.Counter(), collections.Counter()
first = []
def watch(owner, name, what):
    original = getattr(owner, name)
    @functools.wraps(original)
    def watched(*given, **options):
        if what == "fit" and not first:
            first.append(time.time())
        start = time.perf_counter()
        try:
            return original(*given, **options)
        finally:
            seconds[what] += time.perf_counter() - start
            calls[what] += 1
    setattr(owner, name, watched)
watch(loop, "evolve_once", "a round")
watch(phases.Phases, "fit", "fit: the phase")
watch(Learner, "fit", "fit")
watch(lightning.Trainer, "fit", "fit: lightning.Trainer.fit")
watch(phases.Phases, "select", "probe and select: the phase")
watch(Learner, "probe", "probe")
watch(lightning.Trainer, "predict", "probe: lightning.Trainer.predict")
watch(phases, "choose", "select: the sampler")
watch(phases.Phases, "measure", "measure: the phase")
watch(loop, "examine", "answer and judge: the phases")
watch(Learner, "answer", "answer")
watch(model_job, "start", "around: making trainers")
watch(pretrained.Pretrained, "load", "around: loading the foundation")
watch(RoundFolder, "keep_model", "around: saving the model")
watch(RoundFolder, "finish", "around: round.json")
sys.argv = ["diverseevol", *sys.argv[1:]]
try:
    diverseevol.cli.main()
except SystemExit as end:
    assert not end.code, end.code
print("FOUND", json.dumps({
    "python and cli": known - float(os.environ["BEGAN"]), "imports": imported - known,
    "binding, cache, tokeniser": first[0] - imported, "whole": time.time() - float(os.environ["BEGAN"]),
    "seconds": seconds, "calls": calls,
}))
"""


def run(size: str, report: Report) -> None:
    """Commands, imports, start-up of an evolution, and rounds of one step."""
    turns = TURNS[size]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DIVERSEEVOL_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1"}
        start_up(turns, environment, report)
        runs = [watched(Path(folder), turn, environment) for turn in range(turns + 1)][1:]  # the first fills the cache
    stages = ("python and cli", "imports", "binding, cache, tokeniser")
    report.table(
        "an evolution's start, everything in the cache",
        [{"": stage, "seconds": median(run[stage] for run in runs)} for stage in stages]
        + [{"": "until the first fit", "seconds": median(sum(run[stage] for stage in stages) for run in runs)}],
    )
    rounds = runs[0]["calls"]["a round"]
    report.table(
        f"a round of one training step: {rounds} rounds, {SMALLEST[-1].split('=')[1]} rows, everything smallest",
        [
            {
                "": what,
                "calls a round": runs[0]["calls"][what] / rounds,
                "ms a round": median(1000 * run["seconds"][what] / rounds for run in runs),
            }
            for what in runs[0]["seconds"]
        ],
    )


def start_up(turns: int, environment: dict[str, str], report: Report) -> None:
    """Commands that only speak, and imports, each alone in a fresh process."""
    code = "import time; s = time.perf_counter(); import {}; print(time.perf_counter() - s)"
    timings: dict[str, list[float]] = {}
    for _ in range(turns):
        for name, command in COMMANDS.items():
            timings.setdefault(name, []).append(timed(command, environment))
        for name, command in REFUSED.items():
            timings.setdefault(name, []).append(timed(["-m", "diverseevol", *command], environment, 2))
        for module in IMPORTS:
            output = python(["-c", code.format(module)], environment)
            timings.setdefault(f"import {module}", []).append(float(output))
    report.table("start-up", [{"": name, "seconds": median(seconds)} for name, seconds in timings.items()])


def timed(command: list[str], environment: dict[str, str], expected: int = 0) -> float:
    """Seconds of a command that ends with the expected exit code."""
    code = (
        "import subprocess, sys, time; s = time.perf_counter(); done = subprocess.run([sys.executable, *sys.argv[1:]], "
    )
    code += f"capture_output=True); assert done.returncode == {expected}, done; print(time.perf_counter() - s)"
    return float(python(["-c", code, *command], environment))


def watched(folder: Path, turn: int, environment: dict[str, str]) -> dict[str, Any]:
    """One evolution in a folder of its own, under stop-watches."""
    clock = {"BEGAN": python(["-c", "import time; print(time.time())"], environment).strip()}
    output = python(["-c", WATCHED, *SMALLEST, f"folder={folder}/run-{turn}"], environment | clock)
    (line,) = [line for line in output.split("\n") if line.startswith("FOUND ")]
    return dict(json.loads(line.removeprefix("FOUND ")))


def python(arguments: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True)
    return done.stdout
