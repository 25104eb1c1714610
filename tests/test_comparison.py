import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations, product
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_rel

from diverseevol.errors import InputError
from diverseevol.evaluation.judges.base import Judgement
from diverseevol.evaluation.scores.comparison import Comparison, holm, over_seeds
from diverseevol.evaluation.scores.comparison import compare as comparison_of
from diverseevol.evaluation.scores.frame import Frame, Row, frame_of, judged_row
from diverseevol.evaluation.scores.models import Model
from diverseevol.evaluation.scores.pairing import pair_up
from diverseevol.evaluation.scores.scoreboard import score_folder
from diverseevol.evaluation.scores.scores import ByQuestion, score
from diverseevol.evaluation.scores.tables import comparison_tables
from diverseevol.output.console import Console

VICUNA = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "gpt4_judgments" / "vicuna_test.tar.xz"
QUESTIONS = 20
POINTS = [Judgement(f"{i:02d}", 0, 5.0, 10.0, "gold", "1", "") for i in range(QUESTIONS)]
SCORES = score(POINTS)


def scored(schedule: str, seed: int | None, relative_score: float, t: int = 2, **changes: object) -> dict:
    """A model whose every answer is worth the same."""
    ids = tuple(one.question_id for one in POINTS)
    answers = ByQuestion(ids, np.full(QUESTIONS, relative_score / 10), np.full(QUESTIONS, 10.0))
    scores = replace(SCORES, relative_score=float(relative_score), by_question=answers)
    model = Model("lab/tiny", schedule, seed, t)
    facts = {"prompt_version": "1", "file": f"{schedule}/seed{seed}/{t}", "scores": scores}
    return {**judged_row(model, "lab", vars(scores)), **facts, **changes}


def runs(schedule: str, relative_scores: Sequence[float], t: int = 2) -> list[dict]:
    return [scored(schedule, seed, value, t) for seed, value in enumerate(relative_scores)]


def asked(row: dict, **changes: object) -> dict:
    """The row with other questions or scores of them."""
    return {**row, "scores": replace(row["scores"], by_question=replace(row["scores"].by_question, **changes))}


def compare(rounds: Sequence[dict], baseline: str, endpoint: int | None = None) -> Comparison:
    return comparison_of(frame_of(rounds), baseline, endpoint)


def compare_samplers(rounds: Sequence[dict], baseline: str, endpoint: int | None = None) -> list[SimpleNamespace]:
    groups = pair_up(frame_of(rounds), baseline, endpoint)
    return [SimpleNamespace(**verdict) for group in groups for verdict in over_seeds(group, endpoint)]


def compare_models(rounds: Sequence[dict], baseline: str, endpoint: int | None = None) -> list[Row]:
    return listed(compare(rounds, baseline, endpoint).models)


def listed(frame: Frame) -> list[Row]:
    return list(frame.itertuples())


