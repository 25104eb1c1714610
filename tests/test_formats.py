import json
import random
from decimal import Decimal

import pytest

from diverseevol.data import json_reader as reading
from diverseevol.data.canonical_json import dump_extra
from diverseevol.data.conversation import Conversation, Turn, exchange
from diverseevol.data.dataset import load
from diverseevol.data.formats.base import BadRecord, as_object
from diverseevol.data.formats.flat import ALPACA, DOLLY, Fields
from diverseevol.data.formats.recognise import recognise
from diverseevol.data.json_reader import read_records
from diverseevol.errors import InputError

ROW = {"instruction": "Name a colour.", "input": "", "output": "Red."}


def records(path):
    return [record for record, *_ in read_records(path)]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (ROW, ALPACA),
        ({"instruction": "a", "output": "b"}, ALPACA),
        ({"instruction": "a", "context": "", "response": "b", "category": "qa"}, DOLLY),
        ({"instruction": "a", "response": "b"}, DOLLY),
        (
            {"instruction": "a", "input": "c", "response": "b"},
            Fields("instruction", "input", "response", "system", "history"),
        ),
        ({"prompt": "a", "completion": "b"}, Fields("prompt", "input", "completion", "system", "history")),
        ({"prompt": "a", "response": "b", "text": "ab"}, Fields("prompt", "input", "response", "system", "history")),
        (
            {"question": "a", "context": "c", "answer": "b"},
            Fields("question", "context", "answer", "system", "history"),
        ),
        ({"question": "a", "answer": "b", "instruction": "c", "output": "d"}, ALPACA),
    ],
)
def test_the_usual_names_are_recognised(record, expected):
    assert recognise(record) == expected


@pytest.mark.parametrize(
    "record",
    [
        {"query": "a", "reply": "b"},
        {"instruction": "a"},
        {"instruction": "a", "completion": "b"},
        {"prompt": "a", "completion": "b", "response": "c"},
        {"instruction": "a", "output": "b", "response": "c"},
        {"instruction": "a", "output": "b", "input": "", "context": ""},
        {},
    ],
)
def test_other_names_are_listed_with_the_way_to_give_them(record):
    with pytest.raises(BadRecord, match=r"data\.fields\.instruction=") as caught:
        recognise(record)
    assert all(name in str(caught.value) for name in record)


def test_what_no_names_of_fields_can_help_is_not_told_to_name_them():
    sentence = "its only field is text, which does not say where the question ends and the answer begins; give rows"
    with pytest.raises(BadRecord, match=sentence) as caught:
        recognise({"text": "a b"})
    assert "data.fields" not in str(caught.value)


@pytest.mark.parametrize(
    ("record", "fields"),
    [
        (ROW, ALPACA),
        ({"instruction": "a", "context": "c", "response": "b", "category": "qa", "n": [1, {"x": None}]}, DOLLY),
        ({"q": " a ", "a": "b\u2028\n", "input": "an extra field here"}, Fields("q", None, "a")),
    ],
)
def test_a_record_comes_back_as_it_was(record, fields):
    assert fields.to_record(fields.parse(record)) == record


@pytest.mark.parametrize("given", [{}, {"input": None}, {"input": ""}])
def test_the_input_may_be_missing_null_or_empty(given):
    assert ALPACA.parse({"instruction": "a", "output": "b", **given}) == exchange("a", "", "b", {})


@pytest.mark.parametrize("field", ["instruction", "output"])
@pytest.mark.parametrize("text", ["", "  ", "\n\t", "\u3000"])
def test_a_blank_instruction_or_response_is_refused_by_name(field, text):
    with pytest.raises(BadRecord, match=f'field "{field}" is blank'):
        ALPACA.parse({**ROW, field: text})


