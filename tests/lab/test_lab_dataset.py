"""The lab's rows have the faults that they are asked to have, and only those."""

from collections import Counter

import numpy as np
import pytest

from diverseevol import lab
from diverseevol.data.dataset import Dataset
from diverseevol.errors import InputError
from diverseevol.evolution.metrics.base import MeasuredRound, measure_all
from diverseevol.lab.metrics import DuplicateShare, NoisyShare, SkillsCovered
from diverseevol.lab.rows import Mix, apportion, frequencies, make_rows
from diverseevol.lab.split import share_out
from diverseevol.lab.world import WORLD


@pytest.fixture(scope="module")
def rows():
    return make_rows(WORLD, Mix())


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(rows):
    assert make_rows(WORLD, Mix()) == rows
    other = make_rows(WORLD, Mix(seed=1))
    asked = {(row["instruction"], row["input"]) for row in rows}
    assert sum((row["instruction"], row["input"]) in asked for row in other) < 0.3 * len(other)


@pytest.mark.parametrize(
    "mix", [Mix(seed=3), Mix(seed=4, skew=2.0), Mix(size=9000, skew=0.0, noise=0.3, duplicates=0.4)]
)
def test_no_two_rows_ask_in_the_same_words(mix):
    made = make_rows(WORLD, mix)
    assert len(made) == mix.size
    assert len({(row["instruction"], row["input"]) for row in made}) == mix.size


@pytest.mark.parametrize(("noise", "duplicates", "size"), [(0.0, 0.0, 500), (0.01, 0.1, 4000), (0.2, 0.3, 1000)])
def test_as_many_rows_are_noisy_or_near_duplicates_as_was_asked_for(noise, duplicates, size):
    made = make_rows(WORLD, Mix(size=size, noise=noise, duplicates=duplicates))
    assert sum(bool(row["noisy"]) for row in made) == round(noise * size)
    assert sum(bool(row["duplicate"]) for row in made) == round(duplicates * size)


def test_near_duplicates_differ_from_their_originals_in_several_ways(rows):
    kinds = Counter(row["duplicate"] for row in rows if row["duplicate"])
    assert set(kinds) == {"wrapped", "punctuated", "rephrased"}
    assert min(kinds.values()) > 40


def test_a_near_duplicate_asks_what_another_row_asks_and_originals_never_do():
    made = make_rows(WORLD, Mix(noise=0.0))
    by_answer = {(skill.name, skill.respond(x)) for skill in WORLD for x in share_out(WORLD)[skill.name, "source"]}
    originals = Counter((row["skill"], row["output"]) for row in made if not row["duplicate"])
    assert set(originals) <= by_answer
    duplicates = [row for row in made if row["duplicate"]]
    assert duplicates
    assert all((row["skill"], row["output"]) in originals for row in duplicates)
    reversals = Counter(row["output"] for row in made if row["skill"] == "reverse_list" and not row["duplicate"])
    assert set(reversals.values()) == {1}  # its answers tell its arguments


@pytest.fixture(scope="module")
def about():
    """What each question of the world is about, by its skill and texts."""
    return {
        (skill.name, *skill.ask(x, phrasing)): x
        for skill in WORLD
        for x in share_out(WORLD)[skill.name, "source"]
        for phrasing in range(len(skill.phrasings))
    }


@pytest.mark.parametrize(("mix", "repeats"), [({}, False), ({"skew": 0.0}, True), ({"size": 9000}, True)])
def test_rows_of_one_skill_about_the_same_are_labelled_all_but_one(about, mix, repeats):
    made = make_rows(WORLD, Mix(noise=0.0, **mix))
    first = [row for row in made if not row["duplicate"]]
    asked = Counter((row["skill"], about[row["skill"], row["instruction"], row["input"]]) for row in first)
    assert set(asked.values()) == {1}
    added = round(0.1 * len(made))
    assert (len(made) - len(first) > added) == repeats
    again = [row for row in made if row["duplicate"] == "rephrased"]
    known = [(row["skill"], about[row["skill"], row["instruction"], row["input"]]) for row in again]
    assert set(known) <= set(asked)  # there is an unlabelled row that they repeat


def test_the_labels_of_repeated_rows_do_not_change_what_the_rows_say(about):
    """Each small skill has all its arguments once before any is asked about again."""
    made = make_rows(WORLD, Mix(noise=0.0, duplicates=0.0, skew=0.0))
    rows = Counter(row["skill"] for row in made)
    unlabelled = Counter(row["skill"] for row in made if not row["duplicate"])
    for skill in WORLD:
        assert unlabelled[skill.name] == min(rows[skill.name], len(share_out(WORLD)[skill.name, "source"]))


def test_noise_spoils_a_row_and_the_others_are_right(rows):
    right = {(skill.name, skill.respond(x)) for skill in WORLD for x in skill.arguments}
    unspoiled = [row for row in rows if not row["noisy"]]
    assert len(unspoiled) > len(rows) / 2
    assert all((row["skill"], row["output"]) in right for row in unspoiled)
    spoiled = [row for row in rows if row["noisy"] in ("words", "other")]
    assert not [row for row in spoiled if (row["skill"], row["output"]) in right]
    assert {row["noisy"] for row in rows} == {"", "words", "other", "garbled"}


