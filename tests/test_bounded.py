"""Replies that do not end, or that unpack to more than fits: each ends at a limit, in memory that has one."""

import asyncio
import gzip
import json
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")

from diverseevol.evaluation.endpoints import connection
from diverseevol.evaluation.endpoints.connection import BodyError, BoundedClient
from diverseevol.evaluation.judges.endpoint import Endpoint
from diverseevol.evaluation.judges.openai_judge import OpenAI

LIMIT = 1 << 20
Write = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def serving(write: Write, status: int = 200, **headers: str) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            for name, value in {"content-type": "application/json", **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            try:
                write(self)
            except OSError:  # the client has heard enough
                self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sends(content: bytes) -> Write:
    def write(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(content)

    return write


def endless(handler: BaseHTTPRequestHandler) -> None:
    while True:
        handler.wfile.write(b" " * 65536)


def post(url: str) -> Any:
    async def ask() -> Any:
        async with BoundedClient(timeout=10.0) as client:
            return await client.post(url, json={})

    return asyncio.run(ask())


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "LARGEST_BODY", LIMIT)


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_a_body_without_an_end_ends_at_the_limit(status):
    with serving(endless, status) as url, pytest.raises(BodyError, match="longer than 1 MiB"):
        post(url)


@pytest.mark.parametrize("packing", ["gzip", "deflate"])
def test_a_body_that_unpacks_to_more_than_fits_is_refused_in_memory_that_has_a_limit(packing):
    pack = gzip.compress if packing == "gzip" else zlib.compress
    bomb = pack(bytes(200 * LIMIT))
    tracemalloc.start()
    try:
        with serving(sends(bomb), content_encoding=packing) as url, pytest.raises(BodyError, match="longer than 1 MiB"):
            post(url)
        assert tracemalloc.get_traced_memory()[1] < 20 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("content", "packing", "complaint"),
    [
        (b"hello", "gzip", "cannot be unpacked"),
        (gzip.compress(b"hello", mtime=0)[:-3], "gzip", "cut off"),
        (b"hello", "br", "packed as br"),
        (b"hello", "gzip, gzip", "packed as gzip, gzip"),
    ],
)
def test_a_body_that_is_packed_badly_is_said(content, packing, complaint):
    with serving(sends(content), content_encoding=packing) as url, pytest.raises(BodyError, match=complaint):
        post(url)


@pytest.mark.parametrize("packing", ["identity", "gzip", "deflate"])
@pytest.mark.parametrize("status", [200, 404])
def test_a_body_that_fits_is_what_was_sent(packing, status):
    body = json.dumps({"x": "ü" * 1000}).encode()
    pack = {"identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}[packing]
    with serving(sends(pack(body)), status, content_encoding=packing, x_more="1") as url:
        response = post(url)
    assert (response.status_code, response.json(), response.headers["x-more"]) == (status, json.loads(body), "1")


def test_an_endpoint_says_that_the_reply_is_too_long(tmp_path: Path):
    async def ask(url: str) -> None:
        asked = Endpoint(OpenAI("m", url, key_variable=None, retries=0, backoff=0.0))
        try:
            await asked.ask("hello")
        finally:
            await asked.client.close()

    with serving(endless) as url, pytest.raises(Exception, match="the reply is longer than 1 MiB"):
        asyncio.run(ask(url))
