"""The lab's benchmarks: questions about what the rows never ask, each with its right answer.

They differ in how often they ask what. `lab` and `lab_development` have equally many questions of each skill, and so
favour a pool that covers them all; `lab_natural` asks as the rows do, and favours what is frequent. Choices are made
on `lab_development` alone, so that the other two stay unseen.
"""

from pathlib import Path

import numpy as np

from diverseevol.errors import InputError
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.lab.rows import Mix, apportion, filled_up, frequencies
from diverseevol.lab.skill import WORLD, Arguments, Skill, World, find_world
from diverseevol.lab.split import QUESTIONS, Part, share_out


def benchmark(name: str = "lab", world: str = WORLD, *, cache: Path) -> tuple[Benchmark, ...]:
    """The same number of questions of each skill: 8. It favours diversity by construction."""
    return (_balanced(name, find_world(world), "lab"),)


def development(name: str = "lab_development", world: str = WORLD, *, cache: Path) -> tuple[Benchmark, ...]:
    """The same number of questions of each skill, 6, for choices of method alone."""
    return (_balanced(name, find_world(world), "lab_development"),)


def natural(
    name: str = "lab_natural",
    questions: int = 240,
    size: int = 4000,
    skew: float = 1.1,
    duplicates: float = 0.1,
    seed: int = 0,
    world: str = WORLD,
    *,
    cache: Path,
) -> tuple[Benchmark, ...]:
    """Questions of each skill in proportion to its rows in the data set of the same size, skew, duplicates and seed.

    What a skill has too few held-out arguments for is asked of the others.

    Raises:
        InputError: the world has too few.
    """
    skills = find_world(world)
    room = {s.name: len(share_out(skills)[s.name, "lab_natural"]) * len(s.phrasings) for s in skills}
    if questions > sum(room.values()):
        raise InputError(
            f"benchmark.questions is {questions}, but this world has {sum(room.values())} different questions for "
            f"lab_natural; lower it"
        )
    rows = frequencies(skills, Mix(size=size, skew=skew, duplicates=duplicates, seed=seed))
    numbers = apportion(np.array([rows[skill.name] for skill in skills], dtype=float), questions)
    wanted = {skill.name: min(int(n), room[skill.name]) for skill, n in zip(skills, numbers, strict=True)}
    number = filled_up(wanted, room, questions)
    asked = tuple(q for skill in skills for q in _asked(skills, skill, "lab_natural", number[skill.name]))
    return (Benchmark(name, asked),)


def both(
    name: str = "lab",
    natural_name: str = "lab_natural",
    questions: int = 240,
    size: int = 4000,
    skew: float = 1.1,
    duplicates: float = 0.1,
    seed: int = 0,
    world: str = WORLD,
    *,
    cache: Path,
) -> tuple[Benchmark, ...]:
    """`benchmark` and `natural` together."""
    return (
        *benchmark(name, world, cache=cache),
        *natural(natural_name, questions, size, skew, duplicates, seed, world, cache=cache),
    )


def _balanced(name: str, world: World, part: Part) -> Benchmark:
    return Benchmark(name, tuple(q for skill in world for q in _asked(world, skill, part, QUESTIONS[part])))


def _asked(world: World, skill: Skill, part: Part, number: int) -> list[Question]:
    """So many questions of a skill: all facts once before any is asked again in another phrasing."""
    room = share_out(world)[skill.name, part]
    forms = len(skill.phrasings)
    ways: list[tuple[Arguments, int]] = [(x, (i + turn) % forms) for turn in range(forms) for i, x in enumerate(room)]
    return [_question(skill, arguments, phrasing, i) for i, (arguments, phrasing) in enumerate(ways[:number])]


def _question(skill: Skill, arguments: Arguments, phrasing: int, number: int) -> Question:
    instruction, text = skill.ask(arguments, phrasing)
    return Question(f"{skill.name}-{number}", instruction, text, skill.name, skill.respond(arguments))
