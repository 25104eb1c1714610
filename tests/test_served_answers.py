"""Answers of a server in the model's place: the same files, whatever the server does."""

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from chat_server import KEY, Answer, ChatServer, completes, fails

from diverseevol.cli.binding import bind
from diverseevol.engine.answering.generation import generate
from diverseevol.errors import InputError
from diverseevol.evaluation.endpoints.server import Running, Server, serving
from diverseevol.evaluation.exam import Exam
from diverseevol.evaluation.questions.answer_file import AnswerFile, answer
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question
from diverseevol.evaluation.questions.served import answer_by_server, as_text
from diverseevol.evolution.loop import evolve
from diverseevol.options import Generation, Schedule
from diverseevol.progress import Silent
from diverseevol.storage.files import read_jsonl

GREEDY = Generation(max_new_tokens=5, temperature=0.0)
QUESTIONS = Benchmark("seven", tuple(Question(f"q{i}", f"Name {i} words about the cat.") for i in range(7)))


@pytest.fixture(scope="module")
def model(foundation):
    return foundation.load().eval()


@pytest.fixture
def tiny(model, prompt):
    """A server that runs the tests' model on token ids."""
    alone = threading.Lock()

    def complete(request):
        with alone:
            (ids,) = generate(model, [request.body["prompt"]], [(0,)], GREEDY, request.body["stop_token_ids"])
        return completes(prompt.text(ids), token_ids=ids)

    with ChatServer(complete).running() as running:
        yield running


def ask(folder, server, reads, **changes):
    """`answer_by_server` on a benchmark; the file."""
    file = AnswerFile(folder, QUESTIONS, GREEDY)
    settings = Server(**{"base_url": server.url, "backoff": 0.01, "retries": 2, **changes})
    answer_by_server(file, Running(settings), reads, (1, 2), Silent())
    return file


def answers(file):
    return {line["id"]: line["answer"] for line in read_jsonl(file.path)}


def test_a_server_with_the_model_answers_as_the_model_does(tmp_path, tiny, learner, model):
    own = AnswerFile(tmp_path / "own", QUESTIONS, GREEDY)
    answer(own, learner, model, (1, 2))
    served = ask(tmp_path / "served", tiny, learner.prompt)
    assert served.complete()
    lines, expected = read_jsonl(served.path), read_jsonl(own.path)
    assert all(line.pop("server") == {"model": "tiny", "finish_reason": "stop"} for line in lines)
    assert lines == expected
    sent = [request.body for request in tiny.requests]
    assert sorted(body["prompt"] for body in sent) == sorted(
        learner.prompt.ids([question.instruction for question in QUESTIONS.questions], [""] * 7)
    )
    assert len({body["seed"] for body in sent}) == 7, "a seed for each question"
    assert {(body["max_tokens"], body["temperature"], body["top_p"], body["top_k"]) for body in sent} == {(5, 0, 1, -1)}
    assert sent[0]["stop_token_ids"] == learner.prompt.stop_tokens
    tiny.requests.clear()
    again = ask(tmp_path / "again", tiny, learner.prompt)
    assert {body["seed"] for body in sent} == {request.body["seed"] for request in tiny.requests}
    assert again.path.read_bytes() == served.path.read_bytes()


def test_a_server_that_fails_at_a_question_keeps_the_others_and_goes_on_with_it(tmp_path, tiny, prompt):
    complete, third = tiny.behaviour, prompt.ids(["Name 3 words about the cat."], [""])[0]
    tiny.behaviour = lambda request: fails(500, "boom") if request.body["prompt"] == third else complete(request)
    with pytest.raises(InputError, match=r"does not answer 1 of 7 questions of .* seven \(the first: 'q3': HTTP"):
        ask(tmp_path, tiny, prompt)
    assert sum(request.body["prompt"] == third for request in tiny.requests) == 3, "it is asked again twice"
    file = AnswerFile(tmp_path, QUESTIONS, GREEDY)
    assert sorted(file.begun()) == [0, 1, 2, 4, 5, 6]
    tiny.behaviour = complete
    tiny.requests.clear()
    ask(tmp_path, tiny, prompt)
    assert [request.body["prompt"] for request in tiny.requests] == [third]
    assert list(answers(file)) == [f"q{i}" for i in range(7)], "in the order of the questions"


def test_what_a_server_leaves_the_model_answers(tmp_path, tiny, learner, model):
    complete = tiny.behaviour
    tiny.behaviour = lambda request: complete(request) if len(tiny.requests) < 4 else fails(400, "prompt is too long")
    with pytest.raises(InputError, match="question"):
        ask(tmp_path, tiny, learner.prompt, concurrency=1)
    file, own = (AnswerFile(folder, QUESTIONS, GREEDY) for folder in (tmp_path, tmp_path / "own"))
    assert len(file.begun()) == 3
    for each in (file, own):
        answer(each, learner, model, (1, 2))
    assert answers(file) == answers(own)
    assert [("server" in line) for line in read_jsonl(file.path)] == [True] * 3 + [False] * 4


