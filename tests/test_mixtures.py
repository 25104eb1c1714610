"""Several files, folders and globs as one data set, whose rows know where they come from."""

import bz2
import gzip
import json
from pathlib import Path

import datasets
import pytest
from hydra.errors import InstantiationException

from diverseevol.cli.configuration import configure
from diverseevol.cli.early import check_rows
from diverseevol.cli.naming import run_path, short_name
from diverseevol.cli.output_files import choice_file
from diverseevol.data.dataset import Dataset, load
from diverseevol.data.mixture import data_name, named_sources
from diverseevol.errors import InputError

pytestmark = pytest.mark.fast

WEB = [{"instruction": f"web {i}", "output": "yes"} for i in range(3)]
WIKI = [{"question": f"wiki {i}", "answer": "no", "id": i} for i in range(2)]
BOOKS = [{"prompt": f"book {i}", "completion": "so"} for i in range(4)]


def jsonl(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """web.jsonl, wiki.parquet and books/b1.jsonl, b2.json, in the folder at work."""
    monkeypatch.chdir(tmp_path)
    Path("web.jsonl").write_bytes(jsonl(WEB))
    datasets.Dataset.from_list(WIKI).to_parquet("wiki.parquet")
    Path("books").mkdir()
    Path("books/b1.jsonl").write_bytes(jsonl(BOOKS[:1]))
    Path("books/b2.json").write_bytes(json.dumps(BOOKS[1:]).encode())
    return tmp_path


def refusal(path: object, cache: Path, **options: object) -> str:
    with pytest.raises(InputError) as error:
        load(path, cache=cache, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def contents(dataset: Dataset) -> list[str]:
    return [conversation.instruction for batch in dataset.iterate(2) for conversation in batch]


def test_rows_of_several_files_follow_each_other_under_the_names_of_the_files(files, cache):
    dataset = load(["web.jsonl", "wiki.parquet", "books/*.js*"], cache=cache)
    assert [dataset.record(row) for row in range(len(dataset))] == WEB + WIKI + BOOKS
    assert [(each.name, each.where, each.start, each.stop) for each in dataset.sources] == [
        ("web", "web.jsonl", 0, 3), ("wiki", "wiki.parquet", 3, 5), ("books", "books/*.js*", 5, 9),
    ]  # fmt: skip
    assert [dataset.source_of(row).name for row in (0, 2, 3, 4, 5, 8)] == [
        "web",
        "web",
        "wiki",
        "wiki",
        "books",
        "books",
    ]
    assert dataset.name == "web+wiki+books"
    assert contents(dataset)[2:6] == ["web 2", "wiki 0", "wiki 1", "book 0"]
    assert [row.instruction for row in dataset.take([8, 0, 3])] == ["book 3", "web 0", "wiki 0"]


def test_names_are_given_in_a_mapping(files, cache):
    dataset = load({"the web": "web.jsonl", "2024": "wiki.parquet"}, cache=cache, name="mine")
    assert (dataset.name, [source.name for source in dataset.sources]) == ("mine", ["the web", "2024"])
    assert load({"a": "web.jsonl"}, cache=cache).name == "a"


@pytest.mark.parametrize("one", [["web.jsonl"], {"web": "web.jsonl"}, "w*.jsonl", ("web.jsonl",)])
def test_one_path_is_the_data_set_that_it_is_by_itself(files, cache, one):
    alone = load("web.jsonl", cache=cache)
    kept = sorted(path.name for path in (cache / "source").iterdir())
    dataset = load(one, cache=cache)
    assert (dataset.fingerprint, len(dataset.sources)) == (alone.fingerprint, 1)
    assert contents(dataset) == contents(alone)
    assert sorted(path.name for path in (cache / "source").iterdir()) == kept


def test_each_file_is_checked_once_and_kept_by_itself(files, cache):
    mixture = load(["web.jsonl", "wiki.parquet"], cache=cache)
    kept = sorted(path.name for path in (cache / "source").iterdir())
    for one in ("web.jsonl", "wiki.parquet"):
        load(one, cache=cache)
    assert sorted(path.name for path in (cache / "source").iterdir()) == kept
    seen = []
    again = load(["web.jsonl", "wiki.parquet"], cache=cache, progress=lambda done, total: seen.append((done, total)))
    assert (again.fingerprint, seen) == (mixture.fingerprint, [])
    # Memory-mapped, and not copied.
    assert again.table.column("instruction").num_chunks == 2


def test_the_fingerprint_is_of_the_rows_in_order_and_of_what_is_one_source(files, cache):
    def fingerprint(path: object) -> str:
        return load(path, cache=cache).fingerprint

    first = fingerprint(["web.jsonl", "wiki.parquet"])
    Path("web.jsonl").rename("elsewhere.jsonl")
    assert fingerprint({"x": "elsewhere.jsonl", "y": "wiki.parquet"}) == first
    others = [
        fingerprint(["wiki.parquet", "elsewhere.jsonl"]), fingerprint("elsewhere.jsonl"),
        fingerprint("books/*"), fingerprint(["books/b1.jsonl", "books/b2.json"]), first,
    ]  # fmt: skip
    assert len({*others}) == len(others)


def test_progress_goes_on_from_file_to_file(files):
    shares = []
    load(["web.jsonl", "books/*"], cache=files / "cache", progress=lambda done, total: shares.append(done / total))
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert 1 / 3 in shares


def test_a_glob_is_one_source_of_its_files_by_name_and_a_file_of_such_a_name_wins(files, cache):
    for name in ("10", "9", ".hidden"):
        Path(f"books/{name}.jsonl").write_bytes(jsonl([{"prompt": name, "completion": "x"}]))
    dataset = load("books/*.jsonl", cache=cache)
    assert contents(dataset) == ["10", "9", "book 0"]
    assert [(each.name, each.start, each.stop) for each in dataset.sources] == [("books", 0, 3)]
    assert contents(load("**/*.json", cache=cache)) == ["book 1", "book 2", "book 3"]
    Path("books/[ab]*.jsonl").write_bytes(jsonl(WEB))
    dataset = load("books/[ab]*.jsonl", cache=cache)
    assert (len(dataset), dataset.name) == (3, "[ab]*")


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("rows/*.jsonl", "rows"), ("rows/web-*.jsonl", "web"), ("rows/**/*.jsonl.gz", "rows"), ("*.jsonl", "rows"),
        ("a/part-[0-9].csv", "part-0-9"), ("*", "rows"), ("/data/x.y/*", "x.y"),
    ],
)  # fmt: skip
def test_a_glob_is_named_after_what_of_it_is_no_wildcard(pattern, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert data_name(pattern) == name


def test_names_of_files_are_made_distinct(tmp_path):
    paths = ["x/a.jsonl", "y/a.csv", "a-2.jsonl", "z/a.jsonl", "org/a"]
    assert named_sources(paths) == dict(zip(["a", "a-2", "a-2-2", "a-3", "a-4"], paths, strict=True))
    assert data_name(paths) == "a+a-2+a-2-2+2-more"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ([], "data.path is not set; give a file (JSON, JSONL, CSV, TSV, parquet, Arrow), a folder, a glob, a hub id"),
        (["web.jsonl", ""], "data.path is empty, or one of its names or paths is; give a file, a list of files, or {"),
        ({" ": "web.jsonl"}, "one of its names or paths is"),
        (["web.jsonl", "./web.jsonl"], "data.path gives ./web.jsonl twice (as web.jsonl, too); leave one of the two"),
        (["web.jsonl", "web.jsonl"], "data.path gives web.jsonl twice; leave one of the two out"),
        (["books/*", "books/b1.jsonl"], "data.path gives books/b1.jsonl twice; leave one of the two out"),
        ("books/x*", "data.path=books/x*: no file has such a name; correct the pattern, or give the paths as a list"),
        ("b*", "data.path=b*: no file has such a name (folders alone, such as books); correct the pattern"),
        (["web.jsonl", "none.jsonl"], "none.jsonl: no such file"),
    ],
)  # fmt: skip
def test_what_names_no_mixture_is_refused_in_a_sentence(files, cache, path, sentence):
    assert sentence in refusal(path, cache)


