"""Conversations of every usual format: recognised, read, written again, and refused by the turn at fault."""

import json
import random
from dataclasses import replace
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.dataset import load
from diverseevol.data.formats.base import BadRecord, CannotHold
from diverseevol.data.formats.flat import ALPACA, DOLLY, Fields
from diverseevol.data.formats.messages import OPENAI, SHAREGPT, Messages, Roles
from diverseevol.data.formats.prompt_completion import PromptCompletion
from diverseevol.data.formats.recognise import by_names, recognise, restored, saved
from diverseevol.errors import InputError

CALL = {"type": "function", "function": {"name": "add", "arguments": {"b": 1, "a": [2, None]}}, "id": "c1"}
FORMATS = {
    "alpaca": ALPACA, "dolly": DOLLY, "prompt": Fields("prompt", "input", "completion", "system", "history"),
    "question": Fields("question", None, "answer", "system", "history"), "openai": OPENAI, "sharegpt": SHAREGPT,
    "named": Messages("talk", "who", "what", "rule", Roles(user="Q", assistant="A")), "trl": PromptCompletion(),
}  # fmt: skip
FLAT = [name for name, format in FORMATS.items() if isinstance(format, Fields)]


def said(rng):
    """A text with something to get wrong, never blank."""
    words = rng.choices(
        ["é", "\n", " ", "\\", '"', "魚", "{", "human", "\u2028", "😀", "gpt:", "</s>"], k=rng.randrange(6)
    )
    return "".join([*words, rng.choice("abc")])


def random_conversation(rng, name):
    """A conversation that a format has a place for."""
    flat, tools = name in FLAT, name not in FLAT
    turns = [Turn("system", said(rng))] if rng.random() < 0.4 else []
    for exchange in range(questions := rng.randrange(1, 4)):
        last = exchange == questions - 1
        asked_about = said(rng) if flat and last and FORMATS[name].input and rng.random() < 0.5 else ""
        turns.append(Turn("user", said(rng), asked_about))
        if tools and rng.random() < 0.3:
            calls = [CALL] * rng.randrange(1, 3)
            turns.append(Turn("assistant", "", more={"tool_calls": calls}))
            more = {} if rng.random() < 0.5 else {"tool_call_id": said(rng)}
            turns += [Turn("tool", rng.choice(["", said(rng)]), more=more) for _ in calls]
        turns.append(Turn("assistant", said(rng), more={"weight": 0.5} if tools and rng.random() < 0.2 else {}))
    if name in ("openai", "sharegpt", "named") and rng.random() < 0.3:
        turns.append(Turn("user", said(rng)))
    extra = {rng.choice(["id", "source", "text", "tools"]): rng.choice([1, None, "x", {"a": [1]}])}
    return Conversation(tuple(turns), extra if rng.random() < 0.5 else {})


@pytest.mark.parametrize("name", FORMATS)
def test_a_conversation_is_the_same_after_it_was_written_and_read(name):
    rng, format = random.Random(name), FORMATS[name]
    kinds = set()
    for _ in range(300):
        conversation = random_conversation(rng, name)
        record = json.loads(json.dumps(format.to_record(conversation)))
        again = format.parse(record)
        assert again == conversation
        assert format.to_record(again) == record
        kinds.add(tuple(turn.role for turn in conversation.turns))
        if name != "named":
            assert recognise(record).parse(record) == conversation
    assert len(kinds) > 5
    assert restored(json.loads(json.dumps(saved(format)))) == format


RECORDS = [
    ({"messages": [{"role": "user", "content": "a"}]}, OPENAI),
    ({"conversations": [{"from": "human", "value": "a"}], "id": 3}, SHAREGPT),
    ({"conversations": [{"role": "user", "content": "a"}]}, Messages("conversations", system="system")),
    ({"prompt": "a", "prompt_id": "p", "messages": [{"role": "user", "content": "a"}]}, OPENAI),
    ({"prompt": [{"role": "user", "content": "a"}], "completion": [{}]}, PromptCompletion()),
    ({"instruction": "a", "output": "b", "conversations": []}, ALPACA),
]  # fmt: skip


