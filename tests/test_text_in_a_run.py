"""The space of text alone in an evolution, from the command line: `sampler.space=text`."""

import json

import pytest
from small_evolution import SMALL

from diverseevol.storage.files import read_json, read_jsonl


@pytest.mark.nightly
def test_an_evolution_by_the_words_picks_what_select_picks_from_the_same_pool(command_line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cache, sampler = f"cache={tmp_path / 'cache'}", ("sampler=kcenter", "sampler.space=text")
    small = [word for word in SMALL if not word.startswith(("benchmark", "generation"))]
    code, _, said = command_line("evolve", *small, *sampler, "benchmark=none", "logger=none", "folder=run", cache)
    assert code == 0, said
    first = read_json(tmp_path / "run/rounds/00/round.json")
    assert {line["space"] for line in read_jsonl(tmp_path / "run/rounds/00/chosen.jsonl")} == {"text"}
    assert {"text", "foundation"} <= set(first["seconds"])
    assert "probe" not in first["seconds"]

    # Beside a model, too, the sampler's space counts; the words are read from the cache.
    (tmp_path / "P0.json").write_text(json.dumps(first["trained_on"]))
    code, _, said = command_line(
        "select", "data=lab", "data.size=200", *sampler, "n=10", "taken=P0.json", "out=P.json", cache
    )
    assert code == 0, said
    assert "space: text, rows are compared by their words\n" in said
    assert read_json(tmp_path / "P.json")["chosen"] == first["chosen"]
    assert len([path for path in (tmp_path / "cache/text").iterdir() if path.is_dir()]) == 1
