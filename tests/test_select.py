"""The command `select`: one selection over embeddings that are brought, or over the foundation model's own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

from diverseevol import cli
from diverseevol.geometry.distances import receipt_distances


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("select")


@pytest.fixture(autouse=True)
def alone(tmp_path, own_cache, monkeypatch):
    """In a folder of its own, with nothing left of the command that ran before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIVERSEEVOL_CACHE", str(own_cache))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    GlobalHydra.instance().clear()


def select(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["diverseevol", "select", *arguments])
    with pytest.raises(SystemExit) as left:
        cli.main()
    return int(left.value.code or 0)


@pytest.fixture
def chosen(monkeypatch, capsys):
    def run(*arguments: str) -> dict[str, Any]:
        assert select(monkeypatch, *arguments, "out=P.json", "replace=true") == 0
        capsys.readouterr()
        return json.loads(Path("P.json").read_text())

    return run


@pytest.fixture
def refused(monkeypatch, capsys):
    def run(*arguments: str) -> str:
        before = sorted(Path().iterdir())
        assert select(monkeypatch, *arguments) == 2
        said = capsys.readouterr()
        assert said.out == ""
        (line,) = said.err.splitlines()
        assert sorted(Path().iterdir()) == before
        return line

    return run


def save(rows: Any, dtype: str = "float32", path: str = "E.npy") -> np.ndarray:
    array = np.array(rows, dtype=dtype)
    np.save(path, array)
    return array


def world(rows: int = 200, dim: int = 6, dtype: str = "float32") -> np.ndarray:
    return save(3 + np.random.default_rng(0).normal(size=(rows, dim)), dtype)


# --- embeddings that are brought


def test_five_rows_on_a_line(chosen):
    save([[0], [1], [2], [7], [10]])
    Path("T.json").write_text("[0]")
    found = chosen("embeddings=E.npy", "taken=T.json", "n=3")
    assert found["chosen"] == [4, 3, 2]  # 10 and then 7 and 2 are 10, 3 and 2 away from what is there
    assert found["score"] == found["distance"] == [10, 3, 2]
    assert found["nearest"] == [0, 4, 0]
    assert (found["sampler"], found["options"]["metric"]) == ("kcenter", "euclidean")
    assert found["score_is"].startswith("distance to the nearest row of the pool")
    assert found["seconds"] >= 0


def test_without_rows_taken_the_first_is_the_one_nearest_the_mean(chosen):
    save([[0], [1], [2], [7], [10]])
    found = chosen("embeddings=E.npy", "n=2")
    assert found["chosen"] == [2, 4]  # the mean is 4
    assert (found["distance"], found["nearest"]) == ([None, 8], [None, 2])


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("sampler", ["kcenter", "random", "kmeans", "facility_location", "vendi"])
def test_every_sampler_of_embeddings_chooses_with_distances(chosen, sampler, dtype):
    X = world(dtype=dtype)
    Path("T.json").write_text(json.dumps(list(range(0, 40, 2))))
    found = chosen("embeddings=E.npy", "taken=T.json", "n=12", f"sampler={sampler}")
    assert len(set(found["chosen"])) == 12
    assert not set(found["chosen"]) & set(range(0, 40, 2))
    distance, nearest = receipt_distances(X, np.array(found["chosen"]), np.arange(0, 40, 2))
    assert (found["distance"], found["nearest"]) == (distance.tolist(), nearest.tolist())
    assert found["sampler"] == sampler
    again = chosen("embeddings=E.npy", "taken=T.json", "n=12", f"sampler={sampler}")
    assert again["chosen"] == found["chosen"]


