"""Terminal text, shell words and cells: data is shown, passed on and stored, and never obeyed."""

import ast
import io
import logging
import random
import re
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator
from omegaconf import OmegaConf
from rich.table import Table
from rich.text import Text

from diverseevol.output.console import Console, log_to, styled
from diverseevol.output.pictures import lay_out, rendered
from diverseevol.output.sheets import cell, read_csv, write_csv
from diverseevol.output.shell import command, override
from diverseevol.output.terminal import keep_plain, one_line, say, visible
from diverseevol.progress import Shown

ROOT = Path(__file__).parents[1]
STEERING = "\x1b[31m \x1b]8;;http://x\x07link\x1b]8;;\x07 \x9b2J \u202edlrow\u2066 \r\x08\x7f \u2028 \ufeff \ud800 \x00"
MARKUP = "[red]a[/red] [/] [link=http://x]b[/link] :smile: [bold"


def console(**options: object) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=True, color_system="truecolor", width=80, **options), stream


def unstyled(text: str) -> str:
    """What a terminal shows: without colours, which are ours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def is_plain(text: str) -> bool:
    return visible(unstyled(text)) == unstyled(text)


@pytest.mark.parametrize("character", sorted({*STEERING} - {*"[31m]8;;http://xlink2Jdlrow "}))
def test_each_steering_character_is_written_out(character):
    shown = visible(f"a{character}b")
    assert shown.isprintable()
    assert shown.encode("utf-8").decode("unicode_escape") == f"a{character}b"


def test_ordinary_text_of_any_script_stays_as_it_is():
    text = "naïve “quotes” 日本語 עברית العربية हिन्दी 👩‍🔬\tx\ny – ½ \\x1b"
    assert visible(text) == text


def test_a_line_is_one_line_and_no_longer_than_it_may_be():
    assert one_line("\na  b\r\n   c\n\nd\n") == "a  b c d"
    assert one_line(Path("x\ny")) == "x y"
    long = one_line(f"begin {'x' * 300_000} end", 2000)
    assert len(long) < 2100
    assert long.startswith("begin ")
    assert long.endswith(" end")
    assert "298,010 characters left out" in long


def test_said_lines_are_plain(capsys):
    say(f"path {STEERING}\nsecond")
    say(STEERING, error=True)
    out, err = capsys.readouterr()
    assert out.count("\n") == err.count("\n") == 1
    assert is_plain(out + err)


def test_what_python_itself_prints_is_plain(monkeypatch, capsys):
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    monkeypatch.setattr(logging, "lastResort", logging.StreamHandler())
    keep_plain()
    shown = warnings.formatwarning(f"careful {STEERING}\nsecond", UserWarning, "file.py", 1)
    assert (shown.count("\n"), visible(shown)) == (1, shown)
    assert shown.startswith("UserWarning: careful")
    bare = logging.Logger("without a handler")
    bare.error("failed: %s", STEERING)
    thread = threading.Thread(target=lambda: [][len(STEERING) and 1])
    thread.start()
    thread.join()
    said = capsys.readouterr().err
    assert is_plain(said)
    assert "failed: " in said
    assert "IndexError" in said


@pytest.mark.parametrize("text", [STEERING, MARKUP, f"{MARKUP}{STEERING}", "1 'a' http://x /p/q None"])
def test_strings_on_a_console_are_shown_and_never_obeyed(text):
    ours, stream = console()
    ours.print(text)
    assert stream.getvalue().rstrip("\n") == one_line(text), "neither markup, nor emoji, nor a highlight"


@pytest.mark.parametrize("text", [STEERING, MARKUP])
@pytest.mark.parametrize("wrap", [str, Text])
def test_tables_logs_and_progress_show_data_as_it_is(text, wrap):
    ours, stream = console()
    table = Table(title=wrap(f"title {text}"), caption=wrap(f"caption {text}"))
    table.add_column(wrap(f"head {text}"))
    table.add_row(wrap(text))
    ours.print(table)
    ours.print(styled(("bold part", "bold"), text))
    shown = Shown(ours)
    shown.head(text)
    with shown.track(text, 2) as advance:
        advance(2)
    before = logging.getLogger().handlers[:]
    try:
        log_to(ours)
        logging.getLogger("some.library").warning("%s", text, extra={"markup": True})
    finally:
        logging.getLogger().handlers[:] = before
    written = re.sub(r"\x1b\[(\?25[lh]|[12]?[KA]|[0-9]*[AG])", "", stream.getvalue())  # rich's own, for its live bars
    assert is_plain(written.replace("\r", ""))
    if text is MARKUP:
        flat = re.sub(r"[\s│┃╇┡┩]+", "", unstyled(written))
        assert flat.count(re.sub(r"\s+", "", MARKUP)) >= 6


def test_lines_are_not_broken_since_they_are_copied():
    ours, stream = console()
    ours.print("word " * 100 + "/a/path")
    assert stream.getvalue().count("\n") == 1


HOSTILE_VALUES = (
    "a b", "a;touch x", "$(touch x)", "`touch x`", "a'b", 'a"b', "a\\", 'a\\"b', "a\nb", "a\n", "\n", "\n\n1", "a\tb",
    "\x1b]0;x\x07", "\u202eevil", "${oc.env:HOME}", "\\${x}", "a\\\\${x}", "a=b", "a,b", "[a]", "{a}", "null", "TRUE",
    "1e5", "-1_0", ".5", "inf", "~", "~/x", "!!", "a#b", "*", "x&y|z>w", "(a)", "glob(*)", "é", "\udc80", "",
    "-rf", "%s\\n",
)  # fmt: skip


def arrived(line: str, folder: Path) -> list[str]:
    """The words that a shell makes of a line."""
    code = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    done = subprocess.run(
        ["sh", "-c", f'p() {{ "{sys.executable}" -c "{code}" "$@"; }}; p {line}'], cwd=folder, capture_output=True,
        check=True,
    )  # fmt: skip
    return [word.decode("utf-8", "surrogateescape") for word in done.stdout.split(b"\0")]


def test_words_pass_a_shell_unchanged_and_nothing_else_is_run(tmp_path):
    line = command(*HOSTILE_VALUES)
    assert arrived(line, tmp_path) == list(HOSTILE_VALUES)
    assert not list(tmp_path.iterdir())
    for value in HOSTILE_VALUES:
        assert value.endswith("\n") or one_line(command(value)) == command(value), "as it is read off a terminal"
    assert (
        command("diverseevol", "evolve", "seed=0", "data.path=a/b.jsonl")
        == "diverseevol evolve seed=0 data.path=a/b.jsonl"
    )


def test_values_pass_hydras_grammar_and_interpolation_unchanged():
    rng = random.Random(0)
    pieces = ["\\", '"', "'", "${", "}", "$", "a", " ", ",", "\n", "=", "[", "1"]
    values = [*HOSTILE_VALUES, *("".join(rng.choices(pieces, k=rng.randint(1, 7))) for _ in range(300))]
    parser = OverridesParser.create()
    for value in values:
        read = OmegaConf.create({"folder": parser.parse_override(override("folder", value)).value()})
        assert read.folder == value, override("folder", value)
    assert override("folder", Path("outputs/lab/seed0")) == "folder=outputs/lab/seed0"


FORMULAS = (
    "=cmd|' /C calc'!A0", "+1+1", "-1+cmd", "@SUM(A1)", "\t=x", "\r=x", "\n=x", " =x", "'=x", "''=x", "=x,\"y\"",
    "\ufeff=x", "＝x", "-", "=", "- a list", "\tplain", "+2.30 … +3.4",
)  # fmt: skip
NUMBERS = ("-1", "+2.5", "-1e-05", "+3.2 %", "-1,234.5", "-.5", "-inf", 1, -2.5, np.float32(-1.5), None)


def test_text_never_becomes_a_formula_and_numbers_stay_numbers(tmp_path):
    for text in FORMULAS:
        assert str(cell(text)).startswith("'"), text
    for number in NUMBERS:
        assert cell(number) == number
    for text in ("a=b", "kcenter", "[+1, +2]", "", "'quoted'", "–"):
        assert cell(text) == text
    file = tmp_path / "x.csv"
    columns = [f"=column {i}" for i in range(len(FORMULAS))]
    write_csv(file, columns, [FORMULAS, [*NUMBERS, *("a\rb",) * (len(FORMULAS) - len(NUMBERS))]])
    texts, numbers = read_csv(file)
    assert list(texts) == columns
    assert list(texts.values()) == [text.replace("\r", "\n") for text in FORMULAS]
    assert [numbers[c] for c in columns[: len(NUMBERS)]] == ["" if n is None else str(n) for n in NUMBERS]


def test_halves_of_surrogate_pairs_do_not_stop_a_table(tmp_path):
    write_csv(tmp_path / "x.csv", ["a"], [["\ud800=x"], [Path("=p")]])
    assert (tmp_path / "x.csv").read_text() == "a\n\\ud800=x\n'=p\n"


# What may import or call what: each of these has one place, and everything else goes through it.
PLACES = {
    "rich.console.Console": "console.py", "rich.logging": "console.py", "rich.print": "console.py",
    "rich.markup": "", "csv": "sheets.py", "shlex": "shell.py", "pipes": "shell.py", "print": "terminal.py",
    "sys.stdout": "terminal.py", "sys.stderr": "terminal.py", "traceback.print_exception": "",
    "traceback.print_exc": "", "warnings.warn": "", "figure.savefig": "pictures.py",
}  # fmt: skip


# What takes apart what others wrote, and writes nothing of the kind.
READERS = {"delimited_reader.py": {"csv"}, "server.py": {"shlex"}}
WRITERS = {"csv.writer", "csv.DictWriter", "shlex.quote", "shlex.join"}


def named(tree: ast.AST) -> set[str]:
    """What a module imports, calls or takes from a module, by dotted name."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names.add(f"{node.value.id}.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names.add(node.func.id)
    return names


