"""A study: evolutions on the lab, which `diverseevol evolve -m` runs several at a time, and its command line.

Each arm is written as a choice of Hydra's, `OUT/conf/experiment/ARM.yaml`, and a sweep over arms and seeds runs them.
What is complete is checked and left as it is; what was interrupted goes on. The sweep's ledger says what has ended.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from omegaconf import OmegaConf

from diverseevol import __version__
from diverseevol.cli.sweep import Ledger
from diverseevol.errors import InputError
from diverseevol.output.shell import command, override, quoted
from diverseevol.output.terminal import LONGEST, say
from diverseevol.runs.round_folder import release
from diverseevol.runs.subset import SELECTED
from diverseevol.storage.files import atomic_write, make_folder, read_json

# What every evolution of a study is made of. All sizes are given: 40 rows and seven times 40 more, 8 % of 4,000.
LAB = {"data": "lab", "model": "lab", "benchmark": "lab_both"}
ITERATIVE = {"schedule": "iterative", "schedule.rounds": 7, "schedule.seed_size": 40, "schedule.step_size": 40}
ONE_TIME = {"schedule": "one_time", "schedule.rounds": 1, "schedule.seed_size": 40, "schedule.step_size": 280}
FULL = {"schedule": "full"}
CONDUCT = {"threads": 1, "logger": "none", "keep_models": "none"}

GROUPS = ("data", "model", "benchmark", "sampler", "schedule", "logger")
COMPLETE = SELECTED  # what an evolution writes last
CHECKED = 3.0  # seconds that a complete evolution takes
INTERRUPTED = 130  # the exit code


@dataclass(frozen=True)
class Arm:
    """One way to choose, over seeds.

    Attributes:
        name: `<group>/<what>/<sampler>-<schedule>`, by which tables and figures call it; its folder below the study's.
        options: what it differs by.
        seeds: how many: of P_0, selection and training, and of the rows, since which skill is frequent differs from
            seed to seed. Whatever is compared is compared within a seed.
        seconds: what one evolution is expected to take on a quiet core.
    """

    name: str
    options: Mapping[str, object]
    seeds: int
    seconds: float

    def folders(self, out: Path) -> list[Path]:
        """The run folders, by seed."""
        return [out / self.name / f"seed{seed}" for seed in range(self.seeds)]

    def experiment(self, out: Path) -> str:
        """The arm as a choice of Hydra's, in YAML."""
        options = {**LAB, **self.options, **CONDUCT}
        choices = [{f"override /{group}": options.pop(group)} for group in GROUPS if group in options]
        config = OmegaConf.create(
            {"defaults": choices, "folder": f"{out.resolve()}/{self.name}/seed${{seed}}", "data": {"seed": "${seed}"}}
        )
        for key, value in options.items():
            OmegaConf.update(config, key, str(value) if isinstance(value, Path) else value)
        return f"# @package _global_\n{OmegaConf.to_yaml(config)}"


