"""The lab's benchmarks ask what no row asks, and their right answers are worth ten."""

import re
from collections import Counter

import pytest

from diverseevol import lab
from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.judges.without_model import Gold
from diverseevol.lab.rows import Mix, frequencies, make_rows
from diverseevol.lab.skills.lists import WORDS
from diverseevol.lab.skills.words import MORE as ADJECTIVES
from diverseevol.lab.world import WORLD

NUMBERS = ("larger", "smaller", "sort_numbers")
LISTS = (
    "first_item", "second_item", "last_item", "reverse_list", "join_and", "count_items", "remove_first", "swap",
    "append",
)  # fmt: skip
DEGREES = ("comparative", "superlative")
SENTENCES = ("negate", "make_question", "attribute")


@pytest.fixture(scope="module")
def benchmarks(cache):
    return {b.name: b for b in (*lab.both(cache=cache), *lab.development(cache=cache))}


def content(skill, instruction, given, response):
    """What a question is about, read off its text alone: equal for questions that one fact answers.

    Nothing of the generator is used here but its lists of nouns and adjectives.
    """
    text = f"{instruction} {given}"
    numbers = [int(n) for n in re.findall(r"\d+", text)]
    if skill in NUMBERS:
        return ("order", *sorted(numbers))
    words = [word for word in re.findall(r"[A-Za-z]+", text) if word in WORDS]
    if skill in LISTS:
        return ("words", *sorted(words))
    if skill == "bigger_animal":
        return ("size", *sorted(words))
    if skill in SENTENCES:
        return ("described", *words, *(word for word in re.findall(r"[a-z]+", text) if word in ADJECTIVES))
    if skill in DEGREES:
        return ("degrees", *[word for word in re.findall(r"[a-z]+", text) if word in ADJECTIVES][-1:])
    if skill == "opposite":
        asked = re.findall(r"(?:opposite of|contrary of) (\w+)|^Give the opposite of the word\. (\w+)$", text)
        asked = next((a or b for a, b in asked if (a or b) != "the"), "") or text.split()[-1]
        return ("opposite", *sorted((asked, response.removeprefix("It is ").rstrip("."))))
    return (skill, text)


def asked_by_rows(**options):
    made = make_rows(WORLD, Mix(noise=0.0, duplicates=0.0, **options))
    return {content(row["skill"], row["instruction"], row["input"], row["output"]) for row in made}


def contents(benchmark):
    return {content(q.category, q.instruction, q.input, q.reference) for q in benchmark.questions}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_row_gives_a_question_away(benchmarks, seed):
    rows = asked_by_rows(seed=seed, size=6000, skew=0.3)
    assert len(rows) > 4000
    for benchmark in benchmarks.values():
        assert not rows & contents(benchmark), benchmark.name


def test_the_benchmarks_share_no_question(benchmarks):
    names = list(benchmarks)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            assert not contents(benchmarks[one]) & contents(benchmarks[other]), (one, other)


def test_the_balanced_benchmarks_ask_equally_often_of_every_skill(benchmarks):
    assert set(Counter(q.category for q in benchmarks["lab"].questions).values()) == {8}
    assert set(Counter(q.category for q in benchmarks["lab_development"].questions).values()) == {6}
    assert len(benchmarks["lab"].questions) == 8 * len(WORLD) >= 240


@pytest.mark.parametrize("options", [{}, {"seed": 7}, {"skew": 0.5, "seed": 2}, {"duplicates": 0.0}])
def test_the_natural_benchmark_asks_as_often_as_the_rows_do(cache, options):
    (natural,) = lab.natural(cache=cache, **options)
    asked = Counter(q.category for q in natural.questions)
    assert len(natural.questions) == 240
    rows = frequencies(WORLD, Mix(**options))
    base = {**options, "size": sum(rows.values()), "duplicates": 0.0}  # no row is added to ask again
    assert rows == Counter(row["skill"] for row in make_rows(WORLD, Mix(**base)))
    for skill in WORLD:
        assert abs(asked[skill.name] - 240 * rows[skill.name] / sum(rows.values())) < 1


def test_ids_and_texts_are_unique(benchmarks):
    for benchmark in benchmarks.values():
        assert len({q.id for q in benchmark.questions}) == len(benchmark.questions)
        assert len({(q.instruction, q.input) for q in benchmark.questions}) == len(benchmark.questions)
        assert {q.category for q in benchmark.questions} <= {skill.name for skill in WORLD}


def test_right_answers_are_worth_ten_and_no_answer_one(benchmarks):
    for benchmark in benchmarks.values():
        right = {q.id: q.reference for q in benchmark.questions}
        assert {j.model_score for j in Gold().judge(AnswerSheet(benchmark, right))} == {10}
        assert {j.model_score for j in Gold().judge(AnswerSheet(benchmark, dict.fromkeys(right, "zzz")))} == {1}
        assert {j.competitor_score for j in Gold().judge(AnswerSheet(benchmark, right))} == {10}


def test_the_same_options_give_the_same_questions(cache, benchmarks):
    assert lab.both(cache=cache)[1].fingerprint == benchmarks["lab_natural"].fingerprint
    assert lab.natural(cache=cache, seed=1)[0].fingerprint != benchmarks["lab_natural"].fingerprint
