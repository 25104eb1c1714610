"""`hub=USER/NAME`: an export is pushed to a hub on this machine, and the token is in nothing that is said."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from diverseevol.data.hub import out_of_reach

RUN = Path(__file__).parent / "fixtures/run_folders_0_1/lab/lab/kcenter-iterative-61b50b53/seed0"
TOKEN, NAME = "hf_secret0123456789", "me/subset"


class Hub:
    """What the hub was asked, and which data set it has."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.repository: dict[str, Any] | None = None
        self.files: dict[str, bytes] = {}
        self.full = False

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, Any]:
        self.asked.append(f"{method} {path}")
        if method == "HEAD":
            return 200, {}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "unauthorised"}
        if path == "/api/whoami-v2":
            return 200, {"name": "me", "type": "user"}
        if path == "/api/repos/create":
            if self.repository is not None:
                return 409, {"error": "there is one already", "url": f"{constants.ENDPOINT}/datasets/{NAME}"}
            self.repository = json.loads(body)
            return 200, {"url": f"{constants.ENDPOINT}/datasets/{NAME}", "name": NAME}
        if self.repository is None:
            return 404, {"error": "there is no such data set"}
        if self.full:
            return 403, {"error": "storage limit reached"}
        if path == f"/api/datasets/{NAME}/preupload/main":
            files = json.loads(body)["files"]
            return 200, {
                "files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            }
        if path == f"/api/datasets/{NAME}/commit/main":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    del self.files[line["value"]["path"]]
            url = f"{constants.ENDPOINT}/datasets/{NAME}/commit/0123"
            return 200, {"commitUrl": url, "commitOid": "0123", "success": True}
        if path.startswith(f"/api/datasets/{NAME}/tree/main"):
            return 200, [{"type": "file", "path": name, "size": 1, "oid": "0"} for name in self.files]
        return 200, {"id": NAME, "sha": "0123", "private": True, "siblings": []}


@pytest.fixture
def hub(monkeypatch, tmp_path) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, reply = hub.answer(self.command, self.path, self.headers.get("authorization"), body)
            content = b"" if self.command == "HEAD" else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(content)))
            self.send_header("content-type", "application/json")
            if status == 404:
                self.send_header("x-error-code", "RepoNotFound")
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self.do_POST()

        def do_HEAD(self) -> None:
            self.do_POST()

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    out_of_reach.cache_clear()
    yield hub
    out_of_reach.cache_clear()
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_export_is_pushed_as_a_private_data_set_with_its_own_files_alone(command_line, hub, tmp_path):
    command = ("export", f"folder={RUN}", "format=messages", "out=subset", f"hub={NAME}")
    code, out, err = command_line(*command)
    assert (code, out.splitlines()[-1]) == (0, f"pushed to {constants.ENDPOINT}/datasets/{NAME}")
    assert hub.repository == {"name": "subset", "organization": "me", "type": "dataset", "visibility": "private"}
    assert hub.files == {file.name: file.read_bytes() for file in Path("subset").iterdir()}
    assert f"load_dataset('{NAME}', split=\"train\")".encode() in hub.files["README.md"]
    assert TOKEN not in out + err
    assert all(TOKEN.encode() not in content for content in hub.files.values())

    hub.files["images/of_mine.png"] = b"mine"
    code, _, err = command_line(*command[:2], "format=parquet", *command[3:], "replace=true")
    assert code == 0, err
    there = {file.name: file.read_bytes() for file in Path("subset").iterdir()}
    assert hub.files == {**there, "images/of_mine.png": b"mine"}
    assert "train.jsonl" not in there
    Path("subset/mine.txt").write_text("mine")
    code, _, err = command_line(*command[:-2], "out=other", f"hub={NAME}")
    assert (code, Path("other").exists()) == (2, False)
    assert f"hub={NAME}: is there already; give another name to keep it, or replace=true" in err
    assert "mine.txt" not in hub.files


def test_a_hub_that_refuses_is_said_and_the_folder_stays(command_line, hub):
    hub.repository, hub.full = {}, True
    code, out, err = command_line("export", f"folder={RUN}", "out=subset", f"hub={NAME}", "replace=true")
    assert code == 2, err
    assert "the hub refused it (" in err
    assert "storage limit reached" in err
    assert "; subset is complete, and `hf upload me/subset subset --repo-type dataset` pushes it" in err
    assert Path("subset/train.jsonl").exists()
    assert TOKEN not in out + err


@pytest.mark.parametrize(
    ("case", "sentence"),
    [
        ("logged out", f"hub={NAME}: you are not logged in to the hub; run `hf auth login`, or leave hub out"),
        ("wrong token", f"hub={NAME}: the hub refused it ("),
        ("offline", f"hub={NAME}: the hub cannot be reached (HF_HUB_OFFLINE is set); leave hub out, and push"),
    ],
)
def test_who_cannot_push_is_told_before_anything_is_done(command_line, hub, monkeypatch, case, sentence):
    if case == "logged out":
        monkeypatch.delenv("HF_TOKEN")
    elif case == "wrong token":
        monkeypatch.setenv("HF_TOKEN", f"{TOKEN}4")
    else:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    code, out, err = command_line("export", f"folder={RUN}", "out=subset", f"hub={NAME}")
    assert (code, Path("subset").exists()) == (2, False)
    assert sentence in err
    assert TOKEN not in out + err
    assert all(asked in ("HEAD /", "GET /api/whoami-v2") for asked in hub.asked)