@pytest.mark.parametrize("field", ["instruction", "input", "output"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        (3, r"a number \(3\)"),
        (float("nan"), r"a number \(nan\)"),
        (True, "true"),
        (["a"], "a list"),
        ({"a": 1}, "an object"),
    ],
)
def test_what_is_not_text_is_refused_by_name_and_kind(field, value, found):
    with pytest.raises(BadRecord, match=f'field "{field}" is {found}') as caught:
        ALPACA.parse({**ROW, field: value})
    assert caught.value.field == field


@pytest.mark.parametrize("field", ["instruction", "input", "output"])
@pytest.mark.parametrize(("text", "found"), [("ab\0", "NUL character"), ("a\ud83d", r"\\ud83d \(character 2\)")])
def test_what_is_not_a_character_is_refused_by_place(field, text, found):
    with pytest.raises(BadRecord, match=f'field "{field}" holds .*{found}'):
        ALPACA.parse({**ROW, field: text})


@pytest.mark.parametrize("field", ["instruction", "output"])
def test_a_missing_field_is_named(field):
    with pytest.raises(BadRecord, match=f'field "{field}" is missing'):
        ALPACA.parse({name: ROW[name] for name in ROW if name != field})


@pytest.mark.parametrize("value", [None, 3, "text", [ROW]])
def test_a_record_that_is_no_object_is_refused(value):
    with pytest.raises(BadRecord, match="expected a record, that is a JSON object, got"):
        as_object(value)


def test_extra_fields_are_told_the_same_in_any_order():
    one, other = {"b": 1, "a": {"y": "é", "x": [None]}}, {"a": {"x": [None], "y": "é"}, "b": 1}
    assert dump_extra(one) == dump_extra(other)
    assert json.loads(dump_extra(one)) == one


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (float("nan"), None),
        ([1.5, float("-inf")], [1.5, "-inf"]),
        ("a\ud83d", "a\\ud83d"),
        ({"\ud83d": (1, 2)}, {"\\ud83d": [1, 2]}),
        (b"\x00\xff", "AP8="),
        (Decimal("1.10"), "1.10"),
    ],
)
def test_an_extra_field_that_json_cannot_say_refuses_no_row(value, kept):
    assert json.loads(dump_extra({"good": 1, "odd": value})) == {"good": 1, "odd": kept}


def test_an_extra_field_that_says_a_name_twice_is_named():
    with pytest.raises(BadRecord, match=r'field "odd" holds .*appears twice'):
        dump_extra({"good": 1, "odd": [reading.DECODER.decode('{"a": 1, "a": 2}')]})


def test_a_message_can_be_printed_and_written_even_where_a_name_is_half_a_character():
    with pytest.raises(BadRecord) as caught:
        recognise({"\ud83d": 1})
    assert str(caught.value).encode()


def random_json(rng, depth=0):
    kind = rng.randrange(9)
    if depth > 2 or kind < 3:
        texts = ["", "é\u2028\u0085x", '😀\\"', "[{", "\n\t", "]}"]
        return rng.choice([*texts, 1, -2.5e30, True, None, 12345678901234567890])
    if kind < 6:
        return [random_json(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {f"{rng.choice('abc')}{i}": random_json(rng, depth + 1) for i in range(rng.randrange(4))}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 32, 1 << 20])
def test_arrays_are_read_the_same_whatever_the_chunks(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(reading, "CHUNK", chunk)
    rng = random.Random(chunk)
    for _ in range(60):
        values = [random_json(rng) for _ in range(rng.randrange(5))]
        text = json.dumps(values, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, 2]))
        newline = rng.choice(["\n", "\r\n"])
        data = f"\n {text} \n".replace("\n", newline).encode(rng.choice(["utf-8", "utf-8-sig"]))
        (tmp_path / "rows.json").write_bytes(data)
        assert records(tmp_path / "rows.json") == values


