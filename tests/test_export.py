"""`diverseevol export`: chosen rows in other formats, with a card, in a folder that holds nothing of anybody else's."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from diverseevol.data.conversation import Conversation, Turn, exchange
from diverseevol.data.dataset import load
from diverseevol.data.formats.base import CannotHold
from diverseevol.data.formats.flat import ALPACA
from diverseevol.export.card import MARK
from diverseevol.export.chosen import Row, of_choice, of_run
from diverseevol.export.folder import FILES, export
from diverseevol.export.parquet import columns_of, write_parquet
from diverseevol.export.targets import FORMATS, TARGETS, able
from diverseevol.runs.run_folder import RunFolder
from diverseevol.runs.subset import read_subset, write_subset
from diverseevol.storage.files import read_json, read_jsonl

RUN_0_1 = Path(__file__).parent / "fixtures/run_folders_0_1/lab/lab/kcenter-iterative-61b50b53/seed0"
CALL = {"tool_calls": [{"type": "function", "function": {"name": "sum", "arguments": {"of": [1, 2]}}}]}
ASK, ANSWER = Turn("user", "How much is that?"), Turn("assistant", "Two.")
CONVERSATIONS = {
    "exchange": exchange("Add.", "1 and 1", "2", {"id": 7}),
    "no input": exchange("Say hello.", "", "Hello.\nHello.", {"id": "a", "more": {"x": [1, None]}}),
    "system": Conversation((Turn("system", "Be brief."), ASK, ANSWER)),
    "history": Conversation((ASK, ANSWER, Turn("user", "And now?", "1, 2"), Turn("assistant", "Three."))),
    "tools": Conversation((ASK, Turn("assistant", "", more=CALL), Turn("tool", "2"), ANSWER)),
    "several answers": Conversation((ASK, ANSWER, Turn("assistant", "Really."))),
    "ends with a question": Conversation((ASK, ANSWER, ASK)),
}


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIVERSEEVOL_CACHE", str(tmp_path / "cache"))


def lines(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def choice(records: list[dict[str, Any]], text: str | None = None) -> None:
    """A choice of `diverseevol select`, of these rows."""
    chosen = [7 * i + 3 for i in range(len(records))]
    options = {"metric": "euclidean"}
    Path("P.json").write_text(json.dumps({"chosen": chosen, "taken": [], "sampler": "kcenter", "options": options}))
    Path("P.jsonl").write_text(text or "".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")


def header(folder: str) -> dict[str, Any]:
    text = Path(folder, "README.md").read_text(encoding="utf-8")
    assert MARK in text
    return dict(yaml.safe_load(text.split("---\n")[1]))


# --- what is in the folder


def test_every_format_is_read_by_datasets_with_the_rows_that_were_chosen(command_line):
    from datasets import load_dataset

    records = [line["record"] for line in read_jsonl(RUN_0_1 / "selected.jsonl")]
    rows = [line["row"] for line in read_jsonl(RUN_0_1 / "selected.jsonl")]
    for form in FORMATS:
        out = f"out/{form}"
        code, said, _ = command_line("export", f"folder={RUN_0_1}", f"format={form}", f"out={out}")
        assert (code, said) == (0, f"{out}: 10 rows of lab as {form}; {out}/README.md says how they are read\n")
        assert {file.name for file in Path(out).iterdir()} <= {*FILES}
        read = list(load_dataset(out, split="train", cache_dir="datasets"))
        if form == "ids":
            assert read == [{"row": row} for row in rows]
        elif form in ("rows", "parquet", "alpaca"):
            assert read == records
        else:
            assert [row["skill"] for row in read] == [record["skill"] for record in records]
            assert all(TARGETS[form].parts[0] in row for row in read)


def test_rows_are_copied_byte_for_byte(command_line):
    text = '{"output":"b",  "instruction": "\\u00e4 \U0001f600", "z": 1.0, "a": 10000000000000000000000000000000001}\n'
    choice([{}, {}], text + text.replace("\n", " \r\n"))
    assert command_line("export", "picks=P.json", "out=rows")[0] == 0
    assert Path("rows/train.jsonl").read_text(encoding="utf-8").splitlines()[0] == text.removesuffix("\n")


def test_the_pool_of_an_earlier_round_is_what_it_was_trained_on(command_line):
    for t in (0, 1):
        assert command_line("export", RUN_0_1, f"round={t}", "format=ids", f"out=round{t}")[0] == 0
        trained_on = read_json(RUN_0_1 / f"rounds/{t:02d}/round.json")["trained_on"]
        assert [line["row"] for line in lines(f"round{t}/ids.jsonl")] == trained_on


def test_rows_with_receipts_beside_them_are_the_same_export(command_line):
    members = list(read_subset(RUN_0_1))
    shutil.copytree(RUN_0_1, "run")
    Path("run/selected.jsonl").unlink()
    texts = {member.receipt["row"]: f" {member.line}" for member in members}
    receipts = [{**member.receipt, "source": "a.jsonl", "tags": []} for member in members]
    write_subset(Path("run"), receipts, texts.__getitem__)
    for form in ("rows", "messages", "ids"):
        assert command_line("export", f"folder={RUN_0_1}", f"format={form}", f"out=old/{form}")[0] == 0
        assert command_line("export", "folder=run", f"format={form}", f"out=new/{form}")[0] == 0
    assert Path("new/messages/train.jsonl").read_bytes() == Path("old/messages/train.jsonl").read_bytes()
    assert Path("new/ids/ids.jsonl").read_bytes() == Path("old/ids/ids.jsonl").read_bytes()
    assert Path("new/rows/train.jsonl").read_text() == Path("run/selected.jsonl").read_text()
    assert "| `a.jsonl` | 10 | 100.0% |" in Path("new/rows/README.md").read_text()

    Path("run/rounds/01").rename("run/rounds/02")  # the evolution went on since its rows were written
    record = read_json(Path("run/rounds/02/round.json"))
    Path("run/rounds/02/round.json").write_text(json.dumps({**record, "trained_on": [*record["trained_on"], 7]}))
    code, _, said = command_line("export", "folder=run", "out=later")
    assert (code, Path("later").exists()) == (2, False)
    assert "run/selected.jsonl: does not have the rows that round 2 was trained on; run its evolve again" in said


def test_the_card_says_what_was_chosen_from_what_and_how(command_line):
    assert command_line("export", f"folder={RUN_0_1}", "format=messages", "out=subset")[0] == 0
    card = Path("subset/README.md").read_text(encoding="utf-8")
    assert header("subset")["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train", "path": "train.jsonl"}]}
    ]
    fingerprint = read_json(RUN_0_1 / "fingerprint.json")
    for fact in (
        fingerprint["data"], RunFolder(RUN_0_1, fingerprint).digest, "diverseevol 0.1.0", "sampler=kcenter", "seed=0",
        "10: the pool that round 1 was trained on", "format=messages out=subset", "| characters | ", "## Licence",
    ):  # fmt: skip
        assert fact in card
    assert "license" not in header("subset")


def test_the_card_counts_sources_and_tags(command_line):
    choice([{"instruction": "a", "output": "b"}] * 3)
    written = read_json(Path("P.json"))
    tags = (
        ["near-duplicate of 12", "same question as 3", "question of held-out row 5"],
        ["near-duplicate of 3", "question of vicuna: is 3 of 7", "same question as 12"],
        ["question of held-out row 8"],
    )
    sources = ("a.jsonl", "b.parquet", "b.parquet")
    receipts = [
        {"row": row, "source": source, "tags": tag}
        for row, source, tag in zip(written["chosen"], sources, tags, strict=True)
    ]
    Path("P.json").write_text(json.dumps({**written, "receipt": receipts}))
    assert command_line("export", "picks=P.json", "out=subset")[0] == 0
    card = Path("subset/README.md").read_text(encoding="utf-8")
    for line in (
        "| `b.parquet` | 2 | 66.7% |", "| `near-duplicate` | 2 | 66.7% |", "| `same question` | 2 | 66.7% |",
        "| `question of held-out row` | 2 | 66.7% |", "| `question of vicuna` | 1 | 33.3% |",
    ):  # fmt: skip
        assert line in card


def test_what_a_stranger_wrote_means_nothing_in_the_card(command_line):
    choice([{"instruction": "a", "output": "b"}])
    Path("P.json").rename("# [x](http:x) `|<b>.json")
    Path("P.jsonl").rename("# [x](http:x) `|<b>.jsonl")
    assert command_line("export", r'picks="# [x](http:x) `|<b>.json"', "out=subset")[0] == 0
    card = Path("subset/README.md").read_text(encoding="utf-8")
    assert "# 1 rows of \\# \\[x\\]\\(http:x\\) \\`\\|\\<b\\>\n" in card
    assert header("subset")["pretty_name"] == "1 rows of # [x](http:x) `|<b>"


# --- conversions


@pytest.mark.parametrize("name", CONVERSATIONS)
@pytest.mark.parametrize("form", TARGETS)
def test_a_format_says_all_of_a_conversation_or_refuses_it(form, name):
    conversation = CONVERSATIONS[name]
    refused = {
        "alpaca": ("tools", "several answers", "ends with a question"),
        "sharegpt": (),
        "messages": (),
        "prompt_completion": ("ends with a question",),
    }
    if name in refused[form]:
        with pytest.raises(CannotHold):
            TARGETS[form].to_record(conversation)
        return
    record = TARGETS[form].to_record(conversation)
    assert {key: record[key] for key in conversation.extra} == conversation.extra
    said = json.dumps(record, ensure_ascii=False)
    for turn in conversation.turns:
        for text in (turn.text, turn.input, *(call["function"]["name"] for call in turn.more.get("tool_calls", ()))):
            assert json.dumps(text)[1:-1] in said


def test_conversions_are_those_that_trainers_know():
    said = {form: TARGETS[form].to_record(CONVERSATIONS["history"]) for form in TARGETS}
    question, answer = {"role": "user", "content": ASK.text}, {"role": "assistant", "content": ANSWER.text}
    now, then = {"role": "user", "content": "And now?\n\n1, 2"}, {"role": "assistant", "content": "Three."}
    assert said["alpaca"] == {
        "instruction": "And now?", "input": "1, 2", "output": "Three.", "history": [[ASK.text, ANSWER.text]],
    }  # fmt: skip
    assert said["sharegpt"]["conversations"][1:3] == [
        {"from": "gpt", "value": ANSWER.text},
        {"from": "human", "value": "And now?\n\n1, 2"},
    ]
    assert said["messages"] == {"messages": [question, answer, now, then]}
    assert said["prompt_completion"] == {"prompt": [question, answer, now], "completion": [then]}
    assert TARGETS["alpaca"].to_record(CONVERSATIONS["system"])["system"] == "Be brief."


# --- there and back


def test_what_is_exported_and_read_again_says_the_same(tmp_path):
    for form in TARGETS:
        read_as_such = [conversation for name, conversation in CONVERSATIONS.items() if name != "several answers"]
        held = [conversation for conversation in read_as_such if form in able(conversation)]
        assert len(held) >= 4
        for come_as, source in TARGETS.items():
            both = [conversation for conversation in held if come_as in able(conversation)]
            choice([source.to_record(conversation) for conversation in both])
            name = f"{come_as}-to-{form}"
            export(of_choice(Path("P.json")), form, Path(name), "", None)
            read = load(Path(name, "train.jsonl"), cache=tmp_path / "cache")
            assert [said(conversation) for conversation in read.take(range(len(read)))] == list(map(said, both))
            if (info := Path(name, "dataset_info.json")).exists():
                named = load(info, name=name, cache=tmp_path / "cache")
                assert [said(conversation) for conversation in named.take(range(len(named)))] == list(map(said, both))


@pytest.mark.parametrize("form", ["rows", "parquet", "messages"])
def test_a_folder_is_read_again_as_data(tmp_path, form):
    export(of_run(RUN_0_1, None), form, Path("subset"), "", None)
    read = load("subset", cache=tmp_path / "cache")
    records = [member.record for member in read_subset(RUN_0_1)]
    if form == "messages":
        conversations = [ALPACA.parse(record) for record in records]
        assert list(map(said, read.take(range(len(read))))) == list(map(said, conversations))
    else:
        assert [read.record(row) for row in range(len(read))] == records


def said(conversation: Conversation) -> tuple[Any, ...]:
    """All that a conversation says, as a chat has it: formats of messages do not keep an input apart."""
    return tuple((turn.role, turn.message, turn.more) for turn in conversation.turns), conversation.extra


# --- parquet


def read_back(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    def rows() -> Iterator[Row]:
        return (Row({"row": i}, json.dumps(record), record, "") for i, record in enumerate(records))

    write_parquet(Path("t.parquet"), rows(), columns_of(rows()))
    return list(pq.read_table("t.parquet").to_pylist())


def test_types_that_agree_stay_in_parquet_and_others_are_json_text():
    records = [
        {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b", "name": "f"}], "n": 1},
        {"messages": [], "n": 2.5, "mixed": "text", "flag": True, "free": {"a": 1}, "long": 1 << 60, "empty": {}},
        {"messages": [{"role": "user", "content": None}], "mixed": ["x", 1], "free": {"b": 1}, "same": {"c": [1]}},
        {
            "n": None,
            "same": {"c": []},
            "beyond": 1 << 70,
            "both": 1 << 60,
            "half": "\ud800",
            "mixed": ["\ud800"],
            "\ud801": 1,
        },
        {"both": 0.5},
    ]
    read = read_back(records)
    assert read[0]["messages"] == [
        {"role": "user", "content": "a", "name": None},
        {"role": "tool", "content": "b", "name": "f"},
    ]
    assert [row["n"] for row in read] == [1, 2.5, None, None, None]
    assert [row["mixed"] for row in read[:3]] == [None, '"text"', '["x", 1]']
    assert [row["free"] for row in read[:3]] == [None, '{"a": 1}', '{"b": 1}']
    assert (read[1]["flag"], read[1]["long"], read[1]["empty"]) == (True, 1 << 60, "{}")
    assert [row["same"] for row in read[2:4]] == [{"c": [1]}, {"c": []}]
    assert (read[3]["beyond"], read[3]["both"], read[4]["both"]) == (str(1 << 70), str(1 << 60), "0.5")
    assert (read[3]["half"], read[3]["mixed"], read[3]["\\ud801"]) == ("\\ud800", '["\\ud800"]', 1)


def test_arguments_of_tool_calls_are_json_text_in_parquet_where_they_differ():
    calls = [{"messages": [{"role": "assistant", "tool_calls": [{"arguments": {name: 1}}]}]} for name in "ab"]
    read = read_back(calls)
    assert [row["messages"][0]["tool_calls"] for row in read] == [[{"arguments": f'{{"{name}": 1}}'}] for name in "ab"]


# --- what is refused, and what stays


CASES = {
    (): "neither folder nor picks is given; give folder=RUN",
    ("picks=P.json", "folder=x"): "both folder and picks are given; give folder=RUN",
    ("picks=P.json", "format=alpacca"): "format=alpacca: choose from rows, alpaca, sharegpt, messages, prompt_compl",
    ("picks=P.json", "round=1"): "round=1: is of run folders, and picks=P.json has none; leave it out",
    ("picks=P.json", "hub=me"): "hub=me: expected USER/NAME",
    ("picks=missing.json",): "missing.json: no such file",
    ("picks=other.json",): "picks=other.json: expected a list chosen of row numbers in it, got null",
    ("picks=alone.json",): "alone.json: the rows are not beside it, only their numbers; give data.path=…",
    ("picks=short.json",): "short.jsonl: does not have the 2 rows of short.json; select again, or give data.path",
    ("folder=missing",): "folder=missing: holds neither a run of evolve (config.yaml) nor a choice of select (",
    (f"folder={RUN_0_1}", "round=7"): f"round=7: of {RUN_0_1} the rounds 0, 1 are complete; give one of them",
    ("picks=P.json", "out=foreign"): "out=foreign: holds 'mine.txt' but no export; give a new folder",
    ("picks=P.json", "out=foreign", "replace=true"): "out=foreign: holds 'mine.txt' but no export; give a new folder",
    ("picks=P.json", "out=earlier"): "out=earlier: holds an earlier export; give out another name to keep it, or repl",
    ("picks=P.json", "out=P.json"): "out=P.json: is a file, expected a folder",
    ("picks=P.json", "format=messages"): "row 10 (P.jsonl, line 2): its fields (a, b) are not those of Alpaca",
    ("picks=P.json", "data.path=few.jsonl"): "P.json: names row 3, expected one from 0 to 0, which the given data have",
    (f"folder={RUN_0_1}", "data.path=few.jsonl"): f"few: has other rows than the data that {RUN_0_1} chose from",
}  # fmt: skip


@pytest.fixture
def files(command_line) -> None:
    choice([{"instruction": "a", "output": "b"}, {"a": 1, "b": 2}])
    Path("few.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    Path("other.json").write_text('{"taken": [1]}')
    shutil.copy("P.json", "alone.json")
    shutil.copy("P.json", "short.json")
    Path("short.jsonl").write_text('{"instruction": "a", "output": "b"}\n')
    Path("foreign").mkdir()
    Path("foreign/mine.txt").write_text("mine")
    assert command_line("export", "picks=P.json", "out=earlier")[0] == 0


def test_what_cannot_be_exported_is_refused_in_a_sentence_and_leaves_nothing(command_line, files):
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if "cache" not in path.parts}
    for words, sentence in CASES.items():
        code, out, said = command_line("export", *([] if "out=" in " ".join(words) else ["out=new"]), *words)
        assert (code, out) == (2, ""), said
        assert sentence in said.splitlines()[-1]
    assert before == {path: path.stat().st_mtime_ns for path in Path().rglob("*") if "cache" not in path.parts}


def test_what_a_format_cannot_hold_is_said_with_the_row_and_the_formats_that_can(command_line):
    choice([{"prompt": "a", "completion": "b", "instruction": "s", "messages": "m"}])
    code, _, said = command_line("export", "picks=P.json", "format=alpaca", "out=new")
    assert (code, said) == (
        2,
        "diverseevol: row 3 (P.jsonl, line 1): has a further field named instruction, for which format=alpaca has no "
        "place; choose from sharegpt, prompt_completion, rows\n",
    )


def test_an_earlier_export_is_replaced_and_files_of_others_stay(command_line, files):
    Path("earlier/mine.txt").write_text("mine")
    assert command_line("export", f"folder={RUN_0_1}", "format=parquet", "out=earlier", "replace=true")[0] == 0
    assert sorted(file.name for file in Path("earlier").iterdir()) == [
        "README.md", "dataset_info.json", "mine.txt", "train.parquet",
    ]  # fmt: skip
    assert not list(Path().glob("*.partial"))


def test_rows_that_are_not_beside_the_choice_come_from_the_data(command_line):
    records = [{"instruction": f"say {i}", "output": f"{i}!", "n": i} for i in range(20)]
    Path("rows.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records))
    choice([records[3], records[10]])
    for form in ("rows", "messages", "parquet"):
        assert command_line("export", "picks=P.json", f"format={form}", f"out=beside/{form}")[0] == 0
    Path("P.jsonl").unlink()
    for form in ("rows", "messages", "parquet"):
        words = ("export", "picks=P.json", f"format={form}", "data.path=rows.jsonl", f"out=data/{form}")
        assert command_line(*words)[0] == 0
        name = "train.parquet" if form == "parquet" else "train.jsonl"
        assert Path(f"data/{form}/{name}").read_bytes() == Path(f"beside/{form}/{name}").read_bytes()


def test_axolotls_snippet_has_the_keys_of_its_documentation(command_line):
    for form, keys in {
        "messages": {
            "path", "ds_type", "type", "field_messages", "message_property_mappings", "roles", "roles_to_train",
        },
        "rows": {"path", "ds_type", "type"},
    }.items():  # fmt: skip
        assert command_line("export", f"folder={RUN_0_1}", f"format={form}", f"out={form}")[0] == 0
        card = Path(form, "README.md").read_text(encoding="utf-8")
        snippet = re.search(r"\*\*axolotl\*\*\n\n```yaml\n(.*?)```", card, re.DOTALL)
        assert snippet is not None
        (entry,) = yaml.safe_load(snippet[1])["datasets"]
        assert entry.keys() == keys
        assert entry["path"] == f"{form}/train.jsonl"
        assert entry["type"] == ("alpaca" if form == "rows" else "chat_template")
