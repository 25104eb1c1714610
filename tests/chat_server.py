"""A real HTTP server on this machine that speaks completions, of chats and of texts, and misbehaves on request."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from diverseevol.evaluation.judges.base import AnswerSheet
from diverseevol.evaluation.questions.benchmarks import Benchmark, Question

KEY = "sk-test-0123456789"


@dataclass
class Request:
    """What came: the prompt taken apart, and how often this very prompt has come before."""

    body: dict[str, Any]
    first: str
    second: str
    seen: int
    key: str
    at: float = field(default_factory=time.monotonic)

    @property
    def again(self) -> bool:
        """Whether this asks for scores that an earlier reply lacked."""
        return "<reply-" in self.body["messages"][0]["content"]


@dataclass
class Answer:
    """What the server does: a status with a body and headers, after a while, or cut off."""

    status: int = 200
    body: bytes | dict[str, Any] = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: bool = False


def says(text: Any, model: str = "gpt-4", refusal: str | None = None, **changes: Any) -> Answer:
    """A completion with this text."""
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text, "refusal": refusal},
    }
    body = {
        "id": "1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }  # fmt: skip
    return Answer(body=body | changes)


def completes(text: Any, model: str = "tiny", finish: str | None = "stop", tokens: int = 3, **changes: Any) -> Answer:
    """A completion of a text, not of a chat."""
    choice = {"index": 0, "finish_reason": finish, "text": text, **changes}
    usage = {"prompt_tokens": 100, "completion_tokens": tokens, "total_tokens": 100 + tokens}
    body = {"id": "1", "object": "text_completion", "created": 1, "model": model, "choices": [choice], "usage": usage}
    return Answer(body=body)


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    """An error in the form that the official client understands."""
    body = {"error": {"message": message, "type": "x", "code": code}}
    return Answer(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


def by_length(request: Request) -> Answer:
    """A judge that gives an answer a point for each letter, up to ten, wherever it stands."""
    first, second = (min(len(text), 10) for text in (request.first, request.second))
    return says(f"{first} {second}\nThe longer the better.")


Behaviour = Callable[[Request], Answer]


def letters(questions: int) -> AnswerSheet:
    """Answers of one letter, two letters and so on, against a competitor's six: what `by_length` tells apart."""
    asked = tuple(Question(str(i), f"What is {i}?", competitor="y" * 6) for i in range(questions))
    return AnswerSheet(Benchmark("mine", asked), {question.id: "x" * (i + 1) for i, question in enumerate(asked)})


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64  # the usual 5 would turn connections away, which come back a second later


class ChatServer:
    """The server, and what has come to it."""

    def __init__(self, behaviour: Behaviour = by_length) -> None:
        self.behaviour = behaviour
        self.requests: list[Request] = []
        self.models = ["tiny"]
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer._answer(self, body)

            def do_GET(self) -> None:
                listed = {"object": "list", "data": [{"id": name, "object": "model"} for name in outer.models]}
                outer._send(self, Answer(body=listed if self.path.endswith("/models") else b""))

            def log_message(self, *arguments: object) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        text = body["messages"][0]["content"] if "messages" in body else ""
        matches = (re.findall(rf"<answer-{i}(-\w+|)>\n(.*?)\n</answer-{i}\1>", text, re.S) for i in (1, 2))
        first, second = (each[-1][1] if each else "" for each in matches)
        with self._lock:
            seen = sum(request.body == body for request in self.requests)
            request = Request(body, first, second, seen, handler.headers.get("authorization", "")[7:])
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            self._send(handler, self.behaviour(request))
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        time.sleep(answer.delay)
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        try:
            handler.send_response(answer.status)
            handler.send_header("content-type", "application/json")
            handler.send_header("content-length", str(len(content)))
            for name, value in answer.headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(content[: len(content) // 2] if answer.cut else content)
            if answer.cut:
                handler.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            handler.close_connection = True  # the client went away, which some tests are about

    @contextmanager
    def running(self) -> Iterator["ChatServer"]:
        """The server, serving."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()
