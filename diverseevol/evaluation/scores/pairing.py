"""Which models may be compared: same source, judge, benchmark and seed, at the largest pool size that all arms have."""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import groupby

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.frame import Frame, Row

# --- how far the evolutions have come ---

Arm = Mapping[int | None, Mapping[int, Row]]  # the models of one schedule, by seed and round


@dataclass(frozen=True)
class Level:
    """What the models of several arms have in common.

    Attributes:
        rows: the pool size of all of them.
        round: the round of all of them.
        shared: whether they were found to have it in common, rather than that it was asked for. Where neither rows nor
            round is set, it is the final round of each.
    """

    rows: int | None = None
    round: int | None = None
    shared: bool = False


FINAL = Level()


def shared(arms: Mapping[str, Arm]) -> Level:
    """The largest pool size that all arms of a seed have, where most seeds have it.

    Where pool sizes are not known, rounds stand for them among arms of one kind of schedule. An arm of all rows is a
    level of its own and holds nothing back. A first pool alone is nothing in common: all arms share it.

    Args:
        arms: by schedule.
    """
    growing = {name: arm for name, arm in arms.items() if kind(name) != "full"}
    models = [model for arm in growing.values() for rounds in arm.values() for model in rounds.values()]
    sized = all(model.rows is not None for model in models)
    if not sized and len({kind(name) for name in growing}) > 1:
        return FINAL
    size = "rows" if sized else "round"
    arms_of = Counter(seed for arm in growing.values() for seed in arm)
    several = [seed for seed, count in arms_of.items() if count > 1]
    value = _largest([_in_common(growing, seed, size) for seed in several or arms_of])
    if value is None:
        return FINAL
    first = all(model.round == 0 for model in models if getattr(model, size) == value)
    if first and any(model.round > 0 for model in models):
        return FINAL
    return Level(rows=value, shared=True) if sized else Level(round=value, shared=True)


def _in_common(arms: Mapping[str, Arm], seed: int | None, size: str) -> set[int]:
    """The pool sizes, or rounds, that all arms have which have the seed."""
    sizes = [{getattr(model, size) for model in arm[seed].values()} for arm in arms.values() if seed in arm]
    return set.intersection(*sizes)


def _largest(seeds: Collection[set[int]]) -> int | None:
    """The largest value that more than half of the seeds have."""
    values = set().union(*seeds)
    return max((value for value in values if 2 * sum(value in seed for seed in seeds) > len(seeds)), default=None)


def ends(name: str, arm: Arm, level: Level) -> dict[int | None, Row]:
    """The model of each seed at a level; seeds without one are left out.

    Args:
        name: the arm's schedule; one of all rows is at its end whatever the level.
        arm: its models.
        level: where the models of the other arms are.
    """
    column, value = ("round", level.round) if level.rows is None else ("rows", level.rows)
    if kind(name) == "full" or level == FINAL:
        column, value = "round", max(t for rounds in arm.values() for t in rounds)
    fitting = {}
    for seed, rounds in arm.items():
        for _, model in sorted(rounds.items()):
            if getattr(model, column) == value:
                fitting[seed] = model
    return fitting


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

_CHOICES = re.compile(r"-[0-9a-f]{8}$")  # the hash of further choices that ends a schedule's name


@dataclass(frozen=True)
class Pairing:
    """One schedule against the baseline on one benchmark.

    Attributes:
        names: source, judge, benchmark, schedule and baseline.
        level: what their models have in common: a pool size, a round, or that they are final.
        rounds: the endpoint of the schedule and of the baseline.
        pairs: the schedule's and the baseline's model, a pair a seed.
        left_out: seeds that do not pair, and why.
        later: models of either that have come further than the endpoint.
    """

    names: Mapping[str, str]
    level: Level
    rounds: tuple[int, int]
    pairs: tuple[tuple[Row, Row], ...]
    left_out: tuple[str, ...]
    later: tuple[Row, ...]

    @property
    def inequality(self) -> str | None:
        """How else than by the samplers some pair differs, as `unequal` says it."""
        return next((reason for pair in self.pairs if (reason := unequal(*pair))), None)


def pair_up(frame: Frame, baseline: str, endpoint: int | None) -> list[list[Pairing]]:
    """The pairings of every source, judge and benchmark or metric that has the baseline, a list for each.

    Raises:
        InputError: nothing fits the baseline or the endpoint, or a pair was asked different questions.
    """
    rows = list(frame.itertuples(index=False))
    if endpoint is not None and all(row.round != endpoint for row in rows):
        raise InputError(f"round={endpoint}: no model of that round is scored; give a round that is, or leave it out")
    groups = list(_groups(rows, baseline, endpoint))
    if not groups:
        raise InputError(_nothing_to_compare(rows, baseline))
    return groups


