"""Every command in the documents is one that the program takes, every link leads somewhere, every page is linked."""

import itertools
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from diverseevol.cli.app import VERBS, renamed
from diverseevol.cli.mistakes import check_appended, check_choices, check_flags
from diverseevol.cli.own_code import opened

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [
    *GUIDES,
    *(ROOT / name for name in ("SECURITY.md", "CHANGELOG.md", "experiments/README.md", "experiments/lab/README.md",
                               "diverseevol/lab/foundation/README.md")),
]  # fmt: skip
GENERATED = [ROOT / "docs" / name for name in ("families.md", "models.md")]  # make model-table, make model-cards
WIDTH = 120
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PLACE_HOLDERS = ("…", "NAME", "VERB", "X")


def blocks(page: Path, language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def shell_lines(page: Path) -> list[list[str]]:
    """The words of every command line in the page's blocks."""
    joined = itertools.chain.from_iterable(
        block.replace("\\\n", " ").splitlines() for block in blocks(page, "bash") + blocks(page, "sh")
    )
    return [words for line in joined if (words := shlex.split(line, comments=True))]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """(verb, arguments) of each `diverseevol …` in the page's blocks, and of those in its text that are complete."""
    found = []
    in_text = re.findall(r"`((?:\.venv/bin/)?diverseevol [a-z]+ [^`\n…A-Z]+)`", BLOCK.sub("", page.read_text("utf-8")))
    for words in (*shell_lines(page), *map(shlex.split, in_text)):
        for i, word in enumerate(words):
            if word.removeprefix(".venv/bin/") == "diverseevol" and words[0] in (word, "torchrun", "python"):
                found.append((words[i + 1], words[i + 2 :]))
                break
    return found


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


COMMANDS = [(name(page), verb, arguments) for page in PAGES for verb, arguments in commands(page)]


def test_the_documents_have_commands_and_links_to_check():
    assert sum(page.read_text("utf-8").count("](") for page in PAGES) > 100
    assert len(COMMANDS) > 30
    assert {verb for _, verb, _ in COMMANDS} >= {"evolve", "select", "judge", "compare", "report"}


@pytest.mark.parametrize(
    ("page", "verb", "arguments"), COMMANDS, ids=[f"{page}-{i}-{verb}" for i, (page, verb, _) in enumerate(COMMANDS)]
)
def test_every_command_composes(page, verb, arguments, tmp_path, monkeypatch):
    assert verb in VERBS
    if not (CONF / f"{verb}.yaml").is_file():  # takes no configuration
        return
    arguments = renamed(verb, arguments)
    check_flags(verb, arguments)
    check_appended(verb, arguments)
    flags = get_args_parser().parse_args(opened(arguments))
    sweeps = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(flags.overrides), None)
    jobs = list(itertools.chain.from_iterable(sweeps)) if flags.multirun else [flags.overrides]
    if flags.config_dir:  # a choice of the reader's own, which the page shows before the command
        for block in blocks(ROOT / page, "yaml"):
            group = tmp_path / "benchmark"
            group.mkdir(exist_ok=True)
            (group / f"{yaml.safe_load(block)['name']}.yaml").write_text(block, "utf-8")
        jobs = [[*job, f"hydra.searchpath=[file://{tmp_path}]"] for job in jobs]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for job in jobs:
            check_choices(job)
            composed = compose(verb, job, return_hydra_config=True)
            monkeypatch.setattr(HydraConfig.instance(), "cfg", composed)  # what `${hydra:…}` refers to
            missing = [key for key in OmegaConf.missing_keys(composed) if not key.startswith("hydra.")]
            if verb == "select":  # no model is needed: embeddings are given, or rows are compared by their words
                missing = [key for key in missing if not key.startswith("model.")]
            assert not missing, f"{page}: {verb} {shlex.join(job)} lacks {missing}"


OPTIONAL = ("experiment", "stop")  # groups of which `evolve` chooses nothing unless it is told to


@pytest.mark.parametrize("page", GUIDES, ids=name)
def test_choices_and_verbs_in_the_text_exist(page):
    for code in re.findall(r"`([^`\n]+)`", page.read_text("utf-8")):
        if code.startswith("diverseevol compare"):  # its `metric=` names what run folders hold, not a choice
            continue
        for group, choices in re.findall(r"(?<![\w./-])([a-z]+)=([a-z_0-9]+(?:[|,][a-z_0-9]+)*)(?![\w./*-])", code):
            if (CONF / group).is_dir():
                for choice in re.split(r"[|,]", choices):
                    own = any(yaml.safe_load(block).get("name") == choice for block in blocks(page, "yaml"))
                    none = choice == "null" and group in OPTIONAL
                    assert own or none or (CONF / group / f"{choice}.yaml").is_file(), code
        if verb := re.match(r"(?:\.venv/bin/)?diverseevol (\S+)", code):
            assert verb[1] in (*VERBS, *PLACE_HOLDERS) or verb[1].startswith("-"), code


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_command_is_outside_of_what_is_checked(page):
    text = page.read_text("utf-8")
    languages = [language for language, _ in BLOCK.findall(text)]
    assert text.count("```") == 2 * len(languages), "a block is indented or not closed"
    assert {*languages} <= {"", "bash", "sh", "yaml", "python"}
    plain = "\n".join(blocks(page, ""))
    assert not re.search(r"^\W*(\.venv/bin/)?(diverseevol|make|python|torchrun) ", plain, re.MULTILINE)


def test_make_targets_and_variables_in_the_text_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = {*re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE)}
    checked = set()
    for page in PAGES:
        named = {word for words in shell_lines(page) if words[0] == "make" for word in words[1:]}
        for code in re.findall(r"`make ([^`]+)`", page.read_text("utf-8")):
            named |= {*code.split()}
        variables = {word.strip("[]").partition("=")[0] for word in named if "=" in word}
        assert variables <= {*re.findall(r"\$\((?:or \$\()?([A-Z]+)", makefile)}, name(page)
        named = {word for word in named if "=" not in word and word.islower()}
        assert named <= targets, name(page)
        checked |= named | variables
    assert {"evolve", "sweep", "figure2", "SEEDS"} <= checked


def test_scripts_in_the_text_have_the_options_that_it_gives_them():
    checked = set()
    for page in PAGES:
        for words in shell_lines(page):
            for script in (word for word in words if word.endswith(".py") and "experiments/" in word):
                content = (ROOT / script[script.index("experiments/") :]).read_text("utf-8")
                options = {word for word in words if word.startswith("--")}
                assert not [option for option in options if f'"{option}"' not in content], (name(page), script)
                checked |= options
    assert {"--world", "--tokens"} & checked


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}, link


def test_every_page_is_linked_from_the_index_and_the_readme():
    for index in (ROOT / "README.md", ROOT / "docs" / "README.md"):
        linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index.read_text("utf-8"))}
        pages = {page.resolve() for page in GUIDES if page.name != "README.md"}
        assert pages <= linked, f"{name(index)} does not link {sorted(page.name for page in pages - linked)}"


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 1100


@pytest.mark.parametrize("page", [page for page in GUIDES if page not in GENERATED], ids=name)
def test_lines_are_readable_in_an_editor(page):
    text = BLOCK.sub("", page.read_text("utf-8"))
    long = [line for line in text.splitlines() if len(line) > WIDTH and not line.startswith("|")]
    assert not long
