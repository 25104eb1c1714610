"""LLaMA-Factory's dataset_info.json: its entries are read as it reads them, or refused in a sentence."""

import json

import pytest

from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.dataset import load
from diverseevol.data.dataset_info import read_entry
from diverseevol.data.formats.flat import Fields
from diverseevol.data.formats.messages import OPENAI, SHAREGPT, Messages, Roles
from diverseevol.errors import InputError

TAGS = {"role_tag": "who", "content_tag": "what", "user_tag": "Q", "assistant_tag": "A"}


def info(folder, **entries):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset_info.json").write_text(json.dumps(entries))
    return folder / "dataset_info.json"


def rows(file, *records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.mark.parametrize(
    ("entry", "format"),
    [
        ({}, Fields("instruction", "input", "output")),
        ({"columns": {"prompt": "p", "response": "r"}}, Fields("p", None, "r")),
        (
            {"columns": {"prompt": "p", "query": "q", "response": "r", "system": "s", "history": "h"}},
            Fields("p", "q", "r", "s", "h"),
        ),
        ({"formatting": "sharegpt"}, Messages("conversations", "from", "value", None, SHAREGPT.roles)),
        (
            {"formatting": "sharegpt", "columns": {"messages": "talk", "system": "s"}, "tags": TAGS},
            Messages("talk", "who", "what", "s", Roles("system", "Q", "A", "observation", "function_call")),
        ),
        (
            {
                "formatting": "openai",
                "columns": {"messages": "messages"},
                "tags": {"role_tag": "role", "user_tag": "user"},
            },
            Messages("messages", "role", "value", None, Roles("system", "user", "gpt", "observation")),
        ),
    ],
)
def test_an_entry_names_the_parts_of_its_records(tmp_path, entry, format):
    read = read_entry(info(tmp_path, mine={"file_name": "sub/rows.jsonl", **entry}), "mine")
    assert (read.path, read.hub, read.split, read.format) == (str(tmp_path / "sub/rows.jsonl"), None, "train", format)


def test_an_entry_on_the_hub_is_its_id_there(tmp_path):
    path = info(tmp_path, mine={"hf_hub_url": "org/name", "ms_hub_url": "x/y", "split": "test", "subset": "en"})
    entry = read_entry(path, "mine")
    assert (entry.path, entry.hub, entry.split, entry.subset) == (None, "org/name", "test", "en")


def test_an_entry_that_names_no_columns_needs_no_input(tmp_path):
    rows(tmp_path / "rows.jsonl", {"instruction": "Sum 1 and 2.", "output": "3"})
    dataset = load(info(tmp_path, mine={"file_name": "rows.jsonl"}), name="mine", cache=tmp_path / "cache")
    assert (dataset[0].instruction, dataset[0].response) == ("Sum 1 and 2.", "3")


def test_its_rows_are_a_data_set_of_its_name(tmp_path):
    talk = [{"who": "Q", "what": "a"}, {"who": "A", "what": "b"}]
    path = info(
        tmp_path / "data",
        chats={"file_name": "rows.jsonl", "formatting": "sharegpt", "columns": {"messages": "talk"}, "tags": TAGS},
    )
    rows(tmp_path / "data/rows.jsonl", {"talk": talk * 2, "id": 1}, {"talk": talk})
    dataset = load(path, name="chats", cache=tmp_path / "cache")
    assert (dataset.name, dataset.sources[0].name) == ("chats", "chats")
    assert dataset[0] == Conversation((Turn("user", "a"), Turn("assistant", "b")) * 2, {"id": 1})
    assert dataset.record(1) == {"talk": talk}
    with pytest.raises(InputError, match=r"says how records are written; leave data\.fields and data\.format out"):
        load(path, name="chats", fields={"messages": "talk"}, cache=tmp_path / "cache")


@pytest.mark.parametrize("form", ["alpaca", "sharegpt", "messages"])
def test_what_export_writes_there_is_read_as_it_was_meant(command_line, tmp_path, monkeypatch, form):
    monkeypatch.chdir(tmp_path)
    turns = (Turn("system", "s"), Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"), Turn("assistant", "d"))
    rows(tmp_path / "P.jsonl", OPENAI.to_record(Conversation(turns)))
    (tmp_path / "P.json").write_text(json.dumps({"chosen": [3], "taken": [], "sampler": "random"}))
    code, _, said = command_line("export", "picks=P.json", f"format={form}", "out=new")
    assert code == 0, said
    (name,) = json.loads((tmp_path / "new/dataset_info.json").read_text())
    assert load(tmp_path / "new/dataset_info.json", name=name, cache=tmp_path / "cache")[0].turns == turns


@pytest.mark.parametrize(
    ("entry", "name", "problem"),
    [
        ({}, None, r"data\.name does not say which data set is meant \(there are: mine, none\); give data\.name=NAME"),
        ({}, "yours", r"has no data set 'yours' \(there are: mine, none\)"),
        ({"columns": []}, "mine", "mine, columns: expected an object, got a list"),
        ({"formatting": "chatml"}, "mine", "formatting is 'chatml', expected alpaca, sharegpt or openai"),
        ({"file_name": 3}, "mine", r"mine: file_name is a number \(3\), expected text"),
        ({"file_name": "../rows.jsonl"}, "mine", r"file_name '\.\./rows\.jsonl' is outside the folder"),
        ({"file_name": "/etc/passwd"}, "mine", "file_name '/etc/passwd' is outside the folder"),
        ({"file_name": "a/../../b.json"}, "mine", "is outside the folder"),
        ({"hf_hub_url": "../private"}, "mine", r"hf_hub_url '\.\./private' is a path here, or no name USER/NAME"),
        ({"hf_hub_url": "/etc"}, "mine", "hf_hub_url '/etc' is a path here, or no name USER/NAME of the hub"),
        ({"hf_hub_url": "user/rows.json"}, "mine", "hf_hub_url 'user/rows.json' is a path here, or no name"),
        ({"file_name": None}, "mine", "says neither file_name nor hf_hub_url"),
        ({"ranking": True}, "mine", "ranking says pairs of answers to choose between, which is not read"),
        ({"script_url": "x"}, "mine", "script_url says a script that makes the rows, which is not read"),
        ({"columns": {"prompt": "p"}}, "mine", "columns names no prompt, or no response"),
        ({"columns": {"messages": "m", "images": "i"}}, "mine", r"columns\.images says images, which is not read"),
    ],
)
def test_an_entry_that_cannot_be_read_is_refused_in_a_sentence(tmp_path, entry, name, problem):
    path = info(tmp_path, mine={"file_name": "rows.jsonl", **entry}, none={})
    with pytest.raises(InputError, match=problem) as caught:
        load(path, name=name, cache=tmp_path / "cache")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_reads_an_entry_and_does_not_write_over_its_file(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    info(tmp_path, mine={"file_name": "P.jsonl", "columns": {"prompt": "q", "response": "a"}})
    rows(tmp_path / "P.jsonl", *({"q": f"What is {i}?", "a": f"It is {i}."} for i in range(9)))
    options = ["data.path=dataset_info.json", "data.name=mine", "sampler=random", "n=3", f"cache={tmp_path}"]
    code, _, said = command_line("select", *options, "out=P.json", "replace=true")
    assert code == 2
    assert "P.jsonl would be written over data.path=" in said
    code, _, said = command_line("select", *options, "out=Q.json")
    assert code == 0, said
    assert len((tmp_path / "Q.jsonl").read_text().splitlines()) == 3
