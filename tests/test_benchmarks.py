import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate

from diverseevol.errors import InputError
from diverseevol.evaluation.questions import download
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question, load_benchmark

CONF = Path(__file__).parents[1] / "conf" / "benchmark"
DATA = Path(os.environ.get("DIVERSEEVOL_TEST_DATA", "/nonexistent"))
needs_data = pytest.mark.skipif(
    not (DATA / "benchmarks").is_dir(), reason="DIVERSEEVOL_TEST_DATA names no folder with benchmarks/*.jsonl"
)
QUESTIONS = [
    {"id": "a", "instruction": "Name a fish.", "reference": "pike"},
    {"id": "b", "question": "And a bird?"},
]


def jsonl(path: Path, records: list[Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def load(tmp_path: Path) -> partial[tuple[Benchmark, ...]]:
    return partial(load_benchmark, "mine", cache=tmp_path / "cache")


def test_plain_questions_keep_every_field_and_their_order(tmp_path, load):
    records = [
        {"id": 7, "instruction": "Sum up.", "input": "It rained.", "category": "short", "reference": "Rain."},
        {"id": "x", "prompt": "Hello?\n"},
        {"id": "y", "text": "Why?", "input": None},
    ]
    (benchmark,) = load(jsonl(tmp_path / "q.jsonl", records))
    assert benchmark.questions == (
        Question("7", "Sum up.", "It rained.", "short", "Rain."),
        Question("x", "Hello?\n"),
        Question("y", "Why?"),
    )


def test_the_papers_field_names_are_understood(tmp_path, load):
    records = [
        {"question_id": 3, "text": "Vicuna?", "category": "generic"},
        {"id": "koala_0", "prompt": "Koala?"},
        {"idx": 9, "Skill": "Math", "Difficulty": 1, "Instruction": "Wizard?"},
    ]
    (benchmark,) = load(jsonl(tmp_path / "q.jsonl", records))
    found = [(q.id, q.instruction, q.category) for q in benchmark.questions]
    assert found == [("3", "Vicuna?", "generic"), ("koala_0", "Koala?", ""), ("9", "Wizard?", "Math")]


def test_questions_without_ids_are_numbered_and_joined_by_number(tmp_path, load):
    path = tmp_path / "q.jsonl"
    path.write_text('{"question": "One?"}\n\n{"question": "Two?"}\n')
    (benchmark,) = load(path, jsonl(tmp_path / "a.jsonl", [{"answer": "1"}, {"answer": "2"}]))
    assert [(q.id, q.competitor) for q in benchmark.questions] == [("1", "1"), ("2", "2")]


def test_competitor_answers_join_by_id_whatever_their_order(tmp_path, load):
    answers = [{"id": "b", "answer": "owl"}, {"id": "a", "answer": "eel"}]
    (benchmark,) = load(jsonl(tmp_path / "q.jsonl", QUESTIONS), jsonl(tmp_path / "a.jsonl", answers))
    assert [q.competitor for q in benchmark.questions] == ["eel", "owl"]


@pytest.mark.parametrize(
    ("records", "complaint"),
    [
        ([], "q.jsonl: the file is empty"),
        ([{"id": "a", "question": "  "}], "line 1, field 'question': blank"),
        ([{"id": "a", "question": 5}], "line 1, field 'question': expected a string, got a int"),
        ([{"id": "a"}], "line 1: no question"),
        ([{"id": "a", "question": "x", "text": "y"}], "line 1: has both 'question' and 'text'"),
        ([{"id": " ", "question": "x"}], "line 1, field 'id': ' ' is not an id"),
        ([{"id": None, "question": "x"}], "line 1, field 'id': None is not an id"),
        ([*QUESTIONS, {"id": "a", "question": "x"}], "line 3, id 'a': already used in line 1"),
        ([{"id": "a", "question": "x", "reference": ""}], "line 1, field 'reference': blank"),
        ([["a", "x"]], "line 1: expected a JSON object, got a list"),
    ],
)
def test_a_faulty_questions_file_is_one_sentence(tmp_path, load, records, complaint):
    with pytest.raises(InputError) as caught:
        load(jsonl(tmp_path / "q.jsonl", records))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([{"id": "a", "answer": "eel"}], "no answer to question 'b'"),
        ([{"id": i, "answer": "eel"} for i in "aba"], "line 3, id 'a': already used in line 1"),
        ([{"id": i, "answer": "eel"} for i in "abc"], "line 3, id 'c': no such question"),
        ([{"id": "a", "answer": "eel"}, {"id": "b", "answer": " "}], "line 2, field 'answer': blank"),
        (
            [{"id": "a", "text": "eel"}, {"id": "b", "answer": "owl"}],
            "line 1, field 'text': not the question",
        ),
        (
            [{"id": "a", "reply": "eel"}, {"id": "b", "answer": "owl"}],
            "line 1, field 'answer': expected a string, got nothing",
        ),
    ],
)
def test_a_competitor_that_does_not_fit_is_one_sentence(tmp_path, load, answers, complaint):
    with pytest.raises(InputError) as caught:
        load(jsonl(tmp_path / "q.jsonl", QUESTIONS), jsonl(tmp_path / "answers.jsonl", answers))
    assert complaint in str(caught.value)
    assert "answers.jsonl" in str(caught.value)