@pytest.mark.parametrize(("record", "format"), RECORDS)
def test_lists_of_messages_are_recognised_by_their_fields(record, format):
    assert recognise(record) == format


def test_a_record_with_two_lists_of_messages_is_not_guessed_at():
    with pytest.raises(BadRecord, match=r"hold messages and conversations, .*data\.fields\.messages="):
        recognise({"messages": [], "conversations": []})


def test_alpaca_with_a_system_turn_and_a_history_is_one_conversation():
    record = {
        "instruction": "c", "input": "d", "output": "e", "system": "s", "history": [["a", "b"]], "id": 1,
    }  # fmt: skip
    assert ALPACA.parse(record) == Conversation(
        (
            Turn("system", "s"),
            Turn("user", "a"),
            Turn("assistant", "b"),
            Turn("user", "c", "d"),
            Turn("assistant", "e"),
        ),
        {"id": 1},
    )
    assert ALPACA.to_record(ALPACA.parse(record)) == record
    # Empty ones say nothing: the row is one exchange, with the fingerprint that it always had.
    empty = {**record, "system": "", "history": []}
    assert ALPACA.parse(empty).is_exchange
    assert ALPACA.parse(empty).extra == {"id": 1, "system": "", "history": []}
    assert ALPACA.to_record(ALPACA.parse(empty)) == empty


