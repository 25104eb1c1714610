"""Which models may be held against each other: same source, judge, benchmark and seed, at an endpoint said before."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Generic, TypeVar

from diverseevol.errors import InputError
from diverseevol.evaluation.measured import MeasuredRound
from diverseevol.evaluation.scoreboard import ScoredRound

R = TypeVar("R", ScoredRound, MeasuredRound)  # one number of one round, and whose it is


@dataclass(frozen=True)
class Duel(Generic[R]):
    """One schedule against the baseline on one benchmark.

    Attributes:
        rounds: the endpoint of the schedule and of the baseline.
        pairs: the schedule's and the baseline's model, a pair a seed.
        left_out: seeds that do not pair, and why.
    """

    source: str
    judge: str
    benchmark: str
    schedule: str
    baseline: str
    rounds: tuple[int, int]
    pairs: tuple[tuple[R, R], ...]
    left_out: tuple[str, ...]


def pair_up(rounds: Sequence[R], baseline: str, endpoint: int | None) -> list[list[Duel[R]]]:
    """The duels of every source, judge and benchmark or metric that has the baseline, a list for each.

    Raises:
        InputError: nothing fits the baseline or the endpoint, or a pair was asked different questions.
    """
    if endpoint is not None and all(each.round != endpoint for each in rounds):
        raise InputError(f"round={endpoint}: no model of that round is scored; give a round that is, or leave it out")
    duels = [group for group in _groups(rounds, baseline, endpoint) if group]
    if not duels:
        schedules = ", ".join(sorted({each.schedule for each in rounds}))
        raise InputError(
            f"baseline={baseline}: is none of the schedules scored, or the only one; "
            f"choose one of {schedules}, each beside another of the same source"
        )
    return duels


def _groups(rounds: Sequence[R], baseline: str, endpoint: int | None) -> Iterator[list[Duel[R]]]:
    def comparable(each: R) -> tuple[str, ...]:
        return each.source, each.judge, each.prompt_version, each.benchmark

    for (source, judge, _, benchmark), group in groupby(sorted(rounds, key=comparable), comparable):
        schedules: dict[str, dict[int | None, dict[int, R]]] = {}
        for each in group:
            schedules.setdefault(each.schedule, {}).setdefault(each.seed, {})[each.round] = each
        base = _baseline(sorted(schedules), baseline, source)
        if base is not None:
            yield [
                Duel(
                    source,
                    judge,
                    benchmark,
                    name,
                    base,
                    *_pairs(name, schedules[name], base, schedules[base], endpoint),
                )
                for name in sorted(schedules)
                if name != base
            ]


def _baseline(schedules: Sequence[str], pattern: str, source: str) -> str | None:
    if pattern in schedules:
        return pattern
    fitting = [name for name in schedules if fnmatchcase(name, pattern)]
    if len(fitting) > 1:
        raise InputError(f"baseline={pattern}: fits {' and '.join(fitting)} of {source}; name one of them")
    return fitting[0] if fitting else None


def _pairs(
    name: str,
    ours: Mapping[int | None, Mapping[int, R]],
    base: str,
    theirs: Mapping[int | None, Mapping[int, R]],
    endpoint: int | None,
) -> tuple[tuple[int, int], tuple[tuple[R, R], ...], tuple[str, ...]]:
    """The endpoint of each, the pairs, and the seeds left out."""
    ends = tuple(
        max(t for done in seeds.values() for t in done) if endpoint is None else endpoint for seeds in (ours, theirs)
    )
    pairs, left_out = [], []
    for seed in sorted({*ours, *theirs}, key=lambda s: -1 if s is None else s):
        one, other = ours.get(seed, {}).get(ends[0]), theirs.get(seed, {}).get(ends[1])
        if one is None or other is None:
            lacking, end = (name, ends[0]) if one is None else (base, ends[1])
            left_out.append(f"seed {seed}: {lacking} has no scores of round {end}")
        elif _differ(one.initial_pool, other.initial_pool):
            left_out.append(f"seed {seed}: not from the same P_0")
        else:
            pairs.append(one.beside(other))
    return (ends[0], ends[1]), tuple(pairs), tuple(left_out)


def _differ(one: tuple[int, str] | None, other: tuple[int, str] | None) -> bool:
    """Two initial pools of one size and different rows; pools of different sizes, as of full data, are meant to."""
    return one is not None and other is not None and one[0] == other[0] and one[1] != other[1]


def unequal(one: R, other: R) -> str | None:
    """What else than the samplers tells two models apart: how far their evolutions have come; None where nothing does.

    Full data is meant to be more. One selection and many lead to one pool size by different rounds.
    """
    kinds = [_kind(each.schedule) for each in (one, other)]
    larger_start = one.initial_pool and other.initial_pool and one.initial_pool[0] != other.initial_pool[0]
    if "full" in kinds or (larger_start and 0 in (one.round, other.round)):
        return None
    if one.pool_size is not None and other.pool_size is not None:
        return None if one.pool_size == other.pool_size else f"pools of {one.pool_size:,} and {other.pool_size:,} rows"
    return f"rounds {one.round} and {other.round}" if kinds[0] == kinds[1] and one.round != other.round else None


def _kind(schedule: str) -> str:
    """Which kind of schedule a folder's name tells of; the authors call full data `baseline_…`."""
    if schedule.startswith("baseline_"):
        return "full"
    found = re.search(r"(?:^|-)(iterative|one_time|full)(?:-[0-9a-f]{8})?$", schedule)
    return found[1] if found else "iterative"
