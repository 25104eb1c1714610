"""The command line from outside: what it says, on which stream, with which exit code."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import diverseevol

ROOT = Path(diverseevol.__file__).parents[1]


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line; `cwd` keeps what it writes."""
    return subprocess.run(
        [sys.executable, "-m", "diverseevol", *arguments], capture_output=True, text=True, cwd=cwd, timeout=120
    )


def refused(*arguments: str, cwd: Path) -> str:
    """The one sentence with which a command refuses the user's input."""
    done = command(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("diverseevol: ")
    assert not list(cwd.iterdir()), "nothing is left of a command that was refused"
    return line.removeprefix("diverseevol: ")


def test_help_and_nothing_list_the_commands(tmp_path):
    helped, bare = command("--help", cwd=tmp_path), command(cwd=tmp_path)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "\n  evolve " in helped.stdout
    assert (bare.returncode, bare.stdout) == (0, helped.stdout)


def test_the_version_is_the_packages(tmp_path):
    assert command("--version", cwd=tmp_path).stdout == f"diverseevol {diverseevol.__version__}\n"


def test_a_commands_help_lists_its_groups_with_their_choices(tmp_path):
    done = command("evolve", "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert "sampler: " in done.stdout
    assert "kcenter" in done.stdout
    assert "learning_rate" in done.stdout


def test_a_command_that_does_not_exist_is_answered_with_those_that_do(tmp_path):
    assert refused("evolv", cwd=tmp_path).startswith("there is no command 'evolv'; choose from evolve")


def test_a_misspelt_choice_is_answered_with_the_choices(tmp_path):
    said = refused("evolve", "sampler=kcentre", cwd=tmp_path)
    assert "kcentre" in said
    for choice in ("kcenter", "random"):
        assert choice in said.split("kcentre", 1)[1]


@pytest.mark.parametrize(
    ("override", "neighbour"), [("tuning.epoch=3", "tuning.epochs"), ("sampler.metrc=cosine", "sampler.metric")]
)
def test_a_misspelt_option_is_answered_with_its_neighbours(tmp_path, override, neighbour):
    said = refused("evolve", override, cwd=tmp_path)
    assert said.startswith(f"{override.split('=')[0]} is not an option of evolve; choose from ")
    assert neighbour in said


def test_a_sweeps_configuration_cannot_be_seen_as_one(tmp_path):
    assert refused("evolve", "-m", "seed=0,1", "--cfg", "job", cwd=tmp_path).startswith("give one of -m, --cfg")


def test_a_configuration_can_be_seen_without_running_it(tmp_path):
    done = command("evolve", "--cfg", "job", "seed=7", "sampler=random", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    config = yaml.safe_load(done.stdout)
    assert config["seed"] == 7
    assert config["sampler"] == {"_target_": "diverseevol.samplers.random.RandomSampler"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("diverseevol ev", "evolve"),
        ("diverseevol evolve sampler=kc", "sampler=kcenter"),
        ("diverseevol judge logger=", "logger=csv"),
    ],
)
def test_bash_completes_verbs_choices_and_keys(tmp_path, line, expected):
    program = tmp_path / "diverseevol"
    program.write_text(f'#!/bin/bash\nexec "{sys.executable}" -m diverseevol "$@"\n')
    program.chmod(0o755)
    script = f"""eval "$(diverseevol -sc install=bash)"
        COMP_LINE="{line}" COMP_POINT={len(line)} COMP_WORDS=({line}) COMP_CWORD={len(line.split()) - 1}
        hydra_bash_completion
        printf '%s\\n' "${{COMPREPLY[@]}}" """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["bash", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert expected in done.stdout.split(), done.stderr


NO_MODEL = (
    "model.path is missing: give model.path=… with a folder or a name on the hub, or model=tiny (random weights, to "
    "try things out)"
)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # the child does little
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tuning.epochs=many"], "tuning.epochs is 'many', which is not a whole number"),
        (["data=json"], "data.path is missing: give data.path=…"),
        (["data=json", "data.path=rows.jsonl"], NO_MODEL),
        (["data=dolly", "benchmark=paper"], NO_MODEL),
        (["sampler.metric=manhattan"], "sampler.metric is 'manhattan', which is not euclidean or cosine"),
        (["seed=one"], "seed is 'one', which is not a whole number"),
    ],
)
def test_what_is_found_wrong_later_is_a_sentence_too(tmp_path, arguments, sentence):
    code, said = forked("evolve", *arguments, cwd=tmp_path)
    assert said == [f"diverseevol: {sentence}"]
    assert code == 2


def forked(*arguments: str, cwd: Path) -> tuple[int, list[str]]:
    """Exit code and error lines of a command in a child of this process, which has the heavy imports behind it."""
    log = cwd.with_name(f"{cwd.name}.log")
    child = os.fork()
    if not child:
        code = 70
        try:
            sys.stdout = sys.stderr = log.open("w")
            os.chdir(cwd)
            from diverseevol import cli

            sys.argv = ["diverseevol", *arguments]
            cli.main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        finally:
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), log.read_text().splitlines()
