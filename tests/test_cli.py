"""The command line from outside: what it says, on which stream, with which exit code."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

import diverseevol
from diverseevol.cli.mistakes import check_appended
from diverseevol.errors import InputError

ROOT = Path(diverseevol.__file__).parents[1]


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line; `cwd` keeps what it writes."""
    return subprocess.run(
        [sys.executable, "-m", "diverseevol", *arguments], capture_output=True, text=True, cwd=cwd, timeout=600
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
    assert refused("evolv", cwd=tmp_path).startswith(
        "there is no command 'evolv' (did you mean evolve?); choose from evolve"
    )


def test_a_misspelt_choice_is_answered_with_the_choices(tmp_path):
    said = refused("evolve", "sampler=kcentre", cwd=tmp_path)
    assert said.startswith("there is no sampler=kcentre (did you mean kcenter?); choose from ")
    for choice in ("kcenter", "random"):
        assert choice in said.split("kcentre", 1)[1]


@pytest.mark.parametrize(
    ("override", "neighbour"),
    [("tuning.epoch=3", "tuning.epochs"), ("sampler.metrc=cosine", "sampler.metric"), ("smapler=random", "sampler")],
)
def test_a_misspelt_option_is_answered_with_its_neighbours(tmp_path, override, neighbour):
    said = refused("evolve", override, cwd=tmp_path)
    assert said.startswith(
        f"{override.split('=')[0]} is not an option of evolve (did you mean {neighbour}?); choose from "
    )


def test_a_sweeps_configuration_cannot_be_seen_as_one(tmp_path):
    assert refused("evolve", "-m", "seed=0,1", "--cfg", "job", cwd=tmp_path).startswith("give one of -m, --cfg")


def test_a_configuration_can_be_seen_without_running_it(tmp_path):
    done = command("evolve", "--cfg", "job", "seed=7", "sampler=random", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    config = yaml.safe_load(done.stdout)
    assert config["seed"] == 7
    assert config["sampler"] == {"_target_": "diverseevol.samplers.Random"}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("diverseevol ev", "evolve"),
        ("diverseevol evolve sampler=kc", "sampler=kcenter"),
        ("diverseevol judge logger=", "logger=csv"),
        ("diverseevol new sam", "sampler"),
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


FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")  # the child does little


@FORKS
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["compare", "sampler=random"], "sampler is not an option of compare; choose from folder, baseline, metr"),
        (["answer", "logger=none", "-m"], "logger is not an option of answer; choose from out, seed, cache, "),
        (["judge", "logger=none", "data=json", "foo=1"], "data is not an option of judge; choose from folder, benchm"),
        (["judge", "schedule.rounds=2"], "schedule.rounds is not an option of judge: schedule holds no options here; "),
        (["select", "dat=json"], "dat is not an option of select (did you mean data?); choose from embeddings, "),
        (["evolve", "expriment=paper"], "expriment is not an option of evolve (did you mean experiment?); choose "),
    ],
)
def test_a_group_that_another_command_has_is_told_from_ones_own(tmp_path, arguments, sentence):
    code, said = forked(*arguments, cwd=tmp_path)
    assert (code, len(said)) == (2, 1), said
    assert said[0].startswith(f"diverseevol: {sentence}")


