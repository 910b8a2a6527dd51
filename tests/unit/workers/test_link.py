"""A worker's link against a service that answers as it is told to: over real HTTP, on a loopback port."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from purlkit.results import UNREACHABLE_EXIT, Finish, Outcome, Phase, Progress
from purlkit.spec import JobSpec
from tests.waiting import DEADLINE_SECONDS, wait_until
from workers.calls import Interrupted, Refused, Superseded
from workers.link import Link

SPEC = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}}).resolve()


class ScriptedService:
    """Remembers every request, and answers a path with the next of its planned statuses, else with success."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.planned: dict[str, list[tuple[int, dict[str, Any]]]] = {}
        self.command = "continue"
        # With the first try of the last word, which is answered once a heartbeat was refused.
        self.takes_the_token = False
        self.refused = 0
        self.lease_seconds = 60.0
        self.heartbeat_seconds = 0.05
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def _handler(service) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                service.requests.append((self.command, self.path, dict(self.headers), body))
                planned = service.planned.get(self.path, [])
                status, answer = planned.pop(0) if planned else service.answer(self.path)
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _answer

            def log_message(self, *_: Any) -> None:
                pass

        return Handler

    def answer(self, path: str) -> tuple[int, dict[str, Any]]:
        if self.takes_the_token and path.endswith("/heartbeat") and self.bodies("/finish"):
            self.refused += 1
            return 409, {"code": "attempt_superseded"}
        if self.takes_the_token and path.endswith("/finish") and not self.refused:
            return 503, {}
        return 200, self.success(path)

    def success(self, path: str) -> dict[str, Any]:
        if path.endswith("/heartbeat"):
            return {"lease_seconds": self.lease_seconds, "command": self.command}
        if path == "/attempts/a1":
            return {
                "id": "a1",
                "job_id": "job_1",
                "number": 1,
                "spec": SPEC.model_dump(mode="json"),
                "saved": {},
                "weights_href": None,
                "lease_seconds": self.lease_seconds,
                "heartbeat_seconds": self.heartbeat_seconds,
            }
        return {}

    def bodies(self, end: str) -> list[Any]:
        return [json.loads(body) for _, path, _, body in self.requests if path.endswith(end)]

    def paths(self) -> list[str]:
        return [path.removeprefix("/attempts/a1/") for _, path, _, _ in self.requests if "heartbeat" not in path]


@pytest.fixture
def service() -> Iterator[ScriptedService]:
    service = ScriptedService()
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def fenced() -> threading.Event:
    return threading.Event()


@pytest.fixture
def link(service: ScriptedService, fenced: threading.Event) -> Iterator[Link]:
    link = Link(service.url, "a1", "the-token", on_fence=fenced.set)
    yield link
    link.close()


def raised_by(check: Callable[[], None]) -> Exception | None:
    try:
        check()
    except Exception as error:
        return error
    return None


def test_every_call_carries_the_token(service: ScriptedService, link: Link) -> None:
    brief = link.start()

    assert brief.spec == SPEC
    wait_until("a heartbeat", lambda: service.bodies("/heartbeat"))
    assert {headers["Authorization"] for _, _, headers, _ in service.requests} == {"Bearer the-token"}


def test_heartbeats_say_the_phase_and_a_counter_that_only_rises(service: ScriptedService, link: Link) -> None:
    link.start()
    link.enter(Phase.SEARCH)
    link.moved(7)
    link.moved(3)
    link.tick()

    wait_until(
        "it is said", lambda: (8, "search") in {(b["counter"], b["phase"]) for b in service.bodies("/heartbeat")}
    )
    counters = [beat["counter"] for beat in service.bodies("/heartbeat")]
    assert counters == sorted(counters)


def test_the_progress_says_what_was_taken_of_gpus_also_in_the_phases_after_it(
    service: ScriptedService, link: Link
) -> None:
    link.start()
    link.gpu_bytes = 300
    for phase in (Phase.SEARCH, Phase.RACE):
        link.progress(Progress(fraction=0.5, phase=phase))
        wait_until(
            f"it is said in {phase}",
            lambda phase=phase: (
                (phase, 300)
                in {
                    (told["phase"], told["gpu_memory_bytes"])
                    for b in service.bodies("/heartbeat")
                    if (told := b["progress"])
                }
            ),
        )


def test_saved_work_arrives_after_the_events_that_came_before_it(service: ScriptedService, link: Link) -> None:
    link.start()
    link.event("episode", {"index": 0})
    link.save("search", b"after 0")
    link.event("episode", {"index": 1})
    link.flush()

    paths = service.paths()
    assert paths.index("saved/search") > paths.index("events")
    sent = [event["data"]["index"] for batch in service.bodies("/events") for event in batch["events"]]
    assert sent == [0, 1]
    assert [batch["first_seq"] for batch in service.bodies("/events")] == [0, 1][: len(service.bodies("/events"))]


def test_of_work_saved_under_one_name_while_the_service_was_slow_only_the_latest_is_sent(
    service: ScriptedService, link: Link
) -> None:
    service.planned["/attempts/a1/saved/first"] = [(503, {}), (503, {})]
    link.start()
    link.save("first", b"holds the queue up")
    for number in range(5):
        link.save("search", f"after {number}".encode())
    link.flush()

    sent = [body for _, path, _, body in service.requests if path.endswith("saved/search")]
    assert sent[-1] == b"after 4"
    assert len(sent) < 5


