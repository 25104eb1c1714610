"""A small closed world for the demonstration: questions of some twenty kinds, each answered in its own form of words.

It shows the machinery on a laptop in a minute or two. A model with random weights learns how each kind is
answered, so the score rises with the kinds that the pool covers: a world that favours coverage by construction.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diverseevol.errors import InputError
from diverseevol.evaluation.benchmarks import Benchmark, Question
from diverseevol.files import cached_folder, write_jsonl
from diverseevol.source import Source, load

THINGS = (
    "apple", "bridge", "candle", "dragon", "engine", "forest", "garden", "hammer", "island", "jacket", "kettle",
    "ladder", "mirror", "needle", "orange", "pencil", "rabbit", "saddle", "temple", "umbrella", "valley", "window",
    "anchor", "basket", "circle", "desert", "feather", "glacier", "harbour", "insect", "jungle", "knight",
    "lantern", "meadow", "napkin", "ocean", "pillow", "quarry", "river", "spider", "tunnel", "vessel", "walnut",
    "yellow", "zipper", "barrel", "castle", "donkey", "eagle", "falcon", "guitar", "helmet", "igloo", "jewel",
    "kitten", "lemon", "magnet", "nettle", "oyster", "parrot", "rocket", "summit", "tiger", "urchin",
)  # fmt: skip
HELD_OUT = THINGS[::6]  # only the benchmark asks about these

# What is asked for comes last, so that a model with random weights finds it at once: it has attention to learn, too.
WORDINGS = ("Take {thing} and give its {kind}", "For the word {thing} I want the {kind}", "{thing}: {kind}")


@dataclass(frozen=True)
class Kind:
    """One kind of question: what it asks for, and the form of its answer."""

    name: str
    answer: Callable[[str], str]


KINDS = (
    Kind("plural", lambda x: f"More than one {x} are {x}s."),
    Kind("length", lambda x: f"The word {x} has {len(x)} letters."),
    Kind("first letter", lambda x: f"It begins with the letter {x[0]}."),
    Kind("last letter", lambda x: f"Look, its final letter is {x[-1]}."),
    Kind("spelling", lambda x: f"You spell it {' '.join(x)}."),
    Kind("twice", lambda x: f"{x} and again {x}."),
    Kind("capitals", lambda x: f"In capital letters that reads {x.upper()}."),
    Kind("wish", lambda x: f"Certainly, here is your {x}, enjoy it."),
    Kind("price", lambda x: f"A {x} costs {3 * len(x)} coins at the market."),
    Kind("home", lambda x: f"We keep every {x} in the big house by the lake."),
    Kind("owner", lambda x: f"That {x} belongs to my old neighbour Tom."),
    Kind("drawing", lambda x: f"Sorry, I cannot draw any {x} with words alone."),
    Kind("rhyme", lambda x: f"Roses are red and so is the {x}."),
    Kind("request", lambda x: f"Would you please be so kind as to bring me the {x}?"),
    Kind("refusal", lambda x: f"No, never, our {x} is not for sale today."),
    Kind("greeting", lambda x: f"Good morning to you, dear {x}!"),
    Kind("rank", lambda x: f"Its place is in the {'first' if x[0] < 'm' else 'second'} half of the alphabet."),
    Kind("advert", lambda x: f"Buy one {x} now and get another one free!"),
    Kind("warning", lambda x: f"Watch out, there is a dangerous {x} behind that door."),
    Kind("story", lambda x: f"Once upon a time a little {x} lived near the sea."),
)  # fmt: skip


def source(
    name: str = "demo",
    size: int = 1500,
    skew: float = 1.2,
    seed: int = 0,
    *,
    cache: Path,
    **reading: object,
) -> Source:
    """Make the rows, write them as JSONL into the cache, and load that file like any other.

    Args:
        name: what the data set is called.
        size: rows; wordings repeat, so some rows are equal where there are many.
        skew: the i-th most frequent kind has a share proportional to i**-skew.
        seed: of the rows, and of which kind is frequent.
        cache: the project's cache folder.
        reading: passed on to `diverseevol.source.load`.
    """
    if size < 1 or skew < 0:
        raise InputError(f"data.size is {size} and data.skew is {skew}; size must be at least 1 and skew not negative")

    def build(folder: Path) -> None:
        rng = np.random.default_rng([seed, 7])
        things = [thing for thing in THINGS if thing not in HELD_OUT]
        share = np.arange(1, len(KINDS) + 1.0) ** -skew
        kinds = rng.permutation(len(KINDS))[rng.choice(len(KINDS), size, p=share / share.sum())]
        records = []
        for kind in (KINDS[k] for k in kinds):
            thing = things[rng.integers(len(things))]
            wording = WORDINGS[rng.integers(len(WORDINGS))]
            records.append(
                {
                    "instruction": wording.format(thing=thing, kind=kind.name),
                    "input": "",
                    "output": kind.answer(thing),
                    "kind": kind.name,
                }
            )
        write_jsonl(folder / "demo.jsonl", records)

    folder = cached_folder(cache / "demo" / f"{size}-{skew}-{seed}-2", build)
    return load(folder / "demo.jsonl", name=name, cache=cache, **reading)  # type: ignore[arg-type]


def benchmark(name: str = "demo", *, cache: Path) -> tuple[Benchmark, ...]:
    """As many questions of each kind, with their right answers, about things that the rows never mention."""
    questions = [
        Question(
            f"{kind.name}-{thing}",
            WORDINGS[0].format(thing=thing, kind=kind.name),
            category=kind.name,
            reference=kind.answer(thing),
        )
        for kind in KINDS
        for thing in HELD_OUT[:6]
    ]
    return (Benchmark(name, tuple(questions)),)
