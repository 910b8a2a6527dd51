"""The API as a real server on a real port, and a worker and a checker that speak to it as the real ones do."""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import delete
from starlette.routing import BaseRoute

from api.__main__ import url_of
from api.deps import Parts
from api.main import create_app
from api.server import make_server
from purlkit.results import CHECKPOINT, CheckReport, Finish, Heartbeat, Outcome, Phase, WorkerEvent, WorkerEvents
from services import attempts, scheduling
from services.artifacts import Store, open_store
from services.database import Database
from services.ids import new_id
from services.launch import Handle
from services.settings import Settings
from services.supervisor import listen
from services.tables import Base
from services.testing import FakeLauncher, a_blob, a_result, database_in, settings_in
from tests.waiting import wait_until

LEAST = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}


@dataclass
class Service:
    """What a test looks at: the public side by `http`, everything else by the parts."""

    http: httpx.Client
    url: str
    db: Database
    settings: Settings
    store: Store
    launcher: CheckingLauncher
    parts: Parts
    routes: list[BaseRoute]

    def empty(self) -> None:
        """As if it had just been installed, and a dispatcher were there; its part is played by `claim`."""
        with self.db.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
            scheduling.announce(session, self.settings, new_id("dsp"), "here")
        for path in self.files():
            path.unlink()
        self.launcher.forget()

    def files(self) -> list[Path]:
        """Every file below the artifacts, finished or not."""
        return [path for path in (self.settings.data_dir / "artifacts").rglob("*") if path.is_file()]

    def submit(self, **changes: Any) -> dict[str, Any]:
        response = self.http.post("/jobs", json={**LEAST, **changes})
        assert response.status_code == 202, response.text
        job: dict[str, Any] = response.json()
        return job

    def upload(self, data: bytes | Iterator[bytes], *, digest: str | None = None) -> httpx.Response:
        headers = {"Content-Type": "application/octet-stream"} | ({"Repr-Digest": digest} if digest else {})
        return self.http.post("/weights", content=data, headers=headers)

    def job(self, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = self.http.get(f"/jobs/{job_id}").json()
        return job

    def claim(self) -> HttpWorker:
        """Does what the dispatcher does, and gives the attempt to a worker."""
        with self.db.write() as session:
            claim = attempts.claim(session, self.settings)
        assert claim is not None, "nothing was queued"
        return HttpWorker(self.url, claim.attempt_id, claim.token)

    def drain(self, worker: HttpWorker) -> None:
        """Does what the dispatcher does with an attempt that it takes down; the next one may start at once."""
        with self.db.write() as session:
            (gone,) = (attempt for attempt in attempts.live(session) if attempt.id == worker.attempt_id)
            attempts.rescue(session, gone, reason="drained", cause="drained")


@contextmanager
def serving(
    folder: Path, *, store: Store | None = None, public_url: str | None = None, **environ: str
) -> Iterator[Service]:
    if store is not None:
        environ["PURL_ARTIFACTS"] = "s3://the-stores-own-affair"
    settings = settings_in(folder, **{"PURL_PORT": "0", "PURL_POLL_SECONDS": "0.02", **environ})
    db = database_in(folder, **environ)
    store = store or open_store(settings)
    launcher = CheckingLauncher()
    listening = listen(settings)
    url = url_of(listening)
    settings = replace(settings, public_url=public_url or url)
    app = create_app(db, settings, store, launcher)
    server = make_server(app)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        wait_until("the server has started", lambda: server.started)
        # A port of ours needs no proxy, whatever the environment says.
        with httpx.Client(base_url=url, timeout=30, trust_env=False, verify=False) as http:
            parts = app.state.parts
            yield Service(
                http=http,
                url=url,
                db=db,
                settings=settings,
                store=store,
                launcher=launcher,
                parts=parts,
                routes=list(app.state.routes),
            )
    finally:
        server.should_exit = True
        thread.join()
        launcher.join()
        db.close()


class HttpWorker:
    """Holds one attempt's token and says what a test wants said, over HTTP."""

    def __init__(self, url: str, attempt_id: str, token: str) -> None:
        self.attempt_id = attempt_id
        self.token = token
        self._url = url
        self._counter = 0
        self._said = 0

    def call(self, method: str, path: str = "", *, token: str | None = None, **kwargs: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token or self.token}", **kwargs.pop("headers", {})}
        path = path if path.startswith("/attempts") else f"/attempts/{self.attempt_id}{path}"
        # Plain HTTP: reading the certificates that it does not need would take longer than most answers.
        return httpx.request(
            method, self._url + path, headers=headers, timeout=30, trust_env=False, verify=False, **kwargs
        )

    def beat(self, phase: Phase = Phase.SEARCH) -> httpx.Response:
        self._counter += 1
        beat = Heartbeat(phase=phase, counter=self._counter)
        return self.call("POST", "/heartbeat", json=beat.model_dump(mode="json"))

    def say(self, *events: WorkerEvent, first_seq: int | None = None) -> httpx.Response:
        first_seq = self._said if first_seq is None else first_seq
        self._said = max(self._said, first_seq + len(events))
        batch = WorkerEvents(first_seq=first_seq, events=events)
        return self.call("POST", "/events", json=batch.model_dump(mode="json"))

    def put(self, path: str, data: bytes, *, announced: bytes | None = None, kind: str = "") -> httpx.Response:
        headers = {"Repr-Digest": digest_of(data if announced is None else announced)}
        if kind:
            headers["Content-Type"] = kind
        return self.call("PUT", path, content=data, headers=headers)

    def save(self, name: str, data: bytes) -> httpx.Response:
        return self.put(f"/saved/{name}", data)

    def stage(self, name: str, data: bytes, kind: str = "") -> httpx.Response:
        return self.put(f"/artifacts/{name}", data, kind=kind)

    def finish(self, last_word: Finish) -> httpx.Response:
        return self.call("POST", "/finish", json=last_word.model_dump(mode="json"))

    def succeed(self, checkpoint: bytes = b"the pruned network") -> httpx.Response:
        assert self.stage(CHECKPOINT, checkpoint).status_code == 200
        return self.finish(a_success(checkpoint))


def a_success(checkpoint: bytes) -> Finish:
    return Finish(outcome=Outcome.SUCCEEDED, result=a_result(a_blob(checkpoint)), artifacts=(CHECKPOINT,))


Checker = Callable[[httpx.Client, str], None]


def reports(report: CheckReport) -> Checker:
    """A checker that fetches what it is asked and answers with this."""

    def check(http: httpx.Client, path: str) -> None:
        assert http.get(path).status_code == 200
        assert http.post(f"{path}/report", json=report.model_dump(mode="json")).status_code == 204

    return check


def dies(http: httpx.Client, path: str) -> None:
    """A checker that never says a word."""


@dataclass
class CheckingLauncher(FakeLauncher):
    """Plays `workers.check` in a thread instead of a process."""

    checker: Checker = dies
    why: str | None = None  # what is known of the end of one that dies
    hangs: bool = False  # lives on without a word until it is ended
    _threads: list[threading.Thread] = field(default_factory=list)

    def launch(
        self,
        env: Mapping[str, str],
        *,
        module: str,
        name: str,
        log_path: Path,
        record: Callable[[Handle], object] = lambda _: None,
    ) -> Handle:
        handle = super().launch(env, module=module, name=name, log_path=log_path, record=record)
        if not self.hangs:
            thread = threading.Thread(target=self._run, args=(dict(env), handle))
            thread.start()
            self._threads.append(thread)
        return handle

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def forget(self) -> None:
        self.join()
        self._threads.clear()
        self.launches.clear()
        self.ended.clear()
        self.checker, self.hangs, self.why = dies, False, None

    def why_dead(self, handle: Handle) -> str | None:  # noqa: ARG002
        return self.why

    def _run(self, env: dict[str, str], handle: Handle) -> None:
        headers = {"Authorization": f"Bearer {env['PURL_TOKEN']}"}
        with httpx.Client(base_url=env["PURL_URL"], headers=headers, timeout=30, trust_env=False, verify=False) as http:
            self.checker(http, f"/checks/{env['PURL_CHECK']}")
        self.die(handle)


def digest_of(data: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Every refusal has the one shape."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["code"] == code, problem
    assert problem["status"] == status
    assert problem["type"] == f"urn:purl:problem:{code}"
    assert problem["title"]
    assert problem["detail"]
    return problem