def test_saved_work_carries_its_digest(service: ScriptedService, link: Link) -> None:
    link.start()
    link.save("dense", b"weights")
    link.flush()

    [headers] = [headers for _, path, headers, _ in service.requests if path.endswith("saved/dense")]
    digest = base64.b64encode(hashlib.sha256(b"weights").digest()).decode()
    assert headers["Repr-Digest"] == f"sha-256=:{digest}:"


def test_a_call_is_repeated_until_the_service_is_back(service: ScriptedService, link: Link) -> None:
    service.planned["/attempts/a1/finish"] = [(500, {}), (503, {}), (429, {})]
    link.start()

    link.finish(Finish(outcome=Outcome.DRAINED))

    assert len(service.bodies("/finish")) == 4


def test_a_refusal_is_not_repeated_and_says_what_was_refused(service: ScriptedService, link: Link) -> None:
    service.planned["/attempts/a1/saved/dense"] = [(413, {"code": "too_large", "detail": "at most 5 bytes"})]
    link.start()
    link.save("dense", b"too much")

    with pytest.raises(Refused, match=r"saved/dense: 413 too_large: at most 5 bytes"):
        link.flush()


def test_what_the_service_asks_for_interrupts_the_work(service: ScriptedService, link: Link) -> None:
    link.start()
    link.check()

    service.command = "cancel"

    error = wait_until("the command has arrived", lambda: raised_by(link.check))
    assert isinstance(error, Interrupted)
    assert error.command == "cancel"


def test_sigterm_counts_as_a_drain_but_does_not_hide_a_cancel(service: ScriptedService, link: Link) -> None:
    service.command = "cancel"
    link.start()
    wait_until("the command has arrived", lambda: raised_by(link.check))

    link.drain()

    error = raised_by(link.check)
    assert isinstance(error, Interrupted)
    assert error.command == "cancel"


def test_a_superseded_attempt_ends_itself(service: ScriptedService, link: Link, fenced: threading.Event) -> None:
    service.planned["/attempts/a1/heartbeat"] = [(409, {"code": "attempt_superseded", "detail": "attempt 2 runs"})]

    link.start()

    assert fenced.wait(DEADLINE_SECONDS)
    assert isinstance(raised_by(link.check), Superseded)


def test_a_heartbeat_that_finds_the_last_word_said_ends_nothing(
    service: ScriptedService, link: Link, fenced: threading.Event
) -> None:
    """The service takes the last word and with it the token; its answer is still on its way."""
    service.takes_the_token = True
    link.start()

    link.finish(Finish(outcome=Outcome.DRAINED))

    assert service.refused > 0
    assert not fenced.is_set()


def test_without_contact_it_ends_itself_before_its_lease_runs_out(
    service: ScriptedService, link: Link, fenced: threading.Event
) -> None:
    service.lease_seconds = 1.5
    link.start()
    wait_until("a heartbeat", lambda: service.bodies("/heartbeat"))

    service.server.shutdown()
    service.server.server_close()

    assert fenced.wait(DEADLINE_SECONDS)


def test_a_file_that_is_sent_again_is_sent_whole(service: ScriptedService, link: Link, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096
    (tmp_path / "file").write_bytes(content)
    service.planned["/attempts/a1/artifacts/file"] = [(503, {})]
    link.start()

    link.put_artifact("file", tmp_path / "file", "application/octet-stream")

    sent = [(headers, body) for _, path, headers, body in service.requests if path.endswith("/file")]
    assert [body for _, body in sent] == [content, content]
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
    assert {headers["Repr-Digest"] for headers, _ in sent} == {f"sha-256=:{digest}:"}


def test_an_address_that_leads_nowhere_has_an_exit_of_its_own(tmp_path: Path) -> None:
    program = "import sys; from workers import link, run; link.CALL_SECONDS = 0.3; sys.exit(run.main())"
    environ = {"PURL_URL": "http://127.0.0.1:9", "PURL_ATTEMPT": "a1", "PURL_TOKEN": "t"}

    process = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environ, "PURL_SCRATCH_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert process.returncode == UNREACHABLE_EXIT
    assert "PURL_PUBLIC_URL" in process.stderr


def test_other_code_than_the_services_ends_the_job_before_anything_is_done(
    service: ScriptedService, tmp_path: Path
) -> None:
    environ = {"PURL_URL": service.url, "PURL_ATTEMPT": "a1", "PURL_TOKEN": "t", "PURL_CODE_SHA256": "0" * 64}

    subprocess.run(
        [sys.executable, "-m", "workers.run"],
        env={**os.environ, **environ, "PURL_SCRATCH_DIR": str(tmp_path)},
        check=True,
    )

    (finish,) = service.bodies("/finish")
    assert (finish["outcome"], finish["error"]["code"]) == ("failed", "code_mismatch")
    assert not finish["error"]["retryable"]
    assert {beat["phase"] for beat in service.bodies("/heartbeat")} <= {"checking"}
