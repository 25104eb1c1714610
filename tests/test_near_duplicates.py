"""Near-duplicates against brute force, planted ones, another order of the rows, and texts that could explode."""

import hashlib
import itertools
import json
import random

import numpy as np
import pytest

from diverseevol.data.dataset import load
from diverseevol.data.duplicates import find_duplicates
from diverseevol.data.near_duplicates import Sketches, nearly_equal, shingles

SYLLABLES = ("ba", "con", "dri", "fle", "gor", "hu", "mi", "sta", "pel", "ok", "ze", "tun")
WORDS = [a + b + c for a, b, c in itertools.product(SYLLABLES, repeat=3)]


def sentence(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def changed(rng: random.Random, text: str) -> str:
    """The same in a few other words."""
    words = text.split()
    for _ in range(rng.randrange(1, 1 + len(words) // 2)):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def grams(text: str) -> set[str]:
    text = text.ljust(5)
    return {text[i : i + 5] for i in range(len(text) - 4)}


def are_near(a: str, b: str) -> bool:
    """The rule, of sets of texts."""
    a_grams, b_grams = grams(a), grams(b)
    shared = len(a_grams & b_grams)
    return shared / len(a_grams | b_grams) >= 0.6 or shared / min(len(a_grams), len(b_grams)) >= 0.8


def groups_of(texts: list[str], asked: list[int] | None = None) -> list[int]:
    sketches = Sketches()
    for start in range(0, len(texts), 7):
        sketches.add(texts[start : start + 7])
    content = np.array([int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) for text in texts], dtype=np.uint64)

    def read(numbers):
        if asked is not None:
            asked.append(len(numbers))
        return [(texts[number], texts[number]) for number in numbers]

    return sketches.groups(content, read).tolist()


def brute_force(texts: list[str]) -> list[int]:
    roots = list(range(len(texts)))
    for a, b in itertools.combinations(range(len(texts)), 2):
        if are_near(texts[a], texts[b]):
            low, high = sorted((roots[a], roots[b]))
            roots = [low if root == high else root for root in roots]
    return roots


def test_two_texts_are_compared_as_sets_of_character_5_grams():
    rng = random.Random(1)
    texts = ["", "a", "abcd", "abcde", "abcdef", "ab\U0001f600cdefg", *(sentence(rng, n) for n in range(1, 20))]
    texts += [changed(rng, text) for text in texts if " " in text]
    hashes, starts = shingles(texts)
    sets = [np.unique(part) for part in np.split(hashes, starts[1:])]
    assert [len(part) for part in sets] == [len(grams(text)) for text in texts]
    for (a, first), (b, second) in itertools.combinations(zip(texts, sets, strict=True), 2):
        assert nearly_equal(first, second) == are_near(a, b)


def test_groups_are_those_of_brute_force_where_what_is_near_is_much_alike():
    rng = random.Random(2)
    for _ in range(5):
        texts = [sentence(rng, rng.randrange(8, 30)) for _ in range(40)]
        texts += [f"{rng.choice(WORDS)} {rng.choice(texts)}" for _ in range(40)]
        texts = list(dict.fromkeys(texts))
        assert groups_of(texts) == brute_force(texts)


def test_nothing_is_put_together_that_the_rule_keeps_apart():
    rng = random.Random(3)
    texts = [sentence(rng, rng.randrange(2, 12)) for _ in range(60)]
    for _ in range(3):
        texts = list(dict.fromkeys([*texts, *(changed(rng, text) for text in texts)]))
    exact = brute_force(texts)
    for number, root in enumerate(groups_of(texts)):  # what LSH misses makes groups smaller, never larger
        assert exact[number] == exact[root]


@pytest.mark.parametrize(("words", "floor"), [(8, 0.9), (16, 0.97), (60, 0.99)])
def test_most_planted_near_duplicates_are_found(words, floor):
    rng = random.Random(4)
    originals = list(dict.fromkeys(sentence(rng, words) for _ in range(400)))
    planted = [f"please tell me {text}" for text in originals]
    alike = [i for i, (a, b) in enumerate(zip(originals, planted, strict=True)) if are_near(a, b)]
    roots = groups_of(originals + planted)
    pairs = [roots[i] == roots[len(originals) + i] for i in alike]
    assert len(pairs) > 200
    assert np.mean(pairs) >= floor


def test_groups_do_not_depend_on_the_order_of_the_rows(tmp_path):
    rng = random.Random(5)
    texts = [sentence(rng, 9) for _ in range(60)]
    texts += [changed(rng, text) for text in texts] + texts[:10]
    partitions = []
    for seed in range(3):
        order = random.Random(seed).sample(range(len(texts)), len(texts))
        file = tmp_path / f"rows{seed}.jsonl"
        file.write_text("".join(json.dumps({"instruction": texts[i], "output": "Yes."}) + "\n" for i in order))
        group = find_duplicates(load(file, cache=tmp_path), tmp_path).group
        assert all(group[row] <= row and group[group[row]] == group[row] for row in range(len(texts)))
        members: dict[int, set[int]] = {}
        for row, root in enumerate(group.tolist()):
            members.setdefault(root, set()).add(order[row])
        partitions.append(sorted(map(sorted, members.values())))
    assert partitions[0] == partitions[1] == partitions[2]
    assert 10 < sum(len(group) > 1 for group in partitions[0]) < 100


def test_rows_about_the_same_passage_are_near_only_where_they_ask_and_answer_alike(tmp_path):
    passage, other = (sentence(random.Random(seed), 120) for seed in (6, 7))
    rows = [
        ("Who lived in the old house by the river?", passage, "A miller and two of his daughters did."),
        ("When was the bridge built?", passage, "It was finished in the spring after the flood."),
        ("Who lived in the old house near the river?", passage, "A miller and two of his daughters did."),
        ("Who lived in the old house by the river?", other, "A miller and two of his daughters did."),
        (f"Who lived in the old house by the river? {passage}", "", "A miller and two of his daughters did."),
    ]  # fmt: skip
    file = tmp_path / "rows.jsonl"
    names = ("instruction", "input", "output")
    file.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in rows))
    duplicates = find_duplicates(load(file, cache=tmp_path), tmp_path)
    assert duplicates.group.tolist() == [0, 1, 0, 3, 0]
    assert duplicates.same.tolist() == [0, 1, 2, 3, 0]


def test_a_template_that_many_rows_share_does_not_make_every_pair_a_candidate():
    rng = random.Random(8)
    template = "read what follows and say in one word whether it is friendly or not"
    texts = list(dict.fromkeys(f"{template}: {sentence(rng, 12)}" for _ in range(400)))
    assert not any(are_near(*rng.sample(texts, 2)) for _ in range(50))
    asked: list[int] = []
    groups_of(texts, asked)
    assert 0 < sum(asked) < 10 * len(texts)  # of 79,800 pairs


def test_a_long_row_is_compared_like_any_other():
    rng = random.Random(9)
    book, other = ("".join(rng.choices("abcdefghijklmnopqrstuvwxyz ", k=500_000)) for _ in range(2))
    texts = [sentence(rng, 20), book, f"{book} {sentence(rng, 300)}", other, sentence(rng, 20)]
    assert groups_of(texts) == [0, 1, 1, 3, 4]
