"""Skills about lists and short sentences: what is asked for stands in the question."""

import numpy as np

from diverseevol.lab.facts import ADJECTIVES, ANIMALS, CATEGORY
from diverseevol.lab.skill import Arguments, Skill

WORDS = tuple(dict.fromkeys((*CATEGORY, *(animal for animal, *_ in ANIMALS))))
SAMPLE = 6000  # arguments of each skill here: too many to be learned by heart


def _lists(seed: int, lengths: tuple[int, ...]) -> tuple[Arguments, ...]:
    """Distinct lists of different words, always the same ones, each a text with commas."""
    rng = np.random.default_rng([seed, 3])
    drawn: dict[Arguments, None] = {}
    while len(drawn) < SAMPLE:
        for line in rng.integers(len(WORDS), size=(SAMPLE, max(lengths))).tolist():
            words = line[: lengths[line[0] * 7 % len(lengths)]]
            if len(set(words)) == len(words):
                drawn[(", ".join(WORDS[i] for i in words),)] = None
    return tuple(drawn)[:SAMPLE]


def _pairs(seed: int) -> tuple[Arguments, ...]:
    return tuple(tuple(words.split(", ")) for (words,) in _lists(seed, (2,)))


def _same_words(*texts: str) -> tuple[str, ...]:
    return ("words", *sorted(word for text in texts for word in text.split(", ")))


def _described() -> tuple[Arguments, ...]:
    pairs = [(noun, adjective) for noun in WORDS for adjective, *_ in ADJECTIVES]
    return tuple(pairs[i] for i in np.random.default_rng(4).permutation(len(pairs)))


def _described_fact(noun: str, adjective: str) -> tuple[str, ...]:
    return ("described", noun, adjective)


def _items(text: str) -> list[str]:
    return text.split(", ")


def _joined(text: str) -> str:
    *most, last = _items(text)
    return f"{', '.join(most)} and {last}"


DESCRIBED = _described()

LISTS = (
    Skill(
        "first_item", _lists(1, (3, 4)), lambda x: _items(x)[0],
        ("What is the first item of the list? | {0}", "Which word comes first in {0}?", "Look at {0}. Name the first."),
        ("In the list {0}, the first is {a}.", "The list {0} starts with {a}."),
        "first comes {a}", _same_words,
    ),
    Skill(
        "second_item", _lists(2, (3, 4)), lambda x: _items(x)[1],
        ("What is the second item of the list? | {0}", "Which word comes second in {0}?",
         "Look at {0}. Name the second."),
        ("In the list {0}, the second is {a}.", "Second in {0} is {a}."),
        "the second is {a}", _same_words,
    ),
    Skill(
        "last_item", _lists(3, (3, 4)), lambda x: _items(x)[-1],
        ("What is the last item of the list? | {0}", "Which word comes last in {0}?", "Look at {0}. Name the last."),
        ("In the list {0}, the last is {a}.", "The list {0} closes with {a}."),
        "{a} is last", _same_words,
    ),
    Skill(
        "reverse_list", _lists(4, (3,)), lambda x: ", ".join(_items(x)[::-1]),
        ("Reverse the list. | {0}", "Write {0} backwards, item by item.", "Turn the order of {0} around."),
        ("The list {0} backwards is {a}.", "Turned around, {0} becomes {a}."),
        "{a}", _same_words,
    ),
    Skill(
        "join_and", _lists(5, (3, 4)), _joined,
        ("Join the items with and. | {0}", "Write {0} as a phrase with and.", "Say {0} the way people speak."),
        ("Spoken with and, {0} is {a}.", "People say {0} as {a}."),
        "{a}", _same_words,
    ),
    Skill(
        "count_items", _lists(6, (2, 3, 4, 5, 6)), lambda x: str(len(_items(x))),
        ("How many items are in the list? | {0}", "Count the words in {0}.", "How many things are these: {0}?"),
        ("The list {0} has {a} items.", "Counting {0} gives {a}."),
        "{a} items", _same_words,
    ),
    Skill(
        "remove_first", _lists(7, (3, 4)), lambda x: ", ".join(_items(x)[1:]),
        ("Remove the first item. | {0}", "What is left of {0} without its first word?", "Drop the first of {0}."),
        ("Without its first, {0} leaves {a}.", "Drop the first of {0} and keep {a}."),
        "{a}", _same_words,
    ),
    Skill(
        "swap", _pairs(8), lambda a, b: f"{b} and {a}",
        ("Swap the two words. | {0} and {1}", "Write {0} and {1} the other way round.", "Exchange {0} and {1}."),
        ("The other way round, {0} and {1} is {a}.", "Swapping {0} and {1} gives {a}."),
        "{a}", _same_words,
    ),
    Skill(
        "append", _pairs(9), lambda a, b: f"{a}, {a}, {b}",
        ("Write {0} twice and then {1}.", "First word twice, second word once. | {0}, {1}",
         "Repeat {0}, then add {1}."),
        ("Twice {0} and once {1} makes {a}.", "Saying {0} two times, then {1}: {a}."),
        "{a}", _same_words,
    ),
)  # fmt: skip

SENTENCES = (
    Skill(
        "negate", DESCRIBED, lambda noun, adjective: f"the {noun} is not {adjective}",
        ("Negate the sentence. | The {0} is {1}.", "Say that the {0} is not what they call it: {1}.",
         "Deny this: the {0} is {1}."),
        ("If it is false that the {0} is {1}, then {a}.", "Some say the {0} is {1}, others say {a}."),
        "{a}", _described_fact,
    ),
    Skill(
        "make_question", DESCRIBED, lambda noun, adjective: f"is the {noun} {adjective}",
        ("Make a question of the sentence. | The {0} is {1}.", "Ask whether the {0} is {1}.",
         "Turn this into a question: the {0} is {1}."),
        ("Who wonders about the {0} being {1} asks: {a}?", "The {0} is {1}, but they ask {a}?"),
        "{a}?", _described_fact,
    ),
    Skill(
        "attribute", DESCRIBED, lambda noun, adjective: f"the {adjective} {noun}",
        ("Shorten to noun and adjective. | The {0} is {1}.", "How do you call a {0} that is {1}?",
         "Put {1} before {0}."),
        ("When the {0} is {1}, we speak of {a}.", "The {0} is {1}, so here is {a}."),
        "{a}", _described_fact,
    ),
)  # fmt: skip

SKILLS = (*LISTS, *SENTENCES)
