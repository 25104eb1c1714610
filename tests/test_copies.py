"""Rows that repeat another one are left out where a user asks for it, and always where that one is held out."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diverseevol.cli import main
from diverseevol.cli.configuration import configure
from diverseevol.cli.fingerprint import copies_identity
from diverseevol.cli.left_out_rows import left_out, list_left_out, why_ineligible
from diverseevol.data.dataset import load
from diverseevol.data.duplicates import Duplicates, copies_among, find_duplicates
from diverseevol.data.tags import Tags
from diverseevol.data.tokens import encode
from diverseevol.errors import InputError
from diverseevol.options import PromptOptions
from diverseevol.storage.files import read_jsonl

DOLLY = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent")) / "databricks-dolly-15k.jsonl"
RIVER = ("Name a long river that flows through the cities of Egypt.", "That is the Nile, of course.")
ROWS = [
    ("Which gas do the leaves of plants take in?", "Carbon dioxide is taken in."),  # 0
    RIVER,
    ("How many legs does a spider have?", "A spider has eight legs in all."),
    ("Please, which gas do the leaves of plants take in?", "Carbon dioxide is taken in."),  # 3
    RIVER,
    ("Say hello to your guests in French.", "Bonjour, mes amis!"),
    ("Which gas do the leaves of plants take in?", "Carbon dioxide is taken in."),  # 6
]


@pytest.fixture
def rows_file(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"instruction": a, "output": b}) + "\n" for a, b in ROWS))
    return file


def held(tmp_path, *rows: int) -> str:
    file = tmp_path / "held.json"
    file.write_text(json.dumps(rows))
    return str(file)


def test_later_copies_are_left_out_where_that_is_asked_for(rows_file, tmp_path):
    assert len(load(rows_file, cache=tmp_path).copies) == 0
    copies = load(rows_file, cache=tmp_path, deduplicate="first").copies
    assert copies.reasons() == {3: "near-duplicate of 0", 4: "duplicate of 1", 6: "duplicate of 0"}


@pytest.mark.parametrize(
    ("rows", "deduplicate", "reasons"),
    [
        ((3,), None, {0: "near-duplicate of held-out row 3", 6: "near-duplicate of held-out row 3"}),
        ((4, 6), None, {
            0: "duplicate of held-out row 6", 1: "duplicate of held-out row 4", 3: "near-duplicate of held-out row 6"
        }),
        ((0, 6), None, {3: "near-duplicate of held-out row 0"}),
        ((1,), "first", {3: "near-duplicate of 0", 4: "duplicate of held-out row 1", 6: "duplicate of 0"}),
        ((2,), None, {}),
    ],
)  # fmt: skip
def test_no_row_that_may_be_chosen_repeats_one_that_is_held_out(rows_file, tmp_path, rows, deduplicate, reasons):
    copies = load(rows_file, cache=tmp_path, held_out=held(tmp_path, *rows), deduplicate=deduplicate).copies
    assert copies.reasons() == reasons
    assert not set(copies.rows.tolist()) & set(rows)


def test_copies_against_plain_loops():
    rng = np.random.default_rng(0)
    for _ in range(50):
        labels = rng.integers(0, 6, 20)
        group = np.array([int(np.flatnonzero(labels == label)[0]) for label in labels])
        held_out = np.sort(rng.choice(20, 4, replace=False))
        for deduplicate in (False, True):
            copies = copies_among(Duplicates(group, group, group), held_out, deduplicate)
            expected = {}
            for row in set(range(20)) - set(held_out.tolist()):
                leak = [other for other in held_out.tolist() if labels[other] == labels[row]]
                earlier = [other for other in range(row) if labels[other] == labels[row]]
                if leak:
                    expected[row] = f"duplicate of held-out row {leak[0]}"
                elif earlier and deduplicate:
                    expected[row] = f"duplicate of {earlier[0]}"
            assert copies.reasons() == expected


def test_copies_are_ineligible_counted_apart_and_listed_with_their_reason(rows_file, tmp_path, prompt):
    dataset = load(rows_file, cache=tmp_path, held_out=held(tmp_path, 1), deduplicate="first")
    encoded = encode(dataset, prompt, tmp_path)
    assert np.flatnonzero(encoded.eligible).tolist() == [0, 2, 5]
    assert list(left_out(dataset, encoded, PromptOptions())) == [
        "1 row held out: never trained on, the same for all samplers and seeds",
        "1 row left out: it repeats a held-out row, exactly or nearly",
        "2 rows left out: they repeat an earlier row, exactly or nearly (data.deduplicate=first)",
    ]
    assert why_ineligible(dataset, encoded, PromptOptions()) == (
        "1 row has been held out by data.held_out and 1 row has a held-out row's text, or nearly so and "
        "2 rows have an earlier row's text, or nearly so (data.deduplicate=first)"
    )
    list_left_out(tmp_path, dataset, encoded.eligible, tmp_path / "none", encoded.lengths)
    assert [(line["row"], line["reason"]) for line in read_jsonl(tmp_path / "ineligible.jsonl")] == [
        (1, "held out"), (3, "near-duplicate of 0"), (4, "duplicate of held-out row 1"), (6, "duplicate of 0"),
    ]  # fmt: skip


def test_another_way_to_deduplicate_is_refused_in_a_sentence(rows_file, tmp_path):
    with pytest.raises(InputError, match=r'data\.deduplicate is "last" but must be first, which leaves'):
        load(rows_file, cache=tmp_path, deduplicate="last")


def test_select_leaves_copies_out_and_warns_of_questions_without_a_model(rows_file, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    Path("questions.jsonl").write_text(json.dumps({"id": "legs", "instruction": ROWS[2][0]}) + "\n")
    asked = ["data.path=rows.jsonl", "data.deduplicate=first", "benchmark=questions", "benchmark.path=questions.jsonl"]
    monkeypatch.setattr("sys.argv", ["diverseevol", "select", *asked, "n=4", "sampler=random", "out=P.json"])
    with pytest.raises(SystemExit) as left:
        main()
    assert not left.value.code
    assert sorted(json.loads(Path("P.json").read_text())["chosen"]) == [0, 1, 2, 5]
    told = capsys.readouterr().err.splitlines()
    assert "3 rows left out: they repeat an earlier row, exactly or nearly (data.deduplicate=first)" in told
    assert "2 equal and 1 nearly equal rows repeat an earlier row" in told
    assert (
        "1 row contains 1 question of benchmark questions: what is measured there may be too good "
        "(P.contamination.jsonl)"
    ) in told
    (line,) = read_jsonl(Path("P.contamination.jsonl"))
    assert (line["row"], line["question"], line["same"]) == (2, "legs", True)


def test_only_a_run_that_leaves_copies_out_says_so_in_its_fingerprint(rows_file, tmp_path):
    def keys(*overrides: str, **options: Any) -> dict[str, Any]:
        settings = configure("evolve", ["data=file", f"data.path={rows_file}", "model=tiny", *overrides])
        return copies_identity(settings, load(rows_file, cache=tmp_path, **options))

    assert keys() == {}
    assert keys(held_out=held(tmp_path, 2)) == {}
    assert keys(held_out=held(tmp_path, 4)) == {"data.held_out.copies": 1}
    assert keys("data.deduplicate=first", deduplicate="first") == {"data.deduplicate": "first"}


@pytest.mark.slow
@pytest.mark.skipif(not DOLLY.is_file(), reason="DIVERSEEVOL_TEST_DATA has no databricks-dolly-15k.jsonl")
def test_the_copies_in_dolly(cache):
    dataset = load(DOLLY, cache=cache)
    duplicates = find_duplicates(dataset, cache)
    counts = Tags(duplicates).counts()
    assert counts["duplicates"] == 16  # of the 15 that are equal letter by letter, and one of a capital letter
    assert 150 < counts["near-duplicates"] < 250
    groups = Tags(duplicates).groups()
    assert [3864, 13007] in groups.values()  # the same question, and nearly the same answer
    assert len(load(DOLLY, cache=cache, deduplicate="first").copies) == sum(len(rows) - 1 for rows in groups.values())