def test_a_selection_goes_on_from_its_own_output(chosen, monkeypatch):
    world()
    whole, parts, before = chosen("embeddings=E.npy", "n=12"), [], []
    for n, name in ((5, "A.json"), (4, "B.json"), (3, "C.json")):
        assert select(monkeypatch, "embeddings=E.npy", f"n={n}", f"out={name}", *before) == 0
        parts += json.loads(Path(name).read_text())["chosen"]
        before = [f"taken={name}"]
    assert parts == whole["chosen"]
    Path("selected.jsonl").write_text("".join(f'{{"row": {row}, "joined": 0}}\n' for row in whole["chosen"][:9]))
    assert chosen("embeddings=E.npy", "n=3", "taken=selected.jsonl")["chosen"] == whole["chosen"][9:]


@pytest.mark.parametrize(
    ("taken", "said"),
    [
        (
            ["taken=T.json"],
            "distance to the nearest row taken or picked before: 7 at first, 0 at the end\n"
            "2 of them equal a row taken or picked before\n",
        ),
        (
            [],
            "distance to the nearest row picked before: 6 at the second, 0 at the end\n"
            "(the pool was empty before the first pick)\n"
            "2 of them equal a row picked before\n",
        ),
    ],
)
def test_the_end_says_how_far_the_distance_fell_and_from_what(monkeypatch, capsys, taken, said):
    save([[0], [1], [0], [7], [0]])
    Path("T.json").write_text("[0]")
    n = 4 if taken else 5
    assert select(monkeypatch, "embeddings=E.npy", *taken, f"n={n}", "out=P.json") == 0
    assert said in capsys.readouterr().err
    assert select(monkeypatch, "embeddings=E.npy", *taken, "n=1", "out=Q.json") == 0
    assert ("taken or picked before: 7\nwrites" in capsys.readouterr().err) == bool(taken)


def test_a_choice_that_is_there_already_is_kept_unless_it_is_to_be_replaced(monkeypatch, capsys, rows):
    world()
    one = ["embeddings=E.npy", "n=2", "out=P.json"]
    assert select(monkeypatch, *one) == 0
    first = Path("P.json").read_bytes()
    for arguments in (one, [*SMALL, *one[1:]]):
        capsys.readouterr()
        assert select(monkeypatch, *arguments, "seed=1", "sampler=random") == 2
        assert "out=P.json: P.json is there already; give out another name to keep it" in capsys.readouterr().err
    assert Path("P.json").read_bytes() == first
    assert select(monkeypatch, *one, "sampler=random", "replace=true") == 0
    assert json.loads(Path("P.json").read_text())["sampler"] == "random"
    Path("Q.jsonl").write_text("mine")
    assert select(monkeypatch, *SMALL, "n=2", "out=Q.json") == 2
    assert "out=Q.json: Q.jsonl is there already" in capsys.readouterr().err
    assert Path("Q.jsonl").read_text() == "mine"


@pytest.mark.parametrize(
    ("taken", "n", "sentence"),
    [
        ("[0, 1, 3, 4]", 1, "n=1: 0 of 5 rows are left to choose from, for taken=T.json names 4 and 1 has no response "
             "token; "
         "take fewer or bring more rows"),
        ("[0, 1, 3]", 3, "n=3: 1 of 5 rows is left to choose from, for taken=T.json names 3 and 1 has no response "
             "token; "
         "lower n, take fewer or bring more rows"),
        (None, 9, "n=9: 4 of 5 rows are left to choose from, for 1 has no response token; lower n or bring more rows"),
    ],
)  # fmt: skip
def test_too_few_rows_that_are_left_are_told_in_the_options_of_select(refused, taken, n, sentence):
    save(np.eye(5))
    save([1, 1, 0, 1, 1], "int64", "L.npy")
    given = ["taken=T.json"] if taken else []
    Path("T.json").write_text(taken or "")
    said = refused("embeddings=E.npy", "lengths=L.npy", *given, f"n={n}", "out=P.json")
    assert said == f"diverseevol: {sentence}"


def test_rows_that_are_held_out_or_repeat_others_are_told_from_those_without_a_response(monkeypatch, capsys):
    words = ("river", "cloud", "stone", "river", "bread")
    rows = [{"instruction": f"Say {word}.", "output": word, "kept": word == "bread"} for word in words]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("sampler=random", "data.held_out=kept", "data.deduplicate=first")
    assert select(monkeypatch, "data.path=rows.jsonl", "n=9", *options) == 2
    assert "n=9: 3 of 5 rows are left to choose from, for 1 is held out and 1 repeats another; lower n or" in (
        capsys.readouterr().err
    )


