"""The last words of an evolution: what the run shows, what it cannot show, and the next command to type."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from diverseevol.cli.configuration import QUOTA_OPTIONS
from diverseevol.evaluation.scores.scores import read_scores
from diverseevol.output.shell import command, override
from diverseevol.runs.metrics import describe, read_descriptions
from diverseevol.runs.round_folder import Round

SEEDS = 3  # fewer say little about the next seed
MEASURES = ("held_out_loss", "vendi_score_centred", "coverage_radius")  # where nothing is judged, the first two there
REPLACED = ("sampler", "seed", "folder")  # the next command gives its own; folder= would put all its runs in one


def conclusion(
    folder: Path, rounds: Sequence[Round], sampler: str, schedule: str, outputs: str, overrides: Sequence[str]
) -> Iterator[tuple[str, list[str]]]:
    """Headings, each with its lines.

    Args:
        folder: the run folder.
        rounds: its rounds.
        sampler: the choice that the run was made with.
        schedule: likewise.
        outputs: the folder that holds the runs.
        overrides: what the user typed after `diverseevol evolve`.
    """
    scores = read_scores(folder / "rounds" / f"{rounds[-1].index:02d}")
    yield "what this run shows", [*_scores(folder, rounds, scores), *([] if scores else _measures(folder, rounds))]
    if schedule == "full":  # trained on all rows: nothing was chosen
        own = [word for word in overrides if word.partition("=")[0].partition(".")[0] not in ("schedule", "folder")]
        yield "what it cannot show", ["whether fewer rows reach as much: it trains on all of them"]
        yield "next", [command("diverseevol", "evolve", *own)]
        return
    rival = "random" if sampler != "random" else "kcenter"
    seeds = len(list(folder.parent.glob(f"seed*/rounds/{rounds[-1].index:02d}/round.json")))
    compared = any(folder.absolute().parent.parent.glob(f"{rival}-{schedule}*/seed*/rounds/00/round.json"))
    missing = [] if scores else ["whether the models answer better: nothing was judged"]
    if not compared:
        missing.append(f"whether {sampler} chooses better than {rival}: there is no run with sampler={rival} beside it")
    if seeds < SEEDS:
        missing.append(f"whether other seeds agree: there {'is one' if seeds < 2 else f'are {seeds}'}")
    yield "what it cannot show", missing or [f"whether {sampler} is better than {rival}: that takes all the seeds"]
    measured = next((name for name in MEASURES if name in rounds[-1].metrics), None)
    choice = [] if scores or measured is None else [override("metric", measured)]
    comparing = command("diverseevol", "compare", override("folder", outputs), *choice)
    if compared and seeds >= SEEDS:
        yield "next", [comparing]
        return
    own = [word for word in overrides if _name(word) not in REPLACED]
    # Which the other sampler may not have; quotas go with any.
    quotas = [f"sampler.{name}" for name in QUOTA_OPTIONS]
    options = [word for word in own if _name(word).startswith("sampler.") and not _name(word).startswith(tuple(quotas))]
    shared = [word for word in own if word not in options]
    own_class = any(_name(word) == "sampler._target_" for word in options)  # which no choice stands for
    named = [] if own_class else [f"sampler={sampler}"]
    samplers = [[*named, *options], [f"sampler={rival}"]] if options else [[f"sampler={sampler},{rival}"]]
    seed = f"seed={','.join(map(str, range(SEEDS)))}"
    yield "next", [*(command("diverseevol", "evolve", "-m", *shared, *each, seed) for each in samplers), comparing]


def _name(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _scores(folder: Path, rounds: Sequence[Round], last: Mapping[str, Any]) -> Iterator[str]:
    initial = read_scores(folder / "rounds" / f"{rounds[0].index:02d}") if len(rounds) > 1 else {}
    for name, after in sorted(last.items()):
        before, end = initial.get(name), f"{len(rounds[-1].trained_on):,}"
        if before is None:
            yield f"{name}: relative score {after['relative_score']:.1f} with {end} rows"
            continue
        separate = before["ci_high"] < after["ci_low"] or after["ci_high"] < before["ci_low"]
        yield (
            f"{name}: relative score {before['relative_score']:.1f} with {len(rounds[0].trained_on):,} rows, "
            f"{after['relative_score']:.1f} with {end}; their 95 % intervals over questions "
            f"{'do not overlap' if separate else 'overlap'}"
        )


def _measures(folder: Path, rounds: Sequence[Round]) -> Iterator[str]:
    descriptions = read_descriptions(folder)
    ends = rounds if len(rounds) == 1 else (rounds[0], rounds[-1])
    for name in [name for name in MEASURES if all(name in end.metrics for end in ends)][:2]:
        described = describe(name, descriptions)
        values = [f"{end.metrics[name]:{described.form}} with {len(end.trained_on):,} rows" for end in ends]
        yield f"{described.titled()}: {', '.join(values)}"