def test_a_split_is_taken_of_each_source_and_other_options_must_mean_something_for_each(files, cache):
    assert contents(load(["web.jsonl", "books/b2.json"], cache=cache, split="train[:1]")) == ["web 0", "book 1"]
    assert "data.revision is abc, which means nothing for web.jsonl" in refusal(["web.jsonl"], cache, revision="abc")


def test_fields_that_are_named_are_those_of_all_sources(files, cache):
    Path("more.jsonl").write_bytes(jsonl([{"q": "more?", "a": "no"}]))
    Path("most.jsonl").write_bytes(jsonl([{"q": "most?", "a": "no"}]))
    named = {"instruction": "q", "response": "a"}
    assert contents(load(["more.jsonl", "most.jsonl"], cache=cache, fields=named)) == ["more?", "most?"]
    assert "web.jsonl, line 1: " in refusal(["more.jsonl", "web.jsonl"], cache, fields=named)


def test_bad_rows_are_told_by_file_and_line_and_listed_by_source(files, cache):
    Path("bad.jsonl").write_bytes(jsonl([WEB[0], {"instruction": "x", "output": ""}]))
    Path("worse.jsonl").write_bytes(b"{\n" + jsonl(WEB[1:]))
    assert "bad.jsonl, line 2: " in refusal(["wiki.parquet", "bad.jsonl"], cache)
    listed = files / "bad_rows.jsonl"
    skipping = {"cache": cache, "on_bad_rows": "skip", "bad_rows_file": listed}
    dataset = load({"a": "wiki.parquet", "b": "bad.jsonl", "c": "worse.jsonl"}, **skipping)
    lines = [json.loads(line) for line in listed.read_text().splitlines()]
    assert [(line["source"], line["file"], line["line"]) for line in lines] == [
        ("b", "bad.jsonl", 2), ("c", "worse.jsonl", 1),
    ]  # fmt: skip
    assert (dataset.bad_rows, len(dataset)) == (2, 5)
    assert [(source.start, source.stop) for source in dataset.sources] == [(0, 2), (2, 3), (3, 5)]
    load("bad.jsonl", **skipping)
    assert [[*json.loads(line)] for line in listed.read_text().splitlines()] == [["line", "field", "problem"]]