def test_messages_are_read_however_they_say_it(tmp_path):
    record = {
        "system": "s",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, "b"], "name": None},
            {"role": "assistant", "content": None, "tool_calls": [CALL]},
            {"role": "function", "content": "3"},
            {"role": "assistant", "content": "c", "tool_calls": []},
        ],
    }
    expected = [
        Turn("system", "s"), Turn("user", "ab"), Turn("assistant", "", more={"tool_calls": [CALL]}), Turn("tool", "3"),
        Turn("assistant", "c"),
    ]  # fmt: skip
    assert list(recognise(record).parse(record).turns) == expected
    told = {"messages": [{"role": "developer", "content": "s"}, *record["messages"]]}
    assert list(recognise(told).parse(told).turns) == expected
    talk = [("system", "s"), ("human", "ab"), ("function_call", '{"name": "f", "arguments": {"x": 1}}')]
    talk += [("observation", "3"), ("gpt", "c")]
    sharegpt = {"conversations": [{"from": role, "value": value} for role, value in talk]}
    call = {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    expected[2] = Turn("assistant", "", more={"tool_calls": [call]})
    assert list(recognise(sharegpt).parse(sharegpt).turns) == expected
    # A table has every field in every message.
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "name": "x"}]}]
    rows.append({"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    dataset = load(tmp_path / "rows.parquet", cache=tmp_path / "cache")
    assert [dataset[row].is_exchange for row in range(2)] == [False, True]
    assert dataset[0].turns[1] == Turn("assistant", "b", more={"name": "x"})


def test_one_exchange_has_the_same_fingerprint_in_every_format(tmp_path):
    conversation = Conversation((Turn("user", "a"), Turn("assistant", "b")), {"id": 1})
    digests = set()
    for name, format in FORMATS.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(format.to_record(conversation)) + "\n")
        given = replace(format, system=None) if name == "named" else None
        dataset = load(tmp_path / f"{name}.jsonl", format=given, cache=tmp_path / "cache")
        digests.add(dataset.fingerprint)
    assert len(digests) == 1


USER, ANSWER = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
TWICE = '{"role": "user", "role": "user"}'


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([], " is an empty list, expected messages"),
        ("talk", " is a bare text, expected a list of messages"),
        ([USER], " has no turn of an assistant"),
        ([ANSWER], ", turn 1 has the role assistant, expected system or user at the beginning"),
        ([USER, USER, ANSWER], ", turn 2 has the role user, expected assistant after user"),
        ([USER, ANSWER, {"role": "system", "content": "c"}], ", turn 3 is a system turn, which only the first may be"),
        ([USER, ANSWER, {"role": "tool", "content": "c"}], ", turn 3 is a tool's result without a call before it"),
        ([USER, {"role": "assistant", "content": " "}], ", turn 2 is blank"),
        ([USER, {"role": "assistant", "content": None}], ", turn 2 is null, expected text"),
        ([USER, {"role": "assistant", "content": 3}], r", turn 2 is a number \(3\), expected text"),
        ([USER, {"role": "assistant"}], r", turn 2 has no content \(there are: role\)"),
        ([{"from": "human", "content": "a"}], r", turn 1 has no role \(there are: from, content\)"),
        ([{"role": 1, "content": "a"}], ", turn 1 has a role that is not text"),
        (
            [{"role": "critic", "content": "a"}],
            ', turn 1 has the role "critic", expected system, user, assistant, tool;',
        ),
        (["a", "b"], ", turn 1 is a bare text, expected an object with role and content"),
        ([USER, {"role": "assistant", "content": [{"type": "image_url"}]}], ", turn 2 holds a part of type image_url"),
        ([USER, {**ANSWER, "tool_calls": {}}], ", turn 2 has tool_calls that are an object, expected a list"),
        ([USER, {**ANSWER, "tool_calls": [{"name": "f"}]}], ", turn 2 has tool_calls without the name of a function"),
        ([USER, {"role": "function_call", "content": "f()"}], r", turn 2 is a call of tools that is not JSON .*f\(\)"),
        ([USER, {"role": "assistant", "content": "b" * 10_000_000}], ", turn 2 holds 10,000,000 characters"),
        ([USER, {**ANSWER, "odd": json.loads("[" * 90 + "]" * 90)}], None),
    ],
)
def test_a_malformed_conversation_is_refused_in_one_sentence_by_line_field_and_turn(tmp_path, messages, problem):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"messages": each}) + "\n" for each in ([USER, ANSWER], messages)))
    if problem is None:  # deep, but not too deep
        assert len(load(file, cache=tmp_path / "cache")) == 2
        return
    with pytest.raises(InputError, match=rf'rows\.jsonl, line 2: field "messages"{problem}') as caught:
        load(file, cache=tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert "data.on_bad_rows=skip" in str(caught.value)
    dataset = load(file, on_bad_rows="skip", cache=tmp_path / "cache", bad_rows_file=tmp_path / "bad.jsonl")
    assert (len(dataset), dataset.bad_rows) == (1, 1)
    listed = json.loads((tmp_path / "bad.jsonl").read_text())
    assert (listed["line"], listed["field"], "turn" in listed) == (
        2,
        "messages",
        "turn" in problem.split(" has no t")[0],
    )


def test_a_message_with_a_name_twice_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text(f'{{"messages": [{TWICE}]}}\n')
    with pytest.raises(InputError, match=r'turn 1 cannot be read \(field "role" appears twice in one object\)'):
        load(tmp_path / "rows.jsonl", cache=tmp_path)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"history": "x"}, 'field "history" is a bare text, expected a list of pairs of a question and its answer'),
        (
            {"history": [["a", "b"], ["c"]]},
            'field "history", turn 3 is a list of 1, expected a question and its answer',
        ),
        ({"history": [["a", "b"], ["c", " "]]}, 'field "history", turn 4 is blank'),
        ({"system": 3}, r'field "system" is a number \(3\), expected text'),
    ],
)
def test_what_was_said_before_is_checked_like_the_rest(record, problem):
    with pytest.raises(BadRecord, match=problem):
        ALPACA.parse({"instruction": "a", "output": "b", **record})


def test_a_completion_begins_and_ends_with_an_answer():
    talk = {"prompt": [USER, ANSWER, USER], "completion": [ANSWER, USER]}
    with pytest.raises(BadRecord, match='field "completion", turn 2 has the role user, expected assistant, with which'):
        PromptCompletion().parse(talk)
    with pytest.raises(BadRecord, match='field "completion", turn 1 has the role assistant, expected user after'):
        PromptCompletion().parse({"prompt": [USER, ANSWER], "completion": [ANSWER]})


