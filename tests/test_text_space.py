"""The space of text alone: rows as vectors by the words that they share."""

import json
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from diverseevol.data import load, text_space
from diverseevol.data.conversation import Conversation, Turn
from diverseevol.data.text_space import DIMENSIONS, text_embedding, text_of, words

ANIMALS = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu", "hen")
CHINESE = [
    "请写一首关于春天的诗",
    "如何学习编程语言",
    "请写一首关于秋天的诗",
    "北京是中国的首都吗",
    "怎样做西红柿炒鸡蛋",
]


def embedded(tmp_path: Path, texts: list[str], region: str = "all", dtype: str = "float32") -> np.ndarray:
    tmp_path.mkdir(exist_ok=True)
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"instruction": text, "output": "Yes."}) + "\n" for text in texts))
    return np.array(text_embedding(load(rows, cache=tmp_path / "cache"), region, dtype, tmp_path / "cache"))


def many(count: int = 400) -> list[str]:
    rng = np.random.default_rng(0)
    return [f"Say {i} about the {' '.join(rng.choice(ANIMALS, 6))}" for i in range(count)]


def distances(X: np.ndarray) -> np.ndarray:
    return np.linalg.norm(X[:, None].astype(float) - X[None], axis=2)


def test_rows_are_unit_vectors_and_near_where_they_share_words(tmp_path):
    X = embedded(tmp_path, ["Name a red fish of the sea", "Name a blue fish of the sea", "How do I repair a bicycle?"])
    assert (X.shape, X.dtype) == ((3, 3), np.float32)
    assert np.allclose(np.linalg.norm(X, axis=1), 1)
    far = distances(X)
    assert far[0, 1] < 0.8 * far[0, 2]
    assert 1 < far[0, 2] < np.sqrt(2) + 1e-6


def test_the_same_rows_give_the_same_bits_with_any_number_of_threads(tmp_path):
    alone = []
    for threads in (1, 2):
        with threadpool_limits(limits=threads):
            alone.append(embedded(tmp_path / str(threads), many()))
    assert alone[0].shape == (400, DIMENSIONS)
    assert alone[0].tobytes() == alone[1].tobytes()


@pytest.mark.parametrize("learned_from", [50_000, 300])
def test_a_row_has_the_same_vector_whatever_the_order_of_the_rows(tmp_path, monkeypatch, learned_from):
    monkeypatch.setattr(text_space, "LEARNED_FROM", learned_from)
    texts, order = many(), np.random.default_rng(1).permutation(400)
    X = embedded(tmp_path, texts)
    assert X[order].tobytes() == embedded(tmp_path, [texts[row] for row in order]).tobytes()


def test_equal_rows_are_exactly_equal_and_nearly_equal_ones_near(tmp_path):
    texts = [*many(), many()[7], many()[7] + " please"]
    X = embedded(tmp_path, texts)
    assert X[7].tobytes() == X[400].tobytes()
    far = np.linalg.norm(X - X[7], axis=1)
    assert 0 < far[401] < np.delete(far, [7, 400, 401]).min()


def test_rows_of_a_script_without_spaces_are_told_apart(tmp_path):
    far = distances(embedded(tmp_path, CHINESE))
    assert (far[~np.eye(5, dtype=bool)] > 0.3).all()
    assert far[0, 2] == far[0, 1:].min()  # the two about a poem


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Don't say x1 à la carte", ["Don", "say", "x1", "la", "carte"]),
        ("हिन्दी में है", ["हिन्दी", "में", "है"]),
        ("日本語 test", ["日", "本", "語", "test"]),
        ("5 + 3 =", ["5", "+", "3", "="]),
        ("🙂!", ["🙂", "!"]),
        (" \n", []),
    ],
)
def test_words_of_any_script(text, found):
    assert words(text) == found


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_a_handful_of_rows_has_exact_distances(tmp_path, rows):
    texts = [" ".join(ANIMALS[i : i + 3]) for i in range(rows)]
    X = embedded(tmp_path, texts)
    assert X.shape == (rows, rows)
    assert np.allclose(np.linalg.norm(X, axis=1), 1)
    assert rows == 1 or distances(X)[np.triu_indices(rows, 1)].min() > 0.5


def test_rows_without_any_text_are_zero_and_as_far_from_all_others(tmp_path, monkeypatch):
    said = {"a": "", "b": "", "c": "one fish", "d": "two birds"}
    monkeypatch.setattr(text_space, "text_of", lambda conversation, region: said[conversation.instruction])
    X = embedded(tmp_path, list(said))
    assert not X[:2].any()
    assert np.allclose(distances(X)[0, 2:], 1)
    monkeypatch.setattr(text_space, "text_of", lambda conversation, region: "")
    assert not embedded(tmp_path / "1", list(said)).any()


def test_the_region_says_whose_turns_count(tmp_path):
    turns = (Turn("system", "Be brief."), Turn("user", "Sum?", "1, 2"), Turn("assistant", "", more={"call": "add"}),
             Turn("tool", "3"), Turn("assistant", "It is 3."))  # fmt: skip
    row = Conversation(turns)
    assert text_of(row, "all") == 'Be brief.\nSum?\n\n1, 2\n {"call": "add"}\n3\nIt is 3.'
    assert text_of(row, "response") == ' {"call": "add"}\nIt is 3.'
    assert text_of(row, "instruction") == "Be brief.\nSum?\n\n1, 2\n3"
    X = embedded(tmp_path, many(20), "response", "float16")
    assert X.dtype == np.float16
    assert np.array_equal(X, np.repeat(X[:1], 20, axis=0))  # all of them say "Yes."


def test_it_is_computed_once(tmp_path, monkeypatch):
    X = embedded(tmp_path, many(20))
    monkeypatch.setattr(text_space, "_projection", None)
    assert embedded(tmp_path, many(20)).tobytes() == X.tobytes()
