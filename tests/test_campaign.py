"""Whatever is wrong with a command line or a file: a sentence and exit code 2, never a traceback, a hang or a loss."""

import importlib
import os
import shutil
from pathlib import Path

import pytest
from campaign import BASES, cases, lay_world, run, trial

from diverseevol.cli import VERBS
from diverseevol.engine.pretrained import Pretrained

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
LATE = (  # what commands import once they need it
    "diverseevol.cli.workbench", "diverseevol.evaluation.judges.local_judge",
    "diverseevol.evaluation.judges.openai_judge",
    "diverseevol.evaluation.judges.replay", "diverseevol.report.page.publish",
)  # fmt: skip
SEED = int(os.environ.get("DIVERSEEVOL_CAMPAIGN", "0"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, foundation: Pretrained) -> Path:
    for module in (*(f"diverseevol.cli.commands.{verb}" for verb in VERBS), *LATE):  # once, rather than in each child
        importlib.import_module(module)
    folder = tmp_path_factory.mktemp("campaign") / "world"
    lay_world(folder, lambda model: shutil.copytree(foundation.path, model))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("verb", BASES)
def test_what_the_mistakes_are_made_in_works(world, tmp_path, verb):
    for number, (arguments, _) in enumerate(BASES[verb]):
        copy = shutil.copytree(world, tmp_path / str(number))
        code, out, said = run(arguments, copy, tmp_path / "case")
        if "judge=local" in arguments:  # random weights say no scores, which is found when all is judged
            assert (code, said.count("every question has a judgement without scores")) == (2, 1), said
            continue
        assert code == 0, f"{arguments}\n{out}\n{said}"


def survived(verb: str, count: int, seed: int, world: Path, folder: Path) -> None:
    found = [
        said
        for number, case in enumerate(cases(verb, count, seed, world))
        if (said := trial(case, world, folder, number)) is not None
    ]
    assert not found, f"{len(found)} of {count} cases:\n" + "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("verb", BASES)
def test_200_mistakes_are_each_told_in_a_sentence(world, tmp_path, verb):
    survived(verb, 25, SEED, world, tmp_path)


@pytest.mark.nightly
@pytest.mark.parametrize("verb", BASES)
def test_1000_mistakes_are_each_told_in_a_sentence(world, tmp_path, verb):
    survived(verb, 125, SEED + 1, world, tmp_path)