def test_chance_depends_on_the_seed(chosen):
    world()
    first, other = (chosen("embeddings=E.npy", "n=20", "sampler=random", f"seed={seed}")["chosen"] for seed in (0, 1))
    assert first != other


def test_the_longest_need_lengths_and_rows_without_a_response_are_left_out(chosen, refused):
    save(np.eye(5))
    assert "sampler=longest needs the lengths of the responses; give lengths=L.npy" in refused(
        "embeddings=E.npy", "n=2", "sampler=longest", "out=P.json"
    )
    save([3, 9, 0, 9, 5], "int64", "L.npy")
    assert chosen("embeddings=E.npy", "lengths=L.npy", "n=3", "sampler=longest")["chosen"] == [1, 3, 4]
    assert 2 not in chosen("embeddings=E.npy", "lengths=L.npy", "n=4")["chosen"]


@pytest.mark.parametrize("sampler", ["longest", "random"])
def test_lengths_alone_are_enough_where_nothing_is_embedded(chosen, refused, sampler):
    save([3, 9, 0, 9, 5], "int64", "L.npy")
    Path("T.json").write_text("[1]")
    found = chosen("lengths=L.npy", "taken=T.json", "n=3", f"sampler={sampler}")
    assert sorted(found["chosen"]) == [0, 3, 4]
    assert (found["distance"], found["nearest"]) == ([None] * 3, [None] * 3)
    assert "sampler=kcenter needs embeddings; give embeddings=E.npy" in refused("lengths=L.npy", "n=2", "out=Q.json")
    save([[3, 9]], "int64", "L.npy")
    assert "lengths=L.npy: expected an array [rows] of whole numbers from 0 on, got [1, 2] of int64" in refused(
        "lengths=L.npy", "n=1", f"sampler={sampler}", "out=Q.json"
    )


def test_a_random_choice_of_rows_needs_no_model(chosen, refused, rows):
    assert len(chosen("data=json", "data.path=rows.jsonl", "n=3", "sampler=random")["chosen"]) == 3
    needed = refused("data=json", "data.path=rows.jsonl", "n=3", "sampler=longest", "out=Q.json")
    assert "sampler=longest chooses by the lengths of the responses in tokens" in needed
    assert "no.jsonl: no such file" in refused("data=json", "data.path=no.jsonl", "n=3", "sampler=random", "out=Q.json")


def test_a_choice_without_a_model_says_what_is_left_out_and_why(monkeypatch, capsys):
    records = [{"instruction": f"Name {i}.", "input": "", "output": "cod", "context": "A sea."} for i in range(6)]
    records[2]["output"] = records[4]["output"] = " "
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    asked = ("data=json", "data.path=rows.jsonl", "data.on_bad_rows=skip", "data.held_out=1", "n=2", "sampler=random")
    named = ("data.fields.instruction=instruction", "data.fields.response=output")
    assert select(monkeypatch, *asked, *named, "out=P.json") == 0
    told = capsys.readouterr().err.splitlines()
    assert '2 rows left out: field "output" is blank' in told
    assert "1 row held out: never trained on, the same for all samplers and seeds" in told
    assert "4 rows with a field 'context' that nothing uses (data.fields.input=context takes it as the input)" in told


@pytest.mark.parametrize("sampler", ["kcenter", "kmeans", "facility_location", "vendi"])
def test_without_a_model_rows_are_compared_by_their_words(chosen, refused, rows, monkeypatch, capsys, sampler):
    alone = ("data.path=rows.jsonl", f"sampler={sampler}")
    found = chosen(*alone, "n=6")
    assert len(set(found["chosen"])) == 6
    assert all(line["space"] == "text" for line in found["receipt"])
    assert all(far > 0 for far in found["distance"][1:])
    assert select(monkeypatch, *alone, "n=6", "out=Q.json") == 0
    told = "space: text, rows are compared by their words; no model is given (model.path=MODEL takes its embeddings)"
    assert told in capsys.readouterr().err.splitlines()
    assert json.loads(Path("Q.json").read_text())["chosen"] == found["chosen"]


