"""Names that data or configuration give stay where they are put, or are refused."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from diverseevol.cli.configuration import Configuration
from diverseevol.cli.naming import run_path
from diverseevol.errors import InputError
from diverseevol.evaluation.questions.benchmarks import Benchmark
from diverseevol.storage.files import write_json
from diverseevol.storage.names import LONGEST_BYTES, checked_name, is_name, safe_name

CONF = Path(__file__).parents[1] / "conf"
BAD = (
    "", ".", "..", "../../x", "/etc/passwd", "a/b", "a\\b", "x" * 300, "é" * 60, "two\nlines", "end\n", "\x1b[31m",
    ".hidden", "-option", " led", "trailing ", "trailing.", "~", "$HOME", "a:b", "*", "CON", "nul.json", "Com1",
    "\udcff", "\u202egnp", "a\u200bb", "nul\0",
)  # fmt: skip
GOOD = (
    "lab",
    "my rows",
    "model-1.5",
    "данные",
    "数据",
    "Qwen2.5-7B",
    "c++",
    "x" * LONGEST_BYTES,
    "a..b",
    "_",
    "console",
)


@pytest.mark.parametrize("name", BAD)
def test_a_chosen_name_that_no_file_can_have_is_refused_in_a_sentence(name: str) -> None:
    with pytest.raises(InputError, match="becomes the name of a file or folder") as caught:
        checked_name("data.name", name)
    assert str(caught.value).startswith("data.name=")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [None, 3, ["a"], {"a": 1}, True])
def test_what_is_no_text_is_no_name(value: Any) -> None:
    with pytest.raises(InputError, match="becomes the name"):
        checked_name("data.name", value)


@pytest.mark.parametrize("name", GOOD)
def test_usual_names_are_names_and_stay(name: str) -> None:
    assert checked_name("data.name", name) == name == safe_name(name)


@pytest.mark.parametrize("text", BAD)
def test_a_name_made_of_any_text_is_one_and_its_own(text: str, tmp_path: Path) -> None:
    name = safe_name(text)
    assert is_name(name)
    assert safe_name(text) == name
    assert len({safe_name(other) for other in BAD}) == len(BAD)
    write_json(tmp_path / f"{name}.json", 1)
    assert [file.parent for file in tmp_path.rglob("*.json")] == [tmp_path]


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "x" * 300, "a\nb", ""])
def test_a_benchmark_has_a_name_however_it_is_made(name: str) -> None:
    with pytest.raises(InputError, match=r"benchmark\.name=.*becomes the name"):
        Benchmark(name, ())


def placed(*overrides: str) -> Path:
    """The run folder of a command."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose("evolve", list(overrides), return_hydra_config=True)
        choices = {k: str(v) for k, v in composed.hydra.runtime.choices.items() if "/" not in k}
        return run_path(Configuration("evolve", compose("evolve", list(overrides)), choices))


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "x" * 300, "a/b", "..", "''"])
def test_a_run_is_not_placed_by_a_data_sets_name(name: str) -> None:
    with pytest.raises(InputError, match=r"data\.name=.*becomes the name of a file or folder"):
        placed(f"data.name={name}")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("some/my rows.jsonl", "my rows"),
        ("..", None),
        ("/", None),
        (".", None),
        ("a/..", None),
        ("rows of 'mine'.jsonl", None),
        ("x" * 240 + ".jsonl", None),
        ("org/data-1.5", "data-1.5"),
    ],
)
def test_a_run_is_placed_below_outputs_whatever_its_data_are_called(path: str, expected: str | None) -> None:
    quoted = '"' + path.replace('"', '\\"') + '"'
    found = placed("data=json", f"data.path={quoted}", f"model.path={quoted}")
    parts = found.parts
    assert (parts[0], parts[3:]) == ("outputs", ("kcenter-iterative", "seed0"))
    assert all(map(is_name, parts))
    if expected is not None:
        assert parts[1] == expected
