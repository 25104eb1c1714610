import csv
import json
import os
import tarfile
from pathlib import Path

import pytest
from judgement_files import authors_file, authors_record, lay, own_file, own_record

from diverseevol.errors import InputError
from diverseevol.evaluation.scores.scoreboard import Scoreboard, score_folder
from diverseevol.evaluation.scores.tables import COLUMNS, judged_table, scores_table, write_scores_csv
from diverseevol.output.console import Console

VICUNA = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "gpt4_judgments" / "vicuna_test.tar.xz"
needs_data = pytest.mark.skipif(
    not VICUNA.is_file(), reason="DIVERSEEVOL_TEST_DATA names no folder with gpt4_judgments/vicuna_test.tar.xz"
)


@pytest.fixture(scope="module")
def vicuna() -> Scoreboard:
    return score_folder(VICUNA)


def shown(board: Scoreboard) -> str:
    console = Console(width=220)
    with console.capture() as capture:
        console.print(scores_table(board))
    return capture.get()


@needs_data
def test_the_whole_released_vicuna_column_agrees_with_an_oracle(vicuna):
    found = {(r.schedule, r.round): r.scores for r in vicuna.frame.itertuples()}
    with tarfile.open(VICUNA) as tar:
        members = [member for member in tar if member.isfile()]
        assert len(members) == len(found) == 135
        for member in members:
            rows = [json.loads(line) for line in tar.extractfile(member)]
            both = [(r["eval_QUERY0"], r["eval_QUERY1"]) for r in rows]
            m, c = ([a[i] + b[i] for a, b in both] for i in (0, 1))
            s = found[member.name.split("/")[1], int(member.name.split("rd_")[1].split("_")[0])]
            assert s.relative_score == pytest.approx(100 * sum(m) / sum(c))
            assert s.mean_ratio == pytest.approx(100 * sum(x / y for x, y in zip(m, c, strict=True)) / 80)
            assert [s.win, s.tie, s.lose] == [
                sum(t) for t in zip(*((x > y, x == y, x < y) for x, y in zip(m, c, strict=True)), strict=True)
            ]


@needs_data
def test_the_released_vicuna_column_has_its_published_check_values(vicuna):
    found = {(r.schedule, r.round): r.scores for r in vicuna.frame.itertuples()}
    assert found["kc_dolly_initRAND100", 6].relative_score == pytest.approx(79.69, abs=0.005)
    last, full = found["kc_dolly_initRAND100", 10], found["baseline_dolly", 0]
    assert (round(last.relative_score, 2), last.win, last.tie, last.lose) == (77.90, 2, 3, 75)
    assert (round(full.relative_score, 2), full.win, full.tie, full.lose) == (73.84, 1, 3, 76)
    assert sum(s.zeros for s in found.values()) == 15
    assert sum(s.order_changes for s in found.values()) / (135 * 80) == pytest.approx(0.121, abs=0.0005)
    assert sum(s.order_flips for s in found.values()) / (135 * 80) == pytest.approx(0.053, abs=0.0005)
    assert vicuna.warnings == ()


@needs_data
def test_the_mean_of_ratios_is_another_number_than_the_relative_score(vicuna):
    gaps = [r.scores.mean_ratio - r.scores.relative_score for r in vicuna.frame.itertuples()]
    assert all(0 < gap < 1.8 for gap in gaps)


def test_the_csv_has_the_columns_and_leaves_the_unknown_empty(tmp_path):
    authors_file(tmp_path / "in", authors_record(1), authors_record(2))
    own_file(tmp_path / "in", own_record("a", model_score=5.0), own_record("b", model_score=10.0))
    write_scores_csv(tmp_path / "scores.csv", score_folder(tmp_path / "in").frame)
    with (tmp_path / "scores.csv").open() as file:
        released, own = csv.DictReader(file)
    assert tuple(released) == COLUMNS
    assert (released["source"], released["seed"], released["relative_score"]) == ("dolly", "", "60.0000")
    assert (released["order_changes"], released["order_flips"], released["lose"]) == ("0", "0", "2")
    assert (own["source"], own["seed"], own["round"], own["judge"]) == ("lab/tiny", "3", "2", "gold")
    assert (own["relative_score"], own["order_changes"], own["win"], own["tie"]) == ("75.0000", "", "0", "1")


def test_the_table_says_what_its_numbers_are(tmp_path):
    authors_file(tmp_path, authors_record(1, eval_QUERY0=[0.0, 8.0], response_QUERY0="0 8"), authors_record(2))
    text = shown(score_folder(tmp_path))
    assert "question noise only" in text
    assert "1 scores of 0 are in the sums as recorded" in text
    assert "mean ratio" in text
    assert "warning: 1 of 1 files of dolly, vicuna do not have its 80 questions" in text


def test_a_smoke_measure_is_labelled_where_it_is_shown(tmp_path):
    own_file(tmp_path, own_record("a", judge="overlap"))
    assert shown(score_folder(tmp_path)).count("smoke measure, not a judgement of quality") >= 2


