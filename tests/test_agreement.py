import json
import os
from pathlib import Path

import numpy as np
import pytest
from judgement_files import authors_file, authors_record, lay, own_record
from scipy.stats import pearsonr, spearmanr

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.agreement import agree, rank_correlation
from diverseevol.evaluation.scores.tables import agreement_table
from diverseevol.output.console import Console

VICUNA = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "gpt4_judgments" / "vicuna_test.tar.xz"
SCHEDULES = ("kc", "rand", "ms", "lc")


def judged(folder: Path, judge: str, scores: np.ndarray, seed: int = 0) -> Path:
    """Judgements of four schedules, two rounds, six questions, two orders: [schedule, round, question, order]."""
    for s, t in np.ndindex(scores.shape[:2]):
        path = (
            folder / "lab" / "tiny" / SCHEDULES[s] / f"seed{seed}" / "rounds" / f"{t:02d}" / "judgements" / "lab.jsonl"
        )
        lay(
            path,
            [
                own_record(
                    f"q{q}", order=order, judge=judge, model_score=float(scores[s, t, q, order]), competitor_score=6.0
                )
                for q, order in np.ndindex(scores.shape[2:])
            ],
        )
    return folder


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    return [rng.integers(2, 21, size=(4, 2, 6, 2)) / 2 for _ in range(2)]


def test_every_figure_agrees_with_its_definition(tmp_path, scores):
    ours, theirs = scores
    judged(tmp_path / "cheap", "cheap", ours)
    judged(tmp_path / "dear", "dear", theirs)
    (found,) = agree(tmp_path / "cheap", tmp_path / "dear").itertuples(index=False)
    assert (found.benchmark, found.judge, found.recorded_judge) == ("lab", "cheap", "dear")
    assert (found.models, found.questions, found.left_out) == (8, 48, 0)
    means = [100 * side.sum(axis=(2, 3)) / 72 for side in scores]
    assert found.model_ranks == pytest.approx(spearmanr(means[0].ravel(), means[1].ravel()).statistic)
    assert found.final_ranks == pytest.approx(spearmanr(means[0][:, 1], means[1][:, 1]).statistic)
    leads = [side.mean(axis=3).ravel() - 6 for side in scores]
    assert found.question_scores == pytest.approx(pearsonr(*leads).statistic)
    assert found.same_verdict == np.mean(np.sign(leads[0]) == np.sign(leads[1]))
    flips = [np.mean([{*np.sign(pair - 6)} == {-1.0, 1.0} for pair in side.reshape(-1, 2)]) for side in scores]
    assert (found.order_flips, found.recorded_order_flips) == pytest.approx(tuple(flips))
    first = [np.mean((side[..., 0] - side[..., 1]) / 2) for side in scores]
    assert (found.first_place_lead, found.recorded_first_place_lead) == pytest.approx(tuple(first))
    assert found.relative_score_shift == pytest.approx((means[0] - means[1]).mean())
    json.dumps(found._asdict(), allow_nan=False)


@pytest.mark.parametrize(("first", "second", "said"), [(2.0, 0.0, "first by 1.00"), (0.0, 1.0, "second by 0.50")])
def test_it_is_said_which_place_a_judge_favours(tmp_path, scores, first, second, said):
    """The model's answer is shown first in order 0 and second in order 1."""
    fair = np.full_like(scores[0], 5.0)
    judged(tmp_path / "biased", "biased", fair + np.array([first, second]))
    judged(tmp_path / "fair", "fair", fair)
    found = agree(tmp_path / "biased", tmp_path / "fair")
    console = Console(width=250)
    with console.capture() as shown:
        console.print(agreement_table(found))
    assert said in shown.get()
    assert "neither" in shown.get()


def test_a_judge_agrees_with_itself(tmp_path, scores):
    judged(tmp_path, "dear", scores[0])
    (found,) = agree(tmp_path, tmp_path).itertuples(index=False)
    assert (found.model_ranks, found.final_ranks, found.question_scores) == pytest.approx((1, 1, 1))
    assert (found.same_verdict, found.relative_score_shift) == (1, 0)


