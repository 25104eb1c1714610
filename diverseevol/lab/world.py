"""The lab's own world: every skill in it was learned by the foundation model that ships with it."""

from diverseevol.lab.skill import World
from diverseevol.lab.skills import knowledge, lists, numbers, words

WORLD: World = (*words.SKILLS, *numbers.SKILLS, *lists.SKILLS, *knowledge.SKILLS)