def test_a_server_that_dies_loses_no_answer(tmp_path, tiny, prompt):
    complete = tiny.behaviour

    def dying(request):
        return complete(request) if len(tiny.requests) < 4 else Answer(body=b"{}" * 100, cut=True)

    tiny.behaviour = dying
    with pytest.raises(InputError, match=r"refuses one question after another .*; every answer so far is kept"):
        ask(tmp_path, tiny, prompt, concurrency=1)
    assert len(AnswerFile(tmp_path, QUESTIONS, GREEDY).begun()) == 3
    with pytest.raises(ConnectionError, match=r"check answers.base_url and that the server runs"):
        ask(tmp_path, tiny, prompt, base_url="http://127.0.0.1:9/v1")
    tiny.behaviour = complete
    assert len(answers(ask(tmp_path, tiny, prompt))) == 7


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (completes("a", model="other"), r"was asked for the model tiny and answers as other; its answers are not kept"),
        (fails(401, "bad key"), r"does not accept being asked without a key .* answers.key_variable"),
        (fails(404, "The model `tiny` does not exist"), r"has no model 'tiny' .* give answers.model a name"),
        (
            fails(422, "Unexpected fields in the request: {'top_k'}"),
            r"does not accept the request .* answers.prompt=text",
        ),
        (
            fails(404, "Not Found"),
            r"/v1/completions is not to be had \(HTTP 404: Not Found\); .* chat completions alone",
        ),
        (Answer(405), r"/v1/completions is not to be had \(HTTP 405: the server gives no reason\)"),
        (fails(404, "This is a chat model and not supported in v1/completions"), "chat completions alone cannot be"),
        (completes("a", finish="abort"), r"did not come to an end \(finish_reason abort\)"),
        (completes(None), "the reply's choice holds no text"),
    ],
    ids=["other model", "key", "model", "fields", "no route", "no method", "chat model", "aborted", "no text"],
)
def test_replies_that_are_no_answer_are_told_in_a_sentence(tmp_path, server, prompt, reply, sentence):
    server.behaviour = lambda request: reply
    with pytest.raises(InputError, match=sentence):
        ask(tmp_path, server, prompt)
    assert AnswerFile(tmp_path, QUESTIONS, GREEDY).begun() == {}


def test_the_model_is_the_only_one_or_the_one_that_is_named(tmp_path, server, prompt, caplog):
    server.behaviour = lambda request: completes("a", model=request.body["model"])
    server.models = ["base", "adapter"]
    with pytest.raises(InputError, match=r"lists 2 models \(base, adapter\); give answers.model=… the name of the one"):
        ask(tmp_path, server, prompt)
    assert server.requests == []
    ask(tmp_path / "adapter", server, prompt, model="adapter")
    assert {request.body["model"] for request in server.requests} == {"adapter"}
    with caplog.at_level("WARNING"):
        ask(tmp_path / "unlisted", server, prompt, model="unlisted")
    assert "lists base, adapter and not answers.model=unlisted" in caplog.text
    server.models = []
    with pytest.raises(InputError, match=r"does not say which model it serves; give answers.model"):
        ask(tmp_path / "none", server, prompt)


def test_the_key_comes_from_the_environment(tmp_path, server, prompt, monkeypatch):
    server.behaviour = lambda request: completes("a")
    with pytest.raises(InputError, match=r"variable SERVED is not set: .* give answers.key_variable=null"):
        ask(tmp_path, server, prompt, key_variable="SERVED")
    monkeypatch.setenv("SERVED", KEY)
    file = ask(tmp_path, server, prompt, key_variable="SERVED")
    assert {request.key for request in server.requests} == {KEY}
    assert KEY not in file.path.read_text()


def test_answers_that_the_server_cuts_off_are_told(tmp_path, server, prompt, caplog):
    server.behaviour = lambda request: completes(" a ", finish="length", tokens=3 if request.seen else 5)
    with caplog.at_level("WARNING"):
        assert set(answers(ask(tmp_path, server, prompt)).values()) == {"a"}
    assert "cut" not in caplog.text
    server.behaviour = lambda request: completes("a", finish="length", tokens=3)
    with caplog.at_level("WARNING"):
        ask(tmp_path / "cut", server, prompt)
    assert "the server ended 7 of 7 answers before generation.max_new_tokens=5" in caplog.text


