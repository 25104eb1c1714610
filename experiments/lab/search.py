"""The small search behind conf/model/lab.yaml: random pools and the development benchmark only.

    python experiments/lab/search.py [--out FILE.csv] [--seeds 0 1] [--rows 40 320] [--rates …] [--epochs …]
                                     [--steps …] [--all] [--model FOLDER] [--world MODULE.NAME] [--size N]

One line a fit; a second call does what is missing. `--steps` are controls with that many optimizer steps whatever the
pool, `--all` trains on all rows too. One thread: results depend on it in the last digits. Another world or model
wants another `--out`.
"""

import argparse
import functools
import itertools
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import lightning
import numpy as np
import torch

from diverseevol import lab
from diverseevol.cli.workbench import quieten
from diverseevol.data.prompt import Prompt
from diverseevol.data.tokens import encode
from diverseevol.engine.learner import Learner
from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.judges.without_model import Gold
from diverseevol.evolution.metrics.train_loss import final_loss
from diverseevol.lab.skill import WORLD
from diverseevol.options import Generation, PromptOptions, Tuning
from diverseevol.output.console import Console
from diverseevol.output.sheets import read_csv, write_csv
from diverseevol.output.terminal import LONGEST, say
from diverseevol.storage.cache import cache_folder

COLUMNS = ("rate", "epochs", "steps", "rows", "seed", "relative_score", "exact", "loss", "optimizer_steps", "seconds")


@dataclass(frozen=True)
class Trial:
    """One fit. The pool of a seed's smaller number of rows is part of that of its larger one."""

    rate: float
    epochs: int
    steps: int | None
    rows: int
    seed: int

    @property
    def key(self) -> tuple[str, ...]:
        """As in the file."""
        return tuple(
            "" if value is None else str(value) for value in (self.rate, self.epochs, self.steps, self.rows, self.seed)
        )


def main(words: list[str] | None = None) -> int:
    """Do what the file lacks; the exit code."""
    try:
        search(arguments(words))
    except InputError as error:
        say(f"search: {error}", error=True, longest=LONGEST)
        return 2
    return 0


def search(options: argparse.Namespace) -> None:
    """Do what the file lacks."""
    torch.set_num_threads(1)
    quieten(Console(stderr=True))
    cache = cache_folder(None)
    foundation = lab.foundation_model(options.model, options.world)
    (benchmark,) = lab.development(world=options.world, cache=cache)
    if max(options.rows, default=0) > options.size:
        raise InputError(f"--rows {max(options.rows)} of a --size of {options.size}; give no more rows than there are")
    dataset = lab.load(size=options.size, world=options.world, cache=cache)
    prompt = Prompt(foundation.tokenizer(), PromptOptions())
    encoded = encode(dataset, prompt, cache)
    done = read(options.out)
    say("\t".join(COLUMNS))
    for trial in trials(options, len(dataset)):
        if trial.key in done:
            say("\t".join(done[trial.key].values()))
            continue
        start = time.time()
        trainer = functools.partial(lightning.Trainer, accelerator="cpu")
        tuning = Tuning(learning_rate=trial.rate, epochs=trial.epochs, steps=trial.steps, batch_size=8)
        learner = Learner(foundation=foundation, prompt=prompt, encoded=encoded, tuning=tuning, trainer=trainer)
        pool = np.sort(np.random.default_rng([trial.seed, 31]).permutation(len(dataset))[: trial.rows])
        fit = learner.fit(pool, (trial.seed, trial.rows))
        asked = [(q.instruction, q.input) for q in benchmark.questions]
        texts = learner.answer(fit.model, asked, [(0,)] * len(asked), Generation(24, 0.0, 80))
        answers = dict(zip((q.id for q in benchmark.questions), texts, strict=True))
        scores = np.array([j.model_score for j in Gold().judge(AnswerSheet(benchmark, answers))])
        results = (
            round(10 * scores.mean(), 2), round(float((scores == 10).mean()), 3), round(final_loss(fit.curve), 3),
            len(fit.curve), round(time.time() - start, 1),
        )  # fmt: skip
        write(options.out, (*trial.key, *map(str, results)))
        say("\t".join(map(str, (*trial.key, *results))))


def arguments(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/lab-search.csv"))
    parser.add_argument("--model", default=None, help="another foundation model's folder")
    parser.add_argument("--world", default=WORLD, help="MODULE.NAME of a tuple of skills; it needs a --model")
    parser.add_argument("--size", type=int, default=4000, help="rows of the data set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[40, 320])
    parser.add_argument("--rates", type=float, nargs="+", default=[1e-3, 5e-4, 2.5e-4])
    parser.add_argument("--epochs", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--steps", type=int, nargs="*", default=[])
    parser.add_argument("--all", action="store_true")
    return parser.parse_args(words)


def trials(options: argparse.Namespace, size: int) -> Iterator[Trial]:
    """Cheap ones first."""
    sizes = sorted(options.rows) + ([size] if options.all else [])
    for rows, seed in itertools.product(sizes, options.seeds):
        for rate in options.rates:
            if options.steps:
                yield from (Trial(rate, 1, steps, rows, seed) for steps in options.steps)
            else:
                yield from (Trial(rate, epochs, None, rows, seed) for epochs in options.epochs)


def read(path: Path) -> dict[tuple[str, ...], dict[str, str]]:
    """The lines that are there."""
    if not path.exists():
        return {}
    return {tuple(line[name] for name in COLUMNS[:5]): line for line in read_csv(path)}


def write(path: Path, line: tuple[str, ...]) -> None:
    """Add a line."""
    write_csv(path, COLUMNS, [*(list(done.values()) for done in read(path).values()), line])


if __name__ == "__main__":
    sys.exit(main())
