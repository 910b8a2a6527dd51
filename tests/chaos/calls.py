"""Those who ask: a client and a worker that repeat each call until it is answered, and note what was acknowledged."""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx

from purlkit.results import CHECKPOINT, Finish, Outcome
from services.testing import a_blob, a_result
from tests.chaos.history import Final, History, Op

LEAST: dict[str, Any] = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}
DEADLINE_SECONDS = 240.0
# Whoever is told to ask again later does so later than one who got no answer at all.
PAUSE_SECONDS, REFUSED_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.2, 0.5
LOOK_SECONDS = 0.1


class Superseded(Exception):
    """The attempt was given up."""


class Calls:
    """Repeats until there is an answer that is one."""

    def __init__(self, url: str, history: History, token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # Plain HTTP: reading the certificates that it does not need would take longer than most answers.
        self.http = httpx.Client(base_url=url, headers=headers, timeout=10, trust_env=False, verify=False)
        self.history = history
        self.refused: list[str] = []  # every answer that said to ask again, by its code

    def call(self, method: str, path: str, **kwargs: Any) -> tuple[httpx.Response, float]:
        """The answer, and when the try began that it is the answer to."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        pause = PAUSE_SECONDS
        while True:
            sent = time.monotonic()
            try:
                answer = self.http.request(method, path, **kwargs)
                code = answer.json()["code"] if answer.is_error else ""
                if answer.status_code < 500 and code not in ("idempotency_in_flight", "too_many_requests"):
                    return answer, sent
                self.refused.append(code)
                pause = max(pause, REFUSED_SECONDS)
            except httpx.TransportError as error:
                code = str(error)
            assert time.monotonic() < deadline, f"{method} {path}: for {DEADLINE_SECONDS:g} s no answer but {code}"
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)

    def note(self, what: str, sent: float, *, job: str = "", attempt: int = 0, **told: Any) -> None:
        op = Op(what=what, job=job, attempt=attempt, sent=sent, ended=time.monotonic(), told=told)
        self.history.add(op)

    def close(self) -> None:
        self.http.close()


class Client(Calls):
    """A user."""

    def submit(self, key: str, **changes: Any) -> str:
        return self._made(*self.call("POST", "/jobs", json={**LEAST, **changes}, headers={"Idempotency-Key": key}), key)

    def retry(self, job_id: str, key: str) -> str:
        return self._made(*self.call("POST", f"/jobs/{job_id}/retry", headers={"Idempotency-Key": key}), key)

    def _made(self, answer: httpx.Response, sent: float, key: str) -> str:
        assert answer.status_code == 202, answer.text
        job = answer.json()
        self.note("submit", sent, job=job["id"], key=key)
        self.note("see", sent, job=job["id"], **job)
        return str(job["id"])

    def see(self, job_id: str) -> dict[str, Any]:
        answer, sent = self.call("GET", f"/jobs/{job_id}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        self.note("see", sent, job=job_id, **job)
        return job

    def move(self, job_id: str, to: str) -> int:
        """cancel, pause or resume; a cancel that came too late is refused."""
        answer, sent = self.call("POST", f"/jobs/{job_id}/{to}")
        assert answer.status_code in (202, 409), answer.text
        if answer.status_code == 202:
            self.note(to, sent, job=job_id)
            self.note("see", sent, job=job_id, **answer.json())
        return answer.status_code

    def delete(self, job_id: str) -> None:
        answer, sent = self.call("DELETE", f"/jobs/{job_id}")
        assert answer.status_code in (204, 404), answer.text  # the answer to a first try may be lost
        self.note("delete", sent, job=job_id)

    def wait_for(self, job_id: str, *states: str, seconds: float = DEADLINE_SECONDS) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (job := self.see(job_id))["state"] not in states:
            assert time.monotonic() < deadline, f"{job_id} is {job['state']} after {seconds:g} s: {job}"
            time.sleep(LOOK_SECONDS)
        return job

    def download(self, job_id: str) -> str:
        answer, _ = self.call("GET", f"/jobs/{job_id}/checkpoint")
        assert answer.status_code == 200, answer.text
        return hashlib.sha256(answer.content).hexdigest()

    def all_jobs(self) -> list[str]:
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = self.call("GET", "/jobs", params={"limit": "100", **after})[0].json()
            found += [job["id"] for job in page["data"]]
            if not page["has_more"]:
                return found
            after = {"after": page["next"]}

    def final(self, job_id: str) -> Final:
        job = self.call("GET", f"/jobs/{job_id}")[0].json()
        events: list[dict[str, Any]] = []
        while True:
            behind = events[-1]["seq"] if events else 0
            page = self.call("GET", f"/jobs/{job_id}/events", params={"limit": "1000", "after": str(behind)})[0].json()
            events += page["data"]
            if not page["has_more"]:
                break
        return Final(job, events, self.download(job_id) if job["state"] == "succeeded" else None)


class Worker(Calls):
    """An attempt, played by hand."""

    def __init__(self, url: str, history: History, env: dict[str, str], number: int) -> None:
        super().__init__(url, history, env["PURL_TOKEN"])
        self.path, self.number = f"/attempts/{env['PURL_ATTEMPT']}", number
        self._said = self._counter = self._logged = 0
        try:
            brief, sent = self._ask("GET", "")
            step = int(self._fetched(brief["saved"]["step"]["href"])) if brief["saved"] else 0
        except Exception:
            self.close()
            raise
        self.job = brief["job_id"]
        self.note("brief", sent, job=self.job, attempt=number, step=step)
        self.step = step

    def beat(self) -> str:
        self._counter += 1
        said, sent = self._ask("POST", "/heartbeat", json={"phase": "search", "counter": self._counter})
        self._noted("beat", sent)
        return str(said["command"])

    def say(self, notes: int) -> None:
        said = [f"{self.number}.{self._said + more}" for more in range(notes)]
        events = [{"type": "note", "data": {"note": note}} for note in said]
        _, sent = self._ask("POST", "/events", json={"first_seq": self._said, "events": events})
        self._said += notes
        self._noted("say", sent, notes=said)

    def log(self, text: bytes) -> None:
        _, sent = self._ask("POST", "/log", params={"start": self._logged}, content=text)
        self._logged += len(text)
        self._noted("log", sent)

    def save(self) -> None:
        self.step += 1
        _, sent = self._put("/saved/step", str(self.step).encode())
        self._noted("save", sent, step=self.step)

    def succeed(self) -> None:
        network = f"the network of {self.job}, by attempt {self.number}".encode()
        _, sent = self._put(f"/artifacts/{CHECKPOINT}", network)
        self._noted("stage", sent)
        last = Finish(outcome=Outcome.SUCCEEDED, result=a_result(a_blob(network)), artifacts=(CHECKPOINT,))
        self.finish(last, checkpoint=hashlib.sha256(network).hexdigest())

    def finish(self, last: Finish, **told: Any) -> None:
        said, sent = self._ask("POST", "/finish", json=last.model_dump(mode="json"))
        # A cancel that came before it turns a success into a cancelled job.
        self._noted("finish", sent, **(told if said["job_state"] == "succeeded" else {}))

    def _noted(self, what: str, sent: float, **told: Any) -> None:
        self.note(what, sent, job=self.job, attempt=self.number, **told)

    def _put(self, path: str, data: bytes) -> tuple[dict[str, Any], float]:
        digest = b64encode(hashlib.sha256(data).digest()).decode()
        return self._ask("PUT", path, content=data, headers={"Repr-Digest": f"sha-256=:{digest}:"})

    def _fetched(self, href: str) -> bytes:
        return self._heard("GET", href)[0].content

    def _ask(self, method: str, path: str, **kwargs: Any) -> tuple[dict[str, Any], float]:
        answer, sent = self._heard(method, self.path + path, **kwargs)
        return (answer.json() if answer.content else {}), sent

    def _heard(self, method: str, path: str, **kwargs: Any) -> tuple[httpx.Response, float]:
        answer, sent = self.call(method, path, **kwargs)
        if answer.status_code in (401, 409):
            raise Superseded(answer.text)
        assert answer.is_success, answer.text
        return answer, sent


def until_done(newest: Callable[[int], Worker | None], play: Callable[[Worker], None]) -> None:
    """Plays the newest attempt after that of this number to its end; one that is given up is followed by the next."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    played = 0
    while True:
        assert time.monotonic() < deadline, "no attempt came to its end"
        try:
            worker = newest(played)
            if worker is None:
                time.sleep(PAUSE_SECONDS)
                continue
            played = worker.number
            with closing(worker):
                play(worker)
            return
        except Superseded:
            continue


def file_of(folder: Path, name: str) -> Path:
    return folder / "history" / f"{name}.jsonl"
