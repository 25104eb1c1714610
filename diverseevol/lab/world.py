"""The lab's own world: every skill in it was learned by the foundation model that ships with it."""

from diverseevol.lab.skill import World
from diverseevol.lab.skills import knowledge, lists, numbers, words

CANDIDATES: World = (*words.SKILLS, *numbers.SKILLS, *lists.SKILLS, *knowledge.SKILLS)
"""All that the foundation model has read about."""

WORLD: World = CANDIDATES