def test_records_of_several_formats_in_one_file_are_said_to_be_that(tmp_path):
    rows = [{"messages": [USER, ANSWER]}, {"instruction": "a", "output": "b"}, {"prompt": "a", "completion": "b"}]
    for first, second in pairwise(rows):
        (tmp_path / "rows.jsonl").write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
        with pytest.raises(InputError, match=r"line 2: has .*, where the records before have .*; give a file for each"):
            load(tmp_path / "rows.jsonl", cache=tmp_path / "cache")


CALLING = (
    Turn("user", "a"),
    Turn("assistant", "", more={"tool_calls": [CALL]}),
    Turn("tool", "3"),
    Turn("assistant", "b"),
)
PLAIN = (Turn("user", "a"), Turn("assistant", "b"))


@pytest.mark.parametrize(
    ("name", "turns", "extra", "lack"),
    [
        ("alpaca", CALLING, {}, "a call of tools"),
        ("alpaca", (*PLAIN, Turn("user", "c")), {}, "a conversation that does not end with an answer"),
        ("alpaca", (Turn("system", ""), *PLAIN), {}, "a system turn that says nothing"),
        (
            "alpaca",
            (Turn("user", "a"), Turn("assistant", "b", more={"weight": 1})),
            {},
            "assistant with the field weight",
        ),
        ("alpaca", PLAIN, {"output": 1}, "a further field named output"),
        ("openai", PLAIN, {"system": "s"}, "a further field named system"),
        ("openai", (Turn("user", "a", more={"role": "x"}), PLAIN[1]), {}, "a message with a further field named role"),
        (
            "sharegpt",
            (PLAIN[0], Turn("assistant", "b", more={"tool_calls": [CALL]})),
            {},
            "a call .* with a text beside it",
        ),
        ("trl", (*PLAIN, Turn("user", "c")), {}, "a conversation that does not end with an answer"),
    ],
)
def test_what_a_format_has_no_place_for_is_said(name, turns, extra, lack):
    with pytest.raises(CannotHold, match=lack):
        FORMATS[name].to_record(Conversation(turns, extra))


def test_names_that_the_user_gives_are_read(tmp_path):
    record = {"talk": [{"who": "Q", "what": "a"}, {"who": "AI", "what": "b"}], "rule": "s", "messages": []}
    (tmp_path / "rows.jsonl").write_text(json.dumps(record) + "\n")
    fields = {"messages": "talk", "role": "who", "content": "what", "system": "rule", "instruction": None}
    dataset = load(
        tmp_path / "rows.jsonl", fields=fields, roles={"user": "Q", "assistant": "AI"}, cache=tmp_path / "cache"
    )
    assert dataset[0] == Conversation(
        (Turn("system", "s"), Turn("user", "a"), Turn("assistant", "b")), {"messages": []}
    )
    assert dataset.record(0) == record
    named = {"instruction": "a", "response": "b", "history": "c", "system": "d"}
    assert by_names(named, None) == Fields("a", None, "b", "d", "c")


@pytest.mark.parametrize(
    ("fields", "roles", "problem"),
    [
        ({"role": "who"}, {}, r"gives role=who, but no list of messages; add data\.fields\.messages=NAME"),
        ({"messages": "m", "history": "h"}, {}, "gives messages=m, history=h, but history is a part of rows without"),
        ({"messages": "m", "role": "content"}, {}, "but they must be texts that differ"),
        ({"system": "s"}, {}, "gives system=s and nothing else, expected all parts"),
        ({}, {"user": "Q"}, r"data\.roles says what messages call their roles; name the list of messages, too"),
        (
            {"messages": "m"},
            {"user": "assistant"},
            r"data\.roles gives the names .*, but they must be texts that differ",
        ),
    ],
)
def test_names_that_do_not_go_together_are_refused(fields, roles, problem):
    with pytest.raises(InputError, match=problem):
        by_names(fields, roles)


def test_a_named_system_field_that_no_record_has_is_refused(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": [USER, ANSWER]}) + "\n")
    with pytest.raises(
        InputError, match=r"data\.fields\.system is 'rule', which no record has \(there are: messages\)"
    ):
        load(tmp_path / "rows.jsonl", fields={"messages": "messages", "system": "rule"}, cache=tmp_path / "cache")
