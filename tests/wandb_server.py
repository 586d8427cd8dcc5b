"""A W&B server over loopback: as much of its protocol as the real client needs to create runs and stream files.

GraphQL creates and updates runs, artifacts and views; the file stream takes history, summary and events by offset, as
W&B's does, so that what is sent twice is there once; files are PUT to addresses that GraphQL hands out. A ``Fault``
makes requests fail on purpose.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"  # a key's form, and nobody's
ENTITY = "tester"
MOMENT = "2024-01-01T00:00:00Z"


@dataclass
class Fault:
    """Requests to paths that match ``path``: the next ``times`` are answered by ``status``, or cut off where it is 0.

    ``delay``: seconds before the answer; with ``status`` None the request is then served.
    """

    path: str
    times: int
    status: int | None = 500
    delay: float = 0.0


@dataclass
class ServedRun:
    """A run as the server knows it."""

    entity: str
    project: str
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    streams: dict[str, dict[int, str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    complete: bool = False
    created: int = 0
    finished: int = 0

    def history(self) -> list[dict[str, Any]]:
        """The rows of the history, in order."""
        lines = self.streams.get("wandb-history.jsonl", {})
        return [json.loads(lines[offset]) for offset in sorted(lines)]

    def summary(self) -> dict[str, Any]:
        """The last summary."""
        lines = self.streams.get("wandb-summary.json", {})
        return json.loads(lines[max(lines)]) if lines else {}

    def node(self) -> dict[str, Any]:
        """The run as GraphQL tells of it."""
        user = {"name": ENTITY, "username": ENTITY}
        return {
            **{"projectId": 1, "id": self.name, "name": self.name, "tags": self.fields.get("tags") or []},
            **{"displayName": self.fields.get("displayName"), "group": self.fields.get("groupName"), "user": user},
            **{"jobType": self.fields.get("jobType"), "state": "finished" if self.complete else "running"},
            **{"config": json.dumps(self.config), "summaryMetrics": json.dumps(self.summary())},
            **{"historyLineCount": len(self.history()), "systemMetrics": "{}", "readOnly": False},
            **dict.fromkeys(("sweepName", "commit", "createdAt", "heartbeatAt", "description", "notes")),
        }

    def settings(self) -> dict[str, Any]:
        """The config as the user set it."""
        return {key: entry["value"] for key, entry in self.config.items() if key != "_wandb"}


class Server:
    """Runs in a thread of its own, as a context."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, ServedRun] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.views: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.unknown: list[str] = []
        self.lock = threading.RLock()
        self.http = _QuietServer(("127.0.0.1", port), _handler(self))

    @property
    def url(self) -> str:
        """The address that the client calls the base URL."""
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def environment(self) -> dict[str, str]:
        """The environment variables that the client needs."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def __enter__(self) -> Server:
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.shutdown()
        self.http.server_close()

    def fault(self, path: str) -> Fault | None:
        """The fault that the next request to ``path`` meets, which is then used up."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data that a GraphQL request gets."""
        found = re.search(r"(?:query|mutation)\s+(\w+)", query)
        name = found.group(1) if found else "?"
        with self.lock:
            self.requests.append(name)
            operation: Callable[[dict[str, Any]], Any] | None = getattr(self, f"_on_{name}", None)
            if operation is None:
                self.unknown.append(f"{query} {json.dumps(variables)[:2000]}")
                return {"errors": [{"message": f"this server does not know {name}"}]}
            return {"data": operation(variables)}

    def _on_UpsertBucket(self, given: dict[str, Any]) -> Any:  # noqa: N802
        name, project, entity = given["name"], given["project"], given["entity"] or ENTITY
        inserted = name not in self.runs
        run = self.runs.setdefault(name, ServedRun(entity, project, name))
        run.created += inserted
        run.fields |= {key: value for key, value in given.items() if value is not None and key != "config"}
        run.config |= json.loads(given["config"]) if given.get("config") else {}
        bucket = {
            **{"id": name, "name": name, "displayName": run.fields.get("displayName"), "description": None},
            **{"config": json.dumps(run.config), "sweepName": None, "historyLineCount": len(run.history())},
            "project": {"id": project, "name": project, "entity": {"id": entity, "name": entity}},
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _on_CreateRunFiles(self, given: dict[str, Any]) -> Any:  # noqa: N802
        files = [{"name": name, "uploadUrl": self._address(f"run/{given['run']}", name)} for name in given["files"]]
        return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}

    def _on_Viewer(self, given: dict[str, Any]) -> Any:  # noqa: N802
        return {"viewer": {"id": "V", "username": ENTITY, "entity": ENTITY, "flags": "{}", "teams": {"edges": []}}}

    def _on_GetDefaultEntity(self, given: dict[str, Any]) -> Any:  # noqa: N802
        return {"viewer": {"id": "V", "entity": ENTITY}}

    def _on_Runs(self, given: dict[str, Any]) -> Any:  # noqa: N802
        wanted = json.loads(given["filters"]).get("name", {}).get("$in")
        found = [run for run in self.runs.values() if run.project == given["project"]]
        if not found:
            return {"project": None}
        nodes = [run.node() for run in found if wanted is None or run.name in wanted]
        page = {"edges": [{"node": node, "cursor": node["name"]} for node in nodes]}
        page["pageInfo"] = {"endCursor": None, "hasNextPage": False}
        return {"project": {"internalId": 1, "runCount": len(nodes), "readOnly": False, "runs": page}}

    def _on_ArtifactMembershipByName(self, given: dict[str, Any]) -> Any:  # noqa: N802
        name, _, _ = given["name"].partition(":")
        made = [a for a in self.artifacts.values() if a["name"] == name and a["state"] == "COMMITTED"]
        if not made:
            return {"project": {"artifactCollectionMembership": None}}
        where = {"id": "P", "internalId": "1", "name": given["project"], "entity": {"name": given["entity"]}}
        collection = {"__typename": "ArtifactSequence", "name": name, "project": where}
        artifact = {
            **{"__typename": "Artifact", "id": made[-1]["id"], "artifactSequence": collection, "versionIndex": 0},
            **{"artifactType": {"name": "study"}, "tags": [], "state": "COMMITTED", "digest": made[-1]["digest"]},
            **{"size": 0, "fileCount": len(made[-1]["files"]), "createdAt": MOMENT, "updatedAt": MOMENT},
            **{"ttlIsInherited": False, "ttlDurationSeconds": -1, "aliases": []},
            **dict.fromkeys(("description", "metadata", "historyStep", "commitHash")),
        }
        membership = {"__typename": "ArtifactCollectionMembership", "id": "M", "versionIndex": 0, "aliases": []}
        membership |= {"createdAt": MOMENT, "artifactCollection": collection, "artifact": artifact}
        return {"project": {"artifactCollectionMembership": membership}}

    def _on_ServerFeaturesQuery(self, given: dict[str, Any]) -> Any:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _on_CreateArtifact(self, given: dict[str, Any]) -> Any:  # noqa: N802
        asked = given["input"]
        known = [a for a in self.artifacts.values() if a["digest"] == asked["digest"] and a["state"] == "COMMITTED"]
        number = known[0]["id"] if known else f"A{len(self.artifacts)}"
        made = {"id": number, "state": "PENDING", "name": asked["artifactCollectionName"], "digest": asked["digest"]}
        found = self.artifacts.setdefault(number, {**made, "run": asked["runName"], "files": {}})
        sequence = {"latestArtifact": {"id": found["id"]} if known else None}
        artifact = {"id": found["id"], "state": found["state"], "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _on_CreateArtifactManifest(self, given: dict[str, Any]) -> Any:  # noqa: N802
        file = {"id": "F", "uploadUrl": self._address(f"artifact/{given['artifactID']}", given["name"])}
        manifest = {"id": f"M-{given['artifactID']}", "file": {**file, "uploadHeaders": []}}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _on_CreateArtifactFiles(self, given: dict[str, Any]) -> Any:  # noqa: N802
        nodes = [
            {
                **{"storagePath": file["name"], "uploadHeaders": [], "uploadMultipartUrls": None},
                "uploadUrl": self._address(f"artifact/{file['artifactID']}", file["name"]),
                "artifact": {"id": file["artifactID"]},
            }
            for file in given["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _on_CommitArtifact(self, given: dict[str, Any]) -> Any:  # noqa: N802
        found = self.artifacts[given["artifactID"]]
        found["state"] = "COMMITTED"
        return {"commitArtifact": {"artifact": {"id": found["id"], "digest": found["digest"]}}}

    def _on_ProjectInternalId(self, given: dict[str, Any]) -> Any:  # noqa: N802
        return {"project": {"id": "P", "internalId": "1"}}

    def _on_GetProjects(self, given: dict[str, Any]) -> Any:  # noqa: N802
        user = {"id": "V", "name": ENTITY, "username": ENTITY, "email": None, "admin": False, "flags": "{}"}
        user |= {"entity": ENTITY, "deletedAt": None, "apiKeys": None, "teams": None}
        about = {"__typename": "Project", "entityName": ENTITY, "createdAt": MOMENT, "isBenchmark": False, "user": user}
        names = sorted({run.project for run in self.runs.values()})
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {
            "models": {"pageInfo": page, "edges": [{"node": {**about, "id": name, "name": name}} for name in names]}
        }

    def _on_upsertView(self, given: dict[str, Any]) -> Any:  # noqa: N802
        number = given.get("id") or base64.b64encode(f"View:{len(self.views)}".encode()).decode()
        inserted = number not in self.views
        project = {"id": "P", "name": given["projectName"], "entityName": given["entityName"]}
        self.views[number] = {**given, "id": number, "project": project, "createdAt": MOMENT, "updatedAt": MOMENT}
        return {"upsertView": {"view": self.views[number], "inserted": inserted}}

    _on_UpsertView2 = _on_upsertView  # noqa: N815

    def _on_SpecificReport(self, given: dict[str, Any]) -> Any:  # noqa: N802
        wanted = given["reportId"].rstrip("=")
        return {"view": next((view for number, view in self.views.items() if number.rstrip("=") == wanted), None)}

    def _on_View(self, given: dict[str, Any]) -> Any:  # noqa: N802
        found = [view for view in self.views.values() if view["name"] == given["viewName"]]
        return {"project": {"allViews": {"edges": [{"node": view} for view in found]}}}

    def stream(self, run_name: str, content: dict[str, Any]) -> dict[str, Any]:
        """Take a piece of a run's streams, each line at its own offset."""
        with self.lock:
            run = self.runs[run_name]
            for name, piece in (content.get("files") or {}).items():
                lines = run.streams.setdefault(name, {})
                lines |= {piece["offset"] + i: line for i, line in enumerate(piece["content"])}
            if content.get("complete"):
                run.complete = True
                run.finished += 1
        return {}

    def _address(self, owner: str, name: str) -> str:
        return f"{self.url}/storage/{owner}/{base64.urlsafe_b64encode(name.encode()).decode()}"

    def store(self, path: str, content: bytes) -> None:
        """Take an uploaded file."""
        _, _, kind, owner, name = path.split("/", 4)
        with self.lock:
            files = self.runs[owner].files if kind == "run" else self.artifacts[owner]["files"]
            files[base64.urlsafe_b64decode(name).decode()] = content


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # the usual 5 are soon taken on a busy machine, and who comes then waits for seconds

    def handle_error(self, *_: Any) -> None:
        """A client that goes away is no error."""


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

        def _serve(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                content = gzip.decompress(content)
            fault = server.fault(self.path)
            if fault:
                time.sleep(fault.delay)
                if fault.status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return
                if fault.status is not None:
                    self._reply({"error": "on purpose"}, fault.status)
                    return
            if self.path.startswith("/graphql"):
                asked = json.loads(content)
                self._reply(server.answer(asked["query"], asked.get("variables") or {}))
            elif self.path.endswith("/file_stream"):
                server.requests.append("file_stream")
                self._reply(server.stream(self.path.split("/")[-2], json.loads(content)))
            elif self.path.startswith("/storage/"):
                server.store(self.path, content)
                self._reply({})
            else:
                self._reply({}, 200 if self.path == "/" else 404)

        def _reply(self, content: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815

    return Handler
