"""An attempt that pretends to search for a moment, in a process that starts in a tenth of a second: the standard
library alone. It keeps to what a worker must do: it saves its steps, begins where an earlier attempt left off, and ends
itself when it is told to, or when two thirds of its lease have passed without an answer.

`python -m tests.chaos.worker`, below the folder of data sets: `result.json` is what it answers with, `history` where it
puts down what was acknowledged.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.chaos.history import History, Op

CHECKPOINT = "pruned.safetensors"
STEPS = 5
SHORTEST, LONGEST = 0.2, 3.0


class Attempt:
    def __init__(self, folder: Path) -> None:
        url = urlsplit(os.environ["PURL_URL"])
        self._address = (url.hostname or "", url.port or 80)
        self._id = os.environ["PURL_ATTEMPT"]
        self._headers = {"Authorization": f"Bearer {os.environ['PURL_TOKEN']}", "Content-Type": "application/json"}
        self._history = History(folder / "history" / f"{self._id}.jsonl")
        self._result = json.loads((folder / "result.json").read_text())
        self._renewed_at = time.monotonic()
        self._lease = 30.0
        self._counter = 0
        brief, sent = self._call("GET", "")
        self._lease = brief["lease_seconds"]
        self._job, self._number = brief["job_id"], brief["number"]
        saved = brief["saved"].get("step")
        self.step = int(self._call("GET", saved["href"])[0]) if saved else 0
        self._note("brief", sent, step=self.step)

    def run(self) -> None:
        pause = random.uniform(SHORTEST, LONGEST) / STEPS
        while self.step < STEPS:
            if (command := self._beat()) != "continue":
                self._finish(self._OUTCOMES[command])
                return
            time.sleep(pause)
            note = f"{self._number}.{self.step}"
            batch = {"first_seq": self._counter - 1, "events": [{"type": "note", "data": {"note": note}}]}
            _, sent = self._call("POST", "/events", json.dumps(batch).encode())
            self._note("say", sent, notes=[note])
            self.step += 1
            _, sent = self._put("/saved/step", str(self.step).encode())
            self._note("save", sent, step=self.step)
        network = f"the network of {self._job}, by attempt {self._number}".encode()
        _, sent = self._put(f"/artifacts/{CHECKPOINT}", network)
        self._note("stage", sent)
        self._finish("succeeded", network)

    _OUTCOMES = {"cancel": "cancelled", "pause": "paused", "drain": "drained"}  # noqa: RUF012

    def _beat(self) -> str:
        self._counter += 1
        beat = json.dumps({"phase": "search", "counter": self._counter}).encode()
        answer, sent = self._call("POST", "/heartbeat", beat)
        self._renewed_at = sent
        self._note("beat", sent)
        return str(answer["command"])

    def _put(self, path: str, data: bytes) -> tuple[Any, float]:
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        more = {"Repr-Digest": f"sha-256=:{digest}:", "Content-Type": "application/octet-stream"}
        return self._call("PUT", path, data, more)

    def _finish(self, outcome: str, network: bytes = b"") -> None:
        last: dict[str, Any] = {"outcome": outcome}
        told = {}
        if network:
            made = {"sha256": hashlib.sha256(network).hexdigest(), "bytes": len(network), "name": CHECKPOINT}
            point = {**self._result["points"][0], "checkpoint": made}
            result = {**self._result, "checkpoint": made, "points": [point]}
            last |= {"result": result, "artifacts": [CHECKPOINT]}
            told = {"checkpoint": made["sha256"]}
        answer, sent = self._call("POST", "/finish", json.dumps(last).encode())
        self._note("finish", sent, **(told if answer["job_state"] == "succeeded" else {}))

    def _note(self, what: str, sent: float, **told: Any) -> None:
        ended = time.monotonic()
        self._history.add(Op(what=what, job=self._job, attempt=self._number, sent=sent, ended=ended, told=told))

    def _call(self, method: str, path: str, body: bytes = b"", more: dict[str, str] | None = None) -> tuple[Any, float]:
        """The answer, once there is one; the process ends where there can be none any more."""
        path = path if path.startswith("/attempts") else f"/attempts/{self._id}{path}"
        while True:
            sent = time.monotonic()
            if sent - self._renewed_at > self._lease * 2 / 3:
                sys.exit("no contact for two thirds of the lease")
            try:
                connection = http.client.HTTPConnection(*self._address, timeout=self._lease / 3)
                try:
                    connection.request(method, path, body=body, headers={**self._headers, **(more or {})})
                    answer = connection.getresponse()
                    content = answer.read()
                finally:
                    connection.close()
            except (OSError, http.client.HTTPException):
                time.sleep(0.05)
                continue
            if answer.status >= 500:
                time.sleep(0.05)
                continue
            if answer.status in (401, 409):
                sys.exit("superseded")
            if answer.status >= 400:
                sys.exit(f"{method} {path}: {answer.status} {content.decode()}")
            return (json.loads(content) if content else None), sent


def main() -> None:
    Attempt(Path(os.environ["PURL_DATASETS_DIR"])).run()


if __name__ == "__main__":
    main()