@pytest.mark.parametrize(("skew", "size"), [(0.0, 2000), (0.7, 3000), (1.1, 4000), (1.5, 4000)])
def test_frequencies_follow_the_power_law(skew, size):
    counts = list(frequencies(WORLD, Mix(size=size, skew=skew, duplicates=0.0)).values())
    share = np.arange(1, len(WORLD) + 1.0) ** -skew
    np.testing.assert_allclose(counts, size * share / share.sum(), atol=4)
    assert sum(counts) == size


def test_where_small_skills_run_out_of_words_the_others_take_their_rows():
    counts = frequencies(WORLD, Mix(size=4000, skew=0.0, duplicates=0.0))
    room = {s.name: len(s.phrasings) * len(share_out(WORLD)[s.name, "source"]) for s in WORLD}
    full = {name for name, count in counts.items() if count == room[name]}
    assert 0 < len(full) < len(WORLD)
    others = [count for name, count in counts.items() if name not in full]
    assert max(others) - min(others) <= 1
    assert sum(counts.values()) == 4000


def test_which_skill_is_frequent_depends_on_the_seed_alone():
    heads = [next(iter(frequencies(WORLD, Mix(seed=seed)))) for seed in range(40)]
    large = {skill.name for skill in WORLD if len(share_out(WORLD)[skill.name, "source"]) > 1000}
    assert set(heads) <= large
    assert len(set(heads)) > len(large) / 2
    assert max(Counter(heads).values()) < 12
    one = frequencies(WORLD, Mix(seed=5))
    assert one == frequencies(WORLD, Mix(seed=5, noise=0.5))


def test_the_first_eight_ranks_are_drawn_among_eighteen_skills_which_hold_four_fifths_of_the_rows():
    ranked = [frequencies(WORLD, Mix(seed=seed)) for seed in range(100)]
    first = {name for counts in ranked for name in list(counts)[:8]}
    assert len(first) == 18
    assert min(len(share_out(WORLD)[name, "source"]) for name in first) > 100
    for counts in ranked[:10]:
        assert 0.78 < sum(counts[name] for name in first) / sum(counts.values()) < 0.815


def test_a_size_beyond_the_world_is_refused():
    with pytest.raises(InputError, match=r"data\.size is 500000, but this world has words for"):
        frequencies(WORLD, Mix(size=500_000))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"skew": -1.0}, {"noise": 1.5}, {"duplicates": 0.6}, {"seed": -1}])
def test_options_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError, match=rf"data\.{next(iter(wrong))} "):
        Mix(**wrong)


def test_largest_remainders_keep_the_sum():
    assert apportion(np.array([1.0, 1.0, 1.0]), 10).tolist() in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    assert apportion(np.array([5.0, 3.0, 0.0]), 8).tolist() == [5, 3, 0]


def test_the_source_carries_its_labels_for_analysis(cache, rows):
    dataset = lab.load(cache=cache)
    assert len(dataset) == 4000
    labels = lab.labels(dataset)
    assert list(labels.skill) == [row["skill"] for row in rows]
    assert labels.noisy.tolist() == [bool(row["noisy"]) for row in rows]
    assert labels.duplicate.tolist() == [bool(row["duplicate"]) for row in rows]
    assert lab.load(cache=cache).fingerprint == dataset.fingerprint
    assert lab.load(cache=cache, seed=1).fingerprint != dataset.fingerprint


def test_a_pool_of_the_lab_is_measured_by_its_labels(cache):
    of_lab = lab.load(size=300, noise=0.2, duplicates=0.3, cache=cache)
    rows = make_rows(WORLD, Mix(size=300, noise=0.2, duplicates=0.3))
    for pool in (np.arange(0, 300, 3), np.array([7]), np.arange(300)[::-1]):
        ours = [rows[row] for row in pool]
        assert measured_of(of_lab, pool) == {
            "skills_covered": len({row["skill"] for row in ours if row["noisy"] == ""}),
            "noisy_share": sum(row["noisy"] != "" for row in ours) / len(ours),
            "duplicate_share": sum(row["duplicate"] != "" for row in ours) / len(ours),
        }


def test_the_labs_metrics_refuse_other_rows(dataset):
    with pytest.raises(InputError, match="only data=lab does"):
        measured_of(dataset, np.arange(3))


def measured_of(dataset: Dataset, pool: np.ndarray) -> dict[str, float]:
    rows = np.arange(len(dataset))
    this = MeasuredRound(0, pool, dataset, rows, np.ones_like(rows), [])
    return measure_all([SkillsCovered(), NoisyShare(), DuplicateShare()], this)


def test_labels_of_other_data_sets_are_refused(dataset):
    with pytest.raises(InputError, match="only data=lab does"):
        lab.labels(dataset)


def test_another_share_of_noise_spoils_more_or_fewer_of_the_same_rows():
    few, more, none = (make_rows(WORLD, Mix(size=600, noise=share, seed=3)) for share in (0.02, 0.1, 0.0))
    spoiled = [{i for i, row in enumerate(rows) if row["noisy"]} for rows in (few, more, none)]
    assert spoiled[0] < spoiled[1]
    assert spoiled[2] == set()
    assert [row["skill"] for row in few] == [row["skill"] for row in more] == [row["skill"] for row in none]
    sound = set(range(600)) - spoiled[1]
    assert all(more[i] == none[i] for i in sound)
    assert all(few[i] == more[i] for i in spoiled[0])