def test_the_sampler_verdict_is_the_paired_t_test_over_seeds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        ours, base = rng.normal(50, 3, size=(2, 5)) + rng.normal(0, 5, size=5)
        (verdict,) = compare_samplers(runs("kc", ours) + runs("rand", base), "rand")
        oracle = ttest_rel(ours, base)
        assert verdict.p == pytest.approx(oracle.pvalue)
        assert (verdict.ci_low, verdict.ci_high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
        assert verdict.differences == pytest.approx(ours - base)


@pytest.mark.parametrize(("shift", "expected"), [(5, "better"), (-5, "worse"), (0, "cannot tell")])
def test_a_difference_that_every_seed_shows_is_a_verdict(shift, expected):
    base = np.array([40.0, 50.0, 45.0, 60.0])
    ours = base + shift + np.array([0.5, -0.5, 0.2, -0.2])
    (verdict,) = compare_samplers(runs("kc", ours) + runs("rand", base), "rand")
    assert verdict.verdict == expected


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_cannot_tell_however_large_the_difference(seeds):
    (verdict,) = compare_samplers(runs("kc", [90] * seeds) + runs("rand", [10] * seeds), "rand")
    assert verdict.verdict == f"cannot tell: {seeds} seed{'s' if seeds > 1 else ''}"
    assert (verdict.p, verdict.ci_low, verdict.mean_difference) == (None, None, 80)


def test_neither_equal_samplers_nor_a_difference_without_noise_can_be_told_apart():
    assert compare_samplers(runs("kc", [4, 5, 6]) + runs("rand", [4, 5, 6]), "rand")[0].verdict == "cannot tell"
    (same,) = compare_samplers(runs("kc", [5.1, 6.1, 7.1]) + runs("rand", [4, 5, 6]), "rand")
    assert same.verdict == "cannot tell: all seeds differ by the same, which leaves no noise to test against"
    assert (same.p, same.ci_low, same.mean_difference) == (None, None, pytest.approx(1.1))


def test_holm_agrees_with_its_definition():
    rng = np.random.default_rng(0)
    for n in (1, 2, 5):
        p = rng.random(n) / 3
        ranked = sorted(p)
        expected = [min(1.0, max(ranked[j] * (n - j) for j in range(ranked.index(x) + 1))) for x in p]
        assert holm(p) == pytest.approx(expected)


def test_several_samplers_against_one_baseline_are_corrected_together():
    base = [50.0, 52.0, 47.0, 55.0]
    ours = [b + d for b, d in zip(base, [1.0, 2.0, 3.0, 3.5], strict=True)]
    noise = [b + d for b, d in zip(base, [3.0, -3.0, 2.0, -2.0], strict=True)]
    alone = compare_samplers(runs("kc", ours) + runs("rand", base), "rand")[0]
    rounds = runs("kc", ours) + runs("rand", base) + runs("lc", noise) + runs("ms", noise) + runs("xx", [1.0])
    verdicts = {v.schedule: v for v in compare_samplers(rounds, "rand")}
    assert (alone.verdict, alone.p_holm) == ("better", alone.p)
    assert verdicts["kc"].p == pytest.approx(alone.p)
    assert verdicts["kc"].p_holm == pytest.approx(3 * alone.p)  # xx has one seed and is no test
    assert verdicts["kc"].verdict == "cannot tell"
    assert verdicts["xx"].verdict == "cannot tell: 1 seed"


def test_the_endpoint_is_the_largest_round_that_both_have_unless_one_is_given():
    rounds = [*runs("kc", [50] * 3, 1), *runs("kc", [70, 71, 72], 10), *runs("rand", [60] * 3, 1)]
    (common,) = compare_samplers(rounds, "rand")
    assert (common.rounds, common.mean_difference) == ((1, 1), -10)
    (first,) = compare_samplers(rounds, "rand", endpoint=1)
    assert (first.rounds, first.mean_difference) == ((1, 1), -10)
    with pytest.raises(InputError, match="round=7"):
        compare_samplers(rounds, "rand", endpoint=7)


def test_an_unfinished_seed_is_left_out_by_name():
    rounds = [*runs("kc", [50] * 4, 2), *runs("rand", [60] * 3, 2), scored("rand", 3, 60, 1)]
    (verdict,) = compare_samplers(rounds, "rand")
    assert verdict.seeds == (0, 1, 2)
    assert verdict.left_out == ("seed 3: rand has no scores of round 2",)


def test_models_from_different_initial_pools_do_not_pair():
    pools = [one | {"initial_pool": (100, "x")} for one in runs("kc", [50] * 4)]
    base = [one | {"initial_pool": (100, "y" if one["seed"] == 1 else "x")} for one in runs("rand", [60] * 4)]
    full = [one | {"initial_pool": (9000, "z")} for one in runs("full", [70] * 4)]
    kc, whole = sorted(compare_samplers(pools + base + full, "rand"), key=lambda v: v.schedule == "full")
    assert (kc.seeds, kc.left_out) == ((0, 2, 3), ("seed 1: not from the same P_0",))
    assert whole.seeds == (0, 1, 2, 3)  # all rows are another P_0 by intent


def test_sources_judges_prompts_and_benchmarks_are_compared_within_themselves():
    both = runs("kc", [50] * 3) + runs("rand", [60] * 3)
    others = [one | {key: "other"} for key in ("source", "judge", "prompt_version", "benchmark") for one in both]
    verdicts = compare_samplers(both + others, "ran*")
    assert len(verdicts) == 5
    assert all(v.seeds == (0, 1, 2) for v in verdicts)


def test_an_unknown_or_ambiguous_baseline_is_a_sentence():
    rounds = runs("kc", [50]) + runs("rand-a", [60]) + runs("rand-b", [60])
    with pytest.raises(InputError, match=r"baseline=nobody: .*kc, rand-a, rand-b"):
        compare_samplers(rounds, "nobody")
    with pytest.raises(InputError, match="fits rand-a and rand-b"):
        compare_samplers(rounds, "rand-*")
    with pytest.raises(InputError, match="there is only one sampler"):
        compare_samplers(runs("rand", [60]), "rand")


def test_models_that_answered_different_questions_are_not_compared():
    ids = (*(one.question_id for one in POINTS[:-1]), "else")
    ours = [asked(one, ids=ids) for one in runs("kc", [50])]
    with pytest.raises(InputError, match="not the same questions"):
        compare_models(ours + runs("rand", [60]), "rand")


def noisy(schedule: str, values: np.ndarray, seed: int | None = 0) -> dict:
    judged = [replace(one, model_score=float(v)) for one, v in zip(POINTS, values, strict=True)]
    scores = score(judged)
    return scored(schedule, seed, scores.relative_score, scores=scores)


def test_the_model_verdict_pairs_the_questions():
    """The same gap on every question is certain, though each model's own interval is wide."""
    base = np.linspace(1, 9, QUESTIONS)
    (paired,) = compare_models([noisy("kc", base + 0.5), noisy("rand", base)], "rand")
    assert (paired.ci_low, paired.ci_high) == pytest.approx((5, 5))
    assert (paired.verdict, paired.difference) == ("better", pytest.approx(5))
    (shuffled,) = compare_models([noisy("kc", base[::-1] + 0.5), noisy("rand", base)], "rand")
    assert shuffled.verdict == "cannot tell"


def test_the_two_levels_are_never_confused():
    """One seed decides about two models and cannot decide about two samplers."""
    base = np.linspace(1, 9, QUESTIONS)
    comparison = compare([noisy("kc", base + 0.5), noisy("rand", base)], "rand")
    assert listed(comparison.models)[0].verdict == "better"
    assert listed(comparison.samplers)[0].verdict == "cannot tell: 1 seed"


def test_the_result_is_json_and_its_tables_say_what_they_are():
    rounds = runs("kc", [50, 51, 52], 1) + runs("kc", [40, 41, 42]) + runs("rand", [60, 60, 61])
    rounds = [one | {"scores": replace(one["scores"], label="smoke measure")} for one in rounds]
    comparison = compare(rounds, "rand")
    record = json.loads(json.dumps(comparison.record(), allow_nan=False))
    assert {v["verdict"] for v in record["samplers"]} == {"worse"}
    assert {b["label"].split(":")[0] for b in record["best_rounds"]} == {"picked after the fact"}
    assert [b["round"] for b in record["best_rounds"] if b["schedule"] == "kc"] == [1, 1, 1]
    console = Console(width=200)
    with console.capture() as capture:
        for table in comparison_tables(comparison):
            console.print(table)
    text = capture.get()
    for words in ("These two samplers (final round)", "These two models (final round)", "picked after the fact"):
        assert words in text
    assert text.count("gold: smoke measure") == 3
    assert "Best rounds, picked after the fact, of pools of different sizes" in text


def test_random_against_random_is_told_apart_in_at_most_about_five_percent():
    """Seeds share P_0 (a common effect) and differ by picks and training; three samplers that are all one recipe."""
    rng = np.random.default_rng(0)
    alone, family, trials = 0, 0, 800
    for trial in range(trials):
        seeds = 3 + trial % 3
        values = 50 + rng.normal(0, 5, size=seeds) + rng.normal(0, 3, size=(4, seeds))
        names = ("a", "b", "c", "base")
        models = {name: runs(name, row) for name, row in zip(names, values, strict=True)}
        alone += not compare_samplers(models["a"] + models["base"], "base")[0].verdict.startswith("cannot tell")
        verdicts = compare_samplers([one for name in names for one in models[name]], "base")
        family += any(not v.verdict.startswith("cannot tell") for v in verdicts)
    assert 0.03 < alone / trials < 0.07
    assert family / trials < 0.065


@pytest.mark.skipif(
    not VICUNA.is_file(), reason="DIVERSEEVOL_TEST_DATA names no folder with gpt4_judgments/vicuna_test.tar.xz"
)
def test_released_models_of_one_recipe_are_not_called_better_or_worse_samplers():
    """Round 0 of the four schedules is one recipe on different random rows. Each data set gives one pair of them as a
    seed, in every combination but the mirrored. The two-model verdict, which knows nothing of seeds, errs more often.
    """
    rows = score_folder(VICUNA).frame.to_dict("records")
    first = [r for r in rows if r["round"] == 0 and not r["schedule"].startswith("baseline")]
    dolly, davinci, gpt4 = ([r for r in first if r["source"] == name] for name in ("dolly", "davinci", "gpt4"))

    def told_apart(verdicts: Sequence[str]) -> float:
        counts = Counter(verdict.startswith("cannot tell") for verdict in verdicts)
        return counts[False] / counts.total()

    samplers = [
        compare_samplers(
            [
                one | {"source": "x", "schedule": name, "seed": seed}
                for seed, pair in enumerate(pairs)
                for name, one in zip("ab", pair, strict=True)
            ],
            "b",
        )[0].verdict
        for pairs in product(combinations(dolly, 2), permutations(davinci, 2), permutations(gpt4, 2))
    ]
    models = [
        compare_models([one | {"schedule": "a"}, other | {"schedule": "b"}], "b")[0].verdict
        for group in (dolly, davinci, gpt4)
        for one, other in combinations(group, 2)
    ]
    assert told_apart(samplers) <= 0.05
    assert told_apart(models) > 0.1


def grown(schedule: str, relative_scores: Sequence[float], t: int, size: int | None, start: int = 100):
    pool = None if size is None else (start, "x")
    return [one | {"rows": size, "initial_pool": pool} for one in runs(schedule, relative_scores, t)]


OURS, BASE = [70, 71, 73], [60, 60, 61]


@pytest.mark.parametrize(
    ("names", "ours", "base", "reason"),
    [
        (("kc-iterative", "random-iterative"), (10, 1100), (3, 400), "pools of 1,100 and 400 rows"),
        (("kc-iterative", "random-iterative"), (10, 1100), (3, 1100), None),
        (("kc-iterative", "random-iterative-1a2b3c4d"), (10, None), (3, None), "rounds 10 and 3"),
        (("kc_dolly_x", "rand_dolly_x"), (10, None), (3, None), "rounds 10 and 3"),
        (("kc-one_time", "random-iterative"), (1, None), (10, None), None),
        (("kc-one_time", "random-iterative"), (1, 1100), (10, 1100), None),
        (("kc-one_time", "random-iterative"), (1, 1100), (3, 400), "pools of 1,100 and 400 rows"),
        (("random-full", "random-iterative"), (0, 9000), (10, 1100), None),
        (("baseline_dolly", "rand_dolly_x"), (0, None), (10, None), None),
    ],
)
def test_samplers_that_have_come_differently_far_cannot_be_told_apart(names, ours, base, reason):
    start = 9000 if "full" in names[0] else 100
    rounds = grown(names[0], OURS, *ours, start=start) + grown(names[1], BASE, *base)
    comparison = compare(rounds, names[1])
    expected = "better" if reason is None else f"cannot tell: {reason}"
    assert [v.verdict for v in listed(comparison.samplers)] == [expected]
    assert {v.verdict for v in listed(comparison.models)} == {expected}


def evolution(schedule: str, seed: int, last: int, score: float = 60.0, step: int = 40, start: int = 40):
    """One seed's judged rounds, from the first pool of `start` rows on."""
    return [
        scored(schedule, seed, score + t + seed, t, rows=start + t * step, initial_pool=(start, f"{seed}"))
        for t in range(last + 1)
    ]


def said_of(comparison: Comparison) -> str:
    console = Console(width=300)
    with console.capture() as capture:
        for table in comparison_tables(comparison):
            console.print(table)
    return capture.get()


def test_a_seed_that_has_come_further_is_compared_where_all_arms_are():
    rounds = [
        *evolution("kcenter-iterative", 0, 7), *evolution("kcenter-iterative", 1, 2),
        *evolution("random-iterative", 0, 2), *evolution("random-iterative", 1, 2),
    ]  # fmt: skip
    comparison = compare(rounds, "random-*")
    (verdict,) = listed(comparison.samplers)
    assert (verdict.seeds, verdict.rounds, verdict.rows) == ((0, 1), (2, 2), (120, 120))
    assert comparison.endpoint == "pools of 120 rows"
    assert comparison.not_compared == (
        "left aside: lab/tiny, kcenter-iterative, seed 0: rounds 3 to 7 (160 to 320 rows); compared is a pool of 120 "
        "rows, the largest that all arms of a seed have; round=… compares another",
    )
    text = said_of(comparison)
    assert "These two samplers (pools of 120 rows)" in text
    assert "rounds 3 to 7" in text
    assert json.loads(json.dumps(comparison.record()))["left_aside"] == list(comparison.not_compared)
    early = compare(rounds, "random-*", endpoint=1)
    assert (early.endpoint, early.not_compared, listed(early.samplers)[0].rows) == ("round 1", (), (80, 80))


def test_only_some_rounds_may_be_judged():
    rounds = [one for one in evolution("a-iterative", 0, 7) if one["round"] in (2, 7)]
    rounds += [one for one in evolution("random-iterative", 0, 7) if one["round"] == 2]
    (verdict,) = listed(compare(rounds, "random-*").samplers)
    assert verdict.rows == (120, 120)


def test_a_third_arm_holds_back_the_others_and_all_rows_hold_back_nobody():
    rounds = [
        *evolution("kcenter-iterative", 0, 7), *evolution("random-iterative", 0, 7),
        *evolution("margin-iterative", 0, 4),
        *evolution("random-full", 0, 0, start=4000),
    ]  # fmt: skip
    comparison = compare(rounds, "random-iterative")
    rows = {verdict.schedule: verdict.rows for verdict in listed(comparison.samplers)}
    assert rows == {"kcenter-iterative": (200, 200), "margin-iterative": (200, 200), "random-full": (4000, 200)}
    assert comparison.endpoint == "pools of 200 rows; full: all rows"
    against_all = compare(rounds, "random-full")
    assert {verdict.rows for verdict in listed(against_all.samplers)} == {(200, 4000)}


def test_seeds_that_have_not_come_as_far_as_most_are_left_out_by_name():
    rounds = [one for seed in range(4) for one in evolution("kcenter-iterative", seed, 7)]
    rounds += [one for seed in range(4) for one in evolution("random-iterative", seed, 7 if seed else 1)]
    (verdict,) = listed(compare(rounds, "random-*").samplers)
    assert (verdict.seeds, verdict.rows) == ((1, 2, 3), (320, 320))
    assert verdict.left_out == ("seed 0: random-iterative has no scores of a pool of 320 rows",)


def test_what_has_only_its_first_pool_in_common_with_the_rest_holds_nobody_back():
    at_once = [one for one in evolution("kcenter-one_time", 0, 7) if one["round"] in (0, 7)]
    rounds = [*evolution("kcenter-iterative", 0, 2), *evolution("random-iterative", 0, 4), *at_once]
    comparison = compare(rounds, "random-*")
    found = {verdict.schedule: (verdict.rows, verdict.verdict) for verdict in listed(comparison.samplers)}
    assert found == {
        "kcenter-iterative": ((120, 120), "cannot tell: 1 seed"),
        "kcenter-one_time": ((320, 200), "cannot tell: pools of 320 and 200 rows"),
    }
    assert comparison.endpoint == "pools of different sizes: 120 rows, final rounds"
    assert "These two samplers (pools of different sizes" in said_of(comparison)


def test_one_selection_and_many_are_compared_at_the_size_that_both_have():
    at_once = [one for one in evolution("kcenter-one_time", 0, 7) if one["round"] in (0, 7)]
    at_once = [one | {"round": 1} if one["round"] else one for one in at_once]
    (verdict,) = listed(compare([*evolution("kcenter-iterative", 0, 9), *at_once], "kcenter-iterative").samplers)
    assert (verdict.rows, verdict.rounds) == ((320, 320), (1, 7))


def test_rounds_stand_for_pool_sizes_that_are_not_known():
    rounds = [*evolution("kcenter-iterative", 0, 7), *evolution("random-iterative", 0, 2)]
    archived = [one | {"rows": None, "initial_pool": None} for one in rounds]
    comparison = compare(archived, "random-*")
    assert (listed(comparison.samplers)[0].rounds, comparison.endpoint) == ((2, 2), "round 2")
    assert comparison.not_compared[0].startswith(
        "left aside: lab/tiny, kcenter-iterative, seed 0: rounds 3 to 7; compared"
    )


def test_pools_of_different_sizes_at_a_round_that_the_user_chose_are_a_warning():
    rounds = grown("kc-iterative", OURS, 3, 700) + grown("random-iterative", BASE, 3, 400)
    comparison = compare(rounds, "random-iterative", endpoint=3)
    assert listed(comparison.samplers)[0].verdict == "better"
    assert any("pools of 700 and 400 rows" in label for label in comparison.record()["labels"])
    assert not any("P_0" in label for label in comparison.labels)


def test_what_is_not_known_of_the_first_pool_and_not_corrected_is_said():
    comparison = compare(runs("kc", OURS) + runs("rand", BASE), "rand")
    assert comparison.labels == ("3 of 3 pairs are not known to begin with the same P_0",)
    assert "uncorrected" in comparison.record()["about"]["models"]


def test_a_single_question_has_no_interval_and_no_verdict():
    both = [
        asked(one, ids=("00",), model=np.array([7.0]), competitor=np.array([10.0]))
        for one in runs("kc", [70]) + runs("rand", [60])
    ]
    (verdict,) = compare_models(both, "rand")
    assert (verdict.ci_low, verdict.ci_high, verdict.verdict) == (None, None, "cannot tell: 1 question")


FULL, ITERATIVE = "random-full-0a1b2c3d", "random-iterative-4e5f6071"


@pytest.mark.parametrize("full", [FULL, "random-full", "baseline_lab"])
@pytest.mark.parametrize("baseline", ["random-*", "*", "random-iterative", ITERATIVE])
def test_full_data_is_no_baseline_unless_it_is_named(full, baseline):
    rounds = [*evolution(ITERATIVE, 0, 2), *evolution(full, 0, 0, start=4000)]
    (verdict,) = listed(compare(rounds, baseline).samplers)
    assert (verdict.schedule, verdict.baseline) == (full, ITERATIVE)


@pytest.mark.parametrize("baseline", [FULL, "random-full", "random-full-*"])
def test_full_data_is_the_baseline_where_it_is_named(baseline):
    rounds = [*evolution(ITERATIVE, 0, 2), *evolution(FULL, 0, 0, start=4000)]
    (verdict,) = listed(compare(rounds, baseline).samplers)
    assert (verdict.schedule, verdict.baseline) == (ITERATIVE, FULL)


def test_a_pattern_that_fits_a_baseline_of_each_schedule_gives_every_arm_that_of_its_own():
    """Full data, which no random schedule is like, is held against the iterative one."""
    baselines = ("random-iterative", "random-one_time")
    arms = {"kcenter-iterative": baselines[0], "kcenter-one_time": baselines[1], FULL: baselines[0]}
    rounds = [one for name in (*arms, *baselines) for one in evolution(name, 0, 2)]
    compared = compare(rounds, "random-*")
    assert {verdict.schedule: verdict.baseline for verdict in listed(compared.samplers)} == arms
    assert {verdict.schedule: verdict.baseline for verdict in listed(compared.models)} == arms
    with pytest.raises(InputError, match=r"fits random-iterative and random-one_time of .*baseline=random-iterative$"):
        compare([one for one in rounds if one["schedule"] in baselines], "random-*")


def test_where_only_full_data_fits_a_pattern_it_has_to_be_named():
    rounds = [*evolution("kcenter-iterative", 0, 2), *evolution(FULL, 0, 0, start=4000)]
    with pytest.raises(
        InputError, match=f"choose one of kcenter-iterative, {FULL}; full data is a baseline only where"
    ):
        compare(rounds, "random-*")


def test_a_name_without_its_hash_is_the_schedule_of_that_name_and_never_one_of_several():
    rounds = [*evolution("kcenter-iterative", 0, 2), *evolution(ITERATIVE, 0, 2)]
    assert {verdict.baseline for verdict in listed(compare(rounds, "random-iterative").samplers)} == {ITERATIVE}
    with pytest.raises(InputError, match="baseline=random: fits no schedule"):
        compare(rounds, "random")
    rounds += evolution("random-iterative-89abcdef", 0, 2)
    with pytest.raises(
        InputError, match=f"fits {ITERATIVE} and random-iterative-89abcdef of lab/tiny; name one of them"
    ):
        compare(rounds, "random-iterative")
    rounds += evolution("random-iterative", 0, 2)
    assert {verdict.baseline for verdict in listed(compare(rounds, "random-iterative").samplers)} == {
        "random-iterative"
    }


@pytest.mark.parametrize("baseline", ["random-*", "random-iterative", "kcenter-iterative", "no-such"])
def test_one_sampler_alone_is_told_and_not_offered_itself(baseline):
    alone = evolution("random-iterative", 0, 2)
    with pytest.raises(InputError, match=r"^there is only one sampler, so nothing to compare with: ") as told:
        compare(alone, baseline)
    assert "choose" not in str(told.value)
    elsewhere = [one | {"source": "other/tiny"} for one in evolution("kcenter-iterative", 0, 2)]
    with pytest.raises(
        InputError, match=r"only one sampler of each source, .* no two of kcenter-iterative, random-iter"
    ):
        compare([*alone, *elsewhere], baseline)
