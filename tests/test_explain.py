"""The command `explain`: why a row was chosen, or was not, from what a run folder keeps of every row."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra
from run_folders import STEERING_TEXT, World, lay_run

from diverseevol import cli
from diverseevol.cli.fingerprint import space_key
from diverseevol.evolution.left_behind import order_beyond, row_facts
from diverseevol.geometry.farthest_first import farthest_first
from diverseevol.report.collect import collect, read_run
from diverseevol.report.page import search
from diverseevol.report.page.search import learn_all, searched
from diverseevol.report.reasons import Reasons
from diverseevol.runs.row_facts import RowFacts, read_row_facts, write_row_facts
from diverseevol.samplers import KCenter, Longest, Vendi
from diverseevol.samplers.base import chooses_row_by_row
from diverseevol.storage.cache import cached_folder
from diverseevol.storage.files import read_json, write_jsonl

ROWS, POOL, HELD_OUT = 60, 12, 59
SPACE = {"model": "m", "prompt": "p", "precision": "32-true", "embedding.region": "all", "embedding.dtype": "float32"}
X = np.random.default_rng(3).normal(size=(ROWS, 5)).astype(np.float32)


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """A run of 3 rounds with what is kept of every row, and a cache with the foundation model's embedding."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIVERSEEVOL_CACHE", str(tmp_path / "cache"))
    folder = lay_run(Path("runs"), World(rows=ROWS), rounds=2, size=POOL // 3, options=SPACE)
    choose(folder, {"choice": "kcenter", "device": "cuda"})
    keep_facts(folder)
    key = space_key(read_json(folder / "fingerprint.json"))
    cached_folder(tmp_path / "cache/foundation" / key, lambda entry: np.save(entry / "embedding.npy", X))
    yield folder
    GlobalHydra.instance().clear()


def choose(folder: Path, sampler: dict[str, object]) -> None:
    config = json.loads((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(json.dumps({**config, "sampler": sampler}))


def pool_of(folder: Path) -> np.ndarray:
    return np.array(read_run(folder).rounds[-1].trained_on)


def keep_facts(folder: Path) -> RowFacts:
    pool = pool_of(folder)
    apart = np.linalg.norm(X[:, None].astype(np.float64) - X[pool], axis=2)
    nearest, tokens = pool[apart.argmin(axis=1)], np.arange(1, ROWS + 1)
    assert HELD_OUT not in pool
    tokens[HELD_OUT] = 0
    nearest[pool] = pool
    texts = {row: f"row{row} asks Something {row % 7}" for row in range(ROWS)}
    facts = RowFacts(nearest, apart.min(axis=1), tokens, texts)
    write_row_facts(folder, facts)
    write_jsonl(folder / "tags.jsonl", [{"row": HELD_OUT, "tags": ["duplicate of 3", "question of vicuna: 7"]}])
    write_jsonl(folder / "ineligible.jsonl", [{"row": HELD_OUT, "reason": "held out", "tokens": 9}])
    return facts


@pytest.fixture
def explain(run, monkeypatch, capsys):
    """Explain, and give the exit code and the lines that were printed."""

    def explain(*arguments: str, folder: Path = run) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["diverseevol", "explain", str(folder), *arguments])
        with pytest.raises(SystemExit) as left:
            cli.main()
        GlobalHydra.instance().clear()
        printed = capsys.readouterr()
        code = int(left.value.code or 0)
        return code, (printed.err if code else printed.out).splitlines()

    return explain


def behind(run: Path) -> list[int]:
    """The rows that might have been chosen and were not, in the order in which K-Center would go on."""
    pool, taken = pool_of(run), np.zeros(ROWS, dtype=bool)
    taken[[*pool, HELD_OUT]] = True
    return farthest_first(X, taken, int((~taken).sum()), pool)[0].tolist()


def test_a_row_not_chosen_has_its_nearest_its_distance_and_its_rank(run, explain):
    order = behind(run)
    facts = read_row_facts(run, pool_of(run).tolist())
    for rank in (1, 20, len(order)):
        row = order[rank - 1]
        code, lines = explain(f"row={row}", "out=why.json")
        assert code == 0
        (record,) = json.loads(Path("why.json").read_text())
        assert (record["chosen"], record["nearest"], record["distance"]) == (
            False, facts.nearest[row], facts.distance[row]
        )  # fmt: skip
        assert (record["rank_beyond"], record["ranked_beyond"], record["space"]) == (rank, len(order), "foundation")
        assert lines[0].startswith(f"row {row}: not chosen, ")
        assert f"nearest: row {facts.nearest[row]} of the pool" in lines[1]
        assert f"at distance {facts.distance[row]:.4g} in the foundation model's space" in lines[1]
        assert f"in the foundation model's space, chooses it as row {POOL + rank}: number {rank} of the" in lines[2]
        assert lines[3] == f"  text: row{row} asks Something {row % 7}"


def test_the_share_that_is_farther_leaves_out_the_row_itself(run):
    reasons = Reasons(read_run(run))
    by_distance = sorted(reasons.facts.candidates, key=lambda row: reasons.facts.distance[row])
    assert reasons.of(int(by_distance[0])).nearer_than == 1
    assert reasons.of(int(by_distance[-1])).nearer_than == 0
    assert reasons.of(int(by_distance[10])).nearer_than == pytest.approx(1 - 10 / (len(by_distance) - 1))


def test_beyond_so_many_times_the_pool_it_says_so(run, explain):
    order = behind(run)
    _, lines = explain(f"row={order[POOL]}", "beyond=2")
    assert f"does not choose it within {2 * POOL} rows, 2 × the pool" in lines[2]
    _, lines = explain(f"row={order[POOL - 1]}", "beyond=2")
    assert f"chooses it as row {2 * POOL}" in lines[2]
    _, lines = explain(f"row={order[0]}", "beyond=1")
    assert "no rank is known: give beyond=10" in lines[2]


def test_the_order_is_kept_and_needs_no_cache_afterwards(run, explain, tmp_path):
    order = behind(run)
    assert explain(f"row={order[3]}")[0] == 0
    np.testing.assert_array_equal(np.load(run / "rows/beyond.npy"), order)
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    assert f"chooses it as row {POOL + 5}" in explain(f"row={order[4]}")[1][2]
    (run / "rows/beyond.npy").unlink()
    code, lines = explain(f"row={order[4]}")
    assert code == 0
    assert "no rank is known: the foundation model's embedding of the rows is not in the cache" in lines[2]
    assert f"chooses it as row {POOL + 5}" in explain(f"row={order[4]}", f"cache={tmp_path / 'elsewhere'}")[1][2]


def test_a_row_that_was_chosen_has_its_receipt(run, explain):
    pool = pool_of(run)
    code, lines = explain(f"row=[{pool[0]},{pool[5]}]", "out=why.json")
    assert code == 0
    assert lines[0] == f"row {pool[0]}: drawn at random for the initial pool, which all samplers of a seed share"
    assert lines[2] == f"row {pool[5]}: chosen by kcenter for round 1, as pick 2"
    assert lines[3] == "  score: 0.4988, far & <wide>"
    assert f"nearest: row {pool[0]} of the pool of that round or picked before, at distance 0.25" in lines[4]
    first, second = json.loads(Path("why.json").read_text())
    assert (first["joined"], first["rank"], second["joined"], second["rank"]) == (0, None, 1, 1)
    assert (second["nearest"], second["distance"], second["space"]) == (pool[0], 0.25, "current")


def test_a_row_that_could_not_be_chosen_has_its_reason(explain):
    assert explain(f"row={HELD_OUT}", "out=why.json")[1][:3] == [
        f"row {HELD_OUT}: could not be chosen", "  why: held out", "  tags: duplicate of 3, question of vicuna: 7"
    ]  # fmt: skip
    (record,) = json.loads(Path("why.json").read_text())
    assert (record["left_out"], record["tags"]) == ("held out", ["duplicate of 3", "question of vicuna: 7"])


@pytest.mark.parametrize(
    ("sampler", "reason"),
    [
        ({"choice": "random"}, "random leaves rows out by nothing but chance"),
        ({"choice": "margin"}, "margin asks each round's model, and there is none after the last round"),
        ({"choice": "kcenter", "drop": 0.1}, "kcenter asks each round's model"),
        ({"choice": "qbc"}, "qbc asks each round's model"),
        ({"choice": "kmeans"}, "kmeans does not choose row by row"),
        ({"choice": "vendi"}, "vendi does not choose row by row"),
        ({"choice": "oracle"}, "oracle chooses by fields of the rows, which the run folder does not keep"),
        ({"choice": "kcenter", "quota": "source"}, "kcenter chose within quotas, and a larger budget has other quotas"),
        ({"choice": "my.Sampler"}, "give sampler=… on the command line, as the run had it, if you trust it"),
        ({"choice": "kcenter", "path": "x"}, "is not an option of sampler=kcenter"),
    ],
)
def test_where_there_is_no_rank_it_says_why(run, explain, sampler, reason):
    choose(run, sampler)
    code, lines = explain(f"row={behind(run)[0]}")
    assert code == 0
    assert "had the budget been larger: no rank is known: " in lines[2]
    assert reason in lines[2]


def test_a_sampler_on_the_command_line_takes_the_place_of_the_runs(run, explain):
    choose(run, {"choice": "my.Sampler"})
    row = behind(run)[0]
    assert (
        f"kcenter, going on from the final pool of {POOL} in the foundation model's space, chooses it as row"
        in (explain(f"row={row}", "sampler=kcenter")[1][2])
    )
    choose(run, {"choice": "kcenter"})
    shortest = min(Reasons(read_run(run)).facts.candidates)  # a row's response grows with its number
    Path("mine.py").write_text(
        "from dataclasses import dataclass\nimport numpy as np\nfrom diverseevol.samplers import Needs, Selection\n\n\n"
        "class Shortest:\n    needs, row_by_row = Needs(lengths=True), True\n\n"
        "    def select(self, features, taken, n, rng):\n        rows = np.flatnonzero(~taken)[:n]\n"
        "        return Selection(rows, np.zeros(n))\n"
    )
    line = explain(f"row={shortest}", "sampler._target_=mine.Shortest")[1][2]
    assert f"Shortest, going on from the final pool of {POOL}, chooses it as row {POOL + 1}: number 1 of" in line
    assert not (run / "rows/beyond.npy").exists()
    assert explain(f"row={row}")[0] == 0
    assert "longest, going on" in explain(f"row={row}", "sampler=longest")[1][2]
    np.testing.assert_array_equal(np.load(run / "rows/beyond.npy"), behind(run))


def test_longest_goes_on_by_lengths_and_needs_no_embedding(run, explain, tmp_path):
    choose(run, {"choice": "longest"})
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    left = sorted(set(range(ROWS)) - {*pool_of(run), HELD_OUT}, reverse=True)  # a row's response grows with its number
    assert f"longest, going on from the final pool of {POOL}, chooses it as row {POOL + 2}:" in explain(
        f"row={left[1]}"
    )[1][2]  # fmt: skip


def test_rows_are_found_by_their_words(run, explain):
    code, lines = explain("find='SOMETHING row17'")
    assert code == 0
    assert lines[0].startswith("row 17: ")
    code, lines = explain("find='asks something'")
    assert sum(line.startswith("row ") for line in lines) == 10
    assert lines[-1] == "50 more rows have these words; give more of them, or row=NUMBER"


def test_what_cannot_be_is_refused_in_a_sentence(run, explain, tmp_path):
    for arguments, sentence in (
        ([], "neither row nor find is given"),
        (["row=1", "find=x"], "both row and find are given"),
        (["row=x"], "row=x: expected a row's number from 0 on, or a list of some; give row=123 or row=[1,2]"),
        (["row=-1"], "row=-1: expected a row's number"),
        (["row=[]"], "row=[]: expected a row's number"),
        (["row=60"], f"row=60: there is no such row, for {run} chose from rows 0 to 59"),
        (["find=' '"], "find is empty"),
        (["find=zebra"], "find='zebra': no row has all of these words"),
        (["row=1", "beyond=0"], "beyond is 0; it must be at least 1"),
        (["row=1", "out=why.txt"], "out=why.txt: the name must end in .json"),
    ):
        code, (line,) = explain(*arguments)
        assert (code, sentence in line) == (2, True), line
    code, (line,) = explain("row=1", folder=tmp_path / "no")
    assert (
        code,
        "no such folder; give a run folder, which `diverseevol evolve` wrote, or the folder of a choice" in line,
    ) == (2, True)
    code, (line,) = explain("row=1", folder=tmp_path)
    assert (code, "holds neither config.yaml and fingerprint.json nor picks.json" in line) == (2, True)


def test_without_facts_of_the_last_pool_it_says_what_to_do(run, explain):
    row = behind(run)[0]
    nearest = np.load(run / "rows/nearest.npy")
    nearest[row] = row  # as if of a pool with this row
    np.save(run / "rows/nearest.npy", nearest)
    code, lines = explain(f"row={row}")
    assert code == 0
    assert lines == [
        f"row {row}: not chosen",
        f"  {run} keeps nothing of rows not chosen (it has no rows/ of its last pool); run the same `diverseevol "
        f"evolve` again, which writes it and trains nothing",
    ]
    assert explain(f"row={pool_of(run)[5]}")[1][0].endswith("as pick 2")
    assert explain("find=row1")[0] == 2


def test_damaged_facts_are_refused(run, explain):
    good = np.load(run / "rows/nearest.npy")
    row = behind(run)[0]
    for name, content, sentence in (
        ("distance.npy", np.zeros(3), "expected an array [60] of floats"),
        ("nearest.npy", np.zeros((2, 2)), "expected an array [rows] of whole numbers"),
        ("response_tokens.npy", np.zeros(ROWS), "expected an array [60] of whole numbers"),
        ("nearest.npy", np.where(np.arange(ROWS) == row, behind(run)[1], good), "names rows that are not in the pool"),
    ):
        before = (run / "rows" / name).read_bytes()
        np.save(run / "rows" / name, content)
        code, (line,) = explain(f"row={row}")
        assert code == 2
        assert sentence in line
        (run / "rows" / name).write_bytes(before)
    (run / "rows/texts.jsonl").write_text('{"row": "x", "text": 1}\n')
    assert "expected a row number and a text" in explain(f"row={row}")[1][0]


def test_a_link_out_of_the_folder_is_refused(run, explain, tmp_path):
    (run / "rows").rename(tmp_path / "rows")
    (run / "rows").symlink_to(tmp_path / "rows")
    code, (line,) = explain("row=1")
    assert (code, "is a link to a folder outside of its run folder" in line) == (2, True)


def test_texts_are_shown_and_not_obeyed(run, explain):
    facts = keep_facts(run)
    write_row_facts(run, RowFacts(facts.nearest, facts.distance, facts.response_tokens, {1: STEERING_TEXT}))
    lines = explain("row=1")[1]
    assert "\\x1b[2J" in lines[-1]
    assert not any(character in "".join(lines) for character in "\x1b\x07\x9b\u202e")


def test_what_is_kept_of_every_row_is_exact(dataset, encoded):
    space = np.random.default_rng(1).normal(size=(len(dataset), 4)).astype(np.float32)
    space[5] = space[3]
    pool = np.array([9, 5, 3])
    tokens = np.where(encoded.eligible, encoded.response_tokens, 0)
    facts = row_facts(dataset, tokens, space, pool)
    np.testing.assert_array_equal(facts.pool, [3, 5, 9])
    apart = np.linalg.norm(space[:, None].astype(np.float64) - space[[3, 5, 9]], axis=2)
    np.testing.assert_allclose(facts.distance, apart.min(axis=1), atol=1e-12)
    others = np.setdiff1d(np.arange(len(dataset)), pool)
    np.testing.assert_array_equal(facts.nearest[others], np.array([3, 5, 9])[apart.argmin(axis=1)][others])
    assert (facts.response_tokens > 0).tolist() == np.asarray(encoded.eligible).tolist()
    assert len(facts.texts) == len(dataset)
    assert facts.texts[0].startswith(dataset[0].instruction[:20])


def test_the_first_of_more_picks_are_those_of_fewer(run):
    facts = keep_facts(run)
    for sampler in (KCenter(), KCenter(metric="cosine"), Longest(), Vendi(greedy=True)):
        assert chooses_row_by_row(sampler)
        few, more = (order_beyond(sampler, facts, X, count) for count in (5, 20))
        np.testing.assert_array_equal(few, more[:5])


def test_what_the_page_has_of_all_rows_is_bounded(tmp_path, monkeypatch):
    for seed in range(2):
        for sampler in ("kcenter", "random"):
            lay_run(tmp_path, World(rows=ROWS, words=40), sampler, seed, size=4)
    runs = collect([tmp_path]).runs
    kept = searched(runs)
    assert list(kept) == list(runs)
    texts = {run.data: {0: ["known", "answer"]} for run in runs}
    assert learn_all(texts, kept.values()) == 120
    (of_data,) = texts.values()
    assert (len(of_data), of_data[0], of_data[1]) == (ROWS, ["known", "answer"], [kept[runs[0]].facts.texts[1], ""])
    monkeypatch.setattr(search, "BUDGET", ROWS * 30)
    texts = {run.data: {} for run in runs}
    assert learn_all(texts, kept.values()) == 30
    assert {len(text) for text, _ in texts[runs[0].data].values()} == {30}
    monkeypatch.setattr(search, "BUDGET", ROWS * 30 - 1)
    texts = {run.data: {} for run in runs}
    assert learn_all(texts, kept.values()) is None
    assert texts == {run.data: {} for run in runs}
    monkeypatch.setattr(search, "NUMBERS", 4 * ROWS - 1)
    assert [(run.line.sampler, run.seed) for run in searched(runs)] == [("kcenter", 0), ("random", 0)]
    monkeypatch.setattr(search, "NUMBERS", 2 * ROWS - 1)
    assert searched(runs) == {}