def test_odd_files_are_counted_in_the_warnings(tmp_path):
    authors_file(tmp_path, authors_record(1, response_QUERY0="?"), authors_record(2, response_QUERY1="?"))
    for seed, questions in enumerate(["abc", "abc", "ab"]):
        own_file(tmp_path, *map(own_record, questions), run=f"lab/tiny/kcenter-iterative/seed{seed}")
    warnings = score_folder(tmp_path).warnings
    assert any(w.startswith("2 replies") for w in warnings)
    assert any("1 of 3 files of lab/tiny, lab do not have its 3 questions" in w and "seed2" in w for w in warnings)


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([authors_record(1), authors_record(1)], "question '1': judged twice"),
        ([authors_record(1), authors_record("1")], "question '1': judged twice"),
    ],
)
def test_a_faulty_file_is_named(tmp_path, records, complaint):
    path = authors_file(tmp_path, *records)
    with pytest.raises(InputError) as caught:
        score_folder(tmp_path)
    assert str(caught.value).startswith(f"{path}: {complaint}")


def test_two_files_of_one_model_are_refused(tmp_path):
    for copy in ("one", "two"):
        authors_file(tmp_path / copy, authors_record())
    with pytest.raises(InputError, match=r"two/.* same model and benchmark as .*one/"):
        score_folder(tmp_path)


def test_the_order_of_lines_and_files_changes_nothing(tmp_path):
    records = [authors_record(i, eval_QUERY0=[i % 5, 8.0], response_QUERY0=f"{i % 5} 8") for i in range(12)]
    authors_file(tmp_path / "a", *records)
    authors_file(tmp_path / "b", *records[::-1])
    one, other = (next(score_folder(tmp_path / name).frame.itertuples()) for name in "ab")
    assert one.scores == other.scores
    assert one.scores.by_question.ids == other.scores.by_question.ids


def test_rounds_are_sorted_by_number(tmp_path):
    for t in (10, 9, 0):
        model = f"kc_dolly_x/rd_{t}"
        lay(tmp_path / "vicuna_test" / "kc_dolly_x" / f"rd_{t}_vs_chat.jsonl", [authors_record(1, model=model)])
    board = score_folder(tmp_path)
    assert board.frame["round"].tolist() == [0, 9, 10]


def test_names_with_brackets_are_shown_as_they_are(tmp_path):
    own_file(tmp_path, own_record(), run="lab/tiny/[bold]x/seed0")
    assert "[bold]x" in shown(score_folder(tmp_path))


def test_scores_under_two_prompts_of_one_judge_are_told_apart(tmp_path):
    for seed, version in ((0, "pair-1a2b3c4d"), (1, "pair-5e6f7a8b"), (2, "1")):
        record = own_record(prompt_version=version, judge="gold" if version == "1" else "gpt-4", reason="3 10")
        own_file(tmp_path, record, own_record("b") | {k: record[k] for k in ("judge", "prompt_version", "reason")},
                 run=f"lab/tiny/kc/seed{seed}")  # fmt: skip
    board = score_folder(tmp_path)
    assert set(board.frame.judge) == {"gpt-4 (pair-1a2b3c4d)", "gpt-4 (pair-5e6f7a8b)", "gold"}
    assert "gpt-4 (pair-1a2b3c4d)" in shown(board)


def test_a_single_question_has_no_interval(tmp_path):
    own_file(tmp_path, own_record())
    board = score_folder(tmp_path)
    write_scores_csv(tmp_path / "s.csv", board.frame)
    with (tmp_path / "s.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["relative_score"], row["ci_low"], row["ci_high"]) == ("30.0000", "", "")
    assert "[30.00, 30.00]" not in shown(board)


def test_what_the_table_explains_has_a_value_in_it(tmp_path):
    for seed in range(2):  # judged in one order only
        own_file(tmp_path, own_record("a"), own_record("b"), run=f"lab/tiny/kcenter-iterative/seed{seed}")
    text = shown(score_folder(tmp_path))
    assert "relative score: 100 · Σ model / Σ competitor" in text
    assert "mean ratio: 100 · mean" in text
    assert "changes/flips" not in text


def test_what_a_judges_table_explains_has_a_value_in_it():
    scores = {
        "relative_score": 75.0, "ci_low": 70.0, "ci_high": 80.0, "questions": 2, "win": 0, "tie": 0, "lose": 2,
        "order_flips": None, "unparsed": 0, "length": {"rank_correlation": None},
    }  # fmt: skip
    folders = [Path("lab/tiny/kcenter-iterative/seed0/rounds") / f"{t:02d}" for t in range(2)]
    console = Console(width=300)
    for flips, length, told in ((None, None, False), (1, 0.5, True)):
        said = {**scores, "order_flips": flips, "length": {"rank_correlation": length}}
        with console.capture() as capture:
            console.print(judged_table([(folder, "lab", said) for folder in folders], "a smoke measure"))
        text = capture.get()
        assert "relative score: 100 · Σ model / Σ competitor" in text
        assert "unparsed: judgements without scores" in text
        assert "a smoke measure" in text
        assert ("flips: questions" in text, "length: rank" in text) == (told, told)
