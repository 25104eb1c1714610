"""Rows that hold questions of benchmarks and of held-out rows."""

import dataclasses
import json
import re

import numpy as np
import pytest

from diverseevol.cli.tagged_rows import list_contamination, list_tagged, tagged
from diverseevol.data.contamination import Overlap, find_overlaps
from diverseevol.data.dataset import load
from diverseevol.data.tags import Tags
from diverseevol.storage.files import read_jsonl

LONG = "If three painters need four days for a house, how many days do six painters need for two such houses?"
THIRTEEN = "painters need four days for a house how many days do six painters"
QUESTIONS = {
    "puzzles": [("p1", LONG), ("p2", "What is 3 + 4?"), ("p3", "Who wrote Faust?")],
    "asia": [("a", "東京から大阪まで新幹線で何時間かかりますか")],
    "empty": [("e", "  ")],
}
ROWS = [
    ("Who wrote  FAUST", "Goethe."),
    ("What is 3 - 4?", "-1"),
    ("A joke, please.", f"Here: painters need four days for a house: how many days do six {'painters'} take?"),
    ("painters need four days for a house, how many days do six men need?", "Three."),
    (LONG, "Four."),
    ("Sum up what follows.", "It asks who wrote Faust."),
    ("東京から大阪まで新幹線で何時間かかりますか。急いでいます。", "二時間半です。"),
    (" ", "Nothing was asked."),
]


@pytest.fixture
def loaded(tmp_path):
    def load_rows(rows, name="rows", held_out=()):
        file = tmp_path / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"prompt": a or "-", "completion": b}) + "\n" for a, b in rows))
        dataset = load(file, cache=tmp_path)
        return dataclasses.replace(dataset, held_out=np.array(held_out, dtype=np.int64))

    return load_rows


def test_a_question_is_found_complete_or_by_13_words_in_a_row(loaded, tmp_path):
    rows = [row for row in ROWS if row[0].strip()]
    assert find_overlaps(loaded(rows), QUESTIONS, tmp_path) == [
        Overlap(0, "puzzles", "p3", True, ""),
        Overlap(2, "puzzles", "p1", False, THIRTEEN),
        Overlap(4, "puzzles", "p1", True, "if three painters need four days for a house how many days do"),
        Overlap(6, "asia", "a", False, "東 京 か ら 大 阪 ま で 新 幹 線 で 何"),
    ]


def test_it_is_looked_up_once_for_the_same_rows_and_questions(loaded, tmp_path):
    counted: list[int] = []
    dataset = loaded([row for row in ROWS if row[0].strip()])
    first = find_overlaps(dataset, QUESTIONS, tmp_path, counted.append)
    assert find_overlaps(dataset, QUESTIONS, tmp_path, counted.append) == first
    assert sum(counted) == len(dataset)
    assert len(find_overlaps(dataset, {"faust": [("f", "who wrote faust")]}, tmp_path)) == 1
    assert find_overlaps(dataset, {}, tmp_path) == []


def test_what_many_rows_have_is_a_template(loaded, tmp_path):
    words = " ".join(f"word{i}" for i in range(14))
    for count, overlaps in ((10, 10), (11, 0)):
        dataset = loaded([(f"{words} and {i}", "Yes.") for i in range(count)], f"rows{count}")
        assert len(find_overlaps(dataset, {"all": [("1", f"{words} or not")]}, tmp_path)) == overlaps
        assert len(find_overlaps(dataset, {"all": [("1", f"{words} and 3")]}, tmp_path)) == (overlaps or 1)


def test_questions_of_held_out_rows_are_looked_for_in_all_others(loaded, tmp_path):
    rows = [("Name a bird.", "The wren."), (LONG, "Four."), ("name a bird?", "The owl."), ("Name a fish.", LONG)]
    rows += [("Name a bird", "A hawk.")]
    overlaps = find_overlaps(loaded(rows, held_out=(0, 1, 4)), {}, tmp_path)
    assert [(each.row, each.question, each.same) for each in overlaps] == [(2, "0", True), (3, "1", False)]
    assert Tags(overlaps=overlaps).of(2) == ["question of held-out row 0"]


def test_overlaps_against_plain_loops(loaded, tmp_path):
    rng = np.random.default_rng(0)
    stream = rng.integers(0, 40, 3000)
    pieces = [stream[i : i + n] for i, n in zip(rng.integers(0, 2900, 60), rng.integers(5, 60, 60), strict=True)]
    texts = [" ".join(f"w{i}" for i in piece) for piece in pieces]
    rows, questions = texts[:40], [(str(i), text) for i, text in enumerate(texts[40:])]

    def grams(text):
        words = re.findall(r"\w+", text)
        return {tuple(words[i : i + 13]) for i in range(len(words) - 12)}

    expected = {
        (row, id) for row, text in enumerate(rows) for id, question in questions
        if text == question or grams(text) & grams(question)
    }  # fmt: skip
    assert len(expected) > 5
    overlaps = find_overlaps(loaded([(row, "Yes.") for row in rows]), {"b": questions}, tmp_path)
    assert {(each.row, each.question) for each in overlaps} == expected


def test_contamination_is_said_in_a_sentence_and_listed_until_another_benchmark_is_asked(loaded, tmp_path):
    tags = Tags(overlaps=find_overlaps(loaded([row for row in ROWS if row[0].strip()]), QUESTIONS, tmp_path))
    assert list(tagged(tags)) == [
        "3 rows contain 2 questions of benchmark puzzles: what is measured there may be too good (contamination.jsonl)",
        "1 row contains 1 question of benchmark asia: what is measured there may be too good (contamination.jsonl)",
    ]
    listed, contamination = tmp_path / "t.jsonl", tmp_path / "c.jsonl"
    list_tagged(listed, tags)
    list_contamination(contamination, tags)
    assert read_jsonl(listed)[0] == {"row": 0, "tags": ["question of puzzles: p3"]}
    assert read_jsonl(contamination)[1] == {
        "row": 2, "benchmark": "puzzles", "question": "p1", "same": False, "words": THIRTEEN
    }  # fmt: skip
    list_tagged(listed, Tags())
    list_contamination(contamination, Tags())
    assert not listed.exists()
    assert not contamination.exists()
