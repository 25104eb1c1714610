"""`diverseevol select` alone: the folder that it leaves for trainers and for readers."""

import json
import re
import shutil
import signal
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from run_folders import HOSTILE

from diverseevol import cli

FOLDER = Path("outputs/select/rows")
FILES = ["README.md", "figures", "picks.json", "receipts.jsonl", "rows", "selected.jsonl", "subset.html", "tags.jsonl"]


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("choice")


@pytest.fixture(autouse=True)
def alone(tmp_path, own_cache, monkeypatch):
    """In a folder of its own, with nothing left of the command that ran before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIVERSEEVOL_CACHE", str(own_cache))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    rows(12)
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
    GlobalHydra.instance().clear()


def rows(count: int, path: str = "rows.jsonl", **more: str) -> list[str]:
    """Rows with a spacing of their own, of which the last but one repeats the first."""
    words = ["ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen"]
    lines = [
        json.dumps({"instruction": f"Tell me {i} things of the {words[i % 8]}", "output": words[i % 5] * 3, **more})
        for i in range(count)
    ]
    lines[-2] = lines[0]
    lines = [line.replace('": "', '" :  "') for line in lines]
    Path(path).write_text("".join(line + "\n" for line in lines))
    return lines


@pytest.fixture
def said(monkeypatch, capsys):
    def run(*arguments: str, verb: str = "select") -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", verb, *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0), capsys.readouterr().err.splitlines()

    return run


class Page(HTMLParser):
    """The elements of a page, its text, and whatever it points to outside itself."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.elements: set[str] = set()
        self.text = ""
        self.feed(file.read_text())
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.add(tag)
        if tag not in ("meta", "link", "br", "path", "use", "image", "rect"):
            self.open.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.text += data


def test_one_command_writes_rows_receipts_card_and_page(said):
    lines = rows(12)
    code, told = said("data.path=rows.jsonl", "n=4")
    assert (code, told[-1]) == (0, f"writes {FOLDER}/selected.jsonl and {FOLDER}/subset.html")
    assert sorted(file.name for file in FOLDER.iterdir()) == FILES
    picks = json.loads((FOLDER / "picks.json").read_text())
    assert (FOLDER / "selected.jsonl").read_text() == "".join(lines[row] + "\n" for row in picks["chosen"])
    receipts = [json.loads(line) for line in (FOLDER / "receipts.jsonl").read_text().splitlines()]
    assert [list(line) for line in receipts] == [
        ["row", "joined", "rank", "score", "score_is", "distance", "nearest", "source", "tags"]
    ] * 4
    assert [line["row"] for line in receipts] == picks["chosen"]
    assert [line["distance"] for line in receipts] == picks["distance"]
    assert {line["source"] for line in receipts} == {"rows"}
    card = (FOLDER / "README.md").read_text()
    assert "# 4 of 12 rows of rows\n" in card
    assert "diverseevol select data=file data.path=rows.jsonl n=4" in card
    assert "| duplicates | 1 | 8.3 |" in card
    page = Page(FOLDER / "subset.html")
    for words in ("4 of 12 rows of rows", "space: text, rows are compared by their words; no model is given",
                  "8 rows were not chosen: half of them lie within", "The rows that would have come next"):  # fmt: skip
        assert words in page.text
    assert "script" not in page.elements
    outside = [link for link in page.links if not link.startswith(("#", "data:"))]
    assert sorted(outside) == [f"figures/{name}.{kind}" for name in ("lengths", "map") for kind in ("png", "svg")]
    assert all((FOLDER / link).exists() for link in outside)
    assert "content=\"default-src 'none'" in (FOLDER / "subset.html").read_text()


