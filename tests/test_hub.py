"""Where the hub does not answer: one try, one sentence, and what was downloaded before."""

import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from diverseevol.data import hub
from diverseevol.data.dataset import load
from diverseevol.engine.pretrained import Pretrained
from diverseevol.errors import InputError


class Closing:
    """A server that closes every connection, and counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def closing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Closing]:
    """The hub is to be asked, at such a server, and its caches are empty."""
    server = Closing()
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    handlers = list(logging.getLogger("huggingface_hub").handlers)
    for cached in (hub.out_of_reach, hub.say_that_a_cache_is_used):
        cached.cache_clear()
    yield server
    server.close()
    logging.getLogger("huggingface_hub").handlers[:] = handlers
    for cached in (hub.out_of_reach, hub.say_that_a_cache_is_used):
        cached.cache_clear()


def test_models_and_data_are_asked_for_once_and_refused_in_a_sentence(closing, tmp_path, caplog):
    for load_it in (
        Pretrained("org/name").tokenizer,
        Pretrained("org/name").load,
        Pretrained("gpt-of-nobody").identity,
    ):
        with pytest.raises(InputError, match=r"is no folder here and was not downloaded before, and the hub cannot be"):
            load_it()
    with pytest.raises(InputError, match="org/rows: no such file or folder here, not downloaded before, and the hub"):
        load("org/rows", cache=tmp_path / "cache")
    assert closing.connections == 1
    assert caplog.records == []


def test_what_is_on_disk_asks_nobody(closing, foundation):
    Pretrained(foundation.path).tokenizer()
    assert closing.connections == 0


def test_what_was_downloaded_before_is_used_with_one_warning(closing, foundation, tmp_path, monkeypatch, caplog):
    snapshot = tmp_path / "hub" / "models--org--name" / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    for file in Path(foundation.path).iterdir():
        (snapshot / file.name).write_bytes(file.read_bytes())
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text(snapshot.name)
    model = Pretrained("org/name")
    assert model.tokenizer()("a")["input_ids"] == foundation.tokenizer()("a")["input_ids"]
    model.load()
    model.identity()
    assert closing.connections == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith("the hub cannot be reached (")
    assert warning.endswith("; using org/name as it was downloaded before")


def test_where_the_user_wants_no_hub_it_is_not_asked(closing, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match=r"the hub cannot be reached \(HF_HUB_OFFLINE is set\)"):
        Pretrained("org/name").tokenizer()
    assert closing.connections == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [["data=json", "data.path=rows.jsonl", "model.path=org/name"], ["data=json", "data.path=org/rows", "model=tiny"]],
)
def test_a_command_without_a_hub_says_one_sentence(arguments, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 5)
    environment = {key: value for key, value in os.environ.items() if "OFFLINE" not in key}
    environment |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "diverseevol", "select", *arguments, "n=3", "out=P.json", "cache=cache"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=600)
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if not line.startswith("  ")]  # progress
    assert len(said) == 1
    assert "the hub cannot be reached (http://127.0.0.1:9: [Errno 111] Connection refused)" in said[0]
