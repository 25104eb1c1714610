"""Tags: rows that repeat other rows."""

import json

import numpy as np
import pytest

from diverseevol.data.contamination import HELD_OUT, Overlap
from diverseevol.data.conversation import Conversation, Turn, exchange
from diverseevol.data.dataset import Dataset, load
from diverseevol.data.duplicates import find_duplicates
from diverseevol.data.row_text import normalised, questions_of, turns_of
from diverseevol.data.tags import Tags


@pytest.fixture
def loaded(tmp_path):
    """Makes a data set of (instruction, input, output)."""

    def load_rows(*rows: tuple[str, str, str], name: str = "rows") -> Dataset:
        file = tmp_path / f"{name}.jsonl"
        records = (dict(zip(("instruction", "input", "output"), row, strict=True)) for row in rows)
        file.write_text("".join(json.dumps(record) + "\n" for record in records))
        return load(file, cache=tmp_path)

    return load_rows


ROWS = [
    ("Which gas do plants take in?", "", "Carbon dioxide."),
    ("Name a river of Egypt.", "", "The Nile."),
    ("which gas  do plants take in?", "", " carbon DIOXIDE.\n"),
    ("Which gas do plants take in?", "", "They take in CO2 through small openings of their leaves."),
    ("Name a river of Egypt.", "", "The Nile."),
    ("What is 3 + 4?", "", "7"),
    ("What is 3 - 4?", "", "7"),
]


def test_equal_questions_and_answers_are_duplicates_and_equal_questions_alone_are_said(loaded, tmp_path):
    tags = Tags(find_duplicates(loaded(*ROWS), tmp_path))
    assert [tags.of(row) for row in range(7)] == [
        [], [], ["duplicate of 0"], ["same question as 0"], ["duplicate of 1"], [], []
    ]  # fmt: skip
    assert tags.counts() == {"duplicates": 2, "same question": 1}
    assert tags.counts([0, 1, 2]) == {"duplicates": 1}
    assert tags.groups() == {0: [0, 2], 1: [1, 4]}


def test_tags_of_nothing_are_none_and_questions_of_benchmarks_are_named():
    assert Tags().of(3) == []
    assert Tags().counts() == {}
    assert Tags().groups() == {}
    held = [
        Overlap(3, "vicuna", "7", True, ""),
        Overlap(3, "vicuna", "9", False, ""),
        Overlap(3, HELD_OUT, "8", True, ""),
    ]
    tags = Tags(overlaps=held)
    assert tags.of(3) == ["question of vicuna: 7", "question of vicuna: 9", "question of held-out row 8"]
    assert tags.counts() == {"questions of held-out row": 1, "questions of vicuna": 1}
    assert tags.rows() == [3]


def test_what_is_compared_is_normalised_and_has_no_system_turn():
    assert normalised("  \uff21\u00df\u00a0 x\n") == "ass x"
    assert turns_of(exchange("Sum up.", "A b.", "Ab.")) == ["sum up. a b.", "ab."]
    call = {"tool_calls": [{"name": "f", "arguments": {"b": 1, "a": 2}}]}
    asked = [Turn("system", "Be kind."), Turn("user", "Hi"), Turn("assistant", "", more=call), Turn("user", "Bye")]
    assert turns_of(Conversation(tuple(asked)))[1] == '{"tool_calls": [{"arguments": {"a": 2, "b": 1}, "name": "f"}]}'
    assert questions_of(Conversation(tuple(asked))) == ["hi", "bye"]


def test_among_very_many_rows_only_equal_ones_are_looked_for(loaded, tmp_path):
    near = (
        "Which gas do plants take in from the air that moves around their leaves on a warm day?",
        "",
        "Carbon dioxide.",
    )
    rows = (*ROWS, near, (near[0].replace("warm", "hot"), "", near[2]))
    assert "near-duplicate of 7" in Tags(find_duplicates(loaded(*rows), tmp_path)).of(8)
    quick = find_duplicates(loaded(*rows), tmp_path, near=False)
    assert Tags(quick).of(8) == []
    assert Tags(quick).counts() == {"duplicates": 2, "same question": 1}


def test_duplicates_are_found_once_for_the_same_rows(loaded, tmp_path):
    counted: list[int] = []
    first = find_duplicates(loaded(*ROWS), tmp_path, counted.append)
    again = find_duplicates(loaded(*ROWS, name="other"), tmp_path, counted.append)
    assert sum(counted) == 7
    assert np.array_equal(first.same, again.same)
    assert len(again) == 7
