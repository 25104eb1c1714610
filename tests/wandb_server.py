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
        artifacts: versions by id, in order of creation: what CreateArtifact was sent, the "files" by name, whether it
            is "committed", and by which runs it is "made" and "used".
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.artifacts: dict[str, dict[str, Any]] = {}
        kept = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *arguments: object) -> None:
                pass

            def do_GET(self) -> None:
                self.reply({})

            def do_PUT(self) -> None:
                body = self.body()
                match self.path.split("/"):
                    case [_, "artifacts", id, name]:
                        kept.artifacts[id]["files"][name] = body
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
            case "CreateArtifact":
                return {"createArtifact": {"artifact": self.version(variables["input"])}}
            case "CreateArtifactFiles":
                nodes = [self.upload(file["artifactID"], file["name"]) for file in variables["input"]["artifactFiles"]]
                return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
            case "CreateArtifactManifest":
                file = {"id": "f", **self.upload(variables["artifactID"], "manifest")}
                return {"createArtifactManifest": {"artifactManifest": {"id": variables["artifactID"], "file": file}}}
            case "UpdateArtifactManifest":
                file = {"id": "f", **self.upload(variables["artifactManifestID"], "manifest")}
                return {"updateArtifactManifest": {"artifactManifest": {"id": "m", "file": file}}}
            case "CommitArtifact":
                self.artifacts[variables["artifactID"]]["committed"] = True
                return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": "d"}}}
            case "UseArtifact":
                self.artifacts[variables["input"]["artifactID"]]["used"].append(variables["input"]["runName"])
                return {"useArtifact": {"artifact": {"id": variables["input"]["artifactID"]}}}
        if "query ArtifactType" in query:  # of one by that name
            return {"project": None}
        if "upsertView" in query:
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "v", "name": "nw-view-v"}, "inserted": True}}
        if "viewer" in query.lower():
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        return {"serverInfo": {"features": [], "latestLocalVersionInfo": None}} if "serverInfo" in query else {}

    def version(self, sent: dict[str, Any]) -> dict[str, Any]:
        """A version of an artifact: what has the same content is the same version, as on W&B's servers."""
        facts = ("artifactCollectionName", "digest")
        same = (id for id, known in self.artifacts.items() if all(known[name] == sent[name] for name in facts))
        if (id := next(same, None)) is None:
            id = f"v{len(self.artifacts)}"
            self.artifacts[id] = {**sent, "files": {}, "committed": False, "made": [], "used": [], "named": []}
        version = self.artifacts[id]
        version["made"].append(sent["runName"])
        version["named"] += [alias["alias"] for alias in sent["aliases"]]
        state = "COMMITTED" if version["committed"] else "PENDING"
        return {"id": id, "state": state, "artifactSequence": {"latestArtifact": None}}

    def upload(self, id: str, name: str) -> dict[str, Any]:
        """Where a file of an artifact is sent."""
        url = f"{self.url}/artifacts/{id}/{name}"
        return {"storagePath": name, "uploadUrl": url, "uploadHeaders": [], "artifact": {"id": id}}

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
