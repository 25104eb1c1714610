"""`make bench-gpu` runs, at a size that says nothing about speed, goes on where it ended, and makes its tables."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from perf.gpu import __main__, table
from perf.gpu.jobs import OURS, PLAIN, Case, Work
from perf.gpu.subjects import TINY_SIZE, subjects, tiny_subjects

HERE = Path(__file__).parents[1]


def bench(results: Path, checkpoint: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "perf.gpu", "--tiny", "--results", str(results)], cwd=HERE, text=True,
        env={**os.environ, "PYTHONPATH": str(HERE), "DIVERSEEVOL_TEST_MODEL": checkpoint},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1200,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.mark.slow
def test_parts_are_measured_kept_and_completed_by_a_second_start(foundation, tmp_path: Path) -> None:
    results, damaged = tmp_path / "results", tmp_path / "damaged"
    damaged.mkdir()
    code, said = bench(results, str(damaged))
    assert code == 1, said
    assert "failed: checkpoint-embedding, checkpoint-fit, checkpoint-answers" in said
    (card,) = results.iterdir()
    parts = {file.stem: json.loads(file.read_text()) for file in card.iterdir()}
    complete = {f"{model}-{job}" for model in ("tiny", "tiny-lora") for job in ("fit", "embedding", "answers")}
    assert set(parts) == {*complete, "tiny-rounded-fit"}

    first = {file.name: file.stat().st_mtime_ns for file in card.iterdir()}
    code, said = bench(results, foundation.path)
    assert code == 0, said
    assert first.items() < {file.name: file.stat().st_mtime_ns for file in card.iterdir()}.items()
    parts = {file.stem: json.loads(file.read_text()) for file in card.iterdir()}
    assert len(parts) == 10
    for name, part in parts.items():
        assert len(part["ways"]) == (2 if name.endswith("answers") else 3)
        for title, way in part["ways"].items():
            assert way["peak_bytes"] > 0
            assert way["tokens_per_second"] * part["operations_per_token"] / part["matrix_rate"] == way["share"] > 0
            if not name.endswith("answers") and title != PLAIN:  # answers are sampled
                assert way["tokens"] == part["ways"][PLAIN]["tokens"]
                assert way["difference_to_plain"] < 0.02
    assert "not measured yet" not in said
    rate = parts["checkpoint-fit"]["ways"][OURS]["tokens_per_second"]
    assert f"| a checkpoint | fit | {rate:,.0f} |" in said


def test_no_part_begins_after_the_deadline(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(__main__, "_quiet", lambda: None)
    monkeypatch.delenv("DIVERSEEVOL_TEST_MODEL", raising=False)
    assert __main__.main(["--tiny", "--minutes", "0", "--results", str(tmp_path)]) == 0
    assert "not measured within 0 minutes: tiny-lora-embedding, tiny-lora-fit" in capsys.readouterr().out
    assert [*tmp_path.iterdir()] == []


def test_without_a_cuda_device_it_says_so_and_ends(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert __main__.main([]) == 0
    assert "there is no CUDA device" in capsys.readouterr().out


def test_the_page_shows_what_was_measured() -> None:
    assert table.page() == table.PAGE.read_text("utf-8")  # else: python -m perf.gpu.table


def way(tokens_per_second: float) -> dict[str, Any]:
    return {"tokens_per_second": tokens_per_second, "share": 0.5, "peak_bytes": 2e9}


def test_an_evolution_is_projected_from_the_rates_of_all_three_jobs(tmp_path: Path) -> None:
    rates = {"fit": 3.75e6 / 600, "embedding": 31.3e6 / 300, "answers": 264_000 / 60}  # 10, 5 and 1 minutes
    for job, rate in rates.items():
        part = {
            "card": "card", "matrix_rate": 8e14, "versions": {"torch": "2", "transformers": "5"},
            "ways": {"ours": way(rate), "plain": way(rate / 2) if job != "fit" else {"out_of_memory": True}},
        }  # fmt: skip
        text = table.of_card(tmp_path, tiny_subjects("cpu", None))
        assert "| tiny, LoRA | *not measured yet* | – | – | – | < 60 |" in text
        (tmp_path / f"tiny-lora-{job}.json").write_text(json.dumps(part))
    text = table.of_card(tmp_path, tiny_subjects("cpu", None))
    assert "| tiny, LoRA | 10.0 | 5.0 | 1.0 | 16.0 | < 60 |" in text
    assert "Matrix rate: 800 TFLOP/s" in text
    assert "| tiny, LoRA | embedding | 104,333 | 50.0% | 52,167 | 2.00 | 2.0 | 2.0 | – |" in text
    assert "| tiny, LoRA | fit | 6,250 | 50.0% | out of memory | – | 2.0 | – | ≥ 40% |" in text
    assert "| tiny, LoRA | fit, packed | *not measured yet* | – | – | – | – | – | ≥ 40% |" in text


def test_a_way_that_fails_leaves_the_others_their_turns(capsys) -> None:
    def full() -> Work:
        raise torch.OutOfMemoryError("full")

    def broken() -> Work:
        raise ValueError("no such kernel")

    case = Case(tiny_subjects("cpu", None)[0], TINY_SIZE, "cpu", 1e12)
    lines = case._in_turns({OURS: lambda: Work(10, 1.0), "ours, packed": broken, PLAIN: full})
    assert lines[PLAIN] == {"out_of_memory": True}
    assert lines["ours, packed"] == {"failed": "ValueError: no such kernel"}
    assert lines[OURS]["tokens"] == [10]
    assert "no such kernel" in capsys.readouterr().err


def test_weights_of_the_layers_are_counted_and_the_first_parts_are_the_most_important() -> None:
    real = subjects("cpu", None)
    weights = {
        subject.name: Case(subject, TINY_SIZE, "cpu", 1e12).weights
        for subject in real
        if subject.name != "smollm2-135m"
    }
    # Published: 6.74, 1.54 and 0.49 billion with tables of 0.131 (and a head as large), 0.233 and 0.136.
    assert {name: round(n / 1e6) for name, n in weights.items()} == {
        "llama-7b-lora": 6_476, "llama-7b": 6_476, "qwen2.5-1.5b": 1_310, "qwen2.5-1.5b-compiled": 1_310,
        "qwen2.5-0.5b": 358,
    }  # fmt: skip
    assert Case(real[0], TINY_SIZE, "cpu", 1e12).operations("fit") == 4 * weights["llama-7b-lora"]
    assert Case(real[1], TINY_SIZE, "cpu", 1e12).operations("fit") == 6 * weights["llama-7b"]
    parts = [f"{subject.name}-{job}" for subject, job in __main__.in_order(real)]
    assert parts[:4] == [*(f"llama-7b-lora-{job}" for job in ("embedding", "fit", "answers")), "llama-7b-embedding"]
    assert parts[-2:] == ["smollm2-135m-answers", "qwen2.5-1.5b-compiled-fit"]