def test_held_out_rows_are_drawn_from_all_sources(files, cache):
    dataset = load(["web.jsonl", "books/*"], cache=cache, held_out=5)
    assert len(dataset.held_out) == 5
    assert {dataset.source_of(row).name for row in dataset.held_out.tolist()} == {"web", "books"}


def test_packed_files_of_a_folder_are_read_within_limits_and_the_same_rows(files, no_network, cache):
    Path("packed/more").mkdir(parents=True)
    Path("packed/a.jsonl.gz").write_bytes(gzip.compress(jsonl(BOOKS[:1])))
    Path("packed/more/b.json.bz2").write_bytes(bz2.compress(json.dumps(BOOKS[1:]).encode()))
    Path("packed/README.md").write_text("Rows of mine.")
    dataset = load("packed", cache=cache)
    assert contents(dataset) == [f"book {i}" for i in range(4)]
    assert [(each.name, each.where) for each in dataset.sources] == [("packed", "packed")]
    Path("packed/test.jsonl.gz").write_bytes(gzip.compress(jsonl(WEB)))
    Path("packed/train.jsonl").write_bytes(jsonl(WIKI))
    assert contents(load("packed", cache=cache)) == ["wiki 0", "wiki 1"]  # as of a folder of plain files
    assert "is packed (gzip), expected a plain file of rows" in refusal("packed", cache, split="test")
    Path("packed/README.md").write_text("---\nconfigs:\n- config_name: x\n  data_files: a.jsonl.gz\n---\n")
    assert "is packed (gzip), expected a plain file of rows" in refusal("packed", cache)


def evolve_with(*overrides: str):
    return configure("evolve", ["data=file", "model=tiny", *overrides])


def test_a_mixture_names_its_run_folder_and_the_paths_alone_change_no_name(files):
    by_list = evolve_with("data.path=[web.jsonl,wiki.parquet]")
    by_name = evolve_with("data.path={web: web.jsonl, wiki: sub/wiki.parquet}")
    assert short_name(by_list, "data") == "web+wiki"
    assert run_path(by_list) == run_path(by_name) == Path("outputs/web+wiki/tiny/kcenter-iterative/seed0")
    assert short_name(evolve_with("data.path=[web.jsonl,wiki.parquet]", "data.name=mine"), "data") == "mine"
    assert short_name(evolve_with("data.path='books/*.jsonl'"), "data") == "books"


def test_a_mixture_is_checked_early_where_all_of_it_lies_here(files, cache):
    Path("bad.jsonl").write_bytes(b"{\n")
    check_rows(evolve_with("data.path=[web.jsonl,some/one]"), cache, files / "bad_rows.jsonl", False)
    for path in ("[web.jsonl,bad.jsonl]", "{a: web.jsonl, b: bad.jsonl}", "'b*.jsonl'"):
        with pytest.raises(InstantiationException, match=r"bad\.jsonl, line 1: "):
            check_rows(evolve_with(f"data.path={path}"), cache, files / "bad_rows.jsonl", False)
    with pytest.raises(InputError, match=r"data\.path is 7, which is not a text or a path or a list or texts by name or null"):
        check_rows(evolve_with("data.path=7"), cache, files / "bad_rows.jsonl", False)


@pytest.mark.parametrize(
    ("path", "out", "problem"),
    [
        ("[wiki.parquet,web.jsonl]", "web.json", "would be written over data.path=web.jsonl"),
        ("[web.jsonl,books]", "books/P.json", "would lie among the data of data.path=books"),
        ("'books/*.jsonl'", "books/P.json", "would lie among the data of data.path=books/*.jsonl"),
    ],
)
def test_what_is_chosen_does_not_land_among_the_sources(files, path, out, problem):
    with pytest.raises(InputError, match=problem.replace("*", r"\*")):
        choice_file(configure("select", ["data=file", f"data.path={path}", "n=1", f"out={out}"]))
    assert choice_file(configure("select", ["data=file", f"data.path={path}", "n=1", "out=P.json"])) == Path("P.json")