def test_a_missing_file_and_a_name_that_is_no_file_name_are_sentences(tmp_path, load):
    with pytest.raises(InputError, match="no such file"):
        load(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="becomes the name of a file or folder"):
        load_benchmark("../up", jsonl(tmp_path / "q.jsonl", QUESTIONS), cache=tmp_path)


def test_the_fingerprint_follows_the_content_and_nothing_else():
    one = Question("a", "Why?", competitor="So.")
    base = Benchmark("x", (one,)).fingerprint
    assert Benchmark("y", (one,)).fingerprint == base
    for change in ({"competitor": "No."}, {"competitor": None}, {"instruction": "Who?"}, {"reference": "r"}):
        assert Benchmark("x", (replace(one, **change),)).fingerprint != base
    assert Benchmark("x", (Question("a", "lone surrogate \ud800"),)).fingerprint


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """A real HTTP server on this machine, and the paths it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"") + (9 if "cut" in self.path else 0)))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))  # seconds between looks for the end
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


CONTENT = b'{"question": "Fetched?"}\n'


def test_a_benchmark_without_a_path_is_fetched_once_and_then_needs_no_network(tmp_path):
    with served({"/q": CONTENT, "/a": b'{"answer": "Yes."}\n'}) as (url, asked):
        options = {
            "url": f"{url}/q",
            "sha256": sha256(CONTENT),
            "competitor_url": f"{url}/a",
            "competitor_sha256": sha256(b'{"answer": "Yes."}\n'),
            "cache": tmp_path,
        }
        first = load_benchmark("net", **options)
        assert load_benchmark("net", **options) == first
        assert asked == ["/q", "/a"]
    assert load_benchmark("net", **options) == first  # the server is gone
    assert first[0].questions == (Question("1", "Fetched?", competitor="Yes."),)
    assert {p.name for p in (tmp_path / "benchmarks").glob("*.jsonl")} == {
        "net.jsonl",
        "net-competitor.jsonl",
    }


def test_a_damaged_cache_is_fetched_again(tmp_path):
    with served({"/q": CONTENT}) as (url, asked):
        options = {"url": f"{url}/q", "sha256": sha256(CONTENT), "cache": tmp_path}
        load_benchmark("net", **options)
        (tmp_path / "benchmarks" / "net.jsonl").write_bytes(CONTENT[:10])
        assert load_benchmark("net", **options)[0].questions[0].instruction == "Fetched?"
        assert len(asked) == 2


def test_another_file_than_expected_is_refused_and_not_kept(tmp_path):
    with (
        served({"/q": b'{"question": "Forged?"}\n'}) as (url, _),
        pytest.raises(InputError, match=r"expected a file of sha256 .* benchmark\.path=FILE"),
    ):
        load_benchmark("net", url=f"{url}/q", sha256=sha256(CONTENT), cache=tmp_path)
    assert not list(tmp_path.rglob("*.jsonl*.partial"))
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("place", ["/absent", "/cut", "refused", "malformed"])
def test_a_file_that_cannot_be_had_says_which_option_takes_a_local_one(tmp_path, place):
    with served({"/cut": CONTENT}) as (url, _):
        url = {"refused": "http://127.0.0.1:9", "malformed": "no-url"}.get(place, url + place)
        with pytest.raises(InputError) as caught:
            load_benchmark("net", url=url, sha256=sha256(CONTENT), cache=tmp_path, option="benchmark.koala")
    assert "cannot be fetched" in str(caught.value)
    assert "benchmark.koala.path=FILE" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("limit", "complaint"),
    [("LARGEST_DOWNLOAD", "is longer than 0 bytes"), ("LONGEST_SECONDS", "has not come within 0 s")],
)
def test_a_file_without_an_end_is_given_up(tmp_path, monkeypatch, limit, complaint):
    monkeypatch.setattr(download, limit, 0)
    with (
        served({"/q": CONTENT}) as (url, _),
        pytest.raises(InputError, match=rf"/q: {complaint}.*benchmark\.path=FILE"),
    ):
        load_benchmark("net", url=f"{url}/q", sha256=sha256(CONTENT), cache=tmp_path)
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("url", ["file:///dev/zero", "data:,x", "FILE:/etc/passwd"])
def test_only_the_web_is_fetched_from(tmp_path, url):
    with pytest.raises(InputError, match=r"not an http or https URL.*benchmark\.path=FILE"):
        load_benchmark("net", url=url, sha256=sha256(CONTENT), cache=tmp_path)


def test_a_url_without_its_sha256_is_refused(tmp_path):
    with pytest.raises(InputError, match="sha256"):
        load_benchmark("net", url="http://127.0.0.1:9/q", cache=tmp_path)


def configured(name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(CONF.parent), version_base="1.3"):
        return compose(overrides=[f"+benchmark={name}", *overrides]).benchmark


def test_a_folder_without_the_papers_files_says_what_it_should_hold(tmp_path):
    with pytest.raises(InstantiationException) as caught:
        instantiate(configured("paper", f"benchmark.folder={tmp_path}"), cache=tmp_path)
    assert isinstance(caught.value.__cause__, InputError)
    assert "test_data/{name}_test_set.jsonl" in str(caught.value.__cause__)


def test_a_benchmark_of_the_paper_that_cannot_be_had_is_named_by_its_own_option(tmp_path):
    with pytest.raises(InstantiationException, match=r"give benchmark\.vicuna\.path=FILE"):
        instantiate(configured("paper", "benchmark.vicuna.url=http://127.0.0.1:9/"), cache=tmp_path)


def test_ones_own_questions_need_only_a_path(tmp_path):
    path = jsonl(tmp_path / "q.jsonl", QUESTIONS)
    (benchmark,) = instantiate(configured("questions", f"benchmark.path={path}"), cache=tmp_path)
    assert [q.reference for q in benchmark.questions] == ["pike", None]


@needs_data
def test_the_papers_three_benchmarks_load_whole_from_a_folder(tmp_path):
    benchmarks = instantiate(configured("paper", f"benchmark.folder={DATA}"), cache=tmp_path)
    assert {b.name: len(b.questions) for b in benchmarks} == {"vicuna": 80, "koala": 180, "wizardlm": 218}
    for benchmark in benchmarks:
        with (DATA / "benchmarks" / f"{benchmark.name}.jsonl").open() as file:
            for question, line in zip(benchmark.questions, file, strict=True):
                assert {question.id, question.instruction} <= {str(v) for v in json.loads(line).values()}
                assert question.competitor
    assert not list(tmp_path.rglob("*"))


@needs_data
@pytest.mark.parametrize("name", ["vicuna", "koala", "wizardlm"])
def test_the_configured_hashes_are_those_of_the_public_files(tmp_path, name):
    """Served from this machine under the configured hashes, the real files are accepted."""
    files = {f"/{part}": (DATA / part / f"{name}.jsonl").read_bytes() for part in ("benchmarks", "chatgpt_answers")}
    with served(files) as (url, _):
        paths = (f"benchmark.url={url}/benchmarks", f"benchmark.competitor_url={url}/chatgpt_answers")
        (fetched,) = instantiate(configured(name, *paths), cache=tmp_path)
    (local,) = load_benchmark(
        name,
        DATA / "benchmarks" / f"{name}.jsonl",
        DATA / "chatgpt_answers" / f"{name}.jsonl",
        cache=tmp_path,
    )
    assert fetched == local


@pytest.mark.parametrize("field", ["instruction", "input", "id", "reference"])
def test_half_a_character_is_named_by_place_before_it_is_sent_anywhere(tmp_path, load, field):
    record = {"id": "a", "instruction": "Why?", "input": "x", "reference": "y"}
    sentence = rf"line 2, field '{field}': holds an unpaired surrogate, .ud83d \(character 3\)"
    with pytest.raises(InputError, match=sentence):
        load(jsonl(tmp_path / "q.jsonl", [record | {"id": "b"}, record | {field: "ab\ud83d"}]))


def test_half_a_character_in_an_answer_is_named_by_place(tmp_path, load):
    asked = jsonl(tmp_path / "q.jsonl", [{"id": "a", "instruction": "Why?"}])
    answers = jsonl(tmp_path / "a.jsonl", [{"id": "a", "answer": "\ud83d"}])
    with pytest.raises(InputError, match=r"a\.jsonl, line 1, field 'answer': holds an unpaired surrogate"):
        load(asked, answers)


def test_an_own_benchmark_is_three_lines_of_yaml_as_the_manual_shows_them(tmp_path, load):
    manual = (CONF.parents[1] / "docs" / "judging.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", manual, re.S)
    assert len(text.splitlines()) == 3
    file = tmp_path / "conf" / "benchmark" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    jsonl(tmp_path / "mine.jsonl", QUESTIONS)
    options = ("folder=x", "benchmark=mine", "--config-dir", "conf", "--cfg", "job")
    command = [sys.executable, "-m", "diverseevol", "judge", *options]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert yaml.safe_load(said)["benchmark"] == yaml.safe_load(text)
    (benchmark,) = instantiate(yaml.safe_load(text) | {"path": str(tmp_path / "mine.jsonl")}, cache=tmp_path)
    assert (benchmark.name, len(benchmark.questions)) == ("mine", 2)
