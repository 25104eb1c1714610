"""Which models a comparison is of, in words, and which it leaves aside."""

from collections.abc import Sequence
from typing import Any

from diverseevol.evaluation.scores.levels import FINAL, in_words, kind
from diverseevol.evaluation.scores.pairing import Duel, unequal


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
