"""What K-Center's advantage depends on: one thing changed at a time, K-Center against random.

    python experiments/lab/ablations.py [--jobs 2] [--seeds 3] [--conditions NAME …] [--minutes M] [--dry]

Everything else stays as in the sweep, whose runs are the base of every condition (and are made where they are missing).
Of a seed, the rows and P_0 are the same under all values, but where the rows themselves are what changes; where random
does not depend on the value, its base run is K-Center's opponent. A second call does what is missing.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import figure
import sweep
from jobs import ITERATIVE, ONE_TIME, WHOLE, Job, Work, evolution
from study import arguments, carried_out, conducted
from tidy import rounds_of, write_table

from diverseevol.errors import InputError
from diverseevol.output.terminal import say
from diverseevol.report.collect import collect

TOKENS = (1_000_000, 2_000_000)  # of shorter pretraining; the model that ships has read 5,000,000


@dataclass(frozen=True)
class Value:
    """One value of a condition.

    Attributes:
        text: how table and figure call it.
        kcenter: what K-Center's evolution differs by from the sweep's.
        random: what random's differs by.
        cost: times as long as the sweep's, where no arm of the sweep is the same.
    """

    text: str
    kcenter: Mapping[str, object] = field(default_factory=dict)
    random: Mapping[str, object] = field(default_factory=dict)
    cost: float = 1.0


def both(text: str, key: str, value: object, cost: float = 1.0) -> Value:
    """A value that random depends on, too."""
    return Value(text, {key: value}, {key: value}, cost)


NOISE = {"data.noise": 0.05}
# Values in the order of the figure; those without options are the sweep's.
CONDITIONS: Mapping[str, tuple[Value, ...]] = {
    "embedding": (
        Value("all"),
        Value("response", {"embedding.region": "response"}),
        Value("instruction", {"embedding.region": "instruction"}),
        Value("whitened", {"sampler.whiten": 32}),
    ),
    "schedule": (Value("iterative"), Value("one-time", ONE_TIME)),
    "drop": (
        Value("0"),
        Value("0.02", {"sampler.drop": 0.02}, cost=1.1),
        Value("0.05", {"sampler.drop": 0.05}, cost=1.1),
    ),
    "noise": (both("0", "data.noise", 0), Value("0.01"), both("0.05", "data.noise", 0.05)),
    "drop, noise 0.05": (
        Value("0", NOISE, NOISE),
        Value("0.05", {**NOISE, "sampler.drop": 0.05}, NOISE, 1.1),
        Value("0.1", {**NOISE, "sampler.drop": 0.1}, NOISE, 1.1),
    ),
    "skew": (both("0", "data.skew", 0), Value("1.1"), both("1.6", "data.skew", 1.6)),
    "duplicates": (both("0", "data.duplicates", 0), Value("0.1"), both("0.3", "data.duplicates", 0.3)),
    "pool": (
        both("159 rows", "schedule.step_size", 17, 0.6),
        Value("320 rows"),
        both("642 rows", "schedule.step_size", 86, 1.7),
    ),
    "training": (
        both("2 epochs", "tuning.epochs", 2, 0.8), Value("4 epochs"), both("8 epochs", "tuning.epochs", 8, 1.4),
        both("80 steps", "tuning.steps", 80, 0.95), both("160 steps", "tuning.steps", 160, 1.4),
    ),
    "pretraining": (
        *(both(f"{n // 10**6} M tokens", "model.path", n) for n in TOKENS), Value("5 M tokens"),
    ),
}  # fmt: skip


def main() -> None:
    """Run what is missing, then tabulate and draw what is there."""
    parser = arguments(__doc__, "outputs/lab-study", "ablations")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=CONDITIONS, metavar="NAME")
    options = parser.parse_args()
    options.results = options.results or options.out / "results" / "ablations"
    work = Work(options.out, options.jobs, options.minutes)
    models, evolutions = planned(options)
    if models and not options.dry:
        work.run(models)
    if carried_out(evolutions if not options.dry else [*models, *evolutions], options, work):
        conclude(options)
    if not options.dry:
        sys.exit(0 if all(work.done(job) for job in [*models, *evolutions]) else 1)


def planned(options: Any) -> tuple[list[Job], list[Job]]:
    """Foundation models that have read less, and evolutions, seed by seed, each once; of a seed the longest first."""
    models = [pretraining(options.out, n) for n in TOKENS] if "pretraining" in options.conditions else []
    jobs: dict[str, Job] = {}
    for seed in range(options.seeds):
        of_seed: dict[str, Job] = {}
        for value in (value for condition in options.conditions for value in CONDITIONS[condition]):
            for sampler in ("kcenter", "random"):
                job = job_of(options, value, sampler, seed)
                of_seed.setdefault(job.name, job)
        jobs |= {job.name: job for job in sorted(of_seed.values(), key=lambda job: -job.seconds)}
    return models, list(jobs.values())


def pretraining(out: Path, tokens: int) -> Job:
    """Pretrain on fewer tokens; about 5,600 a second of a quiet core."""
    script = str(Path(__file__).with_name("pretrain.py"))
    return Job(
        f"foundation-{tokens}",
        (script, "--tokens", str(tokens), "--ungated", "--out", str(model_folder(out, tokens))),
        tokens / 5600,
        model_folder(out, tokens) / "pretraining.json",
    )


def model_folder(out: Path, tokens: int) -> Path:
    """Where it is."""
    return out / "foundations" / str(tokens)


def job_of(options: Any, value: Value, sampler: str, seed: int) -> Job:
    """One evolution, the sweep's where an arm has the same choices, or else named by what it differs by."""
    changes = {**(value.kcenter if sampler == "kcenter" else value.random)}
    if "model.path" in changes:
        changes["model.path"] = model_folder(options.out, int(str(changes["model.path"])))
    given = {"sampler": sampler, **ITERATIVE, **changes}
    for arm, (choices, seconds) in sweep.ARMS.items():
        if choices == given:
            return evolution(options.out, f"{sweep.GROUP}/{arm}", seed, given, options.set, seconds)
    told = [f"{key.split('.')[-1]}-{Path(str(v)).name}" for key, v in changes.items()]
    name = f"lab/{'_'.join(told)}/{sampler}-{given['schedule']}"
    seconds = value.cost * sweep.ARMS[f"{sampler}-iterative"][1]
    return evolution(options.out, name, seed, given, options.set, seconds)


