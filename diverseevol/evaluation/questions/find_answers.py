"""Finds answers that can be judged: in run folders, in what `diverseevol answer` wrote, in the authors' released files.

Run folder:  …/rounds/<t>/answers/<benchmark>.jsonl
`answer`:    …/answers/<benchmark>.jsonl, beside fingerprint.json
Authors':    …/<benchmark>_test/<schedule>/rd_<t>.jsonl
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from diverseevol.errors import InputError
from diverseevol.storage.reading import files_below

OWN = re.compile(r"(?P<run>.*)/rounds/(?P<round>\d+)/answers/(?P<benchmark>[^/]+)\.jsonl")
ANSWERED = re.compile(r"(?P<folder>.*)/answers/(?P<benchmark>[^/]+)\.jsonl")
AUTHORS = re.compile(r".*/(?P<benchmark>[^/]+)_test/(?P<schedule>[^/]+)/rd_(?P<round>\d+)\.jsonl")
NAMING_PARTS = 4  # <data>/<model>/<sampler>-<schedule>/seed<k>: what distinguishes run folders


@dataclass(frozen=True)
class FoundAnswers:
    """One model's answers to one benchmark.

    Attributes:
        file: the answers.
        benchmark: its name.
        round: whose model answered; 0 for those of `diverseevol answer`.
        run: the run folder, or the folder of `diverseevol answer`; None for a released file.
        round_path: the path of the round's folder, relative to a folder of judgements.
        evolved: whether they are of a round of an evolution.
    """

    file: Path
    benchmark: str
    round: int
    run: Path | None
    round_path: Path
    evolved: bool = True

    @property
    def round_folder(self) -> Path | None:
        """The folder that holds `answers/`, and gets `judgements/` and `scores.json`; None for a released file."""
        return None if self.run is None else self.file.parents[1]


def find_answers(folder: Path) -> list[FoundAnswers]:
    """Everything that can be judged in a run folder or below a folder, run by run and round by round.

    Raises:
        InputError: there is nothing.
    """
    answers = sorted(_find(folder), key=lambda found: (str(found.round_path.parent), found.round, found.benchmark))
    if not answers:
        problem = "holds no answers to judge" if folder.is_dir() else "no such folder"
        raise InputError(
            f"{folder}: {problem}; give a run folder, a folder that diverseevol answer wrote, or a "
            f"folder above, with rounds/NN/answers/BENCHMARK.jsonl, answers/BENCHMARK.jsonl beside fingerprint.json, "
            f"or BENCHMARK_test/SCHEDULE/rd_N.jsonl somewhere below"
        )
    return answers


def _find(folder: Path) -> Iterator[FoundAnswers]:
    # Absolute paths, so that each has the run above it; links in them keep the names that the user gave.
    for file in files_below(folder.resolve() if ".." in folder.parts else folder.absolute()):
        if file.suffix != ".jsonl":
            continue
        path = file.resolve().as_posix()
        if own := OWN.fullmatch(path):
            run, t = Path(own["run"]), int(own["round"])
            # The path as the user gave it names the run in dashboards; the resolved path names it among judgements.
            round_path = Path(*run.parts[1:][-NAMING_PARTS:], "rounds", f"{t:02d}")
            yield FoundAnswers(file, own["benchmark"], t, file.parents[3], round_path)
        elif (answered := ANSWERED.fullmatch(path)) and (file.parents[1] / "fingerprint.json").is_file():
            round_path = Path(*Path(answered["folder"]).parts[1:][-NAMING_PARTS:], "rounds", "00")
            yield FoundAnswers(file, answered["benchmark"], 0, file.parents[1], round_path, evolved=False)
        elif authors := AUTHORS.fullmatch(path):
            t = int(authors["round"])
            round_path = Path("released", "answers", authors["schedule"], "rounds", f"{t:02d}")
            yield FoundAnswers(file, authors["benchmark"], t, None, round_path, evolved=False)