@FORKS
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--nosuch"], "unrecognized arguments: --nosuch; write options as KEY=VALUE, not between flags; see "),
        (["seed=1", "-m", "seed=2"], "unrecognized arguments: seed=2; write options as KEY=VALUE, not between flags"),
        (["--cfg", "foo"], "argument --cfg/-c: invalid choice: 'foo' (choose from 'job', 'hydra', 'all'); see "),
        (
            ["data=rows.jsonl"],
            "there is no data=rows.jsonl (did you mean data=file data.path=rows.jsonl?); choose from ",
        ),
        (["data=/a/b.parquet"], "there is no data=/a/b.parquet (did you mean data=file data.path=/a/b.parquet?)"),
        (["model=o/M-1.5"], "there is no model=o/M-1.5 (did you mean model=hf model.path=o/M-1.5?); choose from "),
        (["benchmark=a.b/c.jsonl"], "there is no benchmark=a.b/c.jsonl (did you mean benchmark=questions benchmark.p"),
        (["judge=gpt-4.1"], "there is no judge=gpt-4.1; choose from gold"),
        (["sampler="], "there is no sampler=; choose from entropy, "),
        (["hydra/launcher=nosuch"], "there is no hydra/launcher=nosuch; choose from basic"),
        (["sampler=null"], "sampler=null: sampler takes the name of a choice, expected one of entropy, "),
        (["trainer=[[1],[2]]"], "trainer=[[1],[2]]: trainer takes one choice, expected one of auto, bf16"),
        (["~sampler=1"], "a group was given null or a number, but its choices are names"),
        (
            ["smapler.metric=cosine"],
            "smapler.metric is not an option of evolve: smapler holds no options here (did",
        ),
        (["seed"], "'seed' is not KEY=VALUE, as options are written; see diverseevol evolve --help"),
        (["tuning.a b=1"], "'tuning.a b=1' is not KEY=VALUE, as options are written; see diverseevol evolve --help"),
        (["seed=1,2"], "seed=1,2 has a comma: add -m to sweep over the values, or quote what is one: 'seed=\"1,2\"'"),
    ],
)
def test_what_hydra_cannot_take_is_one_sentence(tmp_path, arguments, sentence):
    code, (said,) = forked("evolve", *arguments, cwd=tmp_path)
    assert said.startswith(f"diverseevol: {sentence}")
    assert code == 2


@FORKS
@pytest.mark.parametrize(
    "value", ["/x/run-a=b", "[a", "train[:1000]", "it's", 'a"b c=', "ends in=\\", "a~/rows.jsonl", "größe.jsonl"]
)
def test_an_argument_that_has_to_be_quoted_is_shown_quoted(tmp_path, value):
    code, (said,) = forked("evolve", f"folder={value}", cwd=tmp_path)
    assert code == 2
    refused, quoted = said.split(", for some of its characters have a meaning of their own; quote it: ")
    assert refused == f"diverseevol: folder={value} cannot be read"
    override = OverridesParser.create().parse_override(*shlex.split(quoted))
    assert (override.key_or_group, override.value()) == ("folder", value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["+rate=0.5", "tuning.learning_rate=${rate}"],
        ["++seed=7"],
        ["++tuning.epochs=2"],
        ["+trainer.limit_train_batches=3"],
        ["+hydra.verbose=true"],
        ["+experiment=paper"],
        ["--config-dir", ".", "+mine=1"],
    ],
)
def test_what_is_appended_for_a_reason_is_taken(arguments):
    check_appended("evolve", arguments)
    with pytest.raises(InputError, match=r"^mine is not an option of evolve"):
        check_appended("evolve", [*(argument for argument in arguments if argument != "--config-dir"), "+mine=1"])


@FORKS
@pytest.mark.parametrize("arguments", [["seed=-1"], ["-m", "seed=-1,-2", "logger=none"]])
def test_a_traceback_is_shown_where_it_is_asked_for(tmp_path, monkeypatch, arguments):
    for asked in ("0", "1"):
        monkeypatch.setenv("DIVERSEEVOL_TRACEBACK", asked)
        code, said = forked("evolve", *arguments, cwd=tmp_path)
        assert code == 2
        where = [line for line in said if "checked_options.py" in line and "__post_init__" in line]
        jobs = 2 if "-m" in arguments else 1
        assert len(where) == (jobs if asked == "1" else 0)


NO_MODEL = (
    "model.path is missing: give model.path=… with a folder or a name on the hub, or model=tiny (random weights, to "
    "try things out)"
)


