"""The report's page in a real browser: what a reader sees, points at and types."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_folders import HOSTILE, World, lay_run

from diverseevol.report.collect import collect
from diverseevol.report.page.publish import publish
from diverseevol.runs.row_facts import write_beyond
from diverseevol.storage.files import write_jsonl

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (the dev extra has it)")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium (apt-get install chromium)")

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
FIRST = int(np.random.default_rng(0).permutation(64)[0])  # a row of P_0 of seed 0
LARGEST = 15_000_000  # bytes
SLOWEST = 2.0  # seconds to open; printed, and failed only far beyond it, since machines are shared


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    world = World(rows=64, texts={FIRST: HOSTILE, 3: HOSTILE})
    for seed in range(2):
        lay_run(folder / "outputs", world, "kcenter", seed, rounds=5, size=10, scores=[4, 5, 6, 7, 7, 7])
        lay_run(folder / "outputs", world, "random", seed, rounds=5, size=10, scores=[4, 5, 5, 6, 6, 6])
    for run in collect([folder / "outputs"]).runs:
        rest = np.setdiff1d(np.arange(64), run.rounds[-1].trained_on)
        write_jsonl(run.folder / "tags.jsonl", [{"row": int(rest[0]), "tags": [f"duplicate of 12 {HOSTILE}"]}])
        if run.line.sampler == "kcenter":
            write_beyond(run.folder, rest[:0:-1])
    publish(collect([folder / "outputs"]), folder)
    return folder / "report.html"


class Reader:
    """A page with everything that it said and asked for."""

    def __init__(self, browser: Any, file: Path, **context: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1200, "height": 900}, **context)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.requests.append(request.url))
        began = time.monotonic()
        self.page.goto(file.as_uri(), wait_until="load")
        self.seconds = time.monotonic() - began

    def look_at(self, section: str) -> None:
        self.page.eval_on_selector(f"#{section}", "node => node.scrollIntoView()")
        self.page.wait_for_selector(f"#{section}[data-ready]")


@pytest.fixture
def reader(chromium, report) -> Iterator[Reader]:
    opened = Reader(chromium, report)
    yield opened
    for section in ("map", "receipts", "search", "answers"):
        opened.look_at(section)
    assert opened.complaints == []
    assert opened.requests == [report.as_uri()]  # the page itself and nothing else
    opened.context.close()


def test_every_figure_is_there_with_a_size(reader):
    figures = reader.page.query_selector_all("figure svg")
    assert len(figures) >= 6
    for figure in figures:
        box = figure.bounding_box()
        assert box["width"] > 200
        assert box["height"] > 80


def point_at(reader: Reader, row: int) -> str:
    """Move the mouse to where the page has drawn a row; what it says."""
    place = reader.page.evaluate(
        """row => {
            const data = rows(), run = data.runs[document.getElementById("map-run").value], map = data.maps[run.map];
            const canvas = document.getElementById("map-canvas");
            canvas.scrollIntoView({block: "center"});
            const box = canvas.getBoundingClientRect(), margin = 14;
            const scale = Math.min((box.width - 2 * margin) / map.high[0], (box.height - 2 * margin) / map.high[1]);
            return [box.left + (box.width - scale * map.high[0]) / 2 + scale * map.points[2 * row],
                    box.bottom - (box.height - scale * map.high[1]) / 2 - scale * map.points[2 * row + 1]];
        }""",
        row,
    )
    reader.page.mouse.move(*place)
    assert reader.page.is_visible("#map-tip")
    return str(reader.page.inner_text("#map-tip"))


def test_pointing_at_a_row_of_the_map_shows_its_text(reader, report):
    reader.look_at("map")
    (run,) = [r for r in collect([report.parent / "outputs"]).runs if (r.line.sampler, r.seed) == ("kcenter", 0)]
    for done in run.rounds[:2]:
        row = done.chosen[0]
        said = point_at(reader, row)
        assert f"row {row} · joined for round {done.index + 1}" in said
        assert World().record(row)["instruction"] in said or row == 3
    assert "in the first pool" in point_at(reader, run.rounds[0].trained_on[1])


def test_rows_that_nobody_chose_are_said_to_be_so(reader, report):
    reader.look_at("map")
    reader.page.eval_on_selector("#map-round", "node => { node.value = 0; node.dispatchEvent(new Event('input')); }")
    assert "not chosen so far" in reader.page.inner_text("#map-legend")


def test_a_row_with_a_script_in_it_shows_as_text(reader):
    reader.look_at("map")
    assert "<script>alert('row')</script>" in point_at(reader, FIRST)
    assert reader.page.query_selector("#map-tip script, #map-tip img") is None
    reader.look_at("receipts")
    reader.page.select_option("#receipt-run", index=0)
    reader.page.fill("#receipt-search", "<script>alert")
    for _ in range(4):  # the row is chosen by one run or another
        if reader.page.query_selector_all("#receipt-rows tr"):
            break
        index = reader.page.eval_on_selector("#receipt-run", "node => node.selectedIndex") + 1
        reader.page.select_option("#receipt-run", index=index)
    assert "<script>alert('row')</script>" in reader.page.inner_text("#receipt-rows")
    assert reader.page.query_selector("#receipt-rows script, #receipt-rows img") is None


def test_the_search_filters_receipts_and_the_round_narrows_them(reader):
    reader.look_at("receipts")
    page = reader.page
    every = len(page.query_selector_all("#receipt-rows tr"))
    assert every == 50
    assert page.inner_text("#receipt-count").endswith("score: far & <wide>")
    page.select_option("#receipt-round", "2")
    assert len(page.query_selector_all("#receipt-rows tr")) == 10
    row = page.inner_text("#receipt-rows tr:nth-child(4) td:nth-child(3)")
    page.fill("#receipt-search", f"row{row}")
    assert page.inner_text("#receipt-rows tr:nth-child(1) td:nth-child(3)") == row
    page.fill("#receipt-search", "no row says this")
    assert page.query_selector_all("#receipt-rows tr") == []
    assert page.inner_text("#receipt-count").startswith("0 of 10")


def test_any_row_is_found_by_number_or_words_and_says_whether_it_was_chosen(reader, report):
    reader.look_at("search")
    page = reader.page
    (run,) = [r for r in collect([report.parent / "outputs"]).runs if (r.line.sampler, r.seed) == ("kcenter", 0)]
    held_out, *left = np.setdiff1d(np.arange(64), run.rounds[-1].trained_on).tolist()
    nearest, distance = (np.load(run.folder / "rows" / f"{name}.npy") for name in ("nearest", "distance"))
    page.select_option("#search-run", label="toy/tiny: K-Center, seed 0")

    def cells(words: str) -> list[str]:
        page.fill("#search-words", words)
        return [cell.inner_text() for cell in page.query_selector_all("#search-rows tr:nth-child(1) td")]

    assert page.inner_text("#search-count") == "64 of 64 rows"
    for rank, row in enumerate(reversed(left), start=1):
        number, chosen, later, apart, text, near = cells(str(row))
        assert (number, chosen, later) == (str(row), "no", str(60 + rank))
        assert float(apart) == pytest.approx(distance[row], rel=1e-3)
        assert near.startswith(f"row {nearest[row]}\n")
        if row not in (FIRST, 3):
            assert text == World().record(row)["instruction"][:120]
            assert cells(f"row{row} w")[0] == str(row)
    assert cells(str(held_out))[1:4] == ["held out", "", ""]
    assert "duplicate of 12 </script><script>alert('row')" in cells(str(held_out))[4]
    assert cells("duplicate")[0] == str(held_out)
    assert page.query_selector("#search-rows script, #search-rows img") is None
    assert cells(str(run.rounds[0].chosen[2]))[1] == "round 1, pick 3"
    assert cells(str(run.rounds[0].trained_on[2]))[1] == "first pool P₀"
    page.fill("#search-words", "")
    page.select_option("#search-kind", "left")
    assert page.inner_text("#search-count") == "4 of 64 rows"
    page.select_option("#search-kind", "chosen")
    assert page.inner_text("#search-count") == "60 of 64 rows"


def test_two_chosen_models_stand_side_by_side_with_both_orders(reader):
    reader.look_at("answers")
    page = reader.page
    for select, sampler in (("#answer-one", "K-Center, seed 1, round 5"), ("#answer-two", "random, seed 0, round 0")):
        value = page.eval_on_selector(
            select, "(node, name) => [...node.options].find(o => o.text.endsWith(name)).value", sampler
        )
        page.select_option(select, value)
    page.click("#answer-list tr:nth-child(3)")
    said = page.inner_text("#answer-pair")
    assert "What is q2?" in said
    assert "q2, says round 5" in said
    assert "q2, says round 0" in said
    assert said.count("the competitor's answer") == 1
    assert "q2, says the competitor </script><script>" in said
    for t in (5, 0):
        for order in (0, 1):
            assert f"reason {t} q2 {order}" in said
    assert said.count("model shown first") == said.count("model shown second") == 2
    page.fill("#answer-search", "q1")
    assert len(page.query_selector_all("#answer-list tr")) == 1


def test_dark_and_light_have_their_own_colours_and_nothing_is_cut_on_a_narrow_screen(chromium, report):
    shades = []
    for scheme in ("light", "dark"):
        reader = Reader(chromium, report, color_scheme=scheme)
        shades.append(reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))
        reader.page.set_viewport_size({"width": 380, "height": 800})
        assert reader.page.evaluate("document.documentElement.scrollWidth") <= 380
        assert reader.complaints == []
        reader.context.close()
    assert shades == ["rgb(255, 255, 255)", "rgb(21, 23, 27)"]


def test_tables_fit_a_screen_and_a_phone(chromium, tmp_path):
    losses = {f"{name}{end}": 1.2345 for name in ("held_out_loss",) for end in ("", "_low", "_high")}
    for choices, drop in (("", 0.0), ("0123abcd", 0.1)):
        for seed in range(3):
            for sampler in ("uncertain_kcenter", "random"):
                lay_run(tmp_path / "outputs", World(name="databricks-dolly-15k/llama-7b", judge="gpt-4o-mini-2024"),
                        sampler, seed, rounds=5, size=8, scores=[4, 5, 6, 7, 7, 7 + drop], extra=losses,
                        options={"sampler.drop": drop}, choices=choices)  # fmt: skip
    publish(collect([tmp_path / "outputs"]), tmp_path)
    reader = Reader(chromium, tmp_path / "report.html")
    for width in (1400, 380):
        reader.page.set_viewport_size({"width": width, "height": 900})
        sizes = reader.page.evaluate(
            "[...document.querySelectorAll('.cards')].map(n => [n.parentNode.clientWidth, n.scrollWidth])"
        )
        assert len(sizes) >= 5
        assert all(inner <= room for room, inner in sizes), (width, sizes)
    assert "drop=0.1" in reader.page.inner_text("#tables")
    assert "0123abcd" not in reader.page.inner_text("#tables")
    reader.context.close()


@pytest.mark.slow
def test_ten_runs_of_eleven_rounds_on_fifteen_thousand_rows_open_at_once(chromium, tmp_path, capsys):
    world = World(rows=15_000, questions=478, words=120)
    for sampler in ("kcenter", "random"):
        for seed in range(5):
            scores = [5 + 0.1 * seed + 0.2 * t for t in range(11)]
            lay_run(tmp_path / "outputs", world, sampler, seed, rounds=10, size=100, scores=scores)
    publish(collect([tmp_path / "outputs"]), tmp_path)
    file = tmp_path / "report.html"
    reader = Reader(chromium, file)
    began = time.monotonic()
    for section in ("map", "receipts", "search", "answers"):
        reader.look_at(section)
    with capsys.disabled():
        print(
            f"\n{file.stat().st_size / 1e6:.1f} MB open in {reader.seconds:.2f} s, "
            f"map, receipts and answers in {time.monotonic() - began:.2f} s more"
        )
    assert file.stat().st_size < LARGEST
    assert reader.seconds < 5 * SLOWEST
    assert reader.complaints == []
    reader.context.close()
