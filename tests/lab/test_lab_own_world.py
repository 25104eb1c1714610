"""A world of one's own: checked before anything is made of it, and the commands of its page work from its folder."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pretrain
import pytest
import search

from diverseevol import lab
from diverseevol.errors import InputError
from diverseevol.lab.skill import Skill, find_world
from diverseevol.lab.split import share_out

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "experiments/lab"

MY_WORLD = """
from diverseevol.lab.skill import Skill

NUMBERS = tuple((str(n),) for n in range(10, 50))

def skill(name, answer):
    ways = (f"Now {name} {{0}}.", f"Please {name}. | {{0}}", f"How do you {name} {{0}}?")
    return Skill(name, NUMBERS, answer, ways, (f"To {name} {{0}} gives {{a}}.",))

WORLD = (
    skill("double", lambda n: str(2 * int(n))),
    skill("reverse", lambda n: n[::-1]),
    skill("follow", lambda n: str(int(n) + 1)),
)
"""


def numbers(n: int) -> tuple[tuple[str], ...]:
    return tuple((str(i),) for i in range(n))


def skill(**changes) -> Skill:
    usual = {
        "name": "turn", "arguments": numbers(80), "answer": lambda *x: " ".join(x)[::-1],
        "phrasings": ("Turn {0}.", "Turn it. | {0}"), "statements": ("Turning {0} gives {a}.", "Who sees {a} had {0}."),
    }  # fmt: skip
    return Skill(**{**usual, **changes})


PAIRS = (("1", "2"), ("3", "4"))
WRONG = {
    "repeated argument": ({"arguments": (*numbers(40), ("7",))}, r"\('7',\) is twice among its arguments"),
    "no argument": ({"arguments": ()}, r"its arguments: expected a tuple of at least one, got \(\)"),
    "arguments of two lengths": ({"arguments": (("1",), ("1", "2"))}, r"\('1',\) and also \('1', '2'\)"),
    "phrasing without argument": ({"phrasings": ("Turn {0}.", "Turn it!")}, r"phrasing 'Turn it!' is without \{0\}"),
    "phrasing with one of two": ({"arguments": PAIRS}, r"phrasing 'Turn \{0\}\.' is without \{1\}"),
    "phrasing with the answer": ({"phrasings": ("{0} to {a}?",)}, r"phrasing '.*' has \{a\}, which nothing fills"),
    "phrasing with half a brace": ({"phrasings": ("Turn {0}}.",)}, r"phrasing '.*' cannot be read"),
    "phrasing twice": ({"phrasings": ("Turn {0}.", "Turn {0}.")}, r"'Turn \{0\}\.' is twice among its phrasings"),
    "statement without answer": ({"statements": ("I turn {0}.",)}, r"statement '.*' is without \{a\}"),
    "statement without argument": ({"statements": ("It is {a}.",)}, r"statement '.*' is without \{0\}"),
    "statement with two answers": ({"statements": ("{0}: {a}, {a}.",)}, r"statement '.*' has \{a\} more than once"),
    "answer before argument": ({"statements": ("{a} comes of {0}.",)}, r"first statement '.*' says \{0\} after \{a\}"),
    "response without answer": ({"response": "Here."}, r"response 'Here\.' is without \{a\}"),
}  # fmt: skip


WRONG_TYPE = {
    "bare text as argument": (
        {"arguments": (("hot",), "cold")},
        r"its arguments: expected tuples of texts, got 'cold'",
    ),
    "phrasings without a comma": (
        {"phrasings": "Turn {0}."},
        r"its phrasings: expected a tuple of at least one, got 'Turn \{0\}\.'",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_skill_that_does_not_fit_together_is_refused_by_name(what):
    changes, message = WRONG[what]
    skill()  # as it is it fits
    with pytest.raises(InputError, match=rf"^skill 'turn': .*{message}.*; "):
        skill(**changes)


@pytest.mark.parametrize("what", WRONG_TYPE)
def test_a_comma_forgotten_is_refused_too(what):
    changes, message = WRONG_TYPE[what]
    made = object.__new__(Skill)  # past the tests' own check of types, which is not there for users
    for name, value in {**vars(skill()), **changes}.items():
        object.__setattr__(made, name, value)
    with pytest.raises(InputError, match=rf"^skill 'turn': .*{message}.*; "):
        made.__post_init__()


def test_a_skill_with_too_few_facts_is_refused_by_name():
    with pytest.raises(InputError, match=r"^skill 'turn': 3 facts asked in 2 ways leave 0 questions for lab, which ne"):
        share_out((skill(arguments=numbers(3)),))
    share_out((skill(arguments=numbers(32)),))


def test_of_two_skills_about_the_same_facts_both_have_enough():
    one, other = (skill(name=name, arguments=numbers(32), fact=lambda n: n) for name in ("one", "other"))
    shares = share_out((one, other))
    assert all(shares["one", part] == shares["other", part] for part in ("source", "lab", "lab_natural"))


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The current folder, with `my_world.py` in it; what is imported from there is forgotten."""
    (tmp_path / "my_world.py").write_text(MY_WORLD)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    yield tmp_path
    for name in ("my_world", "broken_world", "wrong_world", "few_world"):
        sys.modules.pop(name, None)


