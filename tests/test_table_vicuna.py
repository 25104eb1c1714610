import csv
import os
from pathlib import Path

import numpy as np
import pytest
import table_vicuna
from judgement_files import authors_record, lay
from matplotlib.image import imread

from diverseevol.report.charts.curves import spread

VICUNA = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "gpt4_judgments" / "vicuna_test.tar.xz"


def released(folder: Path, benchmark: str, schedule: str, t: int, score: float) -> None:
    records = [
        authors_record(i, model=f"{schedule}/rd_{t}", assistant1_QUERY0=f"{schedule}/rd_{t}",
                       assistant2_QUERY1=f"{schedule}/rd_{t}", eval_QUERY0=[score, 8.0], response_QUERY0="?",
                       eval_QUERY1=[score, 8.0], response_QUERY1="?")
        for i in (1, 2)
    ]  # fmt: skip
    lay(folder / f"{benchmark}_test" / schedule / f"rd_{t}_vs_chat.jsonl", records)


def test_each_benchmark_is_a_column_and_each_data_set_a_row(tmp_path, capsys):
    for benchmark in ("vicuna", "koala"):
        for t in (0, 1, 2):
            released(tmp_path / "in", benchmark, "kc_dolly_initRAND100", t, 4.0 + t)
            released(tmp_path / "in", benchmark, "rand_gpt4_initRAND100", t, 4.0)
        released(tmp_path / "in", benchmark, "baseline_dolly", 0, 7.0)
    released(tmp_path / "in", "vicuna", "of_another_kind", 0, 4.0)
    assert table_vicuna.main([str(tmp_path / "in"), str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert [said.count(name) for name in ("Dolly, vicuna", "Dolly, koala", "SelfInstruct-GPT4, vicuna")] == [1, 1, 1]
    assert said.count("trained on all rows of the data set: 87.50 [87.5, 87.5]") == 2
    assert "75.00 [75.0, 75.0]" in said
    with (tmp_path / "out" / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 2 * (3 + 3 + 1)
    assert imread(tmp_path / "out" / "relative_score.png").std() > 0.01


def test_what_is_wrong_is_a_sentence_and_exit_code_2(tmp_path, capsys):
    released(tmp_path, "vicuna", "of_another_kind", 0, 4.0)
    for arguments in ([], [""], [str(tmp_path / "absent")], [str(tmp_path)]):
        assert table_vicuna.main(arguments) == 2
        assert capsys.readouterr().err.startswith("table_vicuna: ")


def test_labels_keep_their_order_and_their_distance_and_stay_near():
    rng = np.random.default_rng(0)
    for _ in range(50):
        heights = list(map(float, rng.uniform(0, 10, size=rng.integers(1, 7))))
        placed = spread(heights, 1.0)
        assert list(np.argsort(placed)) == list(np.argsort(heights))
        assert np.all(np.diff(sorted(placed)) >= 1 - 1e-9)
        assert np.mean(placed) == pytest.approx(np.mean(heights))
    assert spread([1.0, 5.0, 9.0], 1.0) == [1.0, 5.0, 9.0]


@pytest.mark.slow
@pytest.mark.skipif(not VICUNA.is_file(), reason="DIVERSEEVOL_TEST_DATA has no gpt4_judgments/vicuna_test.tar.xz")
def test_the_papers_first_column_is_printed_from_the_released_judgements(tmp_path, capsys):
    assert table_vicuna.main([str(VICUNA), str(tmp_path)]) == 0
    said = capsys.readouterr().out
    dolly = said.split("SelfInstruct-Davinci, vicuna")[0]
    assert "700   79.69 [74.8, 84.3]" in dolly
    assert "1,100   77.90 [" in dolly
    assert "all rows of the data set: 73.84 [" in dolly
    with (tmp_path / "scores.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3 * (4 * 11 + 1)