def test_the_same_again_is_there_already_and_another_is_refused(said):
    assert said("data.path=rows.jsonl", "n=4")[0] == 0
    before = {file: file.read_bytes() for file in FOLDER.rglob("*.*")}
    code, told = said("data.path=rows.jsonl", "n=4")
    assert (code, told[-1]) == (0, f"{FOLDER}: holds this choice already (4 rows); replace=true makes it again")
    code, told = said("data.path=rows.jsonl", "n=3", "sampler=random", "seed=1")
    assert (code, told[-1]) == (
        2,
        f"diverseevol: {FOLDER}: holds a choice with another n and another seed and another space; give replace=true "
        f"to have this choice in its place, or out=P.json with a name of its own",
    )
    assert {file: file.read_bytes() for file in FOLDER.rglob("*.*")} == before
    assert said("data.path=rows.jsonl", "n=3", "sampler=random", "replace=true")[0] == 0
    assert json.loads((FOLDER / "picks.json").read_text())["sampler"] == "random"
    page = Page(FOLDER / "subset.html")
    assert "random compares no rows" in page.text
    assert "Where they lie" not in page.text
    rows(11)  # other rows under the same name
    code, told = said("data.path=rows.jsonl", "n=3", "sampler=random")
    assert (code, "holds a choice with another data" in told[-1]) == (2, True)


def test_a_choice_that_was_cut_off_is_finished_and_files_of_others_stay(said, monkeypatch):
    from diverseevol.report import choice

    publish = choice.publish_choice
    monkeypatch.setattr(choice, "publish_choice", lambda *_: 1 / 0)
    assert said("data.path=rows.jsonl", "n=4")[0] == 1
    assert json.loads((FOLDER / "picks.json").read_text())["unfinished"]
    monkeypatch.setattr(choice, "publish_choice", publish)
    assert said("data.path=rows.jsonl", "n=3")[0] == 0
    assert len(json.loads((FOLDER / "picks.json").read_text())["chosen"]) == 3
    (FOLDER / "picks.json").unlink()
    code, told = said("data.path=rows.jsonl", "n=3")
    assert (code, f"{FOLDER}: holds selected.jsonl but no picks.json, so no choice of select" in told[-1]) == (2, True)


def test_what_is_read_is_neither_written_over_nor_lain_beside(said):
    assert said("data.path=rows.jsonl", "n=6")[0] == 0
    code, _ = said(f"data.path={FOLDER}/selected.jsonl", "n=3")
    assert code == 0
    again = Path("outputs/select/selected")
    assert len((again / "selected.jsonl").read_text().splitlines()) == 3
    before = (again / "selected.jsonl").read_bytes()
    code, told = said(f"data.path={again}/selected.jsonl", "n=2", "replace=true")
    assert (code, f"{again}/selected.jsonl would be written over data.path=" in told[-1]) == (2, True)
    assert (again / "selected.jsonl").read_bytes() == before
    code, told = said("data.path=rows.jsonl", "n=2", f"taken={FOLDER}", "replace=true")
    assert (code, f"{FOLDER}/selected.jsonl would be written over taken={FOLDER}; give out=P" in told[-1]) == (2, True)
    code, told = said("embeddings=E.npy", "n=2")
    assert (code, told) == (2, ["diverseevol: out is missing: give out=…"])


def test_what_a_row_says_is_shown_and_never_obeyed(said):
    names = [f"{HOSTILE} {i}" for i in range(6)]
    Path("rows.jsonl").write_text("".join(json.dumps({"instruction": x, "output": x}) + "\n" for x in names))
    assert said("data.path=rows.jsonl", "n=3", "data.name=rows")[0] == 0
    page = Page(FOLDER / "subset.html")
    assert not page.elements & {"script", "img", "iframe", "object"}
    assert re.search(r"[\x00-\x08\x1b\u202e]", page.text) is None


