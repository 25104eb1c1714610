"""Whatever is wrong with a command line or a file: a sentence and exit code 2, never a traceback, a hang or a loss."""

import os
import shutil
from pathlib import Path

import pytest
from campaign import BASES, cases, lay_world, run, trial

from diverseevol.foundation import Pretrained

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
SEED = int(os.environ.get("DIVERSEEVOL_CAMPAIGN", "0"))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, foundation: Pretrained) -> Path:
    folder = tmp_path_factory.mktemp("campaign") / "world"
    lay_world(folder, lambda model: shutil.copytree(foundation.path, model))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("verb", BASES)
def test_what_the_mistakes_are_made_in_works(world, tmp_path, verb):
    for number, (arguments, _) in enumerate(BASES[verb]):
        copy = shutil.copytree(world, tmp_path / str(number))
        code, out, said = run(arguments, copy, tmp_path / "case")
        expected = 2 if "judge=openai" in arguments else 0  # nobody answers there
        assert code == expected, f"{arguments}\n{out}\n{said}"


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
