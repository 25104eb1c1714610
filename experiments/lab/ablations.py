"""What K-Center's advantage depends on: one thing changed at a time, K-Center against random.

    python experiments/lab/ablations.py [--jobs 2] [--seeds 3] [--conditions NAME …] [--minutes M] [--dry]

Everything else stays as in the sweep, whose runs are the base of every condition (and are made where they are missing).
Of a seed, the rows and P_0 are the same under all values, but where the rows themselves are what changes; where random
does not depend on the value, its base run is K-Center's opponent. A second call does what is missing.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import figure
import sweep
from study import COMPLETE, ITERATIVE, ONE_TIME, Arm, arguments, carried_out, complete, conducted
from tidy import rounds_of, write_table

from diverseevol.errors import InputError
from diverseevol.output.shell import command
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


SAMPLERS = ("kcenter", "random")
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
    arms = planned(options)
    if "pretraining" in options.conditions:
        for tokens in TOKENS:
            pretrain(options, tokens)
    well = carried_out(arms, options)
    if not options.dry:
        conclude(options)
        sys.exit(0 if well and complete(arms, options.out) else 1)


def planned(options: Any) -> list[Arm]:
    """The arms of all conditions, each once."""
    values = [value for condition in options.conditions for value in CONDITIONS[condition]]
    arms = [arm_of(options, value, sampler) for value in values for sampler in SAMPLERS]
    return list({arm.name: arm for arm in arms}.values())


def pretrain(options: Any, tokens: int) -> None:
    """Pretrain a foundation model on fewer tokens, unless it exists; about 5,600 a second of a quiet core.

    Raises:
        InputError: it failed.
    """
    folder = model_folder(options.out, tokens)
    words = [str(Path(__file__).with_name("pretrain.py")), "--tokens", str(tokens), "--ungated", "--out", str(folder)]
    if options.dry:
        say(command("python", *words))
    elif not (folder / "pretraining.json").exists():
        say(f"pretraining on {tokens:,} tokens: about {tokens / 5600 / 60:.0f} minutes of a quiet core")
        if code := subprocess.run([sys.executable, *words], check=False).returncode:
            raise InputError(f"{command('python', *words)}: failed with exit code {code}; see above")


def model_folder(out: Path, tokens: int) -> Path:
    """The folder of a foundation model that has read less."""
    return out.resolve() / "foundations" / str(tokens)


def arm_of(options: Any, value: Value, sampler: str) -> Arm:
    """The evolutions of a value: the sweep's where an arm has the same choices, or else named by the differences."""
    changes = {**(value.kcenter if sampler == "kcenter" else value.random)}
    if "model.path" in changes:
        changes["model.path"] = model_folder(options.out, int(str(changes["model.path"])))
    choices = {"sampler": sampler, **ITERATIVE, **changes}
    for name, (choices_of_arm, seconds) in sweep.ARMS.items():
        if choices_of_arm == choices:
            return Arm(f"{sweep.GROUP}/{name}", choices, options.seeds, seconds)
    differences = [f"{key.split('.')[-1]}-{Path(str(v)).name}" for key, v in changes.items()]
    name = f"lab/{'_'.join(differences)}/{sampler}-{choices['schedule']}"
    return Arm(name, choices, options.seeds, value.cost * sweep.ARMS[f"{sampler}-iterative"][1])


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
    read: dict[Path, list[dict[str, Any]]] = {}
    for condition in options.conditions:
        for value in CONDITIONS[condition]:
            for sampler in SAMPLERS:
                for seed, folder in enumerate(arm_of(options, value, sampler).folders(options.out)):
                    if folder not in read:
                        read[folder] = rounds(folder)
                    for line in read[folder]:
                        numbers = {key: line[key] for key in line if key not in ("group", "sampler", "seed")}
                        yield {"condition": condition, "value": value.text, "sampler": sampler, "seed": seed, **numbers}


def rounds(folder: Path) -> list[dict[str, Any]]:
    """The rounds of a complete run; none of an unfinished one."""
    if not (folder / COMPLETE).exists():
        return []
    try:
        return rounds_of(collect([folder]))
    except InputError as error:
        say(f"left out: {error}")
        return []


if __name__ == "__main__":
    conducted(main)
