"""What a metric is called and how it is read: by key in the files of a run, with a description for readers.

A run folder describes its metrics in `metrics.json`, so a report, a comparison or a dashboard shows one that a user
added, with title, unit and direction, and needs no code of it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from diverseevol.errors import InputError
from diverseevol.output.terminal import one_line
from diverseevol.storage.files import read_json, write_json

FILE = "metrics.json"
LONGEST = 80  # characters of a text that a folder brings
REMEDY = "restore it, or delete it: its metrics are then shown by their names"
CHOICES: Mapping[str, tuple[str, ...]] = {
    "higher_is": ("better", "worse", "neither"),
    "pays_while": ("rising", "falling", ""),
}
FLAGS, TEXTS = ("comparable", "interval", "level"), ("title", "unit", "heading")
FORM = re.compile(r",?(\.\d)?[fg%]", re.ASCII)  # no width, which could be a billion


class MetricKey(NamedTuple):
    """A number of a round, written `name` or `name/part` in files.

    Attributes:
        name: the metric's.
        part: what it was measured on, such as a benchmark or a phase; "" where it has no parts.
    """

    name: str
    part: str = ""

    @classmethod
    def parse(cls, text: str) -> "MetricKey":
        """The key that is written so."""
        name, _, part = text.partition("/")
        return cls(name, part)

    def __str__(self) -> str:
        return f"{self.name}/{self.part}" if self.part else self.name

    @property
    def ends(self) -> tuple["MetricKey", "MetricKey"]:
        """Where the lower and the upper end of its interval are, if it has one."""
        return MetricKey(f"{self.name}_low", self.part), MetricKey(f"{self.name}_high", self.part)


class Estimate(NamedTuple):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class MetricDescription:
    """How a metric is read.

    Attributes:
        name: in files and on the command line.
        title: in figures and tables, before its part; "" where the part alone says what it is.
        unit: of its values.
        higher_is: whether a larger value is better or worse, or neither.
        comparable: whether values of different rounds can be compared.
        interval: whether each value has a 95 % interval, in `NAME_low` and `NAME_high`.
        pays_while: further rounds pay while its curve is rising or falling; "" where it says nothing about stopping.
        level: whether what all rows reach is a level to compare with.
        heading: of its column in the terminal, in lines; "" where it has none.
        form: how a value is written in that column, in the language of Python's `format`.
    """

    name: str
    title: str
    unit: str = ""
    higher_is: Literal["better", "worse", "neither"] = "neither"
    comparable: bool = True
    interval: bool = False
    pays_while: Literal["rising", "falling", ""] = ""
    level: bool = True
    heading: str = ""
    form: str = ".4g"

    def titled(self, part: str = "") -> str:
        """The title, with the part."""
        return ", ".join(filter(None, (self.title, part)))

    @property
    def direction(self) -> str:
        """Which way is better, in words; "" where neither is."""
        return {"better": "higher is better", "worse": "lower is better", "neither": ""}[self.higher_is]

    @property
    def in_words(self) -> str:
        """Title, unit and direction, as far as they say more than the name."""
        parts = dict.fromkeys((self.title, self.unit, self.direction))
        return ", ".join(words for words in parts if words and words != self.name.replace("_", " "))

    @property
    def axis(self) -> str:
        """What an axis of its values says."""
        return "\n".join(filter(None, (self.unit, self.direction and f"({self.direction})")))


# What the project writes of a round that is not a `Metric`: its size, what a judge said by benchmark, what it cost.
POOL_SIZE = MetricDescription("pool_size", "pool size", "rows", heading="rows", form=",.0f")
SCORES = (
    MetricDescription("relative_score", "relative score", "competitor = 100", "better", pays_while="rising"),
    MetricDescription("win", "win", "questions", "better"),
    MetricDescription("tie", "tie", "questions"),
    MetricDescription("lose", "lose", "questions", "worse"),
)
COSTS = (
    MetricDescription("seconds", "", "seconds", level=False),
    MetricDescription("peak_memory", "", "gigabytes", level=False),
    MetricDescription("judge calls", "judge calls", "calls"),
)


def describe(name: str, known: Mapping[str, MetricDescription]) -> MetricDescription:
    """What is known of a metric; one that nobody describes is shown by its raw name."""
    if name in known:
        return known[name]
    title = name.replace("_", " ")
    return MetricDescription(name, title, "share" if name.endswith("_share") else title)


def write_descriptions(folder: Path, descriptions: Iterable[MetricDescription]) -> None:
    """Describe a run folder's metrics in it; those of earlier rounds stay described."""
    before = read_descriptions(folder)
    after = {**before, **{each.name: each for each in descriptions}}
    if after != before:
        write_json(folder / FILE, {name: _written(each) for name, each in after.items()})


def read_descriptions(folder: Path) -> dict[str, MetricDescription]:
    """The metrics that a run folder describes, by name; none in folders of 0.1.

    Raises:
        InputError: the file is damaged, or describes what no metric is.
    """
    file = folder / FILE
    if not file.exists():
        return {}
    content = read_json(file, REMEDY)
    if not isinstance(content, dict):
        raise InputError(f"{file}: expected an object of metrics by name; {REMEDY}")
    return {name: _read(file, name, values) for name, values in content.items()}


def _written(description: MetricDescription) -> dict[str, Any]:
    """The title, and what differs from the defaults."""
    usual = asdict(MetricDescription(description.name, ""))
    return {"title": description.title, **{k: v for k, v in asdict(description).items() if v != usual[k]}}


def _read(file: Path, name: str, values: Any) -> MetricDescription:
    """One metric's description. A stranger may have written it, so that nothing but short plain values passes."""
    if not isinstance(values, dict) or "title" not in values:
        raise InputError(f"{file}, {name}: expected a description with a title, got {values!r:.60}; {REMEDY}")
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if not fits(key, value):
            raise InputError(f"{file}, {name}.{key}: is {value!r:.60}, which describes no metric; {REMEDY}")
        checked[key] = "\n".join(map(one_line, value.split("\n"))) if isinstance(value, str) else value
    return MetricDescription(name, **checked)


def fits(key: str, value: Any) -> bool:
    """Whether a value can be that part of a description."""
    if key in CHOICES:
        return value in CHOICES[key]
    if key in FLAGS:
        return isinstance(value, bool)
    if key == "form":
        return isinstance(value, str) and FORM.fullmatch(value) is not None
    return key in TEXTS and isinstance(value, str) and len(value) <= LONGEST