def test_rows_that_are_left_out_sources_and_rows_taken_are_told(said):
    rows(12)
    with Path("rows.jsonl").open("a") as file:
        file.write('{"instruction": "Say nothing.", "output": " "}\n')
    rows(8, "more.jsonl")
    Path("T.json").write_text("[0, 1]")
    given = ("data.path={a: rows.jsonl, b: more.jsonl}", "data.on_bad_rows=skip", "data.held_out=2", "taken=T.json")
    code, told = said(*given, "n=5", "data.name=both")
    assert code == 0, told
    folder = Path("outputs/select/both")
    assert len((folder / "bad_rows.jsonl").read_text().splitlines()) == 1
    page = Page(folder / "subset.html")
    for words in (
        '1 row left out: field "output" is blank',
        "2 rows held out",
        "2 rows that were taken before",
        "source",
    ):
        assert words in page.text, words
    picks = json.loads((folder / "picks.json").read_text())
    assert not {0, 1} & {*picks["chosen"]}
    assert said(*given, "n=5", "data.name=both")[0] == 0


def test_all_rows_and_a_single_one_may_be_chosen(said):
    assert said("data.path=rows.jsonl", "n=12")[0] == 0
    assert "The rows that would have come next" not in Page(FOLDER / "subset.html").text
    Path("one.jsonl").write_text('{"instruction": "Say yes.", "output": "yes"}\n')
    assert said("data.path=one.jsonl", "n=1")[0] == 0
    assert (Path("outputs/select/one/selected.jsonl")).read_text() == '{"instruction": "Say yes.", "output": "yes"}\n'


def test_the_choice_is_exported_and_gone_on_from(said):
    assert said("data.path=rows.jsonl", "n=4")[0] == 0
    assert said(f"{FOLDER}", "format=messages", "out=by_folder", verb="export")[0] == 0
    code, told = said(f"{FOLDER}", "round=1", "out=none", verb="export")
    assert (code, "holds a choice of select, which has no rounds; leave it out" in told[-1]) == (2, True)
    code, told = said(f"picks={FOLDER}/picks.json", "format=messages", "out=there", verb="export")
    assert Path("by_folder/train.jsonl").read_text() == Path("there/train.jsonl").read_text()
    assert code == 0, told
    assert "# 4 rows of rows" in Path("there/README.md").read_text()
    first = json.loads((FOLDER / "picks.json").read_text())["chosen"]
    for taken in (FOLDER / "picks.json", FOLDER / "receipts.jsonl", FOLDER):
        assert said("data.path=rows.jsonl", "n=3", f"taken={taken}", "out=P.json", "replace=true")[0] == 0
        assert not {*first} & {*json.loads(Path("P.json").read_text())["chosen"]}
    assert said("data.path=rows.jsonl", "n=7", "replace=true")[0] == 0
    both = [*first, *json.loads(Path("P.json").read_text())["chosen"]]
    assert json.loads((FOLDER / "picks.json").read_text())["chosen"] == both
    assert np.isfinite(json.loads((FOLDER / "picks.json").read_text())["distance"][1:]).all()


def test_the_card_of_an_export_says_what_the_choice_was_made_from_and_how(said):
    Path("more.jsonl").write_text("".join(f'{{"instruction": "Say {i}.", "output": "{i}"}}\n' for i in (7, 7, 9)))
    assert said("data.path=[rows.jsonl,more.jsonl]", "data.name=rows", "n=15")[0] == 0
    assert said(f"picks={FOLDER}/picks.json", "out=there", verb="export")[0] == 0
    card, page = Path("there/README.md").read_text(), (FOLDER / "README.md").read_text()
    identity = json.loads((FOLDER / "picks.json").read_text())["request"]
    for fact in (
        "| Chosen from | `rows, more: 15 rows` |", identity["data"][:16], "seed=0", "| `more` | 3 | 20.0% |",
        "| `duplicate` | ", "diverseevol select data=file 'data.path=[rows.jsonl,more.jsonl]' data.name=rows n=15\n",
    ):  # fmt: skip
        assert fact in card
    assert identity["data"][:16] in page


