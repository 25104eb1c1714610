"""Each sampler against random and against all rows, by the rules of `diverseevol compare` and no others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.comparison import compare
from diverseevol.evaluation.scores.frame import Row
from diverseevol.report.charts.lines import FULL, Line, sources
from diverseevol.report.collect import Collection

BASELINE = "random"


@dataclass(frozen=True)
class Verdict:
    """One line against another on one benchmark by one judge.

    Attributes:
        line, against: the two.
        samplers: the verdict over seeds, a row of `Comparison.samplers`.
        models: seed by seed, over questions, rows of `Comparison.models`.
    """

    line: Line
    against: Line
    samplers: Row
    models: tuple[Row, ...]

    @property
    def says(self) -> str:
        """Better, worse, or cannot tell and why."""
        verdict: str = self.samplers.verdict
        p = self.samplers.p_holm
        return f"cannot tell: p = {p:.2f}" if verdict == "cannot tell" and p is not None else verdict


def verdicts(collection: Collection) -> tuple[list[Verdict], list[str]]:
    """Every verdict, against random first, and what could not be compared and why."""
    scores = collection.board.frame
    reached: list[Verdict] = []
    notes: list[str] = []
    for source in sources(scores.line):
        for baseline, arms in _groups(list(dict.fromkeys(scores.line[scores.source == source])), notes):
            try:
                comparison = compare(scores[scores.line.isin([baseline, *arms])], baseline.schedule)
            except InputError as error:
                notes.append(f"not compared: {error}")
                continue
            notes += [note for note in comparison.not_compared if note not in notes]
            lines = {line.schedule: line for line in arms}
            for samplers in comparison.samplers.itertuples():
                key = samplers.judge, samplers.benchmark, samplers.schedule
                models = tuple(
                    model
                    for model in comparison.models.itertuples()
                    if (model.judge, model.benchmark, model.schedule) == key
                )
                reached.append(Verdict(lines[samplers.schedule], baseline, samplers, models))
    return sorted(reached, key=lambda verdict: verdict.against.kind == FULL), notes


def _groups(lines: Sequence[Line], notes: list[str]) -> Iterator[tuple[Line, list[Line]]]:
    """Baselines with what is held against each: random under the same schedule and choices, and all rows."""
    growing = [line for line in lines if line.kind != FULL]
    random = [line for line in growing if line.sampler == BASELINE]
    chosen = {line: _baseline(line, random) for line in growing if line not in random}
    for line, base in chosen.items():
        if base is None:
            reason = f"{len(random)} random runs under other schedules or choices" if random else "no judged random run"
            notes.append(f"{line.source}, {line.schedule}: not held against random, for there is {reason}")
    for base in random:
        if arms := [line for line in chosen if chosen[line] == base]:
            yield base, arms
    full = sorted(line for line in lines if line.kind == FULL)
    if full and growing:
        yield full[0], growing


def _baseline(line: Line, random: Sequence[Line]) -> Line | None:
    alike = [base for base in random if base.kind == line.kind]
    exact = [base for base in alike if base.choices == line.choices]
    return next((fitting[0] for fitting in (exact, alike, random) if len(fitting) == 1), None)
