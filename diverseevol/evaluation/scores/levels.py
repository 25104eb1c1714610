"""How far evolutions have come that are held against each other: to the largest pool size that all of them have."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable


@runtime_checkable
class Placed(Protocol):
    """A model of one round, and how large a pool it was trained on."""

    @property
    def round(self) -> int:
        """Its round."""
        ...

    @property
    def pool_size(self) -> int | None:
        """Rows that it was trained on; None where it is not known."""
        ...


P = TypeVar("P", bound=Placed)
Arm = Mapping[int | None, Mapping[int, P]]  # the models of one schedule, by seed and round


@dataclass(frozen=True)
class Level:
    """What the models of several arms have in common.

    Attributes:
        rows: the pool size of all of them.
        round: the round of all of them.
        shared: whether it was found to be what they have in common, and not asked for. Where neither rows nor round is
            set, it is the final round of each.
    """

    rows: int | None = None
    round: int | None = None
    shared: bool = False


FINAL = Level()


def shared(arms: Mapping[str, Arm[P]]) -> Level:
    """The largest pool size that all arms of a seed have, where most seeds have it.

    Where pool sizes are not known, rounds stand for them among arms of one kind of schedule. An arm of all rows is a
    level of its own and holds nothing back. A first pool alone is nothing in common: all arms share it.

    Args:
        arms: by schedule.
    """
    growing = {name: arm for name, arm in arms.items() if kind(name) != "full"}
    models = [model for arm in growing.values() for rounds in arm.values() for model in rounds.values()]
    sized = all(model.pool_size is not None for model in models)
    if not sized and len({kind(name) for name in growing}) > 1:
        return FINAL
    arms_of = Counter(seed for arm in growing.values() for seed in arm)
    several = [seed for seed, count in arms_of.items() if count > 1]
    value = _largest([_in_common(growing, seed, sized) for seed in several or arms_of])
    if value is None:
        return FINAL
    first = all(model.round == 0 for model in models if _size(model, sized) == value)
    if first and any(model.round > 0 for model in models):
        return FINAL
    return Level(rows=value, shared=True) if sized else Level(round=value, shared=True)


def _in_common(arms: Mapping[str, Arm[P]], seed: int | None, sized: bool) -> set[int]:
    """The pool sizes, or rounds, that all arms have which have the seed."""
    sizes = [{_size(model, sized) for model in arm[seed].values()} for arm in arms.values() if seed in arm]
    return set.intersection(*sizes)


def _largest(seeds: Collection[set[int]]) -> int | None:
    """The largest value that more than half of the seeds have."""
    values = set().union(*seeds)
    return max((value for value in values if 2 * sum(value in seed for seed in seeds) > len(seeds)), default=None)


def _size(model: Placed, sized: bool) -> int:
    return model.pool_size if sized and model.pool_size is not None else model.round


def ends(name: str, arm: Arm[P], level: Level) -> dict[int | None, P]:
    """The model of each seed that stands at a level; seeds without one are left out.

    Args:
        name: the arm's schedule; one of all rows is at its end whatever the level.
        arm: its models.
        level: where the others stand.
    """
    final = max(t for rounds in arm.values() for t in rounds)
    found: dict[int | None, P] = {}
    for seed, rounds in arm.items():
        for t, model in sorted(rounds.items()):
            if kind(name) == "full" or level == FINAL:
                fits = t == final
            else:
                fits = t == level.round if level.rows is None else model.pool_size == level.rows
            if fits:
                found[seed] = model
    return found


def in_words(level: Level, last: int | None = None) -> str:
    """What a model at the level is called: "a pool of 120 rows", "round 2".

    Args:
        level: the level.
        last: the final round, where the level is that.
    """
    if level.rows is not None:
        return f"a pool of {level.rows:,} rows"
    return f"round {last if level.round is None else level.round}"


def kind(schedule: str) -> str:
    """Which kind of schedule a folder's name tells of; the authors call full data `baseline_…`."""
    if schedule.startswith("baseline_"):
        return "full"
    named = re.search(r"(?:^|-)(iterative|one_time|full)(?:-[0-9a-f]{8})?$", schedule)
    return named[1] if named else "iterative"
