"""What is drawn as one line: a sampler under a schedule on one source, with its name, colour and marker everywhere."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from diverseevol.runs.choices_0_1 import choice_of_0_1

# Okabe & Ito's palette and, from `vendi` on, Tol's muted one: distinct for any colour vision. The second colour is
# for dark pages. A sampler keeps its look in every figure and every report, whatever stands beside it.
LOOKS: Mapping[str, tuple[str, str, str, str]] = {
    "kcenter": ("K-Center", "#0072B2", "#5AB4F0", "o"),
    "random": ("random", "#D55E00", "#FF9248", "s"),
    "least_confidence": ("least confidence", "#009E73", "#2FD0A0", "^"),
    "margin": ("margin", "#C4639C", "#EBA3CC", "v"),
    "entropy": ("entropy", "#C98A00", "#F5BC42", "D"),
    "qbc": ("committee", "#4FA3D6", "#8CCFF5", "P"),
    "vendi": ("Vendi", "#332288", "#9C90F2", "X"),
    "uncertain_kcenter": ("uncertain K-Center", "#2F8F82", "#63CDBA", "p"),
    "kmeans": ("k-means", "#882255", "#E0749F", "<"),
    "facility_location": ("facility location", "#84842B", "#CBCB68", ">"),
    "longest": ("longest", "#5A5A5A", "#BDBDBD", "h"),
    "oracle": ("oracle", "#117733", "#5FC98B", "*"),
}
RELEASED = {"kc": "kcenter", "rand": "random", "lc": "least_confidence", "ms": "margin"}
RELEASED_SCHEDULE = re.compile(r"(?P<sampler>kc|rand|lc|ms)_(?P<data>[^_]+)_.+|baseline_(?P<full>.+)")
RELEASED_ROWS = (100, 100)  # of round 0, and more in each round after it
OWN_SCHEDULE = re.compile(r"(?P<sampler>\w+)-(?P<kind>\w+?)(-(?P<choices>[0-9a-f]{8}))?")
NOT_OPTIONS = ("release", "seed", "sampler", "sampler.target")
LONGEST_OPTION = 24  # letters of an option that is part of a name
FULL, ITERATIVE, ONE_TIME = "full", "iterative", "one_time"
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (4, 1.5, 1, 1.5), (2, 1.5), (1, 1))  # of a sampler's lines


@dataclass(frozen=True, order=True)
class Line:
    """One sampler under one schedule.

    Attributes:
        source: what was selected from: <data>/<model>, or the released data set's name.
        schedule: the folder's name.
        sampler: as `sampler=` calls it.
        kind: as `schedule=` calls it; "full" is the level that all rows reach.
        choices: hash of further choices, "" where there are none.
        released: whether it is the authors'.
        options: what the fingerprint says of sampler, tuning and the like; empty where no run folder says it.
    """

    source: str
    schedule: str
    sampler: str
    kind: str
    choices: str = ""
    released: bool = False
    options: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


def line_of(source: str, schedule: str, fingerprint: Mapping[str, object] | None = None) -> Line:
    """Read sampler and kind of schedule from a folder's name, or, where that is of the user's making, its fingerprint.

    Args:
        source: see `Line`.
        schedule: the folder's name.
        fingerprint: the run's; None for judgements without a run folder.
    """
    facts = fingerprint or {}
    if released := RELEASED_SCHEDULE.fullmatch(schedule) if fingerprint is None else None:
        sampler = RELEASED.get(released["sampler"], "all rows")
        return Line(source, schedule, sampler, FULL if released["full"] else ITERATIVE, released=True)
    named = OWN_SCHEDULE.fullmatch(schedule)
    full = "schedule.seed_size" in facts and facts["schedule.seed_size"] is None
    if named and (named["sampler"] in LOOKS or named["kind"] in (FULL, ITERATIVE, ONE_TIME)):
        sampler, kind, choices = named["sampler"], named["kind"], named["choices"] or ""
    else:
        sampler, kind, choices = _sampler(facts) or schedule, ITERATIVE, schedule
    return Line(source, schedule, sampler, FULL if full else kind, choices, options=_options(facts))


def _options(facts: Mapping[str, object]) -> dict[str, str]:
    """The options of a fingerprint that a reader can tell apart: no digests, which are long, and no paths of code."""
    options = {"tuning": "full"} if facts else {}  # where a fingerprint names no other
    for key, value in facts.items():
        text = f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
        if key not in NOT_OPTIONS and len(text) <= LONGEST_OPTION:
            options[key] = text
    return options


def _sampler(facts: Mapping[str, object]) -> str:
    """The sampler of a fingerprint, as `sampler=` calls it; code of the user's own goes by its class."""
    target = facts.get("sampler.target")  # of 0.1
    named = choice_of_0_1("sampler", target, {"measure": facts.get("sampler.measure")}) or facts.get("sampler", target)
    return named.rpartition(".")[2] if isinstance(named, str) else ""


