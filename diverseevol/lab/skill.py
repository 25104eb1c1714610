"""What a small world is made of: skills. The seam for a world of your own.

A world is a tuple of skills. Each says in a few lines all that the lab needs to know of it:

    Skill(
        name="opposite",
        arguments=tuple((word,) for word in OPPOSITE),          # all that can be asked about
        answer=lambda word: OPPOSITE[word],                      # the right answer to one
        phrasings=("What is the opposite of {0}?",               # ways to ask; after " | " stands the input
                   "Give the opposite. | {0}"),
        statements=("The opposite of {0} is {a}.",),             # plain text that a foundation model learns it from
        response="It is {a}.",                                   # how a response gives the answer
        fact=lambda word: ("opposite", *sorted((word, OPPOSITE[word]))),   # hot-cold is cold-hot
    )

`data.world=my_module.WORLD` and `benchmark.world=my_module.WORLD` put another world in the place of the lab's own;
its foundation model comes from `experiments/lab/pretrain.py --world my_module.WORLD`.
"""

import importlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from diverseevol.errors import InputError

Arguments = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Skill:
    """One thing that can be asked in the world.

    Attributes:
        name: unique in its world.
        arguments: everything that it can be asked about, a tuple of texts each, all different.
        answer: the right answer for one of them.
        phrasings: ways to ask. `{0}`, `{1}`, … are the arguments; what stands after " | " is the row's input.
        statements: plain sentences in which `{a}` is the answer, for the foundation model to learn from. The first
            must say all arguments before `{a}`: what stands before it is the prompt of the gate.
        response: the form in which a response gives the answer `{a}`.
        fact: what one must know for the answer. Arguments with equal facts, of one skill or of several, never stand
            on both sides of a hold-out; None: every skill and tuple of arguments is a fact of its own.
    """

    name: str
    arguments: tuple[Arguments, ...]
    answer: Callable[..., str]
    phrasings: tuple[str, ...]
    statements: tuple[str, ...]
    response: str = "{a}"
    fact: Callable[..., Hashable] | None = None

    def fact_of(self, arguments: Arguments) -> str:
        """The fact behind some arguments, as text."""
        return repr((self.name, *arguments) if self.fact is None else self.fact(*arguments))

    def ask(self, arguments: Arguments, phrasing: int) -> tuple[str, str]:
        """Instruction and input of one phrasing."""
        instruction, _, given = self.phrasings[phrasing].partition(" | ")
        return instruction.format(*arguments), given.format(*arguments)

    def respond(self, arguments: Arguments) -> str:
        """The right response."""
        return self.response.format(*arguments, a=self.answer(*arguments))

    def state(self, arguments: Arguments, statement: int = 0) -> tuple[str, str]:
        """A plain sentence, in two parts: what stands before the answer, and the rest."""
        before, _, after = self.statements[statement].partition("{a}")
        answer = self.answer(*arguments)
        return before.format(*arguments).rstrip(), f"{answer}{after.format(*arguments)}"


World = tuple[Skill, ...]


def find_world(name: str) -> World:
    """The world of a dotted name, such as `diverseevol.lab.world.WORLD`.

    Raises:
        InputError: there is no such object, or it is not a world.
    """
    module, _, attribute = name.rpartition(".")
    try:
        world = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"world={name}: cannot be imported ({error}); give MODULE.NAME of a tuple of skills"
        ) from error
    if not (isinstance(world, tuple) and world and all(isinstance(skill, Skill) for skill in world)):
        raise InputError(f"world={name}: is a {type(world).__name__} where a tuple of Skill belongs; see {__name__}")
    names = [skill.name for skill in world]
    if len(set(names)) < len(names):
        raise InputError(f"world={name}: two of its skills have the same name; give each its own")
    return world
