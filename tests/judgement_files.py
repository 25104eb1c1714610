"""Small files of judgements in both layouts, for the tests that read them."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diverseevol.evaluation.judges.base import Judgement


def authors_record(question: Any = 1, model: str = "kc_dolly_x/rd_6", **changes: Any) -> dict[str, Any]:
    """[model, ChatGPT] is [4, 8] in the first order and [5, 7] in the second, whose reply therefore says 7 5."""
    return {
        "question_id": question,
        "question_text": "Why?",
        "assistant1_QUERY0": model,
        "assistant2_QUERY0": "gpt/x",
        "eval_QUERY0": [4.0, 8.0],
        "response_QUERY0": "4 8\nThe first is short.",
        "assistant1_QUERY1": "gpt/x",
        "assistant2_QUERY1": model,
        "eval_QUERY1": [5.0, 7.0],
        "response_QUERY1": "7 5\nThe second is short.",
    } | changes


def own_record(question: str = "a", **changes: Any) -> dict[str, Any]:
    return asdict(Judgement(question, 0, 3.0, 10.0, "gold", "1", "")) | changes


def lay(path: Path, records: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def authors_file(folder: Path, *records: dict[str, Any]) -> Path:
    return lay(folder / "vicuna_test" / "kc_dolly_x" / "rd_6_vs_chat.jsonl", list(records))


def own_file(folder: Path, *records: dict[str, Any], run: str = "lab/tiny/kcenter-iterative/seed3") -> Path:
    return lay(folder / run / "rounds" / "02" / "judgements" / "lab.jsonl", list(records))
