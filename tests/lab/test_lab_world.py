"""The lab's world is right, and says of each skill what the lab needs."""

import re
from collections import Counter

import pytest

from diverseevol.errors import InputError
from diverseevol.lab.skill import Skill, find_world
from diverseevol.lab.split import PARTS, share_out
from diverseevol.lab.world import WORLD

BY_NAME = {skill.name: skill for skill in WORLD}

# Worked out by hand.
KNOWN = [
    ("opposite", ("hot",), "cold"),
    ("opposite", ("cold",), "hot"),
    ("plural", ("cherry",), "cherries"),
    ("plural", ("tooth",), "teeth"),
    ("plural", ("hammer",), "hammers"),
    ("article", ("owl",), "an owl"),
    ("article", ("plum",), "a plum"),
    ("past", ("go",), "went"),
    ("ing_form", ("swim",), "swimming"),
    ("comparative", ("good",), "better"),
    ("superlative", ("heavy",), "heaviest"),
    ("adverb", ("happy",), "happily"),
    ("double", ("34",), "68"),
    ("next_number", ("89",), "90"),
    ("number_word", ("40",), "forty"),
    ("number_word", ("76",), "seventy six"),
    ("number_word", ("12",), "twelve"),
    ("ordinal", ("11",), "11th"),
    ("ordinal", ("22",), "22nd"),
    ("ordinal", ("53",), "53rd"),
    ("even_odd", ("38",), "even"),
    ("larger", ("9", "10"), "10"),
    ("smaller", ("9", "10"), "9"),
    ("sort_numbers", ("9", "50", "10"), "9, 10, 50"),
    ("next_date", ("9", "May"), "10 May"),
    ("hour_later", ("12:55",), "1:55"),
    ("hour_later", ("9:05",), "10:05"),
    ("first_item", ("cat, dog, cow",), "cat"),
    ("second_item", ("cat, dog, cow",), "dog"),
    ("last_item", ("cat, dog, cow",), "cow"),
    ("reverse_list", ("cat, dog, cow",), "cow, dog, cat"),
    ("join_and", ("cat, dog, cow",), "cat, dog and cow"),
    ("count_items", ("cat, dog, cow",), "3"),
    ("remove_first", ("cat, dog, cow",), "dog, cow"),
    ("swap", ("cat", "dog"), "dog and cat"),
    ("append", ("cat", "dog"), "cat, cat, dog"),
    ("negate", ("cat", "old"), "the cat is not old"),
    ("make_question", ("cat", "old"), "is the cat old"),
    ("attribute", ("cat", "old"), "the old cat"),
    ("sound", ("dog",), "woof"),
    ("young", ("cow",), "calf"),
    ("bigger_animal", ("mouse", "horse"), "horse"),
    ("bigger_animal", ("whale", "ant"), "whale"),
    ("workplace", ("baker",), "bakery"),
]


@pytest.mark.parametrize(("name", "arguments", "answer"), KNOWN)
def test_answers_agree_with_those_worked_out_by_hand(name, arguments, answer):
    assert BY_NAME[name].answer(*arguments) == answer


def test_there_are_about_forty_skills_asked_in_several_ways_with_and_without_input():
    assert 40 <= len(WORLD) <= 50
    for skill in WORLD:
        inputs = Counter(" | " in phrasing for phrasing in skill.phrasings)
        assert inputs.keys() == {True, False}, skill.name


@pytest.mark.parametrize("skill", WORLD, ids=lambda skill: skill.name)
def test_every_skill_is_declared_whole(skill):
    assert len(set(skill.arguments)) == len(skill.arguments) >= 30
    for arguments in skill.arguments[:200]:
        answer = skill.answer(*arguments)
        assert answer
        assert answer == answer.strip()
        assert answer in skill.respond(arguments)
        before, after = skill.state(arguments)
        assert all(argument in before for argument in arguments)  # what the gate asks can be answered
        assert after.startswith(answer)
        for phrasing in range(len(skill.phrasings)):
            text = " ".join(skill.ask(arguments, phrasing))
            assert all(argument in text for argument in arguments)
            assert not re.search(r"[{}|]", text)


def test_no_two_questions_of_the_world_are_worded_alike():
    asked = [skill.ask(x, i) for skill in WORLD for x in skill.arguments for i in range(len(skill.phrasings))]
    assert len(set(asked)) == len(asked)


def test_every_skill_has_arguments_in_every_part_and_none_in_two():
    for skill in WORLD:
        shares = [share_out(WORLD)[skill.name, part] for part in PARTS]
        assert all(shares), skill.name
        assert sorted(x for share in shares for x in share) == sorted(skill.arguments)
        assert len(shares[0]) >= 13, skill.name  # as many as the rarest of forty skills needs


def test_facts_of_several_skills_stay_together():
    shares = share_out(WORLD)
    places = {}
    for skill in WORLD:
        for part in PARTS:
            for arguments in shares[skill.name, part]:
                assert places.setdefault(skill.fact_of(arguments), part) == part, (skill.name, arguments)
    where = {(skill.name, x): part for skill in WORLD for part in PARTS for x in shares[skill.name, part]}
    turned = [(a, b) for name, (a, *b) in where if name == "larger" for b in b if ("larger", (b, a)) in where]
    assert len(turned) > 100
    assert all(where["larger", (a, b)] == where["larger", (b, a)] for a, b in turned)
    assert where["opposite", ("hot",)] == where["opposite", ("cold",)]
    assert where["bigger_animal", ("cat", "ant")] == where["bigger_animal", ("ant", "cat")]
    assert where["comparative", ("good",)] == where["superlative", ("good",)]
    assert where["negate", ("cat", "old")] == where["attribute", ("cat", "old")]


SMALL = tuple(
    Skill(
        name, tuple((str(n),) for n in range(80)), lambda n: n[::-1], ("Turn {0}. " + name, name + " | {0}"),
        ("Turning {0} gives {a}.",),
    )
    for name in ("turn", "twist")
)  # fmt: skip
TWICE = (SMALL[0], SMALL[0])


def test_a_world_of_ones_own_is_found_by_its_name():
    assert find_world(f"{__name__}.SMALL") is SMALL


@pytest.mark.parametrize(
    "name", ["nowhere.WORLD", "diverseevol.lab.world.NONE", "WORLD", f"{__name__}.KNOWN", f"{__name__}.TWICE"]
)
def test_what_is_not_a_world_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"world={name}: "):
        find_world(name)
