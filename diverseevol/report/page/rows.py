"""The rows' texts and the receipts, as the page carries them: numbers in arrays, each text once a data set."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from diverseevol.data.formats.base import BadRecord, as_object
from diverseevol.data.formats.recognise import by_saved_names, recognise
from diverseevol.evolution.receipts import excerpt
from diverseevol.report.charts.lines import Line
from diverseevol.report.charts.maps import Map
from diverseevol.report.collect import Run
from diverseevol.report.page.search import learn_all, reasons_payload, searched
from diverseevol.report.tables import status
from diverseevol.runs.round_folder import REDO
from diverseevol.runs.subset import read_subset
from diverseevol.storage.files import read_jsonl


def rows_payload(runs: Sequence[Run], maps: Mapping[Run, Map], names: Mapping[Line, str]) -> dict[str, Any]:
    """What the map, the receipts and the search of all rows show.

    Returns:
        `runs`: each with its receipts, a list of [row, score, distance, nearest] a round, what the score is, P_0, and
            `reasons` (see `reasons_payload`; None where its rows are not searched);
        `maps`: quantised coordinates, base64 of little-endian uint16, by key;
        `texts`: by data set, rows and their [instruction, response] excerpts; `cut` says at how many characters those
            of rows that were not chosen end, or None where they are left out.
    """
    kept = searched(runs)
    texts: dict[str, dict[int, list[str]]] = {}
    listed = []
    for run in runs:
        if not run.rounds:
            continue
        known = texts.setdefault(run.data, {})
        picks, score = [], None
        for done in run.rounds:
            file = run.folder / "rounds" / f"{done.index:02d}" / "chosen.jsonl"
            lines = read_jsonl(file, REDO) if done.chosen else []
            picks.append([[line.get(key) for key in ("row", "score", "distance", "nearest")] for line in lines])
            score = next((line["score_is"] for line in lines if line.get("score_is")), score)
            _learn(known, lines)
        _learn_initial(known, run)
        seed = "" if run.seed is None else f", seed {run.seed}"
        listed.append({
            "name": f"{names[run.line]}{seed}", "source": run.line.source, "data": run.data, "status": status(run),
            "map": maps[run].key if run in maps else None, "initial": list(run.rounds[0].trained_on),
            "trained": len(run.rounds[-1].trained_on), "score": score,
            "picks": [[_short(pick) for pick in of_round] for of_round in picks],
            "reasons": reasons_payload(kept[run]) if run in kept else None,
        })  # fmt: skip
    return {
        "cut": learn_all(texts, kept.values()),
        "runs": listed,
        "maps": {
            known.key: {
                "rows": len(known.xy), "xy": base64.b64encode(known.quantised().astype("<u2").tobytes()).decode(),
            }
            for known in maps.values()
        },
        "texts": {
            data: {"rows": list(known), "instruction": [known[row][0] for row in known],
                   "response": [known[row][1] for row in known]}
            for data, known in texts.items()
        },
    }  # fmt: skip


def _short(pick: Iterable[Any]) -> list[Any]:
    """Five digits are enough to read."""
    return [float(f"{value:.5g}") if isinstance(value, float) and np.isfinite(value) else value for value in pick]


def _learn(known: dict[int, list[str]], lines: Sequence[Mapping[str, Any]]) -> None:
    for line in lines:
        known[line["row"]] = [str(line.get("instruction", "")), str(line.get("response", ""))]
        if isinstance(nearest := line.get("nearest"), int) and line.get("nearest_instruction"):
            known.setdefault(nearest, [str(line["nearest_instruction"]), ""])


def _learn_initial(known: dict[int, list[str]], run: Run) -> None:
    """The texts of P_0's rows, which no round chose, are in the final pool, once that is written."""
    for receipt, _, record in read_subset(run.folder):
        if not known.get(row := receipt["row"], ["", ""])[1]:
            known[row] = _excerpts(record, run)


def _excerpts(record: Any, run: Run) -> list[str]:
    data = run.config.get("data")
    try:
        format = by_saved_names(data if isinstance(data, dict) else {}) or recognise(record)
        conversation = format.parse(as_object(record))
    except BadRecord:
        return [excerpt(str(record)), ""]
    return [excerpt(conversation.instruction), excerpt(conversation.response)]