@pytest.mark.parametrize(
    ("sampler", "asked"),
    [("kcenter", "space=text"), ("uncertain_kcenter", "space=text"), ("kcenter", "sampler.space=text")],
)
def test_words_are_compared_beside_a_model_where_that_is_asked_for(chosen, rows, sampler, asked):
    found = chosen(*SMALL, "n=6", asked, f"sampler={sampler}")
    assert all(line["space"] == "text" for line in found["receipt"])
    alone = chosen("data.path=rows.jsonl", "n=6")
    assert 7 in alone["chosen"]  # only a tokeniser knows that no response is left of it
    assert 7 not in found["chosen"]


def test_all_rows_may_be_chosen_and_a_file_may_hold_one(chosen):
    for count in (1, 2, 5):
        lines = [json.dumps({"instruction": f"Name {i}.", "output": "x"}) + "\n" for i in range(count)]
        Path("few.jsonl").write_text("".join(lines))
        assert sorted(chosen("data.path=few.jsonl", f"n={count}")["chosen"]) == list(range(count))


def test_a_row_without_a_response_is_no_part_of_the_pool_for_score_or_distance(chosen):
    save([[0], [1], [10], [9]])
    save([1, 1, 0, 1], "int64", "L.npy")
    Path("T.json").write_text("[0, 2]")
    found = chosen("embeddings=E.npy", "lengths=L.npy", "taken=T.json", "n=2")
    assert found["chosen"] == [3, 1]  # row 3 lies beside row 2, which is not trained on
    assert found["score"] == found["distance"] == [9, 1]
    assert found["nearest"] == [0, 0]