@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_a_damaged_array_is_never_read_as_if_it_were_whole(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(reading, "CHUNK", chunk)
    rng = random.Random(chunk)
    whole = json.dumps([ROW, {"a": [1.5, "é", None]}], ensure_ascii=False).encode()
    path = tmp_path / "rows.json"
    refused = 0
    for place in range(1, len(whole)):
        for damaged in (whole[:place], whole[:place] + rng.choice([b"\0", b"\xff", b'"', b"]", b","]) + whole[place:]):
            path.write_bytes(damaged)
            try:
                expected = json.loads(damaged)
            except ValueError:
                refused += 1
                with pytest.raises(InputError, match=r"rows\.json, line 1: "):
                    records(path)
            else:
                assert records(path) == expected
    assert refused > len(whole)


def test_lines_of_an_array_are_those_that_its_records_begin_on(tmp_path):
    path = tmp_path / "rows.json"
    path.write_text("\n[\n" + json.dumps(ROW, indent=1) + "\n,\n\n" + json.dumps(ROW) + "]\n")
    assert [line for _, line, *_ in read_records(path)] == [3, 10]


def test_only_a_line_feed_ends_a_line(tmp_path):
    row = {**ROW, "output": "one\u2028two\u0085three"}
    path = tmp_path / "rows.jsonl"
    path.write_bytes((json.dumps(row, ensure_ascii=False) + "\r\n\n").encode() * 2)
    assert [(record, line) for record, line, *_ in read_records(path)] == [(row, 1), (row, 3)]


def test_the_last_offset_of_a_file_is_its_size(tmp_path):
    for name, text in (("a.jsonl", json.dumps(ROW) + "\n"), ("a.json", json.dumps([ROW]))):
        (tmp_path / name).write_text(text)
        assert [done for _, _, done, _ in read_records(tmp_path / name)] == [len(text)]


def test_an_array_does_not_stay_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", 1000)
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([ROW] * 2000))
    with path.open("rb") as file:
        window = reading._Window(path, file)
        longest = max(len(window.text) for _ in reading._array(window))
    assert longest < 2000 + len(json.dumps(ROW))


class Pairs:
    """A format of one's own: question and answer in a list, as a user would write it."""

    def __init__(self, key: str = "qa"):
        self.key = key

    def parse(self, record):
        question, answer = record[self.key]
        extra = {name: record[name] for name in record if name != self.key}
        if answer == "talk":
            return Conversation((Turn("user", question), Turn("user", "b"), Turn("assistant", "a")), extra)
        return exchange(question, "", answer, extra)

    def to_record(self, conversation):
        return {self.key: [conversation.instruction, conversation.response], **conversation.extra}


def pairs(tmp_path, *records):
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return file


def test_a_format_of_ones_own_reads_rows_and_writes_them_as_they_came(tmp_path):
    records = [{"qa": ["Why?", "So."], "kind": "x", "system": "Be brief."}, {"qa": ["How?", "Well."]}]
    dataset = load(pairs(tmp_path, *records), format=Pairs(), cache=tmp_path)
    assert dataset[0] == exchange("Why?", "", "So.", {"kind": "x", "system": "Be brief."})
    assert [dataset.record(row) for row in range(2)] == records
    assert dataset.unused == {"system": 1}
    alpaca = [{"instruction": "Why?", "output": "So.", "kind": "x", "system": "Be brief."}]
    alpaca.append({"instruction": "How?", "output": "Well."})
    named = {"instruction": "instruction", "response": "output"}
    assert load(pairs(tmp_path, *alpaca), fields=named, cache=tmp_path).fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        ({"pair": ["Why?", "So."]}, r"is not in the format of data\.format \(KeyError: 'qa'\)"),
        ({"qa": ["Why?"]}, r"is not in the format of data\.format \(ValueError: not enough values"),
        ({"qa": ["Why?", "\t"]}, r'field "response" is blank'),
        ({"qa": ["Why?", "talk"]}, "turn 2 has the role user, expected assistant after user; correct the row"),
        (["Why?", "So."], "expected a record, that is a JSON object, got a list"),
    ],
)
def test_a_record_that_a_format_of_ones_own_cannot_read_is_refused_by_its_line(tmp_path, record, problem):
    file = pairs(tmp_path, {"qa": ["Why?", "So."]}, record)
    with pytest.raises(InputError, match=rf"pairs\.jsonl, line 2: {problem}"):
        load(file, format=Pairs(), cache=tmp_path)
    assert load(file, format=Pairs(), on_bad_rows="skip", cache=tmp_path).bad_rows == 1