@FORKS
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["tuning.epochs=many"], "tuning.epochs is 'many', which is not a whole number"),
        (["data=json"], "data.path is missing: give data.path=…"),
        (["data=json", "data.path=rows.jsonl"], NO_MODEL),
        (["data=dolly", "benchmark=paper"], NO_MODEL),
        (["sampler.metric=manhattan"], "sampler.metric is 'manhattan', which is not euclidean or cosine"),
        (["judge=none", "judge.x=1"], "judge.x is not an option of evolve: judge has no options here; leave it out"),
        (["seed=one"], "seed is 'one', which is not a whole number"),
        (["threads=0"], "threads is 0; it must be at least 1 and at most 1024, or null for all cores"),
        ([f"threads={10**20}"], f"threads is {10**20}, which is too large a number; give one below 2^63"),
        (["tuning.learning_rate=inf"], "tuning.learning_rate is inf, which is not a finite number"),
        (["generation.temperature=1e400"], "generation.temperature is inf, which is not a finite number"),
        (["cache=[a]"], "cache is ['a'], which is not a text or null"),
        (["folder={a:1}"], "folder is {'a': 1}, which is not a text or null"),
        (
            ["generation=greedy"],
            "generation is 'greedy', expected its options: leave generation as it is, or give one option at a time as "
            "generation.OPTION=…; diverseevol evolve --help lists them",
        ),
        (
            ["prompt=null"],
            "prompt is null or was taken away, expected its options: leave prompt as it is, or give one "
            "option at a time as prompt.OPTION=…; diverseevol evolve --help lists them",
        ),
        (
            ["sampler=[kcenter,nosuch]"],
            "sampler=[kcenter,nosuch]: sampler takes one choice, expected one of entropy, facility_location, kcenter, "
            "kmeans, least_confidence, longest, margin, oracle, qbc, random, uncertain_kcenter, vendi; to run several, "
            "give -m and commas without brackets",
        ),
    ],
)
def test_what_is_found_wrong_later_is_a_sentence_too(tmp_path, arguments, sentence):
    code, said = forked("evolve", *arguments, cwd=tmp_path)
    assert said == [f"diverseevol: {sentence}"]
    assert code == 2


ROWS, QUESTIONS = (ROOT / f"tests/fixtures/run_folders_0_1/{name}.jsonl" for name in ("rows", "questions"))
EVOLVE = ["evolve", "data=json", f"data.path={ROWS}", "model=tiny"]
SELECT = ["select", "data=json", f"data.path={ROWS}", "model=tiny", "n=3", "out=P.json"]
ANSWER = ["answer", "benchmark=questions", f"benchmark.path={QUESTIONS}", "model.path=nosuch", "out=P"]


@FORKS
@pytest.mark.parametrize(
    ("command", "option", "sentence"),
    [
        (EVOLVE, "trainer.accelerator=nosuch", "Lightning cannot start with these options (You selected an invalid"),
        (EVOLVE, "trainer.accelerator=tpu", "Lightning cannot start with these options ("),
        (SELECT, "trainer.accelerator=tpu", "Lightning cannot start with these options ("),
        (ANSWER, "trainer.accelerator=tpu", "Lightning cannot start with these options ("),
        (EVOLVE, "+trainer.limit_train_batches=-3", "Lightning cannot start with these options (You have passed"),
        (EVOLVE, "+trainer.devices=2", "devices is not yours to set: "),
        (EVOLVE, "+trainer.max_steps=3", "max_steps is not yours to set: "),
        (ANSWER, "seed=-1", "seed is -1; it must not be negative"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, command, option, sentence):
    code, (*checked, said) = forked(*command, option, cwd=tmp_path)
    assert all("check the data" in line for line in checked)  # which is known before Lightning is imported
    assert said.removeprefix("diverseevol: ").removeprefix("trainer").lstrip(".: ").startswith(sentence)
    assert code == 2
    assert not list(tmp_path.iterdir())


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


def test_hydra_stops_at_the_command_line():
    importing = re.compile(r"^\s*(?:import|from) (?:hydra|omegaconf)\b", re.MULTILINE)
    package = ROOT / "diverseevol"
    found = {file.relative_to(package).parts[0] for file in package.rglob("*.py") if importing.search(file.read_text())}
    assert found == {"cli"}


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
def test_a_signal_while_a_command_is_ending_leaves_its_code_and_no_traceback(tmp_path, number):
    # What a library does as the interpreter ends, here W&B's part, is interrupted by an impatient user.
    code = (
        "import atexit, os, signal, sys, time\n"
        f"atexit.register(lambda: (os.kill(os.getpid(), signal.{number}), time.sleep(5)))\n"
        "sys.argv = ['diverseevol', 'nosuch']\n"
        "from diverseevol import cli\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_group_that_is_given_null_names_its_choices(tmp_path):
    said = refused("evolve", "judge=null", cwd=tmp_path)
    assert said == (
        "judge=null: judge takes the name of a choice, expected one of gold, local, none, openai, overlap, replay"
    )


@pytest.mark.skipif(sys.platform != "linux", reason="only GNU's OpenMP shows what it was told")
def test_threads_that_wait_for_work_sleep(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("OMP_DISPLAY_ENV", "true")
    np.save(tmp_path / "rows.npy", np.eye(4, dtype=np.float32))
    done = command("select", "embeddings=rows.npy", "n=2", "out=picks.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