TAKEN = "taken=… give a JSON list of row numbers such as [0, 17], the P.json that diverseevol select wrote, or the"
NO_LISTS = "taken=T.json: expected row numbers, got a JSON object without the lists taken and chosen"
TAKEN_LIST = "give a JSON list of row numbers such as [0, 17], the P.json that diverseevol select"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"instruction": "a"}', "taken=T.jsonl, line 1: has no field 'row'; give a JSON list of row numbers"),
        ('{"row": "a"}', "taken=T.jsonl, line 1: expected a row number, got 'a'; give a JSON list"),
        (
            '{"row": 5}',
            "taken=T.jsonl, line 1: expected a row from 0 to 4, got 5; give a file for these rows",
        ),
        ('{"row": 1', "T.jsonl, line 1: not valid JSON"),
    ],
)
def test_lines_that_name_no_rows_are_refused_in_a_sentence(refused, line, sentence):
    save(np.eye(5))
    Path("T.jsonl").write_text(f"{line}\n")
    assert sentence in refused("embeddings=E.npy", "taken=T.jsonl", "n=3", "out=P.json")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ({"E.npy": "text"}, "embeddings=E.npy: is not a .npy array"),
        ({"E.npy": np.zeros(5, "f4")}, "expected an array [rows, dim] of float16 or float32, got [5] of float32"),
        ({"E.npy": np.zeros((5, 2, 2), "f4")}, "of float16 or float32, got [5, 2, 2] of float32;"),
        ({"E.npy": np.zeros((5, 2), "i8")}, "of float16 or float32, got [5, 2] of int64;"),
        ({"E.npy": np.zeros((5, 2), "f8")}, "of float16 or float32, got [5, 2] of float64;"),
        ({"E.npy": np.zeros((5, 0), "f4")}, "of float16 or float32, got [5, 0] of float32;"),
        ({"E.npy": np.array([[0], [np.nan], [2], [np.inf]], "f4")}, "embeddings, row 1, 3: holds NaN"),
        (
            {"T.json": "{}"},
            f"{NO_LISTS}; {TAKEN_LIST}",
        ),
        (
            {"T.json": '{"chosen": [1], "trained_on": [0]}'},
            "taken=T.json: expected row numbers, got a JSON object without the lists taken and",
        ),
        (
            {"T.json": '{"chosen": [1], "taken": 5}'},
            "taken=T.json: expected row numbers, got a JSON object without the lists taken and chosen",
        ),
        ({"T.json": '"0, 1"'}, f"taken=T.json: expected row numbers, got '0, 1'; {TAKEN_LIST}"),
        (
            {"T.json": '{"chosen": [0, 9], "taken": [1]}'},
            "taken=T.json, chosen, entry 2: expected a row from 0 to 4, got 9",
        ),
        (
            {"T.json": "[0, 9"},
            f"T.json: not valid JSON (Expecting ',' delimiter: line 1 column 6 (char 5)); as {TAKEN}",
        ),
        ({"T.json": ""}, f"T.json: not valid JSON (Expecting value: line 1 column 1 (char 0)); as {TAKEN}"),
        (
            {"T.json": "[0, 5]"},
            "taken=T.json, entry 2: expected a row from 0 to 4, got 5; give a file for these rows",
        ),
        ({"T.json": "[-1]"}, "taken=T.json, entry 1: expected a row from 0 to 4, got -1"),
        ({"T.json": "[3, 0, 3]"}, "taken=T.json, entry 3: row 3 is listed twice"),
        ({"T.json": "[0.0]"}, "taken=T.json, entry 1: expected a row number, got 0.0; give a JSON list of row numbers"),
        ({"T.json": "[true]"}, "taken=T.json, entry 1: expected a row number, got True"),
        ({"T.json": "[0, 1, 2]"}, "n=3: 2 of 5 rows are left to choose from"),
        (
            {"L.npy": np.ones(4, "i8")},
            "expected an array [5] of whole numbers from 0 on, got [4] of int64",
        ),
        (
            {"L.npy": -np.ones(5, "i8")},
            "expected an array [5] of whole numbers from 0 on, got [5] of int64;",
        ),
        (
            {"L.npy": np.ones(5, "f4")},
            "expected an array [5] of whole numbers from 0 on, got [5] of float32;",
        ),
    ],
)
def test_files_that_do_not_hold_what_they_should_are_refused_in_a_sentence(refused, content, sentence):
    for name, value in {"E.npy": np.eye(5, dtype="f4"), "T.json": "[0]", "L.npy": np.ones(5, "i8"), **content}.items():
        if isinstance(value, str):
            Path(name).write_text(value)
        else:
            np.save(name, value)
    assert sentence in refused("embeddings=E.npy", "taken=T.json", "lengths=L.npy", "n=3", "out=P.json")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["embeddings=F.npy", "n=2", "out=P.json"], "embeddings=F.npy: no such file"),
        (["embeddings=E.npy", "taken=U.json", "n=2", "out=P.json"], "U.json: no such file"),
        (
            ["embeddings=E.npy", "taken=.", "n=2", "out=P.json"],
            "taken=.: is a folder without receipts.jsonl; give a JSON list of row numbers",
        ),
        (["embeddings=.", "n=2", "out=P.json"], "embeddings=.: is a folder; name a file in it"),
        (["embeddings=E.npy", "n=0", "out=P.json"], "n is 0; it must be at least 1"),
        (["embeddings=E.npy", "n=many", "out=P.json"], "n is 'many', which is not a whole number"),
        (["embeddings=E.npy", "out=P.json"], "n is missing: give n=…"),
        (["embeddings=E.npy", "n=2"], "out is missing: give out=…"),
        (["embeddings=E.npy", "n=2", "out=P.txt"], "out=P.txt: the name must end in .json"),
        (["embeddings=E.npy", "n=2", "out=E.npy/P.json"], "out=E.npy/P.json: cannot be written"),
        (["embeddings=E.npy", "n=2", "out=folder.json"], "out=folder.json: is a folder"),
        (["embeddings=E.npy", "n=2", "out=P.json", "cache=[a,b]"], "cache is ['a', 'b']"),
        (["n=2", "out=P.json"], "neither data nor embeddings are given"),
        (["embeddings=E.npy", "data=lab", "n=2", "out=P.json"], "both data and embeddings are given"),
        (
            ["data=json", "data.path=E.npy", "n=2", "sampler=margin", "out=P.json"],
            "model.path is missing: give model.path=… with a folder or a name on the hub, or model=tiny (random",
        ),
        (["embeddings=E.npy", "space=text", "n=2", "out=P.json"], "space=text is of rows, and embeddings are in a"),
        (["embeddings=E.npy", "sampler.space=text", "n=2", "out=P.json"], "sampler.space=text is of rows, and embedd"),
        *(
            (
                [f"space={of}", f"sampler.space={other}", "data.path=rows.jsonl", "n=2", "out=P.json"],
                f"space={of} and sampler.space={other} are two spaces; leave one of them out",
            )
            for of, other in (("text", "foundation"), ("foundation", "text"))
        ),
        (
            ["embeddings=E.npy", "n=2", "sampler=oracle", "out=P.json"],
            "sampler=oracle needs the rows' own fields (noisy, skill)",
        ),
        (["embeddings=E.npy", "n=2", "sampler=entropy", "out=P.json"], "sampler=entropy needs a model's predictions"),
        (["embeddings=E.npy", "n=2", "sampler=qbc", "out=P.json"], "sampler=qbc asks a committee of models"),
        (["embeddings=E.npy", "n=2", "sampler.metrc=x", "out=P.json"], "sampler.metrc is not an option of select"),
    ],
)
def test_what_is_asked_for_in_vain_is_refused_in_a_sentence(refused, arguments, sentence):
    np.save("E.npy", np.eye(5, dtype="f4"))
    Path("folder.json").mkdir()
    assert sentence in refused(*arguments)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_to_is_refused_before_the_work(refused):
    save(np.eye(5))
    Path("shut").mkdir(mode=0o500)
    assert "out=shut/P.json: cannot be written" in refused("embeddings=E.npy", "n=2", "out=shut/P.json")


