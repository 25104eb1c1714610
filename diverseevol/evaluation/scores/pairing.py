"""Which models may be compared: same source, judge, benchmark and seed, at the largest pool size that all arms have."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.read_metrics import MeasuredRound
from diverseevol.evaluation.scores.scoreboard import ScoredRound

# --- how far the evolutions have come ---


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


# --- which models pair ---


R = TypeVar("R", ScoredRound, MeasuredRound)  # one number of one round, and whose it is
_CHOICES = re.compile(r"-[0-9a-f]{8}$")  # the hash of further choices that ends a schedule's name


@dataclass(frozen=True)
class Duel(Generic[R]):
    """One schedule against the baseline on one benchmark.

    Attributes:
        level: what their models have in common: a pool size, a round, or that they are final.
        rounds: the endpoint of the schedule and of the baseline.
        pairs: the schedule's and the baseline's model, a pair a seed.
        left_out: seeds that do not pair, and why.
        left_aside: models of either that have come further than the endpoint.
    """

    source: str
    judge: str
    benchmark: str
    schedule: str
    baseline: str
    level: Level
    rounds: tuple[int, int]
    pairs: tuple[tuple[R, R], ...]
    left_out: tuple[str, ...]
    left_aside: tuple[R, ...]


def pair_up(rounds: Sequence[R], baseline: str, endpoint: int | None) -> list[list[Duel[R]]]:
    """The duels of every source, judge and benchmark or metric that has the baseline, a list for each.

    Raises:
        InputError: nothing fits the baseline or the endpoint, or a pair was asked different questions.
    """
    if endpoint is not None and all(each.round != endpoint for each in rounds):
        raise InputError(f"round={endpoint}: no model of that round is scored; give a round that is, or leave it out")
    duels = [group for group in _groups(rounds, baseline, endpoint) if group]
    if not duels:
        raise InputError(_nothing_to_compare(rounds, baseline))
    return duels


def _nothing_to_compare(rounds: Sequence[R], baseline: str) -> str:
    """Why there is no duel: no baseline, or no opponent."""
    beside: dict[tuple[str, ...], set[str]] = {}
    for scored in rounds:
        beside.setdefault(_comparable(scored), set()).add(scored.schedule)
    choices = sorted(set().union(*(names for names in beside.values() if len(names) > 1)))
    if not choices:
        names = sorted(set().union(*beside.values()))
        if len(names) == 1:
            return (
                f"there is only one sampler, so nothing to compare with: expected another beside {names[0]}; give a "
                f"folder that holds both"
            )
        return (
            f"there is only one sampler of each source, judge and benchmark, so nothing to compare with: no two of "
            f"{', '.join(names)} have all three in common"
        )
    full = "; full data is a baseline only where it is named" if any(kind(name) == "full" for name in choices) else ""
    return f"baseline={baseline}: fits no schedule that is beside another; choose one of {', '.join(choices)}{full}"


def _comparable(scored: R) -> tuple[str, ...]:
    """What two models must have in common."""
    return scored.source, scored.judge, scored.prompt_version, scored.benchmark


def _groups(rounds: Sequence[R], baseline: str, endpoint: int | None) -> Iterator[list[Duel[R]]]:
    for (source, judge, _, benchmark), group in groupby(sorted(rounds, key=_comparable), _comparable):
        schedules: dict[str, dict[int | None, dict[int, R]]] = {}
        for each in group:
            schedules.setdefault(each.schedule, {}).setdefault(each.seed, {})[each.round] = each
        bases: list[str] = _baselines(sorted(schedules), baseline, source)
        if not bases:
            continue
        if len(bases) == len(schedules) > 1:  # they can only be compared with one another
            raise _several(baseline, bases, source)
        all_arms = shared(schedules) if endpoint is None else Level(round=endpoint)
        duels: dict[str, list[Duel[R]]] = {}  # by baseline
        for name in sorted({*schedules} - {*bases}):
            base = _of_its_kind(name, bases, baseline, source)
            arms = {name: schedules[name], base: schedules[base]}
            rounds_of, pairs, left_out, aside = _pairs(name, base, arms, level := all_arms)
            if endpoint is None and (level == FINAL or not pairs):
                # An arm that has nothing in common with the rest is compared by itself, and holds no others back.
                rounds_of, pairs, left_out, aside = _pairs(name, base, arms, level := shared(arms))
            duel = Duel(source, judge, benchmark, name, base, level, rounds_of, pairs, left_out, aside)
            duels.setdefault(base, []).append(duel)
        yield from duels.values()


def _baselines(schedules: Sequence[str], pattern: str, source: str) -> list[str]:
    """The schedule that is named, in full or without the hash of its choices, or those of several kinds of schedule.

    Full data is the level to reach, so a pattern that does not name it is not about it.

    Raises:
        InputError: several of one kind fit.
    """
    if pattern in schedules:
        return [pattern]
    fitting = [name for name in schedules if _CHOICES.sub("", name) == pattern]
    if not fitting:
        full_too = "full" in pattern or kind(pattern) == "full"
        fitting = [name for name in schedules if fnmatchcase(name, pattern) and (full_too or kind(name) != "full")]
    if len({kind(name) for name in fitting}) < len(fitting):
        raise _several(pattern, fitting, source)
    return fitting


def _of_its_kind(name: str, bases: Sequence[str], pattern: str, source: str) -> str:
    """The baseline of an arm: of the same kind of schedule, else the iterative one."""
    for wanted in (kind(name), "iterative"):
        for base in bases if len(bases) > 1 else ():
            if kind(base) == wanted:
                return base
    if len(bases) > 1:
        raise _several(pattern, bases, source)
    return bases[0]


def _several(pattern: str, fitting: Sequence[str], source: str) -> InputError:
    return InputError(
        f"baseline={pattern}: fits {' and '.join(fitting)} of {source}; name one of them, such as baseline={fitting[0]}"
    )


def _pairs(
    name: str, base: str, arms: Mapping[str, Mapping[int | None, Mapping[int, R]]], level: Level
) -> tuple[tuple[int, int], tuple[tuple[R, R], ...], tuple[str, ...], tuple[R, ...]]:
    """The endpoint of each, the pairs, the seeds left out, and the models left aside."""
    ours, theirs = ends(name, arms[name], level), ends(base, arms[base], level)
    pairs, left_out = [], []
    for seed in sorted({*arms[name], *arms[base]}, key=lambda s: -1 if s is None else s):
        one, other = ours.get(seed), theirs.get(seed)
        if one is None or other is None:
            lacking, models = (name, ours) if one is None else (base, theirs)
            last = max((model.round for model in models.values()), default=None)
            left_out.append(f"seed {seed}: {lacking} has no scores of {in_words(level, last)}")
        elif _differ(one.initial_pool, other.initial_pool):
            left_out.append(f"seed {seed}: not from the same P_0")
        else:
            pairs.append(one.beside(other))
    compared = [one.seed for one, _ in pairs]
    rounds = tuple(_usual(models, arms[arm], level) for arm, models in ((name, ours), (base, theirs)))
    aside = [
        model
        for arm, models in ((name, ours), (base, theirs))
        for seed in compared
        for t, model in sorted(arms[arm][seed].items())
        if level.shared and t > models[seed].round
    ]
    return (rounds[0], rounds[1]), tuple(pairs), tuple(left_out), tuple(aside)


def _usual(models: Mapping[int | None, R], arm: Mapping[int | None, Mapping[int, R]], level: Level) -> int:
    """The round of an arm that is compared; where it has none of the level, the one asked for, or its final one."""
    compared = [model.round for model in models.values()]
    final = max(t for rounds in arm.values() for t in rounds)
    return max(compared, default=final if level.round is None else level.round)


def _differ(one: tuple[int, str] | None, other: tuple[int, str] | None) -> bool:
    """Two initial pools of one size and different rows; pools of different sizes, as of full data, are meant to."""
    return one is not None and other is not None and one[0] == other[0] and one[1] != other[1]


def unequal(one: R, other: R) -> str | None:
    """What else than the samplers tells two models apart: how far their evolutions have come; None where nothing does.

    Full data is meant to be more. One selection and many lead to one pool size by different rounds.
    """
    kinds = [kind(each.schedule) for each in (one, other)]
    larger_start = one.initial_pool and other.initial_pool and one.initial_pool[0] != other.initial_pool[0]
    if "full" in kinds or (larger_start and 0 in (one.round, other.round)):
        return None
    if one.pool_size is not None and other.pool_size is not None:
        return None if one.pool_size == other.pool_size else f"pools of {one.pool_size:,} and {other.pool_size:,} rows"
    return f"rounds {one.round} and {other.round}" if kinds[0] == kinds[1] and one.round != other.round else None


# --- in words ---


def endpoint_in_words(duels: Sequence[Duel[Any]], asked: int | None) -> str:
    """Which models are compared; where their pools differ in size, that comes with it."""
    pairs = [pair for duel in duels for pair in duel.pairs]
    full = any(kind(name) == "full" for duel in duels for name in (duel.schedule, duel.baseline))
    levels = sorted({duel.level for duel in duels}, key=lambda level: (level.rows or 0, level.round or 0))
    unlike = [reason for pair in pairs if (reason := unequal(*pair))]
    sizes = sorted({level.rows for level in levels if level.rows is not None})
    if asked is not None:
        text = f"round {asked}"
    elif len(sizes) == len(levels) == 1:
        text = f"pools of {sizes[0]:,} rows"
    elif sizes:
        further = [in_words(level) for level in levels if level.rows is None and level.round is not None]
        final = ["final rounds"] if any(level == FINAL for level in levels) else []
        text = "pools of different sizes: " + ", ".join([*(f"{size:,} rows" for size in sizes), *further, *final])
    elif len(levels) == 1 and levels[0].round is not None and any(duel.left_aside for duel in duels):
        text = f"round {levels[0].round}"
    else:
        text = "final round"
    if unlike and "different sizes" not in text:
        text += ", pools of different sizes"
    return f"{text}; full: all rows" if full else text


def left_aside(duels: Sequence[Duel[Any]]) -> tuple[str, ...]:
    """What has come further than the models compared, by schedule."""
    seeds: dict[tuple[str, str, str], dict[str, None]] = {}
    mixed = len({duel.level for duel in duels}) > 1
    for duel in duels:
        further: dict[tuple[str, int | None], list[Any]] = {}
        for model in duel.left_aside:
            further.setdefault((model.schedule, model.seed), []).append(model)
        for (schedule, seed), models in further.items():
            rounds = [model.round for model in models]
            what = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {min(rounds)} to {max(rounds)}"
            sizes = [model.pool_size for model in models if model.pool_size is not None]
            if sizes and len(sizes) == 1:
                what += f" ({sizes[0]:,} rows)"
            elif sizes:
                what += f" ({min(sizes):,} to {max(sizes):,} rows)"
            against = duel.schedule if schedule == duel.baseline else duel.baseline
            whose = f"{duel.source}, {schedule}" + (f" against {against}" if mixed else "")
            key = (in_words(duel.level), whose, what)
            seeds.setdefault(key, {})["" if seed is None else str(seed)] = None
    return tuple(
        f"left aside: {whose}{', seed ' if any(those) else ''}{', '.join(those)}: {what}; compared is {level}, the "
        f"largest that all arms of a seed have; round=… compares another"
        for (level, whose, what), those in seeds.items()
    )


def spread(sizes: Sequence[int | None], rounds: Sequence[int]) -> str:
    """How far models that stand side by side lie apart, for a title; "" where they do not.

    Args:
        sizes: of their pools; None where one is not known.
        rounds: theirs.
    """
    known = {size for size in sizes if size is not None}
    if len(known) > 1:
        return f"pools of {min(known):,} to {max(known):,} rows"
    if len(known) == len(set(sizes)) == 1 or len(set(rounds)) < 2:
        return ""
    return f"rounds {min(rounds)} to {max(rounds)}"
