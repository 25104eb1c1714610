"""As much of a W&B server as its client needs to upload runs: it keeps what it is sent, by run id."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


class WandbServer:
    """Listens on localhost until closed.

    Attributes:
        runs: id -> {"upserts": the variables of each UpsertBucket, "history": offset -> row, "summary": the last one}.
        views: the variables of each dashboard that was saved.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        kept = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                self.reply({})

            def do_PUT(self) -> None:
                self.body()
                self.reply({})

            def do_POST(self) -> None:
                body = self.body()
                if self.path.endswith("/graphql"):
                    asked = json.loads(body)
                    self.reply({"data": kept.answer(asked)})
                    return
                if self.path.endswith("/file_stream"):
                    kept.stream(self.path.split("/")[-2], json.loads(body))
                self.reply({})

            def body(self) -> bytes:
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))

            def reply(self, value: object) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def history(self, id: str) -> list[dict[str, Any]]:
        rows = self.runs[id]["history"]
        return [json.loads(rows[offset]) for offset in sorted(rows)]

    def run(self, id: str) -> dict[str, Any]:
        return self.runs.setdefault(id, {"upserts": [], "history": {}, "summary": "{}"})

    def stream(self, id: str, sent: dict[str, Any]) -> None:
        for name, part in (sent.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                self.run(id)["history"] |= {part["offset"] + i: row for i, row in enumerate(part["content"])}
            elif name == "wandb-summary.json":
                self.run(id)["summary"] = part["content"][-1]

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        variables, query = asked.get("variables") or {}, asked["query"]
        project = {"id": "p", "name": variables.get("project"), "entity": {"id": "e", "name": "me"}}
        match asked.get("operationName"):
            case "UpsertBucket":
                run = self.run(variables["name"])
                run["upserts"].append(variables)
                bucket = {
                    "id": "b",
                    "name": variables["name"],
                    "displayName": variables.get("displayName"),
                    "config": "{}",
                }
                return {"upsertBucket": {"bucket": {**bucket, "project": project}, "inserted": True}}
            case "RunResumeStatus":
                return {"model": {**project, "bucket": self.bucket(variables["name"])}}
            case "CreateRunFiles":
                files = [{"name": name, "uploadUrl": f"{self.url}/files/{name}"} for name in variables["files"]]
                return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "upsertView" in query:
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "v", "name": "nw-view-v"}, "inserted": True}}
        if "viewer" in query.lower():
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {"serverInfo": {"features": [], "latestLocalVersionInfo": None}} if "serverInfo" in query else {}

    def bucket(self, id: str) -> dict[str, Any] | None:
        if id not in self.runs:
            return None
        run = self.runs[id]
        rows = [run["history"][offset] for offset in sorted(run["history"])]
        config = next((sent["config"] for sent in reversed(run["upserts"]) if sent.get("config")), "{}")
        return {
            "id": "b", "name": id, "displayName": id, "config": config, "wandbConfig": '{"t": 1}', "tags": [],
            "summaryMetrics": run["summary"], "historyLineCount": len(rows), "historyTail": json.dumps(rows[-1:]),
            "eventsLineCount": 0, "eventsTail": "[]", "logLineCount": 0,
        }  # fmt: skip
