"""Several files, folders and globs as one data set, whose rows know where they come from."""

import bz2
import gzip
import json
import signal
import sys
from pathlib import Path

import datasets
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException

from diverseevol import cli
from diverseevol.cli.app import renamed
from diverseevol.cli.checked_options import check_quota, sampler_of
from diverseevol.cli.conclusion import conclusion
from diverseevol.cli.configuration import configure
from diverseevol.cli.early import check_rows
from diverseevol.cli.fingerprint import _picks, _sources
from diverseevol.cli.naming import arm, run_path, short_name
from diverseevol.cli.output_files import choice_file
from diverseevol.data.columns import columns_of
from diverseevol.data.dataset import Dataset, load
from diverseevol.data.mixture import data_name, named_sources
from diverseevol.errors import InputError
from diverseevol.runs.round_folder import Round
from diverseevol.runs.saved_config import read_saved
from diverseevol.samplers import Quota, Random, Uncertainty

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


def test_a_run_folder_holds_the_paths_by_name(files):
    mixed = evolve_with("data.path={2024: web.jsonl, wiki: wiki.parquet}", "data.name=mine")
    Path("config.yaml").write_text(mixed.text())
    assert read_saved(Path("config.yaml"))["data"]["path"] == {"2024": "web.jsonl", "wiki": "wiki.parquet"}


def test_a_mixture_is_checked_early_where_all_of_it_lies_here(files, cache):
    Path("bad.jsonl").write_bytes(b"{\n")
    check_rows(evolve_with("data.path=[web.jsonl,some/one]"), cache, files / "bad_rows.jsonl", False)
    for path in ("[web.jsonl,bad.jsonl]", "{a: web.jsonl, b: bad.jsonl}", "'b*.jsonl'"):
        with pytest.raises(InstantiationException, match=r"bad\.jsonl, line 1: "):
            check_rows(evolve_with(f"data.path={path}"), cache, files / "bad_rows.jsonl", False)
    with pytest.raises(InputError, match=r"data\.path is 7, which is not a text or a path or a list or texts by name"):
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


def quota_of(*overrides: str):
    return sampler_of(configure("evolve", renamed("evolve", ["sampler=random", *overrides])))


def test_quotas_are_options_of_every_sampler():
    assert quota_of() == quota_of("sampler.quota=null") == Random()
    assert quota_of("sampler.quota=source") == Quota(Random(), "source", "proportional")
    assert quota_of("sampler.quota=kind", "sampler.shares=equal") == Quota(Random(), "kind", "equal")
    given = Quota(Random(), "source", {"web": 0.7, "2024": 0.3})
    assert quota_of("sampler.quota=source", "sampler.shares={web: 0.7, 2024: 0.3}") == given
    assert quota_of("sampler.quota=source", "sampler.shares={web: 1, wiki: 0}").shares == {"web": 1.0, "wiki": 0.0}
    margin = sampler_of(configure("evolve", renamed("evolve", ["sampler=margin", "sampler.quota=source"])))
    assert (margin.sampler, margin.needs.columns) == (Uncertainty("margin"), {"source"})


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["sampler.shares=equal"], "sampler.shares is given without sampler.quota; give sampler.quota=source, or a"),
        (["sampler.quota=3"], "sampler.quota is 3, which is not a text or null"),
        (
            ["sampler.quota=source", "sampler.shares=half"],
            "sampler.shares is 'half', which is not proportional",
        ),
        (["sampler.quota=source", "sampler.shares={a: b}"], "which is not proportional or equal or numbers by name"),
        (["sampler.quota=source", "sampler.shares={a: 0.5}"], "sampler.shares add up to 0.5; give shares that add up"),
    ],
)
def test_quotas_that_are_none_are_refused_early(overrides, sentence):
    with pytest.raises(InputError, match=sentence):
        quota_of(*overrides)


def test_quotas_name_a_run_where_there_are_some_and_no_other():
    def arm_of(*overrides: str) -> str:
        return arm(configure("evolve", renamed("evolve", list(overrides))))

    assert arm_of() == arm_of("sampler.quota=null") == "kcenter-iterative"
    names = {
        arm_of("sampler.quota=source"), arm_of("sampler.quota=source", "sampler.shares=equal"),
        arm_of("sampler.quota=kind"), arm_of("sampler.quota=source", "sampler.shares={a: 0.5, b: 0.5}"),
    }  # fmt: skip
    assert len(names) == 4
    assert all(name.startswith("kcenter-iterative-") for name in names)