def test_the_command_stands_on_its_own(tmp_path):
    save([[0], [1], [2], [7], [10]])
    command = [sys.executable, "-m", "diverseevol", "select", "embeddings=E.npy", "n=2", "out=new/P.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        "2 of 5 rows by kcenter in 0.0 s\ndistance to the nearest row picked before: 8 at the second\n"
        "(the pool was empty before the first pick)\nwrites new/P.json\n"
    )
    assert json.loads((tmp_path / "new/P.json").read_text())["chosen"] == [2, 4]


# --- the foundation model's own


@pytest.fixture
def rows() -> list[dict[str, str]]:
    animals = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
    records = [
        {
            "instruction": f"Name {i} words about the {animals[i % 8]}.",
            "input": "",
            "output": animals[i % 8] * (1 + i % 5),
        }
        for i in range(40)
    ]
    records[7]["instruction"] = "Why? " * 600  # leaves no room for its response
    Path("rows.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


SMALL = ("data=json", "data.path=rows.jsonl", "model=tiny", "model.hidden=16", "model.vocabulary=300")
FRESH = ("embedding.region=instruction",)  # which no other test has embedded


@pytest.mark.parametrize("sampler", ["kcenter", "uncertain_kcenter", "longest"])
def test_the_rows_themselves_are_written_with_why_they_were_chosen(chosen, rows, sampler):
    Path("T.json").write_text("[0, 1, 2]")
    found = chosen(*SMALL, "n=5", "taken=T.json", f"sampler={sampler}")
    assert len(set(found["chosen"]) - {0, 1, 2, 7}) == 5
    lines = [json.loads(line) for line in Path("P.jsonl").read_text().splitlines()]
    assert lines == [rows[row] for row in found["chosen"]]
    for rank, line in enumerate(found["receipt"]):
        row = found["chosen"][rank]
        assert (line["rank"], line["row"]) == (rank, row)
        assert line["instruction"] == rows[row]["instruction"]
        for key in ("score", "distance", "nearest"):
            assert line[key] == found[key][rank]
    embedded = sampler != "longest"
    assert all((far is not None) == embedded for far in found["distance"])
    assert sorted(Path().iterdir()) == [Path(name) for name in ("P.json", "P.jsonl", "T.json", "rows.jsonl")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["out=rows.json"], "out=rows.json: rows.jsonl would be written over data.path=rows.jsonl"),
        (["out=./x/../rows.json"], "rows.jsonl would be written over data.path=rows.jsonl"),
        (["out=link.json"], "out=link.json: link.jsonl would be written over data.path=rows.jsonl"),
        (["taken=T.json", "out=T.json"], "out=T.json: T.json would be written over taken=T.json"),
        (["data.path=P.bad_rows.jsonl", "out=P.json"], "P.bad_rows.jsonl would be written over data.path="),
        (["data.path=x", "out=x/new.json"], "out=x/new.json: x/new.json would lie among the data of data.path=x"),
        (["data.path=.", "out=P.json"], "out=P.json: P.json would lie among the data of data.path=."),
    ],
)
def test_what_is_read_is_not_written_over(refused, rows, arguments, sentence):
    Path("x").mkdir()
    for name in ("T.json", "P.bad_rows.jsonl", "x/rows.jsonl"):
        Path(name).write_bytes(Path("rows.jsonl").read_bytes())
    Path("link.jsonl").symlink_to("rows.jsonl")
    before = Path("rows.jsonl").read_bytes()
    assert sentence in refused(*SMALL, "n=3", *arguments)
    for name in ("T.json", "P.bad_rows.jsonl", "rows.jsonl"):
        assert Path(name).read_bytes() == before