def test_nothing_prints_quotes_or_writes_csv_but_in_its_place():
    files = [file for folder in ("diverseevol", "experiments") for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 150
    for file in files:
        own = file.name if file.parent == ROOT / "diverseevol" / "output" else None
        used = named(ast.parse(file.read_text(encoding="utf-8")))
        if file.name in READERS:
            assert not WRITERS & used, file
            used -= READERS[file.name]
        elsewhere = sorted(name for name, place in PLACES.items() if name in used and place != own)
        assert not elsewhere, f"{file}: goes around diverseevol/output: {elsewhere}"
        assert not re.search(r"markup=True|from_markup|\[/?(bold|dim|red|yellow|green)\]", file.read_text()), file


def test_labels_of_figures_are_plain_text(tmp_path):
    figure = Figure(layout="constrained")
    axes = figure.subplots()
    name = f"a $ b $_{{ $x$ {STEERING}"
    axes.plot([0, 1], [1, 2], label=name)
    axes.set_title(name)
    axes.annotate(name, (0, 1))
    axes.set_xlabel(name * 5)
    axes.set_yticks([1, 2], [name, "plain"])
    axes.xaxis.set_major_locator(FixedLocator([0, 1]))
    axes.xaxis.set_major_formatter(FixedFormatter([name, name]))
    axes.legend()
    lay_out(figure)
    assert rendered(figure, "png").startswith(b"\x89PNG")
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        picture = rendered(figure, "svg").decode()
    texts = [text for text in ElementTree.fromstring(picture).itertext() if "$" in text]
    assert len(texts) >= 7
    assert all("a $ b $_{ $x$ \\x1b[31m" in text and visible(text) == text for text in texts)
