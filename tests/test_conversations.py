"""Conversations as rows: kept on disk turn by turn, beside the line that they came in as."""

import json
import tracemalloc
from types import MappingProxyType

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diverseevol.data import ingest
from diverseevol.data.conversation import Conversation, Turn, exchange
from diverseevol.data.dataset import load
from diverseevol.data.formats.base import BadRecord
from diverseevol.data.formats.order import check_turns
from diverseevol.data.locate import find
from diverseevol.errors import InputError

CALL = {"tool_calls": [{"function": {"name": "add", "arguments": {"b": 1, "a": 2}}}]}


class Turns:
    """A format of one's own with a list of turns."""

    def parse(self, record):
        return Conversation(tuple(Turn(*turn) for turn in record["turns"]), {"id": record.get("id")})

    def to_record(self, conversation):
        turns = [[turn.role, turn.text, turn.input, dict(turn.more)] for turn in conversation.turns]
        return {"turns": turns, **conversation.extra}


def loaded(path, *records, **options):
    path.mkdir(exist_ok=True)
    file = path / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return load(file, format=Turns(), cache=path / "cache", **options)


TALK = [
    ["system", "Be brief."],
    ["user", "Why?", "A fish."],
    ["assistant", "", "", CALL],
    ["tool", "3", "", {"tool_call_id": "x"}],
    ["tool", ""],
    ["assistant", "So."],
    ["user", "And?"],
]


def test_a_conversation_of_many_turns_comes_back_turn_by_turn(tmp_path):
    dataset = loaded(tmp_path, {"turns": TALK}, {"turns": [["user", "a", "b"], ["assistant", "c"]]})
    assert dataset[0] == Conversation(tuple(Turn(*turn) for turn in TALK), {"id": None})
    assert dataset[1] == exchange("a", "b", "c", {"id": None})
    assert [list(row.turns) for batch in dataset.iterate(1) for row in batch][1] == list(dataset[1].turns)
    assert dataset.record(0) == {"turns": TALK}
    # The arguments of a call stay in their order, in which a chat template writes them.
    assert list(dataset[0].turns[2].more["tool_calls"][0]["function"]["arguments"]) == ["b", "a"]