def test_rows_taken_are_not_written_over_beside_embeddings_either(refused, chosen):
    world()
    Path("T.json").write_text("[0, 1]")
    assert "out=T.json: T.json would be written over taken=T.json" in refused(
        "embeddings=E.npy", "taken=T.json", "n=3", "out=T.json"
    )
    Path("P.jsonl").write_text("[0, 1]")  # which only rows of data are written to
    chosen("embeddings=E.npy", "taken=P.jsonl", "n=3")
    assert Path("P.jsonl").read_text() == "[0, 1]"


def test_a_receipt_leaves_out_of_the_pool_what_cannot_be_trained_on(chosen, rows):
    Path("T.json").write_text("[7, 0]")
    found = chosen(*SMALL, "n=30", "taken=T.json")
    assert found["score"] == found["distance"]
    assert 7 not in {line["nearest"] for line in found["receipt"]}


def test_rows_that_cannot_be_taken_are_refused_before_the_model_reads(monkeypatch, capsys, rows, own_cache):
    Path("T.json").write_text("[99]")
    before = sorted(own_cache.glob("foundation/*"))
    assert select(monkeypatch, *SMALL, "n=5", "taken=T.json", "out=P.json", *FRESH) == 2
    sentence = f"taken=T.json, entry 1: expected a row from 0 to {len(rows) - 1}, got 99"
    assert sentence in capsys.readouterr().err.splitlines()[-1]
    assert sorted(own_cache.glob("foundation/*")) == before


def test_the_subset_is_what_embeddings_of_the_same_model_lead_to(chosen, rows, own_cache):
    found = chosen(*SMALL, "n=6")
    (X,) = (np.load(file) for file in own_cache.glob("foundation/*/embedding.npy"))
    assert X.shape == (40, 16)
    save(X)
    save([0 if i == 7 else 1 for i in range(40)], "int64", "L.npy")
    again = chosen("embeddings=E.npy", "lengths=L.npy", "n=6")
    assert again["chosen"] == found["chosen"]
    assert again["distance"] == found["distance"]