def swept() -> dict[str, str]:
    """The sweep's value of each condition that has it."""
    return {name: v.text for name, values in CONDITIONS.items() for v in values if not v.kcenter and not v.random}


def conclude(options: Any) -> None:
    """One table of all rounds, and figures of the differences at the end."""
    lines = list(tidy(options))
    options.results.mkdir(parents=True, exist_ok=True)
    write_table(lines, options.results / "ablations.csv")
    figure.draw_all(lines, options.results, swept())
    say(f"{len(lines)} rounds and the figures are in {options.results}/")


def tidy(options: Any) -> Iterator[dict[str, Any]]:
    """A line a round: condition, value, sampler, seed, round and all metrics; runs of the base in every condition."""
    read: dict[str, list[dict[str, Any]]] = {}
    for condition in options.conditions:
        for value in CONDITIONS[condition]:
            for sampler in ("kcenter", "random"):
                for seed in range(options.seeds):
                    name = job_of(options, value, sampler, seed).name
                    if name not in read:
                        read[name] = rounds(options.out / name)
                    for line in read[name]:
                        told = {key: line[key] for key in line if key not in ("group", "sampler", "seed")}
                        yield {"condition": condition, "value": value.text, "sampler": sampler, "seed": seed, **told}


def rounds(folder: Path) -> list[dict[str, Any]]:
    """The rounds of a run that is whole; none of one that is not."""
    if not (folder / WHOLE).exists():
        return []
    try:
        return rounds_of(collect([folder]))
    except InputError as error:
        say(f"left out: {error}")
        return []


if __name__ == "__main__":
    conducted(main)