def test_rows_of_another_format_or_of_other_options_are_read_again(tmp_path):
    file = pairs(tmp_path, {"qa": ["Why?", "So."], "aq": ["How?", "Well."]})
    assert load(file, format=Pairs(), cache=tmp_path)[0].instruction == "Why?"
    assert load(file, format=Pairs("aq"), cache=tmp_path)[0].instruction == "How?"


class Slotted:
    """The same, its options in slots; and with what a format may do wrong."""

    __slots__ = ("extra", "fault", "key")

    def __init__(self, key="qa", fault=None, extra=None):
        self.key, self.fault, self.extra = key, fault, extra

    def parse(self, record):
        conversation = Pairs(self.key).parse(record)
        if self.extra is not None:  # past the tests' own check of types
            object.__setattr__(conversation, "extra", self.extra)
        return conversation

    def to_record(self, conversation):
        if self.fault == "missing":
            return {self.key: conversation.extra["level"]}
        return Pairs(self.key).to_record(conversation) if self.fault is None else self.fault


def test_options_in_slots_tell_formats_apart(tmp_path):
    file = pairs(tmp_path, {"qa": ["Why?", "So."], "aq": ["How?", "Well."]})
    assert load(file, format=Slotted(), cache=tmp_path)[0].instruction == "Why?"
    assert load(file, format=Slotted("aq"), cache=tmp_path)[0].instruction == "How?"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fault": "missing"}, r"cannot be written again by the to_record of data\.format \(KeyError: 'level'\)"),
        ({"fault": "text"}, r"cannot be written again by .* \(TypeError: expected a dict, got 'text'\)"),
        ({"fault": {"qa": {1, 2}}}, r'field "qa" holds what JSON cannot say'),
        ({"extra": ["kind"]}, r"has the extra \['kind'\], expected a mapping from names to values"),
        ({"extra": {1: "kind"}}, r"has the extra \{1: 'kind'\}, expected a mapping from names to values"),
    ],
)
def test_a_format_that_cannot_write_its_rows_is_refused_as_they_are_read(tmp_path, options, problem):
    with pytest.raises(InputError, match=rf"pairs\.jsonl, line 1: {problem}"):
        load(pairs(tmp_path, {"qa": ["Why?", "So."]}), format=Slotted(**options), cache=tmp_path)


def test_a_format_without_a_file_is_refused(tmp_path):
    typed_in = type("TypedIn", (Pairs,), {"__module__": "__nowhere__"})
    with pytest.raises(InputError, match=r"data\.format is a TypedIn, whose source is in no file"):
        load(pairs(tmp_path, {"qa": ["Why?", "So."]}), format=typed_in(), cache=tmp_path)


def test_names_of_fields_and_a_format_are_not_given_together(tmp_path):
    file = pairs(tmp_path, {"qa": ["Why?", "So."]})
    with pytest.raises(InputError, match=r"data\.fields and data\.format both say"):
        load(file, fields={"instruction": "q", "response": "a"}, format=Pairs(), cache=tmp_path)


def test_the_command_line_takes_a_format_of_ones_own(command_line, tmp_path):
    file, out = pairs(tmp_path, *({"qa": [f"What is {i}?", f"It is {i}."]} for i in range(9))), tmp_path / "P.json"
    options = ["data=json", f"data.path={file}", "data.format={_target_: test_formats.Pairs}", f"cache={tmp_path}"]
    code, _, said = command_line("select", *options, "sampler=random", "n=3", f"out={out}")
    assert code == 0, said
    chosen = [json.loads(line) for line in out.with_suffix(".jsonl").read_text().splitlines()]
    assert len(chosen) == 3
    assert all(record["qa"][1].startswith("It is") for record in chosen)
