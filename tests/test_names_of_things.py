"""Names say what a thing is: no pronoun, numeral or filler is a variable, parameter, function or attribute."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "diverseevol"
FILLERS = {
    "each", "one", "ones", "other", "others", "another", "found", "given", "said", "told", "there", "here", "what",
    "which", "whose", "place", "whole", "further", "beside", "it", "its", "this", "that", "these", "those", "them",
    "they", "who", "whoever", "something", "anything", "everything", "two", "three",
}  # fmt: skip


def bound(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of all that the code binds, comprehensions aside."""
    in_comprehensions = {
        id(name) for node in ast.walk(tree) if isinstance(node, ast.comprehension) for name in ast.walk(node.target)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in in_comprehensions:
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.ExceptHandler | ast.MatchAs):
            yield node.lineno, node.name or ""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):  # a lambda is as short as a comprehension
            arguments = node.args
            for argument in (
                *arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg,
            ):  # fmt: skip
                if argument is not None:
                    yield argument.lineno, argument.arg


def fillers(file: Path) -> list[str]:
    names = bound(ast.parse(file.read_text("utf-8")))
    return [f"{file.relative_to(PACKAGE.parent)}:{line}: {name}" for line, name in names if name.strip("_") in FILLERS]


def room_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0]


def test_a_filler_is_noticed_where_it_is_bound_and_not_in_a_comprehension(tmp_path):
    names = {name for _, name in bound(ast.parse("def f(other, *, n): [each for each in n]; found = n; n.place = 1"))}
    assert names == {"f", "other", "n", "found", "place"}


@pytest.mark.parametrize("folder", ["experiments", "perf"])
def test_names_in_scripts_say_what_things_are(folder):
    files = sorted((PACKAGE.parent / folder).rglob("*.py"))
    assert files
    assert not [finding for file in files for finding in fillers(file)]


@pytest.mark.parametrize("room", sorted({room_of(file) for file in PACKAGE.rglob("*.py")}))
def test_names_say_what_things_are(room):
    files = [file for file in sorted(PACKAGE.rglob("*.py")) if room_of(file) == room]
    assert not [finding for file in files for finding in fillers(file)]


def test_names_of_the_tests_helpers_do_too():
    files = [file for file in sorted((PACKAGE.parent / "tests").glob("*.py")) if not file.name.startswith("test_")]
    assert len(files) > 10
    found_by_tests = ": whole"  # the finished evolution of conftest.py, by the name that fifty tests ask for it
    assert not [name for file in files for name in fillers(file) if not name.endswith(found_by_tests)]