def test_rows_taken_before_stay_taken_where_a_choice_is_gone_on_from_by_its_folder(said):
    assert said("data.path=rows.jsonl", "n=4", "out=P.json")[0] == 0
    assert said("data.path=rows.jsonl", "n=4", "taken=P.json")[0] == 0
    assert said("data.path=rows.jsonl", "n=4", f"taken={FOLDER}", "out=Q.json")[0] == 0
    last = json.loads(Path("Q.json").read_text())
    assert sorted(last["taken"] + last["chosen"]) == list(range(12))


def test_chosen_rows_are_exported_by_the_fields_that_the_user_named(said):
    record = {"question": "Usual?", "answer": "No.", "ask": "Named?", "reply": "Yes."}
    Path("named.jsonl").write_text(json.dumps(record) + "\n")
    named = ("data.path=named.jsonl", "data.fields.instruction=ask", "data.fields.response=reply", "n=1")
    assert said(*named)[0] == said(*named, "out=P.json")[0] == 0
    for picks in ("outputs/select/named/picks.json", "P.json"):
        assert said(f"picks={picks}", "format=messages", "out=there", "replace=true", verb="export")[0] == 0
        (row,) = map(json.loads, Path("there/train.jsonl").read_text().splitlines())
        assert [message["content"] for message in row["messages"]] == ["Named?", "Yes."]
    Path("dataset_info.json").write_text(
        json.dumps({"it": {"file_name": "named.jsonl", "columns": {"prompt": "ask", "response": "reply"}}})
    )
    info = ("data.path=dataset_info.json", "data.name=it")
    assert said(*info, "n=1", "out=P.json", "replace=true")[0] == 0
    code, told = said("picks=P.json", "format=messages", "out=here", verb="export")
    assert code == 2
    assert "of a dataset_info.json, which a folder does not decide; give data=…" in "\n".join(told)
    code, told = said("picks=P.json", "format=messages", "out=here", *info, verb="export")
    assert code == 0, told
    assert json.loads(Path("here/train.jsonl").read_text())["messages"][0]["content"] == "Named?"


@pytest.fixture
def explained(said, monkeypatch, capsys):
    """Explain rows of the choice, and give the lines that were printed and what `out` got."""

    def explain(*arguments: str, folder: Path = FOLDER) -> tuple[list[str], list[dict]]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", "explain", str(folder), "out=why.json", *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        assert not left.value.code
        return capsys.readouterr().out.splitlines(), json.loads(Path("why.json").read_text())

    return explain


def test_a_row_that_was_not_chosen_has_its_nearest_and_the_rank_that_a_larger_n_gives(said, explained):
    assert said("data.path=rows.jsonl", "n=3")[0] == 0
    assert said("data.path=rows.jsonl", "n=12", "out=P.json")[0] == 0
    picks, larger = (json.loads(file.read_text()) for file in (FOLDER / "picks.json", Path("P.json")))
    chosen, later = picks["chosen"], larger["chosen"][3:]
    lines, records = explained(f"row=[{','.join(map(str, later))}]")
    assert [record["rank_beyond"] for record in records] == [*range(1, 10)]
    for rank, (row, record) in enumerate(zip(later, records, strict=True)):
        assert record["nearest"] in chosen
        assert (record["space"], record["ranked_beyond"]) == ("text", 9)
        if rank == 0:  # only then were no others picked before it
            assert (record["nearest"], record["distance"]) == (larger["nearest"][3], larger["distance"][3])
        assert f"row {row}: not chosen, " in "\n".join(lines)
    nearest = records[0]["nearest"]
    assert lines[1].startswith(f"  nearest: row {nearest} (chosen as pick {chosen.index(nearest) + 1}), at distance ")
    assert "in the space of their words: Tell me" in lines[1]
    assert (
        "had n been larger: kcenter, going on from the 3 chosen in the space of their words, chooses it as row 4: "
        in (lines[2])
    )
    (beyond,) = [line for line in explained(f"row={later[-1]}", "beyond=2")[0] if "had n" in line]
    assert beyond.endswith("does not choose it within 6 rows, 2 × n")
    (copy,) = explained("row=10")[1]
    assert (copy["chosen"], copy["tags"]) == (10 in chosen, ["duplicate of 0"])


