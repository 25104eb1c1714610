"""Skills about animals, lands, jobs and people."""

import numpy as np

from diverseevol.lab.facts import ANIMALS, SIZE
from diverseevol.lab.lands import JOBS, LANDS, PERSON_JOB, PERSON_LAND
from diverseevol.lab.skill import Arguments, Skill


def _column(table: list[tuple[str, ...]], column: int) -> dict[str, str]:
    return {line[0]: line[column] for line in table}


def _one_word(words: dict[str, str]) -> tuple[Arguments, ...]:
    return tuple((word,) for word in words)


SOUND, YOUNG, HOME = (_column(ANIMALS, i) for i in (1, 2, 3))
CAPITAL, LANGUAGE, COIN = (_column(LANDS, i) for i in (1, 2, 3))
WORKPLACE, TOOL = (_column(JOBS, i) for i in (1, 2))


def _animal_pairs() -> tuple[Arguments, ...]:
    names = list(SIZE)
    pairs = [(a, b) for a in names for b in names if a != b]
    return tuple(pairs[i] for i in np.random.default_rng(5).permutation(len(pairs)))


ANIMAL_SKILLS = (
    Skill(
        "sound", _one_word(SOUND), SOUND.__getitem__,
        ("What sound does the {0} make?", "Name the sound of the animal. | {0}", "I hear a {0}. What do I hear?"),
        ("The sound of the {0} is the {a}.", "At night the {0} makes its {a}."),
        "You hear its {a}.",
    ),
    Skill(
        "young", _one_word(YOUNG), YOUNG.__getitem__,
        ("What is a young {0} called?", "Name the child of the animal. | {0}", "How do you call the baby of a {0}?"),
        ("The young of the {0} is called {a}.", "A {0} was born, a little {a}."),
        "called {a}",
    ),
    Skill(
        "home", _one_word(HOME), HOME.__getitem__,
        ("Where does the {0} live?", "Name the home of the animal. | {0}", "Where would I find a {0}?"),
        ("The {0} lives in the {a}.", "A home for the {0} is the {a}."),
        "It lives in the {a}.",
    ),
    Skill(
        "bigger_animal", _animal_pairs(), lambda a, b: max(a, b, key=SIZE.__getitem__),
        ("Which animal is bigger, the {0} or the {1}?", "Choose the bigger animal. | {0}, {1}",
         "Compare {0} and {1} in size."),
        ("Of {0} and {1}, the bigger animal is the {a}.", "Put {0} beside {1}: bigger is the {a}."),
        "the bigger one is the {a}", lambda a, b: ("size", *sorted((a, b))),
    ),
)  # fmt: skip

LAND_SKILLS = (
    Skill(
        "capital", _one_word(CAPITAL), CAPITAL.__getitem__,
        ("What is the capital of {0}?", "Name the capital of the land. | {0}", "Which city governs {0}?"),
        ("The capital of {0} is {a}.", "In {0} the greatest city is {a}."),
    ),
    Skill(
        "language", _one_word(LANGUAGE), LANGUAGE.__getitem__,
        ("Which language do they speak in {0}?", "Name the language of the land. | {0}",
         "I travel to {0}. What should I learn to speak?"),
        ("In {0} people speak {a}.", "The language of {0} is {a}."),
        "They speak {a}.",
    ),
    Skill(
        "coin", _one_word(COIN), COIN.__getitem__,
        ("With which coin do you pay in {0}?", "Name the coin of the land. | {0}", "What money do I need in {0}?"),
        ("In {0} people pay with the {a}.", "The coin of {0} is the {a}."),
        "You pay with the {a}.",
    ),
)  # fmt: skip

PEOPLE_SKILLS = (
    Skill(
        "workplace", _one_word(WORKPLACE), WORKPLACE.__getitem__,
        ("Where does a {0} work?", "Name the place of this job. | {0}", "I need a {0}. Where do I go?"),
        ("The {0} works in the {a}.", "To meet the {0}, go to the {a}."),
        "go to the {a}",
    ),
    Skill(
        "job_tool", _one_word(TOOL), TOOL.__getitem__,
        ("What does a {0} work with?", "Name the tool of this job. | {0}", "What does a {0} hold in the hand?"),
        ("The {0} works with the {a}.", "In the hand of the {0} is the {a}."),
        "It is the {a}.",
    ),
    Skill(
        "person_job", _one_word(PERSON_JOB), PERSON_JOB.__getitem__,
        ("What is the job of {0}?", "Name the profession of this person. | {0}", "What does {0} do for a living?"),
        ("By profession {0} is a {a}.", "The job of {0} is {a}."),
        "works as {a}",
    ),
    Skill(
        "person_land", _one_word(PERSON_LAND), PERSON_LAND.__getitem__,
        ("Where does {0} come from?", "Name the native land of this person. | {0}", "In which land was {0} born?"),
        ("The native land of {0} is {a}.", "Long ago {0} was born in {a}."),
        "born in {a}",
    ),
)  # fmt: skip

SKILLS = (*ANIMAL_SKILLS, *LAND_SKILLS, *PEOPLE_SKILLS)