def test_prompts_go_as_text_only_where_the_server_reads_the_same_ids(tmp_path, server, prompt):
    server.behaviour = lambda request: completes("a")
    ask(tmp_path, server, prompt, prompt="text")
    body = server.requests[0].body
    asked = prompt.ids([question.instruction for question in QUESTIONS.questions], [""] * 7)
    assert prompt.tokenizer(body["prompt"])["input_ids"] in asked
    assert set(body) == {"model", "prompt", "max_tokens", "temperature", "seed", "stop", "top_p"}
    with pytest.raises(InputError, match="reads other tokens from the text of a prompt"):
        as_text(prompt, prompt.tokenizer.convert_tokens_to_ids(list("the")))  # which it reads as one token


def test_a_round_is_answered_by_a_server(tmp_path, tiny, evolution, exam):
    served = Exam(exam.benchmarks, exam.judge, GREEDY, Server(base_url=tiny.url))
    evolve(evolution(tmp_path / "served", schedule=Schedule(1, 6, 4), exam=served))
    lines = read_jsonl(tmp_path / "served/rounds/01/answers/small.jsonl")
    assert [line["server"]["model"] for line in lines] == ["tiny"] * 3
    assert (tmp_path / "served/rounds/01/scores.json").exists()
    assert len(tiny.requests) == 6


SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, folder, name = int(sys.argv[1]), sys.argv[2], sys.argv[3]


class Handler(BaseHTTPRequestHandler):
    def say(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        self.say({"data": [{"id": "another"}, {"id": name}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.say({"model": body["model"], "choices": [{"text": folder, "finish_reason": "stop"}]})


print("loading", flush=True)
ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def test_a_command_serves_the_rounds_folder_and_ends(tmp_path, prompt):
    (tmp_path / "serve.py").write_text(SERVER)
    command = f"{sys.executable} {tmp_path / 'serve.py'} {{port}} {{folder}} {{name}}"
    folder = tmp_path / "rounds" / "03" / "model"
    folder.mkdir(parents=True)
    file = AnswerFile(tmp_path, QUESTIONS, GREEDY)
    with serving(Server(command=command), folder, "base", tmp_path / "server.log", None) as running:
        assert running.server.model.startswith("03-model-")
        answer_by_server(file, running, prompt, (1, 2), Silent())
        assert (tmp_path / "server.log").exists()
    assert set(answers(file).values()) == {str(folder)}
    assert running.process.poll() is not None, "the server has ended"
    assert not (tmp_path / "server.log").exists()


def test_a_command_may_tell_a_running_server_to_load_the_folder(tmp_path, server, prompt):
    loaded = tmp_path / "loaded"
    server.behaviour = lambda request: completes("new" if loaded.exists() else "old")
    note = f"import sys, time; time.sleep(1); open({str(loaded)!r}, 'w').write(sys.argv[1])"
    (tmp_path / "load.py").write_text(note)
    settings = Server(
        base_url=server.url, command=f'{sys.executable} {tmp_path / "load.py"} \'{{"lora": "{{folder}}"}}\''
    )
    file = AnswerFile(tmp_path, QUESTIONS, GREEDY)
    with serving(settings, tmp_path / "adapter", "base", tmp_path / "server.log", None) as running:
        answer_by_server(file, running, prompt, (1, 2), Silent())
    assert json.loads(loaded.read_text()) == {"lora": str(tmp_path / "adapter")}
    assert file.complete()
    assert set(answers(file).values()) == {"new"}, "no question is sent before the command has ended"


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "time.sleep(0.5); print('no adapter'); raise SystemExit(3)",
            r"ended with exit code 3 \(no adapter; all of it",
        ),
        ("time.sleep(600)", r"has no \{port\}, so it must end once http://.*/v1 has loaded .* still runs after 1 s"),
    ],
    ids=["fails", "never ends"],
)
def test_a_command_that_does_not_load_leaves_a_ready_server_unasked(tmp_path, server, prompt, code, sentence):
    (tmp_path / "load.py").write_text(f"import time; {code}")
    settings = Server(
        base_url=server.url, command=f"{sys.executable} {tmp_path / 'load.py'} {{name}}",
        startup=60.0 if "Exit" in code else 1.0,
    )  # fmt: skip
    with (
        pytest.raises(InputError, match=sentence),
        serving(settings, tmp_path, "base", tmp_path / "server.log", None) as running,
    ):
        answer_by_server(AnswerFile(tmp_path, QUESTIONS, GREEDY), running, prompt, (1, 2), Silent())
    assert server.requests == []


@pytest.mark.parametrize("name", ["org/model", "gpt2"])
def test_a_name_on_the_hub_goes_to_the_command_as_it_is(tmp_path, name):
    words = f"import sys; open({str(tmp_path / 'words')!r}, 'w').write(' '.join(sys.argv[1:]))"
    (tmp_path / "write.py").write_text(words)
    settings = Server(command=f"{sys.executable} {tmp_path / 'write.py'} {{folder}} {{base}} {{name}}")
    with serving(settings, Path(name), name, tmp_path / "server.log", None) as running:
        assert running.process.wait(60) == 0
    folder, base, served = (tmp_path / "words").read_text().split()
    assert (folder, base) == (name, name)
    assert served.startswith(name.replace("/", "-"))


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (
            "print('no GPU'); raise SystemExit(3)",
            r"answers.command ended with exit code 3 \(no GPU; all of it in .*log\)",
        ),
        (
            "import time; print('loading', flush=True); time.sleep(600)",
            r"no server answers 1 s after .* \(loading; all",
        ),
    ],
)
def test_a_command_that_does_not_serve_is_told_with_its_last_words(tmp_path, prompt, code, sentence):
    (tmp_path / "fail.py").write_text(code)
    settings = Server(
        command=f"{sys.executable} {tmp_path / 'fail.py'} {{port}}", startup=60.0 if "Exit" in code else 1.0
    )
    file = AnswerFile(tmp_path, QUESTIONS, GREEDY)
    with (
        pytest.raises(InputError, match=sentence),
        serving(settings, tmp_path, "base", tmp_path / "server.log", None) as running,
    ):
        answer_by_server(file, running, prompt, (1, 2), Silent())
    assert running.process.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(running.process.pid, 0)
    assert (tmp_path / "server.log").exists(), "it stays to be read"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"base_url": "http://me:secret@here/v1"}, "answers.base_url holds a user name or a password"),
        ({"key_variable": "sk-123"}, "answers.key_variable is not the name of an environment variable"),
        ({"command": "vllm 'serve"}, "answers.command is .*, whose quotes do not match"),
        (
            {"command": "vllm serve {folder} --port {prot}"},
            r"answers.command holds {prot}; what stands in braces is one",
        ),
        ({"command": " "}, "answers.command is empty"),
        ({"concurrency": 0}, "answers.concurrency is 0; it must be a number from 1"),
        ({"prompt": "messages"}, "answers.prompt is 'messages', which is not ids or text"),
    ],
)
def test_options_that_cannot_be_are_refused(options, sentence):
    with pytest.raises(InputError, match=sentence):
        bind(Server, options, "answers")


