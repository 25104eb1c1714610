"""Skills about numbers, dates and the clock."""

import numpy as np

from diverseevol.lab.facts import MONTHS, ONES, TENS
from diverseevol.lab.skill import Arguments, Skill


def number_in_words(n: int) -> str:
    """A number from 0 to 99 in words."""
    if n < 20:
        return ONES[n]
    return TENS[n // 10] + (f" {ONES[n % 10]}" if n % 10 else "")


def ordinal(n: int) -> str:
    """A number with the ending of its place: 21st, 12th."""
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def _numbers(first: int, last: int) -> tuple[Arguments, ...]:
    return tuple((str(n),) for n in range(first, last + 1))


def _sample(seed: int, n: int, numbers: int, low: int, high: int) -> tuple[Arguments, ...]:
    """Distinct tuples of different numbers, always the same ones."""
    rng = np.random.default_rng(seed)
    drawn: dict[Arguments, None] = {}
    while len(drawn) < n:
        for line in rng.integers(low, high + 1, size=(n, numbers)).tolist():
            if len(set(line)) == numbers:
                drawn[tuple(map(str, line))] = None
    return tuple(drawn)[:n]


def _order(*numbers: str) -> tuple[object, ...]:
    return ("order", *sorted(map(int, numbers)))


def _sorted(*numbers: str) -> str:
    return ", ".join(sorted(numbers, key=int))


def _later(time: str) -> str:
    hour, minute = time.split(":")
    return f"{int(hour) % 12 + 1}:{minute}"


PAIRS = _sample(1, 4000, 2, 1, 99)
TRIPLES = _sample(2, 6000, 3, 1, 50)

SKILLS = (
    Skill(
        "double", _numbers(1, 49), lambda n: str(2 * int(n)),
        ("Double the number {0}.", "What is twice as much? | {0}", "How much is two times {0}?"),
        ("Twice {0} is {a}.", "The double of {0} is {a}."),
        "twice as much is {a}",
    ),
    Skill(
        "next_number", _numbers(1, 98), lambda n: str(int(n) + 1),
        ("Which number comes after {0}?", "Give the next whole number. | {0}",
         "I have counted to {0}. How do I go on?"),
        ("After {0} comes {a}.", "The number that follows {0} is {a}."),
        "then comes {a}",
    ),
    Skill(
        "number_word", _numbers(1, 99), lambda n: number_in_words(int(n)),
        ("Write {0} in words.", "Write out the number. | {0}", "How do you say {0}?"),
        ("The number {0} reads {a}.", "In words {0} is {a}."),
        "{a}",
    ),
    Skill(
        "ordinal", _numbers(1, 99), lambda n: ordinal(int(n)),
        ("Write {0} as an ordinal.", "Turn the number into a rank. | {0}",
         "I came in at place {0}. How is that written?"),
        ("Number {0} in a row is the {a}.", "The ordinal of {0} is {a}."),
        "the {a}",
    ),
    Skill(
        "even_odd", _numbers(1, 99), lambda n: ("even", "odd")[int(n) % 2],
        ("Is {0} even or odd?", "Even or odd? | {0}", "Can {0} be shared between two, or is it odd?"),
        ("The number {0} is {a}.", "Every child knows that {0} is {a}."),
        "an {a} number",
    ),
    Skill(
        "larger", PAIRS, lambda a, b: max(a, b, key=int),
        ("Which is larger, {0} or {1}?", "Choose the larger number. | {0}, {1}", "Name the greater of {0} and {1}."),
        ("The larger of {0} and {1} is {a}.", "Between {0} and {1}, more is {a}."),
        "{a} is larger", _order,
    ),
    Skill(
        "smaller", PAIRS, lambda a, b: min(a, b, key=int),
        ("Which is smaller, {0} or {1}?", "Choose the smaller number. | {0}, {1}", "Name the lesser of {0} and {1}."),
        ("The smaller of {0} and {1} is {a}.", "Between {0} and {1}, less is {a}."),
        "{a} is smaller", _order,
    ),
    Skill(
        "sort_numbers", TRIPLES, _sorted,
        ("Sort the numbers {0}, {1}, {2}.", "Put these in ascending order. | {0}, {1}, {2}",
         "Order {0}, {1}, {2} from small to large."),
        ("The numbers {0}, {1}, {2} in order are {a}.", "Sorted, {0}, {1}, {2} become {a}."),
        "{a}", _order,
    ),
    Skill(
        "next_date", tuple((str(day), month) for month in MONTHS for day in range(1, 28)),
        lambda day, month: f"{int(day) + 1} {month}",
        ("Which date follows {0} {1}?", "Give the date of the next day. | {0} {1}",
         "Today is {0} {1}. What is tomorrow?"),
        ("The day after {0} {1} is {a}.", "If today is {0} {1}, tomorrow is {a}."),
        "tomorrow is {a}",
    ),
    Skill(
        "hour_later", tuple((f"{hour}:{minute:02d}",) for hour in range(1, 13) for minute in range(0, 60, 5)), _later,
        ("It is {0}. What time is it an hour later?", "Add one hour to the time. | {0}",
         "Which time is one hour after {0}?"),
        ("One hour after {0} it is {a}.", "The clock shows {0}, an hour later {a}."),
        "it is {a}",
    ),
)  # fmt: skip