def test_a_row_that_was_chosen_taken_or_ruled_out_says_so(said, explained):
    rows(8, "more.jsonl")
    Path("T.json").write_text("[0, 1]")
    given = ("data.path={a: rows.jsonl, b: more.jsonl}", "data.name=rows", "data.held_out=2", "taken=T.json")
    assert said(*given, "n=5")[0] == 0
    picks = json.loads((FOLDER / "picks.json").read_text())
    row = picks["chosen"][2]
    lines, (record,) = explained(f"row={row}")
    assert lines[0] == f"row {row}: chosen by kcenter, as pick 3 of 5"
    assert lines[1] == f"  score: {picks['score'][2]:.4g}, {picks['score_is']}"
    assert lines[2].startswith(f"  nearest: row {picks['nearest'][2]} taken or picked before, at distance ")
    assert (record["rank"], record["score"], record["distance"], record["nearest"]) == (
        2, picks["score"][2], picks["distance"][2], picks["nearest"][2]
    )  # fmt: skip
    assert record["source"] == ("a" if row < 12 else "b")
    assert f"  source: {record['source']}" in lines
    assert explained("row=1")[0][0] == "row 1: taken before, so that it could not be chosen again"
    ruled_out = [json.loads(line) for line in (FOLDER / "ineligible.jsonl").read_text().splitlines()]
    held_out = next(line["row"] for line in ruled_out if line["reason"] == "held out")
    assert explained(f"row={held_out}")[0][:2] == [f"row {held_out}: could not be chosen", "  why: held out"]
    assert said(*given[:2], "n=5", "replace=true")[0] == 0
    assert not (FOLDER / "ineligible.jsonl").exists()


def test_what_the_folder_or_the_cache_does_not_hold_is_said(said, explained, tmp_path):
    assert said("data.path=rows.jsonl", "n=3")[0] == 0
    behind = next(row for row in range(12) if row not in json.loads((FOLDER / "picks.json").read_text())["chosen"])
    lines, _ = explained(f"row={behind}", f"cache={tmp_path / 'empty'}")
    assert "no rank is known: the space of the rows' words is not in the cache" in lines[2]
    assert "nearest: row" in lines[1]
    explained(f"row={behind}")
    lines, _ = explained(f"row={behind}", f"cache={tmp_path / 'empty'}")  # the order is kept
    assert "chooses it as row" in lines[2]
    shutil.rmtree(FOLDER / "rows")
    lines, _ = explained(f"row={behind}")
    assert lines[1].endswith(
        "(it has no rows/ of this choice); run the same `diverseevol select` again, which writes it"
    )
    assert said("data.path=rows.jsonl", "n=3")[1][-1].startswith("writes ")
    assert said("data.path=rows.jsonl", "n=3", "sampler=random", "replace=true")[0] == 0
    behind = next(row for row in range(12) if row not in json.loads((FOLDER / "picks.json").read_text())["chosen"])
    lines, (record,) = explained(f"row={behind}")
    assert lines[:3] == [
        f"row {behind}: not chosen",
        "  nearest: not known, for the choice compared no rows",
        "  had n been larger: no rank is known: random leaves rows out by nothing but chance",
    ]
    assert record["space"] is None
    content = json.loads((FOLDER / "picks.json").read_text())
    for damage, sentence in (
        ({"unfinished": True}, "the choice was cut off"),
        ({"chosen": ["x"]}, "expected what `diverseevol select` writes of rows"),
        ({"options": {"_target_": "os.system"}}, "a run folder does not decide what is called"),
    ):
        (FOLDER / "picks.json").write_text(json.dumps({**content, **damage}))
        code, told = said(str(FOLDER), f"row={behind}", verb="explain")
        assert (code, sentence in told[-1]) == (2, True), told
