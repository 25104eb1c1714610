"""The rows of the lab's data set, with the faults of real data sets: skew, near-duplicates, noise."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diverseevol.errors import InputError
from diverseevol.lab.skill import Arguments, Skill, World
from diverseevol.lab.split import share_out

Generator = np.random.Generator
BEFORE = ("Please answer.", "Hello.", "I have a question.", "Quick one:", "Be so kind:", "Next task.")
AFTER = ("Thanks.", "Answer briefly.", "Thank you very much.", "I am waiting.", "It is urgent.", "That is all.")


@dataclass(frozen=True)
class Mix:
    """What the data set is like.

    Attributes:
        size: rows in all.
        skew: the i-th most frequent skill has a share proportional to i**-skew; 0: all equally frequent.
        noise: share of the rows whose response, or whose instruction, is spoiled.
        duplicates: share of the rows that are added to ask again, in other words, what another row asks. Where a
            skill has more rows than arguments (skew near 0, many rows), its own ask again too, and are labelled so.
        seed: of everything, which skill is frequent included.
    """

    size: int = 4000
    skew: float = 1.1
    noise: float = 0.01
    duplicates: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.size < 1 or not self.skew >= 0 or self.seed < 0:
            raise InputError(
                f"data.size is {self.size}, data.skew {self.skew} and data.seed {self.seed}; size must be at least 1, "
                f"and skew and seed not negative"
            )
        if not (0 <= self.noise <= 1 and 0 <= self.duplicates <= 0.5):
            raise InputError(
                f"data.noise is {self.noise} and data.duplicates {self.duplicates}; they are shares of the rows, "
                f"noise from 0 to 1 and duplicates from 0 to 0.5"
            )


def frequencies(world: World, mix: Mix) -> dict[str, int]:
    """Rows of each skill, added near-duplicates apart, by name, the most frequent first.

    Ranks are drawn with the seed. Only a skill that has as many arguments as a rank has rows can have that rank, while
    there is one: else the frequent rows would ask the same again and again. So the first ranks are drawn among the
    skills with many arguments alone; in the lab's own world the first eight among 18 of 44.

    Raises:
        InputError: the world has too few arguments for so many rows.
    """
    base = mix.size - round(mix.duplicates * mix.size)
    rng = np.random.default_rng([mix.seed, 21])
    distinct = {skill.name: len(share_out(world)[skill.name, "source"]) for skill in world}
    room = {skill.name: distinct[skill.name] * len(skill.phrasings) for skill in world}
    if base > sum(room.values()):
        raise InputError(
            f"data.size is {mix.size}, but this world has words for {sum(room.values())} different rows; lower it"
        )
    ranked: dict[str, int] = {}
    for count in apportion(np.arange(1, len(world) + 1.0) ** -mix.skew, base):
        left = [name for name in room if name not in ranked]
        fitting = [name for name in left if distinct[name] >= count] or [name for name in left if room[name] >= count]
        name = str(rng.choice(fitting)) if fitting else max(left, key=room.__getitem__)
        ranked[name] = min(int(count), room[name])
    return dict(sorted(filled_up(ranked, room, base).items(), key=lambda item: -item[1]))


def filled_up(counts: Mapping[str, int], room: Mapping[str, int], total: int) -> dict[str, int]:
    """Counts with the text sum: what small skills have no room for goes to the others."""
    full = dict(counts)
    while missing := total - sum(full.values()):
        for name in [name for name in full if full[name] < room[name]][:missing]:
            full[name] += 1
    return full


def apportion(weight: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers in proportion to weights, with the text sum (largest remainders)."""
    exact = weight / weight.sum() * total
    counts: np.ndarray = np.floor(exact).astype(int)
    largest = np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]
    counts[largest] += 1
    return counts


def make_rows(world: World, mix: Mix) -> list[dict[str, Any]]:
    """The records, shuffled: instruction, input, output, and for analysis alone skill, noisy, duplicate.

    `noisy` and `duplicate` name the fault, and are "" where there is none. No two records have the same instruction
    and input, and no two that are no duplicates the same skill and arguments.
    """
    rng = np.random.default_rng([mix.seed, 22])
    makers = _Makers(world, rng)
    by_name = {skill.name: skill for skill in world}
    originals: list[tuple[Skill, Arguments, int]] = []
    for name, count in frequencies(world, mix).items():
        originals += _originals(by_name[name], share_out(world)[name, "source"], count, rng)
    records = [makers.original(*each) for each in originals]
    while len(records) < mix.size:
        record = makers.duplicate(*originals[rng.integers(len(originals))])
        if record:
            records.append(record)
    # Generators of their own: other shares of noise spoil more or fewer of the same rows, in the same order.
    makers.rng = np.random.default_rng([mix.seed, 23])
    for i in makers.rng.permutation(len(records))[: round(mix.noise * len(records))]:
        makers.spoil(records[i], records[makers.rng.integers(len(records))])
    return [records[i] for i in np.random.default_rng([mix.seed, 24]).permutation(len(records))]