def test_a_row_of_one_exchange_has_the_fingerprint_that_it_always_had(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Ü?", "input": "i", "output": "So.", "id": 7}\n')
    expected = "454efe1c25b23e87"
    assert load(tmp_path / "rows.jsonl", cache=tmp_path).fingerprint.startswith(expected)
    assert loaded(tmp_path / "own", {"turns": [["user", "Ü?", "i"], ["assistant", "So."]], "id": 7}).fingerprint == (
        load(tmp_path / "rows.jsonl", cache=tmp_path).fingerprint
    )


def test_conversations_that_say_something_else_have_another_fingerprint(tmp_path):
    asked, answered = ["user", "a"], ["assistant", "b"]
    talks = [
        [[asked, answered, ["user", "c"]]],
        [[asked, answered]],
        [[asked, answered], [["user", "c"], answered]],
        [[asked, answered, ["user", "c"], answered]],
        [[["user", "a", "c"], answered, asked]],
        [[["user", "ac"], answered, asked]],
        [[asked, ["assistant", "b", "", {"weight": 1}]]],
        [[["system", "s"], asked, answered]],
    ]
    digests = {
        loaded(tmp_path / str(i), *({"turns": turns} for turns in rows)).fingerprint for i, rows in enumerate(talks)
    }
    assert len(digests) == len(talks)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_of_a_file_of_json_lines_is_kept_byte_for_byte(tmp_path, end):
    lines = [
        '{ "output":"b", "instruction" : "\\u00dc\\/?", "n": 1.50, "deep": {"z": 1e2, "a": null} }',
        '\t{"instruction": "é\u2028", "output": "b", "input": null, "nan": NaN}  ',
    ]
    for name, mark in (("rows.jsonl", b""), ("rows.json", b"\xef\xbb\xbf")):
        (tmp_path / name).write_bytes(mark + end.join([lines[0], "", *lines[1:]]).encode())
        dataset = load(tmp_path / name, cache=tmp_path / "cache")
        assert [dataset.line(row) for row in range(2)] == lines
        assert dataset.record(0)["deep"] == {"z": 100, "a": None}


def test_rows_of_other_files_are_lines_with_equal_values_in_the_same_order(tmp_path):
    record = {"output": "b", "z": 1, "instruction": "Ü?", "a": {"d": [1.5, None], "c": "x"}}
    (tmp_path / "rows.json").write_text(json.dumps([record], indent=1))
    pq.write_table(pa.Table.from_pylist([record]), tmp_path / "rows.parquet")
    for name in ("rows.json", "rows.parquet"):
        assert load(tmp_path / name, cache=tmp_path / "cache").line(0) == json.dumps(record, ensure_ascii=False)
    (tmp_path / "rows.csv").write_text('output,instruction,a\n"b\nc","Ü?",1\n')
    assert load(tmp_path / "rows.csv", cache=tmp_path / "cache").line(0) == (
        '{"output": "b\\nc", "instruction": "Ü?", "a": "1"}'
    )


def as_a_format_may_make_it(role, text, input="", more=MappingProxyType({})):
    turn = Turn("user", "")
    for name, value in {"role": role, "text": text, "input": input, "more": more}.items():
        object.__setattr__(turn, name, value)  # past the tests' own check of types
    return turn


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([["user", "a"]], "has no turn of an assistant"),
        ([["assistant", "a"]], "turn 1 has the role assistant, expected system or user at the beginning"),
        ([["user", "a"], ["user", "b"]], "turn 2 has the role user, expected assistant after user"),
        ([["user", "a"], ["assistant", "b"], ["assistant", "c"]], "turn 3 has the role assistant, expected user after"),
        ([["user", "a"], ["assistant", "b"], ["system", "c"]], "turn 3 is a system turn, which only the first may be"),
        ([["user", "a"], ["assistant", "b"], ["tool", "c"]], "turn 3 is a tool's result without a call before it"),
        ([["user", "a"], ["bot", "b"]], "turn 2 has the role 'bot', expected system, user, assistant or tool"),
        ([["user", "a"], ["assistant", " "]], "turn 2 is blank"),
        ([["user", "\t"], ["assistant", "b"], ["user", "c"]], "turn 1 is blank"),
        ([["user", "a"], ["assistant", 3], ["user", "c"]], r"turn 2 is a number \(3\), expected text"),
        ([["user", "a"], ["assistant", "b\0"], ["user", "c"]], r"turn 2 holds a NUL character \(character 2\)"),
        ([["user", "a"], ["assistant", "b", "", ["x"]]], r"turn 2 has the further fields \['x'\], expected a mapping"),
    ],
)
def test_turns_that_make_no_conversation_are_refused_by_the_turn_at_fault(turns, problem):
    places = [("talk", number) for number in range(1, len(turns) + 1)]
    with pytest.raises(BadRecord, match=f'^field "talk",? {problem}'):
        check_turns([as_a_format_may_make_it(*turn) for turn in turns], places)


def test_a_turn_that_no_model_reads_is_refused_by_line_field_and_turn(tmp_path, monkeypatch):
    asked, answer = ["user", "a"], "b" * 10_000_000
    problem = "turn 2 holds 10,000,000 characters, and a row may hold 4,194,304"
    with pytest.raises(InputError, match=rf"rows\.jsonl, line 1: {problem}; correct the row"):
        loaded(tmp_path, {"turns": [asked, ["assistant", answer], asked]})
    kept = {"turns": [asked, ["assistant", "b"], asked]}
    dataset = loaded(
        tmp_path, kept, {"turns": [asked, ["assistant", "b"], asked, asked]}, {"turns": [asked, asked]},
        on_bad_rows="skip", bad_rows_file=tmp_path / "bad.jsonl",
    )  # fmt: skip
    problem = "has the role user, expected assistant after user"
    assert dataset.bad == {f"a turn {problem}": 2}
    assert [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()] == [
        {"line": 2, "field": None, "turn": 4, "problem": problem},
        {"line": 3, "field": None, "turn": 2, "problem": problem},
    ]


def test_long_conversations_are_converted_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(ingest, "BATCH_CHARACTERS", 1 << 16)
    records = [{"turns": [["user", str(i)], ["assistant", "b" * 50_000]] * 2} for i in range(200)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    origin = find(str(file), "train", None, None, tmp_path, on_hub=False)
    (tmp_path / "made").mkdir()
    tracemalloc.start()
    try:
        ingest.Ingest(origin, Turns(), False, lambda done, total: None).write(tmp_path / "made")
        assert tracemalloc.get_traced_memory()[1] < file.stat().st_size / 4
    finally:
        tracemalloc.stop()


def test_a_conversation_asks_and_answers_what_its_first_and_last_texts_say():
    calls = Turn("assistant", "", more=CALL)
    conversation = Conversation(
        (Turn("system", "s"), Turn("user", "a", "b"), Turn("assistant", "c"), Turn("user", "d"), calls)
    )
    assert (conversation.instruction, conversation.input, conversation.response) == ("a", "b", "c")
    assert Conversation((Turn("user", "a"), calls)).response == ""
