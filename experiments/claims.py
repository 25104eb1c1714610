"""What each origin says about the paper's claims: differences with their intervals, seed by seed."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from estimates import data_of

from diverseevol.evaluation.scores.comparison import MINIMUM_SEEDS, compare, t_test
from diverseevol.evaluation.scores.frame import Row
from diverseevol.report.charts.lines import FULL, Line, sources
from diverseevol.report.charts.titles import benchmark_order
from diverseevol.report.collect import Collection


@dataclass(frozen=True)
class Held:
    """What one origin says about a claim.

    Attributes:
        claim: its key in paper.yaml.
        on: data set and benchmark.
        says: the verdict, and a difference with its interval.
    """

    claim: str
    on: str
    says: str


# Claims say that something is better, or more.
VERDICTS = {"better": "reproduced", "more": "reproduced", "worse": "not reproduced", "less": "not reproduced"}


def is_kcenter(line: Line) -> bool:
    """The paper's own way."""
    return line.sampler == "kcenter" and line.kind not in (FULL, "one_time")


def is_random(line: Line) -> bool:
    """The baseline."""
    return line.sampler == "random" and line.kind not in (FULL, "one_time")


def is_full(line: Line) -> bool:
    """All rows."""
    return line.kind == FULL


def is_one_time(line: Line) -> bool:
    """K-Center, once."""
    return line.sampler == "kcenter" and line.kind == "one_time"


def held(
    collection: Collection, claim: str, first: Callable[[Line], bool], second: Callable[[Line], bool]
) -> Iterator[Held]:
    """One line's final relative score less another's, by the rules of `diverseevol compare`."""
    scores = collection.board.frame
    lines = set(scores.line)
    for source in sources(lines):
        pair = [[line for line in sorted(lines) if line.source == source and pick(line)] for pick in (first, second)]
        if not all(pair):
            continue
        own, base = pair[0][0], pair[1][0]
        rounds = scores[scores.line.isin([own, base])]
        benchmarks = rounds.groupby("benchmark").line.nunique()
        comparison = compare(rounds[rounds.benchmark.map(benchmarks) == 2], base.schedule)
        for row in sorted(comparison.samplers.itertuples(), key=lambda each: benchmark_order(each.benchmark)):
            models = [
                model
                for model in comparison.models.itertuples()
                if (model.judge, model.benchmark) == (row.judge, row.benchmark)
            ]
            yield Held(claim, on(source, row.benchmark), _in_words(row, models))


def _in_words(row: Row, models: Sequence[Row]) -> str:
    if row.ci_low is not None:
        interval = f"[{row.ci_low:+.1f}, {row.ci_high:+.1f}]"
        verdict = VERDICTS.get(row.verdict, row.verdict)
        return f"{verdict}: {row.mean_difference:+.1f} {interval} over {len(row.seeds)} seeds"
    if len(models) == 1 and models[0].ci_low is not None:
        model = models[0]
        interval = f"[{model.ci_low:+.1f}, {model.ci_high:+.1f}]"
        return f"one seed, of these two models {model.verdict}: {model.difference:+.1f} {interval} over questions"
    return f"{row.verdict}{'' if row.mean_difference is None else f', {row.mean_difference:+.1f}'}"


def paired(collection: Collection, metric: str, claim: str) -> Iterator[Held]:
    """K-Center's pool less random's of the same seed, by a metric of the pool, at the last number of rows of both.

    Runs of one seed that did not begin with the same rows of the same data are no pair, and are said to be left out.
    """
    values: dict[tuple[str, bool], dict[tuple[int | None, int], float]] = {}
    for p in collection.frame[(collection.frame.metric == metric) & collection.frame.rows.notna()].itertuples():
        if is_kcenter(p.line) or is_random(p.line):
            values.setdefault((p.line.source, is_kcenter(p.line)), {})[p.seed, int(p.rows)] = p.value
    began = {
        (run.line.source, is_kcenter(run.line), run.seed): (run.data, sorted(run.rounds[0].trained_on))
        for run in collection.runs
        if run.rounds and (is_kcenter(run.line) or is_random(run.line))
    }
    for source in dict.fromkeys(source for source, _ in values):
        ours, theirs = values.get((source, True), {}), values.get((source, False), {})
        shared = ours.keys() & theirs.keys()
        if not shared:
            continue
        last = max(rows for _, rows in shared)
        seeds = sorted((seed for seed, rows in shared if rows == last), key=lambda seed: -1 if seed is None else seed)
        alike = [seed for seed in seeds if began.get((source, True, seed)) == began.get((source, False, seed))]
        unpaired = ", ".join(str(seed) for seed in seeds if seed not in alike)
        left_out = f"; left out, not begun with the same rows of the same data: seeds {unpaired}" if unpaired else ""
        d = np.array([ours[seed, last] - theirs[seed, last] for seed in alike], dtype=np.float64)
        says = f"{difference(d)} at {last:,} rows" if alike else "cannot tell: no pair of runs"
        yield Held(claim, on(source, metric), says + left_out)


def difference(d: np.ndarray, form: str = "+.2f") -> str:
    """Whether the t-interval over seeds leaves zero out, and the mean with it."""
    test = t_test(d)
    if test is None:
        alike = ", all alike" if len(d) >= MINIMUM_SEEDS else ""
        return f"cannot tell: {d.mean():{form}}, {len(d)} seed{'' if len(d) == 1 else 's'}{alike}"
    low, high, _ = test
    verdict = VERDICTS["more"] if low > 0 else VERDICTS["less"] if high < 0 else "cannot tell"
    return f"{verdict}: {d.mean():{form}} [{low:{form}}, {high:{form}}] over {len(d)} seeds"


def on(source: str, benchmark: str) -> str:
    """What a claim is held against: the data set, by its own name, and the benchmark or metric."""
    return f"{data_of(source)}, {benchmark}"