def _nothing_to_compare(rows: Sequence[Row], baseline: str) -> str:
    """Why there is no pairing: no baseline, or no opponent."""
    schedules: dict[tuple[str, ...], set[str]] = {}
    for row in rows:
        schedules.setdefault(_comparable(row), set()).add(row.schedule)
    choices = sorted(set().union(*(names for names in schedules.values() if len(names) > 1)))
    if not choices:
        names = sorted(set().union(*schedules.values()))
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


def _comparable(row: Row) -> tuple[str, ...]:
    """What two models must have in common."""
    return row.source, row.judge, row.prompt_version, row.benchmark


def _groups(rows: Sequence[Row], baseline: str, endpoint: int | None) -> Iterator[list[Pairing]]:
    for (source, judge, _, benchmark), group in groupby(sorted(rows, key=_comparable), _comparable):
        schedules: dict[str, dict[int | None, dict[int, Row]]] = {}
        for row in group:
            schedules.setdefault(row.schedule, {}).setdefault(row.seed, {})[row.round] = row
        bases = _baselines(sorted(schedules), baseline, source)
        if not bases:
            continue
        if len(bases) == len(schedules) > 1:  # they can only be compared with each other
            raise _several(baseline, bases, source)
        level = shared(schedules) if endpoint is None else Level(round=endpoint)
        pairings: dict[str, list[Pairing]] = {}  # by baseline
        for name in sorted({*schedules} - {*bases}):
            base = _of_its_kind(name, bases, baseline, source)
            arms = {name: schedules[name], base: schedules[base]}
            pairing = _pairing(name, base, arms, level)
            if endpoint is None and (level == FINAL or not pairing.pairs):
                # An arm that has nothing in common with the rest is compared by itself, and holds no others back.
                pairing = _pairing(name, base, arms, shared(arms))
            names = {"source": source, "judge": judge, "benchmark": benchmark, "schedule": name, "baseline": base}
            pairings.setdefault(base, []).append(replace(pairing, names=names))
        yield from pairings.values()


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
    if len(bases) == 1:
        return bases[0]
    for wanted in (kind(name), "iterative"):
        for base in bases:
            if kind(base) == wanted:
                return base
    raise _several(pattern, bases, source)


def _several(pattern: str, fitting: Sequence[str], source: str) -> InputError:
    return InputError(
        f"baseline={pattern}: fits {' and '.join(fitting)} of {source}; name one of them, such as baseline={fitting[0]}"
    )


def _pairing(name: str, base: str, arms: Mapping[str, Arm], level: Level) -> Pairing:
    """The pairing of two arms at a level, whose names are still to be said."""
    at_level = {arm: ends(arm, arms[arm], level) for arm in (name, base)}
    pairs, left_out = [], []
    for seed in sorted({*arms[name], *arms[base]}, key=lambda s: -1 if s is None else s):
        lacking = next((arm for arm, models in at_level.items() if seed not in models), None)
        if lacking is not None:
            last = max((model.round for model in at_level[lacking].values()), default=None)
            left_out.append(f"seed {seed}: {lacking} has no scores of {in_words(level, last)}")
            continue
        model, base_model = at_level[name][seed], at_level[base][seed]
        if _differ(model.initial_pool, base_model.initial_pool):
            left_out.append(f"seed {seed}: not from the same P_0")
        else:
            pairs.append(_on_the_same_questions(model, base_model))
    later = [
        model
        for arm, models in at_level.items()
        for seed in (compared.seed for compared, _ in pairs)
        for t, model in sorted(arms[arm][seed].items())
        if level.shared and t > models[seed].round
    ]
    rounds = (_usual(at_level[name], arms[name], level), _usual(at_level[base], arms[base], level))
    return Pairing({}, level, rounds, tuple(pairs), tuple(left_out), tuple(later))


def _usual(models: Mapping[int | None, Row], arm: Arm, level: Level) -> int:
    """The round of an arm that is compared; where it has none of the level, the one asked for, or its final one."""
    final = max(t for rounds in arm.values() for t in rounds)
    return max((model.round for model in models.values()), default=final if level.round is None else level.round)


def _differ(pool: tuple[int, str] | None, base_pool: tuple[int, str] | None) -> bool:
    """Two initial pools of one size and different rows; pools of different sizes, as of full data, are meant to."""
    return pool is not None and base_pool is not None and pool[0] == base_pool[0] and pool[1] != base_pool[1]


