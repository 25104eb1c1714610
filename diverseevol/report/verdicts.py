"""Each sampler against random and against all rows, by the rules of `diverseevol compare` and no others."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.comparison import ModelVerdict, SamplerVerdict, compare
from diverseevol.evaluation.scores.scoreboard import ScoredRound
from diverseevol.report.charts.lines import FULL, Line, sources
from diverseevol.report.collect import Collection

BASELINE = "random"


@dataclass(frozen=True)
class Verdict:
    """One line against another on one benchmark by one judge.

    Attributes:
        line, against: the two.
        samplers: the verdict over seeds.
        models: seed by seed, over questions.
    """

    line: Line
    against: Line
    samplers: SamplerVerdict
    models: tuple[ModelVerdict, ...]

    @property
    def says(self) -> str:
        """Better, worse, or cannot tell and why."""
        found = self.samplers
        if found.verdict != "cannot tell" or found.p_holm is None:
            return found.verdict
        return f"cannot tell: p = {found.p_holm:.2f}"


def verdicts(collection: Collection) -> tuple[list[Verdict], list[str]]:
    """Every verdict, against random first, and what could not be compared and why."""
    by_line: dict[Line, list[ScoredRound]] = {}
    for each in collection.board.rounds:
        by_line.setdefault(collection.line(each), []).append(each)
    found: list[Verdict] = []
    notes: list[str] = []
    for source in sources(by_line):
        lines = [line for line in by_line if line.source == source]
        for baseline, others in _groups(lines, notes):
            rounds = [each for line in (baseline, *others) for each in by_line[line]]
            try:
                held, aside = _held(rounds, baseline, {line.schedule: line for line in others})
                found += held
                notes += [note for note in aside if note not in notes]
            except InputError as error:
                notes.append(f"not compared: {error}")
    found.sort(key=lambda verdict: verdict.against.kind == FULL)
    return found, notes


def _groups(lines: Sequence[Line], notes: list[str]) -> Iterator[tuple[Line, list[Line]]]:
    """Baselines with what is held against each: random under the same schedule and choices, and all rows."""
    random = [line for line in lines if line.sampler == BASELINE and line.kind != FULL]
    full = sorted(line for line in lines if line.kind == FULL)
    others = [line for line in lines if line.kind != FULL and line not in random]
    chosen = {line: _baseline(line, random) for line in others}
    for line, base in chosen.items():
        if base is None:
            reason = f"{len(random)} random runs under other schedules or choices" if random else "no judged random run"
            notes.append(f"{line.source}, {line.schedule}: not held against random, for there is {reason}")
    for base in random:
        if held := [line for line in others if chosen[line] == base]:
            yield base, held
    if full and len(full) < len(lines):
        yield full[0], [line for line in lines if line.kind != FULL]


def _baseline(line: Line, random: Sequence[Line]) -> Line | None:
    alike = [base for base in random if base.kind == line.kind]
    exact = [base for base in alike if base.others == line.others]
    for candidates in (exact, alike, random):
        if len(candidates) == 1:
            return candidates[0]
    return None


def _held(
    rounds: Sequence[ScoredRound], baseline: Line, lines: dict[str, Line]
) -> tuple[list[Verdict], tuple[str, ...]]:
    """The verdicts of one group, and what was left aside."""
    comparison = compare(rounds, baseline.schedule)

    def of(verdict: SamplerVerdict, model: ModelVerdict) -> bool:
        return (verdict.judge, verdict.benchmark, verdict.schedule) == (model.judge, model.benchmark, model.schedule)

    verdicts = [
        Verdict(lines[each.schedule], baseline, each, tuple(model for model in comparison.models if of(each, model)))
        for each in comparison.samplers
    ]
    return verdicts, comparison.left_aside
