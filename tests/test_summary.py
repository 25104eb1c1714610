"""What an evolution says at its end."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from diverseevol.report.summary import show
from diverseevol.rounds import Round

METRICS = {"pool_size": 2, "train_loss": 1.0, "vendi_score": 1.5, "vendi_score_centred": 2.0, "coverage_radius": 3.0}
LAB = {"skills_covered": 7, "noisy_share": 0.25, "duplicate_share": 0.5}


def said(folder: Path, further: dict[str, float], questions: int = 9, width: int = 200) -> str:
    rounds = []
    for t in range(2):
        home = folder / "rounds" / f"{t:02d}"
        rounds.append(Round(t, (0, 1), (), {**METRICS, **further}, {}))
        for kind in ("answers", "judgements"):
            (home / kind).mkdir(parents=True)
        answers = [
            {"id": str(i), "instruction": f"What is [bold]{i}[/bold]?", "input": "", "answer": f"answer {i} of {t}"}
            for i in range(questions)
        ]
        judged = [{"question_id": str(i), "model_score": float(t + 2)} for i in range(questions)]
        (home / "answers/quiz.jsonl").write_text("".join(json.dumps(line) + "\n" for line in answers))
        (home / "judgements/quiz.jsonl").write_text("".join(json.dumps(line) + "\n" for line in judged))
        score = {"relative_score": 50.0 + t, "ci_low": 40.0, "ci_high": 60.0, "judge": "gold", "label": None}
        (home / "scores.json").write_text(json.dumps({"quiz": score}))
        (home / "round.json").write_text(json.dumps({"metrics": METRICS}))
    console = Console(record=True, width=width)
    show(folder, rounds, console)
    return console.export_text()


def test_five_questions_are_shown_with_the_first_and_the_last_answer_and_their_scores(tmp_path):
    text = said(tmp_path, {})
    for i in (0, 2, 4, 6, 8):
        (line,) = (line for line in text.splitlines() if f"What is [bold]{i}[/bold]?" in line)
        assert f"answer {i} of 0  [2]" in line
        assert f"answer {i} of 1  [3]" in line
    assert "answer 1 of" not in text


@pytest.mark.parametrize("questions", [1, 3])
def test_fewer_questions_are_shown_once_each(tmp_path, questions):
    assert said(tmp_path, {}, questions).count("[bold]") == questions


@pytest.mark.parametrize("further", [{}, LAB])
def test_what_only_some_rows_can_say_has_its_columns_where_it_is_known(tmp_path, further):
    text = said(tmp_path, further)
    table = text.split("some answers")[0]
    for heading, value in (("skills", " 7 "), ("noisy", "25%"), ("repeated", "50%")):
        assert (heading in table) == (value in table) == bool(further)


@pytest.mark.parametrize("width", [80, 120])
def test_no_number_is_cut_where_there_is_little_room(tmp_path, width):
    table = said(tmp_path, LAB, width=width).split("RS: relative score")[0]
    assert "…" not in table
    for number in ("1.000", "1.50", "2.00", "3.00", "25%", "50%", "50.0", "51.0"):
        assert number in table, number
    assert ("[40.0, 60.0]" in table) == (width == 120)