def test_a_command_that_is_not_there_is_named(tmp_path):
    settings = replace(Server(), command="/nonexistent/vllm serve {folder}")
    with (
        pytest.raises(InputError, match=r"answers.command: /nonexistent/vllm cannot be started \(No such file"),
        serving(settings, tmp_path, "base", tmp_path / "server.log", None),
    ):
        pytest.fail("it was started")


@pytest.mark.nightly
def test_transformers_serve_answers_as_the_model_does(tmp_path):
    """The server that comes with transformers, started by the command of a user: greedy answers in float32."""
    folder = os.environ.get("DIVERSEEVOL_TEST_MODEL")
    if not folder:
        pytest.skip("DIVERSEEVOL_TEST_MODEL names no folder with SmolLM2-135M-Instruct")
    pytest.importorskip("fastapi", reason="transformers serve needs pip install 'transformers[serving]'")
    asked = tmp_path / "asked.jsonl"
    things = ("rivers of Europe", "metals", "birds", "fruits")
    asked.write_text(
        "".join(json.dumps({"id": thing, "instruction": f"Name three {thing}."}) + "\n" for thing in things)
    )
    program = Path(sys.executable).parent / "transformers"
    serve = f"{program} serve {{folder}} --port {{port}} --dtype float32 --device cpu"
    usual = [
        f"model.path={folder}", "prompt.template=chat", "benchmark=questions", f"benchmark.path={asked}",
        "generation.temperature=0", "generation.max_new_tokens=24", f"cache={tmp_path}",
    ]  # fmt: skip
    served = ["answers=server", f"answers.command='{serve}'", f"answers.model={folder}", "answers.prompt=text"]
    for out, others in (("own", []), ("served", served)):
        command = [sys.executable, "-m", "diverseevol", "answer", *usual, f"out={tmp_path / out}", *others]
        done = subprocess.run(command, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr[-4000:]
    own, others = (read_jsonl(tmp_path / out / "answers" / "questions.jsonl") for out in ("own", "served"))
    same = sum(line["answer"] == other["answer"] for line, other in zip(own, others, strict=True))
    print(f"{same} of {len(own)} greedy answers are the same")
    assert same >= 3
    assert all(line["server"]["model"] == folder for line in others)
