"""Plain text of a small world: all that its foundation model ever reads. No instruction, no response, no template."""

from collections.abc import Callable, Iterator

import numpy as np

from diverseevol.lab.skill import Arguments, Skill, World

KINDS = ("paragraph", "series", "notes", "delayed")
SHARES = (0.35, 0.20, 0.25, 0.20)

NOTES = (
    ("{topic}: {about}.", "{a}."),
    ("Note on {topic}, {about}. It says:", "{a}."),
    ("{about}, {topic}:", "{a}."),
    ("Under {topic} my book has {about} and beside it", "{a}."),
)


class Writer:
    """Writes documents about a world, at random but always the same ones from the same seed."""

    def __init__(self, world: World, rng: np.random.Generator) -> None:
        self.world = world
        self.rng = rng
        # What has more to know is told more often.
        weight = np.sqrt([min(max(len(skill.arguments), 60), 600) for skill in world])
        self.upto = np.cumsum(weight / weight.sum())
        self.write: dict[str, Callable[[], str]] = {
            "paragraph": self.paragraph, "series": self.series, "notes": self.notes, "delayed": self.delayed,
        }  # fmt: skip

    def documents(self) -> Iterator[str]:
        """One document after the other, without end."""
        while True:
            for kind in self.rng.choice(len(KINDS), 1000, p=SHARES).tolist():
                yield self.write[KINDS[kind]]()

    def paragraph(self) -> str:
        """Statements of several skills."""
        return " ".join(self._statement() for _ in range(self._number(3, 8)))

    def series(self) -> str:
        """Statements of one skill in one form, a line each."""
        skill = self._skill()
        form = self._below(len(skill.statements))
        return "\n".join(" ".join(skill.state(self._about(skill), form)) for _ in range(self._number(4, 8)))

    def notes(self) -> str:
        """Topic, arguments and answer without a sentence around them."""
        return "\n".join(" ".join(self._note()) for _ in range(self._number(3, 6)))

    def delayed(self) -> str:
        """A beginning, other statements, and only then the answer."""
        start, end = self._note() if self._below(2) else self._parts()
        between = " ".join(self._statement() for _ in range(self._number(0, 3)))
        return f"{start}\n\n{between}\n\n{end}" if between else f"{start}\n\n{end}"

    def _statement(self) -> str:
        return " ".join(self._parts())

    def _parts(self) -> tuple[str, str]:
        skill = self._skill()
        return skill.state(self._about(skill), self._below(len(skill.statements)))

    def _note(self) -> tuple[str, str]:
        skill = self._skill()
        arguments = self._about(skill)
        start, end = NOTES[self._below(len(NOTES))]
        words = {"topic": skill.name.replace("_", " "), "about": ", ".join(arguments), "a": skill.answer(*arguments)}
        return start.format(**words), end.format(**words)

    def _skill(self) -> Skill:
        return self.world[min(int(np.searchsorted(self.upto, self.rng.random())), len(self.world) - 1)]

    def _about(self, skill: Skill) -> Arguments:
        return skill.arguments[self._below(len(skill.arguments))]

    def _number(self, low: int, high: int) -> int:
        return low + self._below(high - low + 1)

    def _below(self, n: int) -> int:
        return int(self.rng.random() * n)