def test_a_run_of_quotas_goes_on_as_such_alone_and_names_count_where_they_are_by_source(files, cache):
    dataset = load(["web.jsonl", "wiki.parquet"], cache=cache)

    def facts(*overrides: str) -> dict[str, object]:
        settings = configure("evolve", renamed("evolve", ["data=file", "data.path=x", "model=tiny", *overrides]))
        return {**_picks(settings, "sampler"), **_sources(settings, dataset)}

    plain = facts()
    assert facts("sampler.quota=null") == plain
    assert "sampler.quota" not in plain
    assert facts("sampler.quota=kind") == {**plain, "sampler.quota": "kind"}
    by_source = {**plain, "sampler.quota": "source", "data.sources": ["web", "wiki"]}
    assert facts("sampler.quota=source") == facts("sampler.quota=source", "sampler.shares=proportional") == by_source


def test_the_next_command_keeps_quotas_for_the_sampler_that_a_run_is_compared_with(files):
    Path("run/rounds/00").mkdir(parents=True)
    done = Round(0, (1, 2), (), {"pool_size": 2.0}, {}, {}, None, None)
    words = ["data=lab", "+sampler.quota=skill", "sampler.drop=0.3"]
    lines = dict(conclusion(Path("run"), [done], "kcenter", "iterative", "outputs", words))["next"]
    assert "diverseevol evolve -m data=lab +sampler.quota=skill sampler=random seed=0,1,2" in lines


def test_columns_are_the_sources_of_a_mixture_or_else_a_field_of_that_name(files, cache):
    Path("named.jsonl").write_bytes(jsonl([{**row, "source": f"s{i}"} for i, row in enumerate(WEB)]))
    alone, mixed = load("named.jsonl", cache=cache), load(["named.jsonl", "wiki.parquet"], cache=cache)
    assert columns_of(alone.iterate(), {"source"}, alone.sources)["source"].tolist() == ["s0", "s1", "s2"]
    columns = columns_of(mixed.iterate(), {"source", "id"}, mixed.sources)
    assert columns["source"].tolist() == ["named"] * 3 + ["wiki"] * 2
    assert columns["id"].tolist() == ["", "", "", "", "1"]
    web = load("web.jsonl", cache=cache)
    with pytest.raises(InputError, match=r"\(several paths in data\.path would be the sources"):
        check_quota(Quota(Random(), "source"), web)
    with pytest.raises(InputError, match=r"^sampler\.quota=sorce: .* \(sampler\.quota takes source, or a field\)$"):
        check_quota(Quota(Random(), "sorce"), mixed)
    with pytest.raises(InputError, match=r"names 'books', and sampler\.quota=source has the groups named, wiki;"):
        check_quota(Quota(Random(), "source", {"books": 1.0}), mixed)


@pytest.fixture
def select(files, cache, monkeypatch):
    """The command, in this process, which is afterwards as it was before."""

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["diverseevol", "select", "sampler=random", "replace=true", *words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return int(left.value.code or 0)

    monkeypatch.setenv("DIVERSEEVOL_CACHE", str(cache))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)
    GlobalHydra.instance().clear()


def test_select_keeps_quotas(select, capsys):

    paths = "data.path={a: web.jsonl, b: wiki.parquet, c: 'books/*'}"
    assert select(paths, "sampler.quota=source", "sampler.shares=equal", "n=6", "out=P.json") == 0
    chosen = json.loads(Path("P.json").read_text())
    assert [sum(start <= row < stop for row in chosen["chosen"]) for start, stop in ((0, 3), (3, 5), (5, 9))] == [2] * 3
    assert chosen["score_is"] == "none: picked at random (within each source)"
    assert chosen["options"] == {"quota": "source", "shares": "equal"}
    assert select(paths, "sampler.quota=source", "sampler.shares={a: 0.5, x: 0.5}", "n=6", "out=P.json") == 2
    assert "sampler.shares names 'x', and sampler.quota=source has the groups a, b, c" in capsys.readouterr().err