def arguments(description: str | None, out: str, name: str) -> argparse.ArgumentParser:
    """What the command lines of all studies share; a study adds its own.

    Args:
        description: of the study.
        out: its folder, by default.
        name: what its results are called there.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2, help="evolutions at a time, a thread each")
    parser.add_argument("--minutes", type=float, help="interrupt what runs after so long; the same command resumes it")
    parser.add_argument("--out", type=Path, default=Path(out), help="run folders, the arms' YAML, logs")
    parser.add_argument("--results", type=Path, help=f"the small files to keep; by default OUT/results/{name}")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides for every evolution")
    parser.add_argument("--dry", action="store_true", help="show the commands, and run nothing")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(INTERRUPTED))
    return parser


def conducted(study: Callable[[], None]) -> None:
    """Carry out a study's command line; the user's mistakes are one sentence, and exit code 2."""
    try:
        study()
    except InputError as error:
        say(f"{Path(sys.argv[0]).stem}: {error}", error=True, longest=LONGEST)
        sys.exit(2)


def complete(arms: Iterable[Arm], out: Path) -> bool:
    """Whether all evolutions of these arms came to their end."""
    return all((folder / COMPLETE).exists() for arm in arms for folder in arm.folders(out))


def carried_out(arms: Sequence[Arm], options: argparse.Namespace) -> bool:
    """Run the evolutions that are missing, or show how; whether all of them ended well.

    Raises:
        InputError: see `refuse_mixtures`.
    """
    refuse_mixtures(arms, options.out)
    for arm in arms:
        file = options.out / "conf" / "experiment" / f"{arm.name}.yaml"
        make_folder(file.parent)
        with atomic_write(file) as yaml:
            yaml.write(arm.experiment(options.out))
    folder = options.out.resolve() / "sweeps" / time.strftime("%Y-%m-%d_%H-%M-%S")
    sweeps = [
        [*_words(part, seeds, options), override("hydra.sweep.dir", folder / str(i)), *options.set]
        for i, (seeds, part) in enumerate(batches(arms))
    ]
    if options.dry:
        for words in sweeps:
            say(command("diverseevol", "evolve", *words), longest=LONGEST)
        return True
    progress = Progress(arms, options.out, options.jobs)
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    codes = [_run(words, folder / str(i), progress, deadline) for i, words in enumerate(sweeps)]
    if deadline is not None and time.monotonic() > deadline and not complete(arms, options.out):
        say("time is up; the same command goes on from here")
    return not any(codes)


def refuse_mixtures(arms: Iterable[Arm], out: Path) -> None:
    """Check that existing runs are of this release, and of one foundation model unless an arm names another.

    Raises:
        InputError: they are not: what is there is not to be compared with what is new.
    """
    models: dict[object, object] = {}
    for arm in arms:
        for file in (folder / "fingerprint.json" for folder in arm.folders(out)):
            if not file.exists():
                continue
            saved = read_json(file)
            model = models.setdefault(arm.options.get("model.path"), saved.get("model"))
            for key, expected in (("release", release(__version__)), ("model", model)):
                if saved.get(key) != expected:
                    raise InputError(
                        f"{file}: its {key} is {saved.get(key)}, expected {expected}, as that of the other runs, with "
                        f"which it is not to be mixed; give --out another folder, or move this run away"
                    )


def batches(arms: Sequence[Arm]) -> list[tuple[range, list[Arm]]]:
    """Seeds and the arms that have them: seed by seed, and of a seed the arms that take longest first."""
    result = []
    for _, part in groupby(range(max(arm.seeds for arm in arms)), lambda seed: [arm.seeds > seed for arm in arms]):
        seeds = list(part)
        having = sorted((arm for arm in arms if arm.seeds > seeds[0]), key=lambda arm: -arm.seconds)
        result.append((range(seeds[0], seeds[-1] + 1), having))
    return result


def _words(arms: Sequence[Arm], seeds: Sequence[int], options: argparse.Namespace) -> list[str]:
    return [
        "-m",
        "hydra/launcher=joblib",
        f"hydra.launcher.n_jobs={options.jobs}",
        f"hydra.searchpath=[{quoted(f'file://{options.out.resolve()}/conf')}]",
        f"seed={','.join(map(str, seeds))}",  # first: the sweep goes seed by seed
        f"experiment={','.join(arm.name for arm in arms)}",
    ]


class Progress:
    """What a reader is told as evolutions end."""

    def __init__(self, arms: Sequence[Arm], out: Path, workers: int) -> None:
        """Say what there is to do."""
        folders = [(f"{arm.name}/{path.name}", path, arm.seconds) for arm in arms for path in arm.folders(out)]
        done = {name for name, path, _ in folders if (path / COMPLETE).exists()}
        self.seconds = {name: CHECKED if name in done else seconds for name, _, seconds in folders}
        self.workers, self.ended, self.expected, self.began = workers, 0, 0.0, time.monotonic()
        say(
            f"{len(folders)} evolutions, {len(done)} of them complete; the others take about "
            f"{sum(self.seconds.values()) / 60 / workers:.0f} minutes on quiet cores, {workers} at a time"
        )

    def tell(self, note: Mapping[str, object], log: Path) -> None:
        """Say that an evolution has ended, and how long the others will take at the pace so far."""
        words = dict(str(word).split("=", 1) for word in note["overrides"])  # type: ignore[attr-defined]
        name = f"{words['experiment']}/seed{words['seed']}"
        self.ended, self.expected = self.ended + 1, self.expected + self.seconds[name]
        left = (sum(self.seconds.values()) / self.expected - 1) * (time.monotonic() - self.began) / 60
        prefix = f"[{self.ended}/{len(self.seconds)}] {name}"
        if note["code"]:
            say(f"{prefix} FAILED ({note['code']}): {note['said']}", longest=LONGEST)
            say(f"    {log}")
        else:
            say(f"{prefix}; about {left:.0f} min to go")


def _run(words: Sequence[str], folder: Path, progress: Progress, deadline: float | None) -> int:
    """Run one sweep and tell what ends, until the deadline; its exit code."""
    if deadline is not None and time.monotonic() > deadline:
        return INTERRUPTED
    ledger, log, reported = Ledger(folder, "evolve"), folder / "log.txt", set[int]()
    make_folder(folder)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "diverseevol", "evolve", *words],
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C reaches it once, from here
        )
    try:
        while True:
            code = process.poll()  # before the notes are read, so that none is missed
            for number, note in sorted(ledger.ended().items()):
                if number not in reported:
                    reported.add(number)
                    progress.tell(note, log)
            if code is not None:
                break
            if deadline is not None and time.monotonic() > deadline:
                process.terminate()
                process.wait()
            time.sleep(0.5)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    if code and not reported:
        say((log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1], longest=LONGEST)
        say(f"    {log}")
    return code
