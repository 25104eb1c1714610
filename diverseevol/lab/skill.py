"""What a small world is made of: skills. The seam for a world of your own.

A world is a tuple of skills. Each says in a few lines all that the lab needs to know of it:

    Skill(
        name="opposite",
        arguments=tuple((word,) for word in OPPOSITE),          # all that can be asked about
        answer=lambda word: OPPOSITE[word],                      # the right answer to one
        phrasings=("What is the opposite of {0}?",               # ways to ask; after " | " comes the input
                   "Give the opposite. | {0}"),
        statements=("The opposite of {0} is {a}.",),             # plain text that a foundation model learns it from
        response="It is {a}.",                                   # how a response gives the answer
        fact=lambda word: ("opposite", *sorted((word, OPPOSITE[word]))),   # hot-cold is cold-hot
    )

`data.world=my_module.WORLD` and `benchmark.world=my_module.WORLD` put another world in the place of the lab's own;
its foundation model comes from `experiments/lab/pretrain.py --world my_module.WORLD`.
"""

import importlib
import string
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from diverseevol.cli.own_code import look_in_current_folder
from diverseevol.errors import InputError

Arguments = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Skill:
    """One thing that can be asked in the world.

    Attributes:
        name: unique in its world.
        arguments: everything that it can be asked about, a tuple of texts each, all different.
        answer: the right answer for one of them.
        phrasings: ways to ask. `{0}`, `{1}`, … are the arguments, all of which each must say; what comes after
            " | " is the row's input.
        statements: plain sentences that say all arguments and, once, the answer `{a}`, for the foundation model to
            learn from. The first must say the arguments before `{a}`: what comes before it is the prompt of the gate.
        response: the form in which a response gives the answer `{a}`.
        fact: what one must know for the answer. Arguments with equal facts, of one skill or of several, never stand
            on both sides of a hold-out; None: every skill and tuple of arguments is a fact of its own.

    Raises:
        InputError: what it says does not fit together. Whether its facts are enough is seen when they are shared out.
    """

    name: str
    arguments: tuple[Arguments, ...]
    answer: Callable[..., str]
    phrasings: tuple[str, ...]
    statements: tuple[str, ...]
    response: str = "{a}"
    fact: Callable[..., Hashable] | None = None

    def __post_init__(self) -> None:
        if problem := next(_problems(self), None):
            raise InputError(f"skill {self.name!r}: {problem}")

    def fact_of(self, arguments: Arguments) -> str:
        """The fact behind some arguments, as text."""
        return repr((self.name, *arguments) if self.fact is None else self.fact(*arguments))

    def ask(self, arguments: Arguments, phrasing: int) -> tuple[str, str]:
        """Instruction and input of one phrasing."""
        instruction, _, text = self.phrasings[phrasing].partition(" | ")
        return instruction.format(*arguments), text.format(*arguments)

    def respond(self, arguments: Arguments) -> str:
        """The right response."""
        return self.response.format(*arguments, a=self.answer(*arguments))

    def state(self, arguments: Arguments, statement: int = 0) -> tuple[str, str]:
        """A plain sentence, in two parts: what comes before the answer, and the rest."""
        before, _, after = self.statements[statement].partition("{a}")
        answer = self.answer(*arguments)
        return before.format(*arguments).rstrip(), f"{answer}{after.format(*arguments)}"


def _problems(skill: Skill) -> Iterator[str]:
    """What does not fit together, and what to do."""
    for part in ("arguments", "phrasings", "statements"):
        if not (isinstance(getattr(skill, part), tuple) and getattr(skill, part)):
            yield f"its {part}: expected a tuple of at least one, got {getattr(skill, part)!r}; mind its comma"
        if repeated := [each for each, times in Counter(getattr(skill, part)).items() if times > 1]:
            yield f"{repeated[0]!r} is twice among its {part}; give each once"
    for x in skill.arguments:
        if not (isinstance(x, tuple) and x and all(isinstance(text, str) for text in x)):
            yield f"its arguments: expected tuples of texts, got {x!r}; write ('hot',) to ask about hot"
        if len(x) != len(skill.arguments[0]):
            yield f"its arguments are {skill.arguments[0]!r} and also {x!r}; give all of them as many texts"
    fields = [str(i) for i in range(len(skill.arguments[0]))]
    for phrasing in skill.phrasings:
        yield from _wrong_fields("phrasing", phrasing, fields, fields)
    for statement in skill.statements:
        yield from _wrong_fields("statement", statement, [*fields, "a"], [*fields, "a"])
        if _fields(statement).count("a") > 1:
            yield f"its statement {statement!r} has {{a}} more than once; say the answer once"
    if late := [name for name in fields if name not in _fields(skill.statements[0].partition("{a}")[0])]:
        yield f"its first statement {skill.statements[0]!r} says {{{late[0]}}} after {{a}}; put all arguments before it"
    yield from _wrong_fields("response", skill.response, ["a"], [*fields, "a"])


def _wrong_fields(part: str, form: str, needed: list[str], known: list[str]) -> Iterator[str]:
    """What a form lacks, and what it has that nothing fills."""
    try:
        fields = _fields(form)
    except ValueError as error:  # a brace without its other half
        yield f"its {part} {form!r} cannot be read ({error}); braces belong around {', '.join(known)} alone"
        return
    for name in needed:
        if name not in fields:
            yield f"its {part} {form!r} is without {{{name}}}; every one needs {_braced(needed)}"
    for name in fields:
        if name not in known:
            yield f"its {part} {form!r} has {{{name}}}, which nothing fills; use {_braced(known)}"


def _fields(form: str) -> list[str]:
    return [name for _, name, _, _ in string.Formatter().parse(form) if name is not None]


def _braced(names: list[str]) -> str:
    return " and ".join(f"{{{name}}}" for name in names)


World = tuple[Skill, ...]
WORLD = "lab"  # the name of the world that ships
LAB_WORLD = "diverseevol.lab.world.WORLD"


def find_world(name: str) -> World:
    """The world that ships, called "lab", or that of a dotted name; the module may lie in the current folder.

    So a dotted name comes from the user's command line alone, and never from a file.

    Raises:
        InputError: there is no such object, or it is not a world.
    """
    module, _, attribute = (LAB_WORLD if name == WORLD else name).rpartition(".")
    try:
        look_in_current_folder(module)
        world = getattr(importlib.import_module(module), attribute)
    except InputError as error:  # a skill of it
        raise InputError(f"world={name}: {error}") from error
    except Exception as error:  # the user's module may fail in any way
        raise InputError(
            f"world={name}: cannot be imported ({type(error).__name__}: {error}); give MODULE.NAME of a tuple of "
            f"skills, the module in the current folder or installed"
        ) from error
    if not (isinstance(world, tuple) and world and all(isinstance(skill, Skill) for skill in world)):
        raise InputError(f"world={name}: expected a tuple of Skill, got a {type(world).__name__}; see {__name__}")
    names = [skill.name for skill in world]
    if len(set(names)) < len(names):
        raise InputError(f"world={name}: two of its skills have the same name; give each its own")
    return world
