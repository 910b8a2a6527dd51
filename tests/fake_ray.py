"""The Jobs API of a Ray head, as far as the service uses it: what is submitted runs here, as another module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import DEADLINE_SECONDS


@dataclass
class FakeRay:
    token: str
    module: str  # run in place of the one that is asked for
    environ: dict[str, str]  # the nodes' own
    url: str = ""
    submitted: list[dict[str, Any]] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)  # every address

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        self.asked.append(path)
        if path.startswith("/api/packages/"):
            return 200, {}  # there already, whatever it is
        if method == "POST" and path == "/api/jobs/":
            asked = json.loads(body)
            self.submitted.append(asked)
            environ = {**os.environ, **self.environ, **asked["runtime_env"]["env_vars"]}
            command = [sys.executable, "-m", self.module]
            self.processes[asked["submission_id"]] = subprocess.Popen(command, env=environ)
            return 200, {"submission_id": asked["submission_id"]}
        process = self.processes.get(path.split("/")[3])
        if process is None:
            return 404, {}
        if path.endswith("/stop"):
            process.terminate()
        if path.endswith("/logs"):
            return 200, {"logs": "what it said\n"}
        return 200, {"status": "RUNNING" if process.poll() is None else "SUCCEEDED"}


@contextmanager
def fake_ray(token: str, *, module: str, **environ: str) -> Iterator[FakeRay]:
    ray = FakeRay(token=token, module=module, environ=environ)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            known = self.headers.get("Authorization") == f"Bearer {token}"
            status, said = ray.answer(self.command, self.path, body) if known else (401, {})
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        ray.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield ray
        finally:
            server.shutdown()
            thread.join()
            for process in ray.processes.values():
                process.terminate()
                process.wait(DEADLINE_SECONDS)