def test_rank_correlation_takes_equal_values_at_their_mean_rank():
    rng = np.random.default_rng(1)
    for _ in range(20):
        a, b = rng.integers(0, 4, size=(2, 12))
        assert rank_correlation(a.tolist(), b.tolist()) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation([1, 2], [1, 2]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3]) is None


def test_unparsed_questions_are_left_out_of_both_and_counted(tmp_path, scores):
    ours, theirs = scores
    judged(tmp_path / "cheap", "cheap", ours)
    judged(tmp_path / "dear", "dear", theirs)
    path = tmp_path / "cheap" / "lab" / "tiny" / "kc" / "seed0" / "rounds" / "00" / "judgements" / "lab.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    lay(path, [records[0] | {"model_score": None, "competitor_score": None}, *records[1:]])
    (found,) = agree(tmp_path / "cheap", tmp_path / "dear").itertuples(index=False)
    assert (found.questions, found.left_out) == (47, 1)
    keep = np.ones((4, 2, 6), dtype=bool)
    keep[0, 0, 0] = False
    leads = [(side.mean(axis=3) - 6)[keep] for side in scores]
    assert found.question_scores == pytest.approx(pearsonr(*leads).statistic)


def test_the_two_layouts_go_together_by_schedule_and_round(tmp_path):
    authors_file(tmp_path / "released", *(authors_record(i) for i in (1, 2, 3)))
    path = tmp_path / "cheap" / "released" / "answers" / "kc_dolly_x" / "rounds" / "06" / "judgements" / "vicuna.jsonl"
    lay(path, [own_record(str(i), order=k, judge="cheap") for i in (1, 2, 3) for k in (0, 1)])
    (found,) = agree(tmp_path / "cheap", tmp_path / "released").itertuples(index=False)
    assert (found.judge, found.recorded_judge, found.models, found.questions) == ("cheap", "gpt-4", 1, 3)
    assert (found.model_ranks, found.question_scores) == (None, None)


def test_what_cannot_be_held_against_each_other_is_said_so(tmp_path, scores):
    judged(tmp_path / "a", "cheap", scores[0])
    judged(tmp_path / "b", "dear", scores[1], seed=1)
    with pytest.raises(InputError, match=r"was judged in both \(for instance lab/tiny, lab, kc, seed 0, round 0 and"):
        agree(tmp_path / "a", tmp_path / "b")
    judged(tmp_path / "c", "dear", scores[1][:, :, :4])
    with pytest.raises(InputError, match=r"not the same questions \(2 are in one only, first 'q4'\)"):
        agree(tmp_path / "a", tmp_path / "c")
    judged(tmp_path / "d", "dear", scores[1])
    judged(tmp_path / "d", "third", scores[1][:1])
    with pytest.raises(InputError, match="judged by cheap and dear, cheap and third"):
        agree(tmp_path / "a", tmp_path / "d")


@pytest.mark.slow
@pytest.mark.skipif(not VICUNA.is_file(), reason="DIVERSEEVOL_TEST_DATA has no gpt4_judgments/vicuna_test.tar.xz")
def test_the_released_judgements_agree_with_themselves():
    (found,) = agree(VICUNA, VICUNA).itertuples(index=False)
    assert (found.models, found.questions) == (135, 135 * 80)
    assert found.model_ranks == pytest.approx(1)
    assert found.order_flips == pytest.approx(0.053, abs=0.0005)


def test_what_cannot_be_held_against_another_is_told_with_its_file(tmp_path, scores):
    judged(tmp_path / "cheap", "cheap", scores[0])
    judged(tmp_path / "dear", "dear", scores[1])
    file = next((tmp_path / "dear").rglob("*.jsonl"))
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(json.loads(first) | {"judge": "another"}), *rest]))
    with pytest.raises(InputError, match=r"lab\.jsonl: question .*: judged by") as refused:
        agree(tmp_path / "cheap", tmp_path / "dear")
    assert str(refused.value).startswith(str(file))
