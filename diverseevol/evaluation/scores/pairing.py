"""Which models may be held against each other: same source, judge, benchmark and seed, at an endpoint said before."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Generic, TypeVar

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.levels import FINAL, Level, ends, in_words, kind, shared
from diverseevol.evaluation.scores.read_metrics import MeasuredRound
from diverseevol.evaluation.scores.scoreboard import ScoredRound

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