def test_a_world_is_found_in_the_current_folder(elsewhere):
    assert [skill.name for skill in find_world("my_world.WORLD")] == ["double", "reverse", "follow"]


def test_the_labs_own_world_leaves_the_search_path_alone(elsewhere):
    before = list(sys.path)
    find_world("diverseevol.lab.world.WORLD")
    assert sys.path == before


def test_a_module_that_fails_says_how_and_a_skill_in_it_says_which(elsewhere):
    (elsewhere / "broken_world.py").write_text("WORLD = undefined")
    with pytest.raises(
        InputError, match=r"world=broken_world\.WORLD: cannot be imported \(NameError: name 'undefined'"
    ):
        find_world("broken_world.WORLD")
    (elsewhere / "wrong_world.py").write_text(MY_WORLD.replace("Now {name} {{0}}", "Now {name} it"))
    with pytest.raises(InputError, match=r"world=wrong_world\.WORLD: skill 'double': its phrasing .* without \{0\}"):
        find_world("wrong_world.WORLD")


def test_the_natural_benchmark_asks_as_many_questions_as_it_is_told_to_or_says_that_it_cannot(elsewhere, cache):
    (natural,) = lab.natural(questions=30, size=60, skew=3.0, world="my_world.WORLD", cache=cache)
    asked = Counter(q.category for q in natural.questions)
    assert len({(q.instruction, q.input) for q in natural.questions}) == 30
    # The most frequent has 4 held-out numbers to ask about in 3 ways; the 14 that it lacks are shared out.
    assert sorted(asked.values()) == [1 + 7, 3 + 7, 12]
    with pytest.raises(InputError, match=r"benchmark\.questions is 37, but this world has 36 different questions"):
        lab.natural(questions=37, size=60, world="my_world.WORLD", cache=cache)


@pytest.mark.parametrize(
    ("main", "options", "said"),
    [
        (pretrain.main, ["--world", "no_world.WORLD"], "pretrain: world=no_world.WORLD: cannot be imported"),
        (pretrain.main, ["--world", "few_world.WORLD"], "pretrain: skill 'double': 4 facts"),
        (pretrain.main, ["--tokens", "1000"], "pretrain: --tokens is 1000; one step takes 1,280"),
        (search.main, ["--world", "no_world.WORLD", "--model", "m"], "search: world=no_world.WORLD: cannot be"),
        (search.main, ["--world", "my_world.WORLD"], "search: data.world=my_world.WORLD: the model that ships"),
        (search.main, ["--size", "300"], "search: --rows 320 of a --size of 300"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(elsewhere, capsys, main, options, said):
    (elsewhere / "few_world.py").write_text(MY_WORLD.replace("range(10, 50)", "range(10, 14)"))
    assert main(options) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith(said)
    assert sentence.count("\n") == 1
    assert [each.name for each in elsewhere.iterdir() if each.suffix != ".py" and each.name != "__pycache__"] == []


@pytest.mark.slow
def test_the_pages_commands_work_from_the_worlds_own_folder(tmp_path):
    (tmp_path / "my_world.py").write_text(MY_WORLD)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "DIVERSEEVOL_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT),
    }  # fmt: skip

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )

    world = ("--world", "my_world.WORLD")
    made = run(str(STUDIES / "pretrain.py"), *world, "--tokens", "20000", "--out", "my-foundation")
    assert made.returncode == 1, made.stderr  # so short a text teaches too little, and it says so
    assert "pretrain: my-foundation is below the gate: mean 0." in made.stderr
    assert all(name in made.stderr for name in ("double 0.", "reverse 0.", "follow 0."))
    searched = run(
        str(STUDIES / "search.py"), *world, "--model", "my-foundation", "--size", "150", "--rows", "20",
        "--epochs", "1", "--rates", "1e-3", "--out", "my-search.csv",
    )  # fmt: skip
    assert searched.returncode == 0, searched.stderr
    assert len((tmp_path / "my-search.csv").read_text().splitlines()) == 2
    evolved = run(  # -P: the current folder is not on the path by itself, as it is not for `diverseevol`
        "-P", "-m", "diverseevol", "evolve", "data=lab", "data.world=my_world.WORLD", "data.size=150",
        "model.path=my-foundation", "benchmark.questions=30", "schedule.rounds=1", "schedule.seed_size=10",
        "schedule.step_size=10", "threads=1", "logger=none", "folder=run",
    )  # fmt: skip
    assert evolved.returncode == 0, evolved.stderr
    assert (tmp_path / "run/selected.jsonl").exists()
