"""Which arguments the rows may use and which only the benchmarks: the same for every data seed, size and skew.

Facts are shared out, not arguments: 3 + 5 goes where 5 + 3 goes, and who may be asked to spell a word in the rows
is not asked for its first letter in a benchmark.
"""

import hashlib
import itertools
from collections.abc import Mapping
from functools import lru_cache
from typing import Literal, get_args

from diverseevol.errors import InputError
from diverseevol.lab.skill import Arguments, World

Part = Literal["source", "lab", "lab_development", "lab_natural"]
PARTS: tuple[Part, ...] = get_args(Part)

QUESTIONS = {"lab": 8, "lab_development": 6}  # of each skill
NATURAL = (10, 80)  # of a skill's facts one in so many, and at most so many, are kept for `lab_natural`


@lru_cache(maxsize=8)
def share_out(world: World) -> Mapping[tuple[str, Part], tuple[Arguments, ...]]:
    """The arguments of each skill in each part, in an order that their content decides.

    A skill's facts are ordered by a digest; the first ones, as many as are needed, go to the benchmarks and the rest
    to the rows. Where skills share facts, the skill that comes first in the world has decided.

    Raises:
        InputError: a skill has too few facts for a part.
    """
    part_of: dict[str, Part] = {}
    shares: dict[tuple[str, Part], tuple[Arguments, ...]] = {}
    for skill in world:
        by_fact: dict[str, list[Arguments]] = {}
        for arguments in skill.arguments:
            by_fact.setdefault(skill.fact_of(arguments), []).append(arguments)
        facts = sorted(by_fact, key=lambda fact: hashlib.sha256(fact.encode()).digest())
        wanted: dict[Part, int] = {
            "lab": min(QUESTIONS["lab"], len(facts) // 4),
            "lab_development": min(QUESTIONS["lab_development"], len(facts) // 5),
            "lab_natural": min(max(1, len(facts) // NATURAL[0]), NATURAL[1]),
        }
        for fact in facts:
            if fact in part_of and part_of[fact] in wanted:
                wanted[part_of[fact]] -= 1
        free = iter([fact for fact in facts if fact not in part_of])
        for part, number in wanted.items():
            part_of |= dict.fromkeys(itertools.islice(free, max(0, number)), part)
        for fact in facts:
            part_of.setdefault(fact, "source")
        for part in PARTS:
            room = tuple(x for fact in facts if part_of[fact] == part for x in by_fact[fact])
            ways, needed = len(room) * len(skill.phrasings), QUESTIONS.get(part, 1)
            if ways < needed:
                raise InputError(
                    f"skill {skill.name!r}: {len(facts)} facts asked in {len(skill.phrasings)} ways leave {ways} "
                    f"questions for {'the rows' if part == 'source' else part}, which needs {needed}; give it more "
                    f"arguments (with 32 facts of its own there are always enough)"
                )
            shares[skill.name, part] = room
    return shares