def _originals(
    skill: Skill, room: tuple[Arguments, ...], count: int, rng: Generator
) -> list[tuple[Skill, Arguments, int]]:
    """So many questions: of all arguments, each in a phrasing, before any is asked again in another one."""
    forms, first = len(skill.phrasings), rng.integers(len(skill.phrasings), size=len(room))
    order = rng.permutation(len(room))
    ways = ((skill, room[i], (int(first[i]) + turn) % forms) for turn in range(forms) for i in order)
    return list(itertools.islice(ways, count))


class _Makers:
    """Makes records, and knows which questions there are already."""

    def __init__(self, world: World, rng: Generator) -> None:
        self.rng = rng
        self.asked: set[tuple[str, str]] = set()
        self.asked_about: set[tuple[str, Arguments]] = set()
        self.words = sorted(
            {word for skill in world for x in skill.arguments[:100] for word in skill.respond(x).split()}
        )
        self.again: dict[str, Callable[[Skill, Arguments, int], tuple[str, str]]] = {
            "rephrased": self._rephrased, "wrapped": self._wrapped, "punctuated": self._punctuated,
        }  # fmt: skip

    def original(self, skill: Skill, arguments: Arguments, phrasing: int) -> dict[str, Any]:
        instruction, text = skill.ask(arguments, phrasing)
        again = "rephrased" if (skill.name, arguments) in self.asked_about else ""
        self.asked.add((instruction, text))
        self.asked_about.add((skill.name, arguments))
        return _record(skill, arguments, instruction, text, again)

    def duplicate(self, skill: Skill, arguments: Arguments, phrasing: int) -> dict[str, Any] | None:
        kind = str(self.rng.choice(list(self.again)))
        instruction, text = self.again[kind](skill, arguments, phrasing)
        if (instruction, text) in self.asked:
            return None
        self.asked.add((instruction, text))
        return _record(skill, arguments, instruction, text, kind)

    def spoil(self, record: dict[str, Any], donor: dict[str, Any]) -> None:
        """Spoil a record in one of three ways."""
        kind = str(self.rng.choice(("words", "other", "garbled")))
        if kind == "other" and donor["skill"] == record["skill"]:  # it might be right
            kind = "words"
        if kind == "words":
            record["output"] = " ".join(self.rng.choice(self.words, self.rng.integers(2, 7)))
        elif kind == "other":
            record["output"] = donor["output"]
        else:
            words = record["instruction"].split()
            garbled = " ".join(words[i] for i in self.rng.permutation(len(words)))
            if (garbled, record["input"]) in self.asked:  # also where nothing has moved
                garbled = " ".join(self.rng.choice(self.words, len(words) + 2))
            self.asked.add((garbled, record["input"]))
            record["instruction"] = garbled
        record["noisy"] = kind

    def _rephrased(self, skill: Skill, arguments: Arguments, phrasing: int) -> tuple[str, str]:
        return skill.ask(arguments, int(self.rng.integers(len(skill.phrasings))))

    def _wrapped(self, skill: Skill, arguments: Arguments, phrasing: int) -> tuple[str, str]:
        instruction, text = skill.ask(arguments, phrasing)
        if self.rng.integers(2):
            return f"{self.rng.choice(BEFORE)} {instruction}", text
        return f"{instruction} {self.rng.choice(AFTER)}", text

    def _punctuated(self, skill: Skill, arguments: Arguments, phrasing: int) -> tuple[str, str]:
        instruction, text = skill.ask(arguments, phrasing)
        mark = str(self.rng.choice(("", "!", "…", " - now")))
        changed = instruction.rstrip(".?") + (mark or instruction[len(instruction.rstrip(".?")) :])
        return (changed[0].lower() + changed[1:] if not mark or self.rng.integers(2) else changed), text


def _record(skill: Skill, arguments: Arguments, instruction: str, text: str, duplicate: str) -> dict[str, Any]:
    return {
        "instruction": instruction, "input": text, "output": skill.respond(arguments),
        "skill": skill.name, "noisy": "", "duplicate": duplicate,
    }  # fmt: skip