def labels(lines: Iterable[Line]) -> dict[Line, str]:
    """The shortest names that tell the lines of each source apart: by kind of schedule, and by options that differ."""
    distinct = sorted(set(lines))
    names: dict[Line, str] = {}
    for line in distinct:
        alike = [
            known for known in distinct if known.source == line.source and (known.kind == FULL) == (line.kind == FULL)
        ]
        if line.kind == FULL:
            parts = ["all rows"]
        else:
            alike = [known for known in alike if known.sampler == line.sampler]
            parts = [sampler_name(line.sampler)]
            if len({known.kind for known in alike}) > 1 or (len(alike) == 1 and line.kind != ITERATIVE):
                parts.append(line.kind.replace("_", "-"))
        names[line] = ", ".join([*parts, *_differences(line, [known for known in alike if known.kind == line.kind])])
    return names


def schedule_names(lines: Iterable[Line]) -> dict[str, str]:
    """Schedules by the options that differ, where these are known to tell apart what the hash of a folder does."""
    distinct = {line.schedule: line for line in sorted(lines)}
    names = {}
    for schedule, line in distinct.items():
        alike = [known for known in distinct.values() if (known.sampler, known.kind) == (line.sampler, line.kind)]
        differences = _differences(line, alike)
        if len(alike) > 1 and differences != [line.choices]:
            names[schedule] = ", ".join([schedule.removesuffix(f"-{line.choices}"), *differences])
    return names


def _differences(line: Line, alike: Sequence[Line]) -> list[str]:
    """The options by which a line differs from lines of its sampler and kind of schedule, itself among them.

    Where they are not known, or do not tell all of these apart, it is the hash of its folder.
    """
    if len(alike) == 1:
        return []
    keys = sorted({key for known in alike for key in known.options})
    differing = [key for key in keys if len({known.options.get(key, "none") for known in alike}) > 1]
    if "tuning" in differing:  # stands for the options that not all of them have
        differing = [key for key in differing if key == "tuning" or all(key in known.options for known in alike)]
    values = {known: tuple(known.options.get(key, "none") for key in differing) for known in alike}
    if not all(known.options for known in alike) or len(set(values.values())) < len(alike):
        return [line.choices] if line.choices else []
    ends = [key.rpartition(".")[2] for key in differing]
    short = [end if ends.count(end) == 1 else key for key, end in zip(differing, ends, strict=True)]
    return [f"{name}={value}" for name, value in zip(short, values[line], strict=True)]


def sources(lines: Iterable[Line]) -> list[str]:
    """Every source once: our own first, then the released ones."""
    return list(dict.fromkeys(line.source for line in sorted(set(lines), key=lambda line: (line.released, line))))


def sampler_name(sampler: str) -> str:
    """What a sampler is called in text; one of the user's own that begins with another's name, after that."""
    if sampler in LOOKS:
        return LOOKS[sampler][0]
    known = max((name for name in LOOKS if sampler.startswith(f"{name}_")), key=len, default="")
    return f"{LOOKS[known][0]}, {sampler[len(known) + 1 :].replace('_', ' ')}" if known else sampler


def look(sampler: str) -> tuple[str, str, str]:
    """Colour on white, colour on black, marker; of a sampler that is the user's own, by its name alone."""
    if sampler not in LOOKS:
        sampler = sorted(LOOKS)[crc32(sampler.encode()) % len(LOOKS)]
    return LOOKS[sampler][1:]


def dashes(lines: Iterable[Line]) -> dict[Line, tuple[float, ...]]:
    """Solid for a sampler's first line of a source, its iterative one where there is one; then ever shorter dashes."""
    earlier: Counter[tuple[str, str]] = Counter()
    chosen: dict[Line, tuple[float, ...]] = {}
    for line in sorted(set(lines), key=lambda line: (line.kind == FULL, line.kind != ITERATIVE, line)):
        chosen[line] = DASHES[min(earlier[line.source, line.sampler], len(DASHES) - 1)]
        earlier[line.source, line.sampler] += 1
    return chosen
