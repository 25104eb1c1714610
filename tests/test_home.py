"""`~` in paths, and options of a choice that was not made."""

import json
import signal
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from diverseevol import cli
from diverseevol.cli.configuration import Configuration, configure
from diverseevol.cli.home_folder import in_arguments


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home folder with rows in it, and another folder to work in."""
    (tmp_path / "home dir").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("HOME", str(tmp_path / "home dir"))
    monkeypatch.setenv("DIVERSEEVOL_CACHE", str(tmp_path / "cache"))
    rows = [{"instruction": f"What is {i}?", "output": f"It is {i}."} for i in range(20)]
    (tmp_path / "home dir" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path / "home dir"
    for number, handler in handlers.items():
        signal.signal(number, handler)
    GlobalHydra.instance().clear()


@pytest.fixture
def run(monkeypatch, capfd):
    """`run(*arguments)`: exit code and the last line of stderr."""

    def command(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), (capfd.readouterr().err.splitlines() or [""])[-1]

    return command


@pytest.mark.parametrize(
    ("argument", "expanded"),
    [
        ("out=~/P.json", "out=HOME/P.json"),
        ("folder=~", "folder=HOME"),
        ("++data.path=~/a b.jsonl", "++data.path=HOME/a b.jsonl"),
        ('data.path="~/a, b.jsonl"', 'data.path="HOME/a, b.jsonl"'),
        ("cache='~/c'", "cache='HOME/c'"),
        ("judgements=[~/a,~/b, '~/c']", "judgements=[HOME/a,HOME/b, 'HOME/c']"),
        ("outputs=~/a,~/b", "outputs=HOME/a,HOME/b"),
        ("+x={a: ~/b}", "+x={a: HOME/b}"),
        ("~sampler", "~sampler"),
        ("~data.path=~/x", "~data.path=~/x"),
        ("out=a~/b", "out=a~/b"),
        ("out=a/~/b", "out=a/~/b"),
        ("out=~nobody-of-this-name/x", "out=~nobody-of-this-name/x"),
        ("prompt.system=~/x", "prompt.system=~/x"),
        ("-m", "-m"),
    ],
)
def test_home_folders_on_the_command_line_are_put_in_where_values_begin(home, argument, expanded):
    assert in_arguments([argument]) == [expanded.replace("HOME", str(home))]


def test_home_folders_in_files_of_options_are_put_in(home):
    composed = OmegaConf.create(
        {
            "cache": "~/c",
            "benchmark": {"path": "~/q.jsonl", "competitor": "${cache}", "name": "~x y"},
            "judgements": ["~/a", {"b": "~"}],
            "prompt": {"system": "~/x"},
            "out": "???",
            "folder": None,
        }
    )
    OmegaConf.set_struct(composed, True)
    configuration = Configuration("judge", composed, {})
    assert configuration.value("cache") == f"{home}/c"
    assert configuration.value("benchmark") == {
        "path": f"{home}/q.jsonl", "competitor": f"{home}/c", "name": "~x y",
    }  # fmt: skip
    assert configuration.value("judgements") == [f"{home}/a", {"b": str(home)}]
    assert configuration.value("prompt.system") == "~/x"


PATHS = {
    "evolve": ["outputs", "folder", "cache", "model.path", "benchmark.path", "benchmark.competitor", "judge.prompt"],
    "select": ["embeddings", "lengths", "taken", "out", "cache", "data.path", "model.path"],
    "answer": ["out", "cache", "model.path"],
    "judge": ["folder", "out", "cache", "judge.path", "judge.cache", "judge.prompt"],
    "score": ["folder", "out"],
    "compare": ["folder", "out"],
    "report": ["out"],
    "agreement": ["folder", "recorded"],
}
CHOICES = {
    "evolve": ["data=json", "data.path=x", "benchmark=questions", "judge=local", "judge.path=x"],
    "select": ["data=json"],
    "judge": ["judge=local"],
}


@pytest.mark.parametrize("verb", PATHS)
def test_every_path_of_every_verb_may_begin_at_home(home, verb):
    overrides = in_arguments([f'{path}="~/x"' for path in PATHS[verb]])
    configuration = configure(verb, [*CHOICES.get(verb, []), *overrides])
    assert {configuration.value(path) for path in PATHS[verb]} == {f"{home}/x"}


def test_rows_at_home_are_chosen_from_and_written_at_home_without_a_model(run, home):
    code, said = run("select", "data=json", "data.path=~/rows.jsonl", "sampler=random", "n=3", "out=~/P.json")
    assert (code, said) == (0, f"writes {home / 'P.json'} and {home / 'P.jsonl'}")
    assert list(Path().iterdir()) == []
    chosen = json.loads((home / "P.json").read_text())
    rows = (home / "rows.jsonl").read_text().splitlines()
    picked = [json.loads(rows[row]) for row in chosen["chosen"]]
    assert [json.loads(line) for line in (home / "P.jsonl").read_text().splitlines()] == picked
    assert len({*chosen["chosen"]}) == 3
    assert chosen["distance"] == [None] * 3
    code, _ = run(
        "select", "data=json", "data.path=~/rows.jsonl", "sampler=random", "n=17", "taken=~/P.json", "out=~/Q.json"
    )
    assert code == 0
    assert {*json.loads((home / "Q.json").read_text())["chosen"]} == {*range(20)} - {*chosen["chosen"]}


@pytest.mark.parametrize(
    ("sampler", "what"),
    [
        ("longest", "the lengths of the responses in tokens, so it needs a model's tokeniser"),
        ("entropy", "a model's predictions"),
    ],
)
def test_a_sampler_that_asks_a_model_says_what_for(run, sampler, what):
    code, said = run("select", "data=json", "data.path=~/rows.jsonl", f"sampler={sampler}", "n=3", "out=P.json")
    assert code == 2
    assert said.startswith(f"diverseevol: sampler={sampler} chooses by {what}; model.path is missing: give model.path=")


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (["evolve", "data.path=rows.jsonl"], "model.path is missing: give model.path="),
        (["plan", "data.path=rows.jsonl"], "model.path is missing: give model.path="),
        (["evolve", "data=lab", "data.split=train"], "add data="),
        (["select", "data.fields.input=x", "n=3", "out=P.json"], "data=file and data=dolly: add data=file"),
        (["select", "data.fields.response=x", "n=3", "out=P.json"], "data=file and data=dolly: add data=file"),
        (["evolve", "model.hidden=16", "model=hf"], "of model=tiny: add model=tiny"),
        (["evolve", "judge.max_calls=3"], "of judge=openai: add judge=openai"),
        (["evolve", "sampler=random", "sampler.metric=cosine"], "add sampler=kcenter"),
        (["judge", "judge.path=x", "folder=x"], "add judge=local"),
        (["evolve", "data=json", "data.pth=x"], "(did you mean data.path?); choose from data.path, data.name"),
        (["evolve", "model=tiny", "model.hiden=3"], "(did you mean model.hidden?)"),
    ],
)
def test_an_option_of_another_choice_names_the_choice_and_a_path_alone_is_of_a_file(run, arguments, remedy):
    code, said = run(*arguments)
    assert code == 2
    assert remedy in said
    assert "data.size" not in said