def _on_the_same_questions(model: Row, base: Row) -> tuple[Row, Row]:
    """Two models on the questions that both were judged on; those without a verdict drop out. A metric has none.

    Raises:
        InputError: they were asked different questions.
    """
    if model.scores is None:
        return model, base
    asked, base_asked = model.scores.by_question, base.scores.by_question
    unparsed = {*asked.unparsed, *base_asked.unparsed}
    differing = sorted(({*asked.ids} ^ {*base_asked.ids}) - unparsed)
    if differing:
        raise InputError(
            f"{model.file} and {base.file}: not the same questions ({len(differing)} are in one only, first "
            f"{differing[0]!r}), so these models cannot be compared; judge both on one benchmark"
        )
    return _without(model, unparsed), _without(base, unparsed)


def _without(row: Row, questions: set[str]) -> Row:
    asked = row.scores.by_question
    kept = [i for i, question in enumerate(asked.ids) if question not in questions]
    if len(kept) == len(asked.ids):
        return row
    model, competitor = asked.model[kept], asked.competitor[kept]
    if competitor.sum() == 0:
        raise InputError(f"{row.file}: too few questions with a verdict are left to compare; judge it again")
    by_question = replace(asked, ids=tuple(asked.ids[i] for i in kept), model=model, competitor=competitor)
    return row._replace(
        value=float(100 * model.sum() / competitor.sum()), scores=replace(row.scores, by_question=by_question)
    )


def unequal(model: Row, base: Row) -> str | None:
    """How else than by their samplers two models differ: how far their evolutions have come; None where they do not.

    Full data is meant to be more. One selection and many lead to one pool size by different rounds.
    """
    kinds = [kind(row.schedule) for row in (model, base)]
    larger_start = model.initial_pool and base.initial_pool and model.initial_pool[0] != base.initial_pool[0]
    if "full" in kinds or (larger_start and 0 in (model.round, base.round)):
        return None
    if model.rows is not None and base.rows is not None:
        return None if model.rows == base.rows else f"pools of {model.rows:,} and {base.rows:,} rows"
    return f"rounds {model.round} and {base.round}" if kinds[0] == kinds[1] and model.round != base.round else None


# --- in words ---


def endpoint_in_words(pairings: Sequence[Pairing], asked: int | None) -> str:
    """Which models are compared; where their pools differ in size, that comes with it."""
    full = any(kind(pairing.names[arm]) == "full" for pairing in pairings for arm in ("schedule", "baseline"))
    levels = sorted({pairing.level for pairing in pairings}, key=lambda level: (level.rows or 0, level.round or 0))
    sizes = sorted({level.rows for level in levels if level.rows is not None})
    if asked is not None:
        text = f"round {asked}"
    elif len(sizes) == len(levels) == 1:
        text = f"pools of {sizes[0]:,} rows"
    elif sizes:
        rounds = [in_words(level) for level in levels if level.rows is None and level.round is not None]
        final = ["final rounds"] if any(level == FINAL for level in levels) else []
        text = "pools of different sizes: " + ", ".join([*(f"{size:,} rows" for size in sizes), *rounds, *final])
    elif len(levels) == 1 and levels[0].round is not None and any(pairing.later for pairing in pairings):
        text = f"round {levels[0].round}"
    else:
        text = "final round"
    if any(pairing.inequality for pairing in pairings) and "different sizes" not in text:
        text += ", pools of different sizes"
    return f"{text}; full: all rows" if full else text


def not_compared(pairings: Sequence[Pairing]) -> tuple[str, ...]:
    """What has come further than the models compared, a sentence for each schedule and its rounds."""
    seeds: dict[tuple[str, str, str], dict[str, None]] = {}
    mixed = len({pairing.level for pairing in pairings}) > 1
    for pairing in pairings:
        by_run: dict[tuple[str, int | None], list[Row]] = {}
        for model in pairing.later:
            by_run.setdefault((model.schedule, model.seed), []).append(model)
        names = pairing.names
        for (schedule, seed), models in by_run.items():
            rounds = [model.round for model in models]
            text = f"round {rounds[0]}" if len(rounds) == 1 else f"rounds {min(rounds)} to {max(rounds)}"
            sizes = [model.rows for model in models if model.rows is not None]
            if sizes:
                text += f" ({sizes[0]:,} rows)" if len(sizes) == 1 else f" ({min(sizes):,} to {max(sizes):,} rows)"
            opponent = names["schedule"] if schedule == names["baseline"] else names["baseline"]
            arm = f"{names['source']}, {schedule}" + (f" against {opponent}" if mixed else "")
            key = (in_words(pairing.level), arm, text)
            seeds.setdefault(key, {})["" if seed is None else str(seed)] = None
    return tuple(
        f"left aside: {arm}{', seed ' if any(of_arm) else ''}{', '.join(of_arm)}: {text}; compared is {level}, the "
        f"largest that all arms of a seed have; round=… compares another"
        for (level, arm, text), of_arm in seeds.items()
    )


def spread(sizes: Sequence[int | None], rounds: Sequence[int]) -> str:
    """How far the models of one table are apart, for a title; "" where they are not.

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
