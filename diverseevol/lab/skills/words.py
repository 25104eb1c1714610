"""Skills about words: their meanings and forms."""

from diverseevol.lab.facts import (
    ADJECTIVES,
    ADVERBS,
    CATEGORY,
    COLOUR,
    MATERIAL,
    OPPOSITE,
    PLURAL,
    ROOM,
    VERBS,
)
from diverseevol.lab.skill import Arguments, Skill


def _one_word(words: object) -> tuple[Arguments, ...]:
    return tuple((word,) for word in words)  # type: ignore[attr-defined]


def _opposites(word: str) -> tuple[str, ...]:
    return ("opposite", *sorted((word, OPPOSITE[word])))


def _degrees(word: str) -> tuple[str, ...]:
    return ("degrees", word)


PAST = {base: past for base, past, _ in VERBS}
ING = {base: ing for base, _, ing in VERBS}
MORE = {base: more for base, more, _ in ADJECTIVES}
MOST = {base: most for base, _, most in ADJECTIVES}

MEANINGS = (
    Skill(
        "opposite", _one_word(OPPOSITE), OPPOSITE.__getitem__,
        ("What is the opposite of {0}?", "Give the opposite of the word. | {0}",
         "Which word means the contrary of {0}?"),
        ("The opposite of {0} is {a}.", "Whatever is not {0} is {a}."),
        "It is {a}.", _opposites,
    ),
    Skill(
        "colour", _one_word(COLOUR), COLOUR.__getitem__,
        ("What colour has {0}?", "Name the colour. | {0}", "Which colour would you paint {0}?"),
        ("The colour of {0} is {a}.", "Everyone paints {0} in {a}."),
    ),
    Skill(
        "material", _one_word(MATERIAL), MATERIAL.__getitem__,
        ("What is a {0} made of?", "State the material of the object. | {0}", "Which material do I need for a {0}?"),
        ("A {0} is made of {a}.", "To make a {0} they used {a}."),
        "made of {a}",
    ),
    Skill(
        "room", _one_word(ROOM), ROOM.__getitem__,
        ("Where does one keep the {0}?", "In which room is it found? | {0}", "I look for the {0}. Where should I go?"),
        ("The {0} is kept in the {a}.", "Look for the {0} in the {a}."),
        "in the {a}",
    ),
)  # fmt: skip

FORMS = (
    Skill(
        "plural", _one_word(PLURAL), PLURAL.__getitem__,
        ("What is the plural of {0}?", "Write the noun in the plural. | {0}", "I have one {0}. You have many what?"),
        ("One {0}, many {a}.", "The plural of {0} is {a}."),
        "many {a}",
    ),
    Skill(
        "article", _one_word(CATEGORY), lambda word: f"{'an' if word[0] in 'aeiou' else 'a'} {word}",
        ("Put a or an before {0}.", "Add the right article. | {0}", "Is it a or an? Write it with the noun {0}."),
        ("With its article, {0} is {a}.", "From {0} we get {a}."),
    ),
    Skill(
        "past", _one_word(PAST), PAST.__getitem__,
        ("What is the past tense of {0}?", "Put the verb into the past. | {0}",
         "Today I {0}. What did I do yesterday?"),
        ("Today they {0}, yesterday they {a}.", "The past of {0} is {a}."),
        "yesterday they {a}",
    ),
    Skill(
        "ing_form", _one_word(ING), ING.__getitem__,
        ("Write the ing form of {0}.", "Form the present participle. | {0}", "I {0}. What am I doing now?"),
        ("They {0}, so now they are {a}.", "The ing form of {0} is {a}."),
        "now they are {a}",
    ),
    Skill(
        "comparative", _one_word(MORE), MORE.__getitem__,
        ("Give the comparative of {0}.", "Compare two things with this adjective. | {0}",
         "One is {0}. What is the other, even more so?"),
        ("This is {0} but that is {a}.", "The comparative of {0} is {a}."),
        "that is {a}", _degrees,
    ),
    Skill(
        "superlative", _one_word(MOST), MOST.__getitem__,
        ("Give the superlative of {0}.", "Write the highest degree of the adjective. | {0}",
         "Many are {0}. What is the one above all?"),
        ("Of all that are {0}, one is the {a}.", "The superlative of {0} is {a}."),
        "the {a}", _degrees,
    ),
    Skill(
        "adverb", _one_word(ADVERBS), ADVERBS.__getitem__,
        ("Turn {0} into an adverb.", "Give the adverb of the adjective. | {0}", "She is {0}. How does she do it?"),
        ("Who is {0} does it {a}.", "The adverb of {0} is {a}."),
        "She does it {a}.",
    ),
)  # fmt: skip

SKILLS = (*MEANINGS, *FORMS)
