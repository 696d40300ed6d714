"""As much of W&B's server, on the loopback interface, as `wandb sweep` and an agent with offline runs talk to.

The protocol is not documented; `unknown` collects what was asked for beyond it, so that a test of a newer client fails
with the name of the operation.
"""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import yaml

ENTITY = "loopback"


class WandbServer(ThreadingHTTPServer):
    """Keeps one sweep, and hands the points that it was given to agents, one at a time."""

    daemon_threads = True

    def __init__(self, points: list[dict[str, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.waiting, self.handed = list(points), []
        self.sweep: str | None = None
        self.unknown: list[str] = []
        self.lock = Lock()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "WandbServer":
        Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """The client's service leaves its connections open and drops them: no error of ours."""

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any] | None:
        """Return the data of an answer; None for what is not known."""
        if operation == "Viewer":
            nothing = {"edges": []}
            return {
                "viewer": {
                    "id": "1",
                    "entity": ENTITY,
                    "username": ENTITY,
                    "flags": "{}",
                    "teams": nothing,
                    "apiKeys": nothing,
                }
            }
        if operation == "UpsertSweep":
            self.sweep = variables["config"]
            project = {"id": "1", "name": variables["projectName"], "entity": {"id": "1", "name": ENTITY}}
            return {"upsertSweep": {"sweep": {"name": "s1", "project": project}, "configValidationWarnings": []}}
        if operation == "SweepWithRuns":
            method = yaml.safe_load(self.sweep or "")["method"]
            sweep = {"id": "s1", "name": "s1", "method": method, "state": "RUNNING", "config": self.sweep,
                     "controller": None, "scheduler": None, "runs": {"edges": []}}  # fmt: skip
            return {"project": {"sweep": sweep}}
        if operation == "CreateAgent":
            return {"createAgent": {"agent": {"id": "agent"}}}
        if operation == "Heartbeat":
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(self._commands(variables))}}
        return None

    def _commands(self, variables: dict[str, Any]) -> list[dict[str, Any]]:
        if json.loads(variables.get("runState") or "{}"):
            return []  # a run is going on, which `exit` would kill
        if not self.waiting:
            return [{"type": "exit"}]
        point = self.waiting.pop(0)
        self.handed.append(point)
        arguments = {name: {"value": value} for name, value in point.items()}
        return [{"type": "run", "run_id": f"run{len(self.handed)}", "program": "gan-lightning", "args": arguments}]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        named = re.search(r"\b(?:query|mutation)\s+(\w+)", asked.get("query", ""))
        operation = named.group(1) if named else self.path
        with self.server.lock:
            data = self.server.answer(operation, asked.get("variables") or {})
            if data is None:
                self.server.unknown.append(operation)
        body = json.dumps({"data": data} if data else {"errors": [{"message": f"unknown: {operation}"}]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""
