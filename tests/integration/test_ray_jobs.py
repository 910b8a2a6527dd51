"""RayJobsLauncher against a real Ray head with token auth: started once, seen ending, and rescued whatever dies."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from services.dispatcher import Dispatcher
from services.errors import LaunchFailed
from services.launch import Capacity, Handle, LocalLauncher, RayJobsLauncher, ray_jobs
from services.tables import Attempt
from tests.faults import Fault, FaultProxy, fault_proxy
from tests.integration.over_http import Service, serving
from tests.one_file_server import served
from tests.ray_head import TOKEN, RayHead, ray_head
from tests.ray_yard import Yard
from tests.waiting import DEADLINE_SECONDS, wait_until

ROOT = Path(__file__).parent.parent.parent

SLEEPS = "import time; print('up', flush=True); time.sleep(600)"
# A supervisor and a driver start before a job's first word: on a busy machine each may take half a minute.
JOB_SECONDS = 300


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """Its image, so to speak, has our code and that of the tests. On a busy machine it needs more patience than the
    dispatcher has, which leaves the rest to leases."""
    with (
        ray_head(PYTHONPATH=str(ROOT), PURL_DATASETS_DIR="/data/of/the/nodes") as head,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(ray_jobs, "STOP_SECONDS", DEADLINE_SECONDS)
        yield head


Connect = Callable[..., RayJobsLauncher]
PATIENT = httpx.Timeout(DEADLINE_SECONDS)


@pytest.fixture
def connect(head: RayHead) -> Iterator[Connect]:
    """Launchers for this head, as many as a test wants."""
    with ExitStack() as opened:

        def connect(address: str = head.address, token: str | None = TOKEN, **options: Any) -> RayJobsLauncher:
            launcher = RayJobsLauncher(address, token=token, **{"send_code": False, "timeout": PATIENT, **options})
            opened.callback(launcher.close)
            return launcher

        yield connect


@pytest.fixture
def yard(connect: Connect, tmp_path: Path, request: pytest.FixtureRequest) -> Yard:
    return Yard(connect(), tmp_path, f"job_{sha256(request.node.name.encode()).hexdigest()[:12]}")


@pytest.fixture
def waiting(connect: Connect, yard: Yard) -> Yard:
    """Its jobs ask for more than the head has: they stay on record, and no process is started for them."""
    return replace(yard, launcher=connect(driver_cpus=64.0))


def gone(yard: Yard, handle: Handle) -> None:
    wait_until("Ray says that it has ended", lambda: not yard.launcher.alive(handle), seconds=JOB_SECONDS)


def test_a_job_gets_its_settings_and_no_path_of_the_service(yard: Yard) -> None:
    handle = yard.launch("import os; [print(k, v) for k, v in os.environ.items() if k.startswith('PURL_')]")
    gone(yard, handle)

    said = yard.end(handle)

    assert "PURL_URL http://service" in said
    assert "PURL_RAY_ADDRESS auto" in said
    assert "PURL_DATASETS_DIR /data/of/the/nodes" in said
    assert "/data/of/the/service" not in said


def test_the_same_name_twice_is_one_job(waiting: Yard, head: RayHead) -> None:
    first = waiting.launch(SLEEPS)
    second = waiting.launch(SLEEPS)

    assert first == second
    assert head.jobs().count(first["ray_job"]) == 1


def test_the_handle_is_on_record_before_anything_is_submitted(yard: Yard, head: RayHead) -> None:
    def refuse(_: Handle) -> None:
        raise ConnectionError("the database is away")

    with pytest.raises(ConnectionError):
        yard.launch(SLEEPS, record=refuse)

    assert f"{yard.name}-a1" not in head.jobs()


def test_another_launcher_finds_and_ends_it_and_no_process_is_left(yard: Yard, head: RayHead, connect: Connect) -> None:
    handle = yard.launch(SLEEPS)
    wait_until("the driver runs", lambda: head.pids("run_code"), seconds=JOB_SECONDS)
    successor = connect()
    assert successor.alive(handle)

    successor.end(handle)
    successor.end(handle)

    assert not successor.alive(handle)
    wait_until("the driver is gone", lambda: not head.pids("run_code"))
    assert not yard.launcher.alive(handle)


def test_a_job_of_another_cluster_or_of_this_machine_is_left_to_its_lease(head: RayHead, connect: Connect) -> None:
    elsewhere = {"ray_job": "job_1-a1", "address": "http://another:8265", "log": "/dev/null"}

    with fault_proxy(head.address) as line:
        launcher = connect(line.url)
        for handle in (elsewhere, {"pid": 1, "host": "here"}):
            assert launcher.alive(handle)
            launcher.end(handle)
        assert line.requests == [], "nobody is asked, or told to end it"
    assert LocalLauncher().alive(elsewhere)
    LocalLauncher().end(elsewhere)


def test_its_nodes_say_what_the_cluster_has_and_a_silent_one_has_what_it_had(connect: Connect, head: RayHead) -> None:
    """Two CPUs and no GPU: that is how it was started."""
    with fault_proxy(head.address) as line:
        launcher = connect(line.url)
        line.plan("GET /api/v0/nodes", "500")
        assert launcher.capacity() is None

        has = wait_until("its node is known", launcher.capacity)
        line.plan("GET /api/v0/nodes", "cut the answer")

        (node,) = has.nodes
        assert has == Capacity(cpus=2.0, gpus=0.0, nodes=(node,))
        assert (node.cpus, node.gpus, node.name.endswith(", the head")) == (2.0, 0.0, True)
        assert node.memory > 0
        assert [launcher.capacity() for _ in range(2)] == [has, has]
        assert line.waiting == 0


class TestAmbiguousAnswers:
    @pytest.fixture
    def line(self, head: RayHead) -> Iterator[FaultProxy]:
        with fault_proxy(head.address) as proxy:
            yield proxy

    @pytest.fixture
    def submitting(self, waiting: Yard, line: FaultProxy, connect: Connect) -> Yard:
        """To the same end by a bad line."""
        return replace(waiting, launcher=connect(line.url, driver_cpus=64.0))

    @pytest.mark.parametrize("fault", ["drop", "lose the answer", "500"])
    def test_a_submission_whose_answer_is_lost_makes_one_job(
        self, submitting: Yard, line: FaultProxy, head: RayHead, fault: Fault
    ) -> None:
        line.plan("POST /api/jobs/", fault)

        handle = submitting.launch(SLEEPS)

        assert head.jobs().count(handle["ray_job"]) == 1
        assert line.waiting == 0

    def test_a_head_that_does_not_answer_is_a_clear_error(
        self, submitting: Yard, line: FaultProxy, head: RayHead
    ) -> None:
        line.plan("", *["drop"] * 20)

        with pytest.raises(LaunchFailed, match="PURL_RAY_ADDRESS"):
            submitting.launch(SLEEPS)

        line.forget()
        assert f"{submitting.name}-a1" not in head.jobs()

    def test_a_log_that_never_comes_or_finds_no_room_holds_nobody_up(
        self,
        yard: Yard,
        line: FaultProxy,
        connect: Connect,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It lies on the driver's node, which may be cut off while the head answers."""
        monkeypatch.setattr(ray_jobs, "LOG_TIMEOUT", httpx.Timeout(0.5))
        handle = yard.launch(SLEEPS)
        line.plan("GET /logs", "hang")
        by_the_line = connect(line.url, timeout=httpx.Timeout(600.0))
        began = time.monotonic()

        by_the_line.end({**handle, "address": line.url})

        assert line.waiting == 0
        assert time.monotonic() - began < 300
        assert not yard.launcher.alive(handle)
        yard.launcher.end({**handle, "log": "/dev/full"})
        assert "its log is not kept: [Errno 28]" in caplog.text

    def test_while_ray_is_silent_only_the_lease_tells(self, submitting: Yard, line: FaultProxy) -> None:
        handle = submitting.launch(SLEEPS)
        line.plan("", *["drop"] * 20)

        assert submitting.launcher.alive(handle)
        submitting.launcher.end(handle)


class TestRefusals:
    @pytest.mark.parametrize("token", [None, "of-another-cluster-" + "0" * 43], ids=["none", "wrong"])
    def test_a_cluster_asks_for_its_token(self, connect: Connect, yard: Yard, token: str | None) -> None:
        yard.launcher = connect(token=token)

        with pytest.raises(LaunchFailed, match="RAY_AUTH_TOKEN"):
            yard.launch(SLEEPS)

    @pytest.mark.parametrize(("token", "status"), [(None, 401), ("0" * 64, 403)], ids=["none", "wrong"])
    def test_every_address_of_a_head_that_tells_or_runs_something_asks_for_it(
        self, head: RayHead, token: str | None, status: int
    ) -> None:
        with head.http as http:
            del http.headers["Authorization"]
            said = {"Authorization": f"Bearer {token}"} if token else {}
            answers = {
                (method, path): http.request(method, path, headers=said, json={"entrypoint": "true"}).status_code
                for method, path in (
                    *(("GET", f"/api/jobs/{name}") for name in ("", "x", "x/logs")),
                    *(("POST", path) for path in ("/api/jobs/", "/api/jobs/x/stop")),
                    ("DELETE", "/api/jobs/x"),
                    ("PUT", "/api/packages/gcs/_ray_pkg_x.zip"),
                    ("GET", "/api/packages/gcs/_ray_pkg_x.zip"),
                    *(("GET", path) for path in ("/api/v0/nodes", "/api/v0/actors", "/api/v0/logs", "/nodes")),
                )
            }

        assert set(answers.values()) == {status}, answers

    def test_what_is_no_ray_dashboard_is_told_so(self, connect: Connect, yard: Yard) -> None:
        path = f"api/jobs/{yard.name}-a1"
        with served(path, b"<html>another program's page") as url:
            yard.launcher = connect(url.removesuffix(f"/{path}"))

            with pytest.raises(LaunchFailed, match="no Ray dashboard"):
                yard.launch(SLEEPS)


def test_it_travels_with_the_job_and_an_address_that_leads_nowhere_is_named(
    head: RayHead, yard: Yard, connect: Connect
) -> None:
    """The checker is of the sent package: nothing listens where it is told to report."""
    launcher = connect(send_code=True)
    env = {"PURL_URL": "http://127.0.0.1:9", "PURL_CHECK": "chk", "PURL_TOKEN": "t", "PURL_CHECK_SECONDS": "3600"}

    handle = launcher.launch(env, module="workers.check", name=yard.name, log_path=yard.folder / "log")
    wait_until("it gives up", lambda: not launcher.alive(handle), seconds=JOB_SECONDS)

    assert "PURL_PUBLIC_URL" in (launcher.why_dead(handle) or "")
    assert str(head.job(yard.name)["runtime_env"]["working_dir"]).startswith("gcs://_ray_pkg_")  # type: ignore[index]


class TestRescue:
    """A dispatcher, a real API, and attempts on the cluster: whatever is killed, the job goes back to the queue."""

    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Service]:
        with serving(tmp_path / "s", PURL_HEARTBEAT_SECONDS="0.5", PURL_LEASE_SECONDS=str(JOB_SECONDS)) as service:
            yield service

    def start(self, service: Service, launcher: RayJobsLauncher) -> tuple[Dispatcher, str]:
        worker = "tests.programs.beating_worker"
        dispatcher = Dispatcher(service.db, service.settings, launcher, service.store, worker=worker)
        job_id = service.submit()["id"]

        def running() -> bool:
            dispatcher.tick()
            return bool(service.job(job_id)["state"] == "running")

        wait_until("the attempt has reported", running, seconds=JOB_SECONDS)
        return dispatcher, job_id

    def only(self, head: RayHead, *words: str) -> int:
        """The process of the job that runs: those of the jobs before it may take their time to leave."""
        wait_until("there is no other", lambda: len(head.pids(*words)) == 1)
        (pid,) = head.pids(*words)
        return pid

    def first_attempt(self, service: Service, dispatcher: Dispatcher, job_id: str) -> tuple[str, str]:
        """How it ended, as soon as it has."""

        def ended() -> object:
            dispatcher.tick()
            attempt = service.job(job_id)["attempts"][0]
            return attempt["ended_at"] and (attempt["state"], attempt["reason"])

        return wait_until("the attempt is given up", ended)  # type: ignore[return-value]

    def test_a_killed_driver_does_not_wait_for_its_lease(
        self, service: Service, head: RayHead, connect: Connect
    ) -> None:
        dispatcher, job_id = self.start(service, connect())
        driver = self.only(head, "beating_worker", sys.executable.rpartition("/")[2])

        os.kill(driver, signal.SIGKILL)
        state, reason = self.first_attempt(service, dispatcher, job_id)

        assert (state, reason) == ("lost", "Ray says FAILED, JOB_ENTRYPOINT_COMMAND_ERROR")
        self.end(service, dispatcher, job_id)

    def test_a_killed_supervisor_takes_its_driver_along(
        self, service: Service, head: RayHead, connect: Connect
    ) -> None:
        dispatcher, job_id = self.start(service, connect())
        supervisor = self.only(head, "JobSupervisor")

        os.kill(supervisor, signal.SIGKILL)
        state, reason = self.first_attempt(service, dispatcher, job_id)

        assert state == "lost"
        assert reason.startswith("Ray says FAILED")
        self.end(service, dispatcher, job_id)

    def end(self, service: Service, dispatcher: Dispatcher, job_id: str) -> None:
        service.http.post(f"/jobs/{job_id}/cancel")

        def cancelled() -> bool:
            dispatcher.tick()
            return bool(service.job(job_id)["state"] == "cancelled")

        wait_until("it is cancelled", cancelled, seconds=JOB_SECONDS)

    def test_when_the_whole_cluster_is_gone_the_lease_gives_the_job_back(
        self, service: Service, head: RayHead, connect: Connect
    ) -> None:
        """The last one here: it takes the head away from all of them."""
        dispatcher, job_id = self.start(service, connect())
        head.kill()
        dispatcher.tick()
        assert service.job(job_id)["state"] == "running", "nothing is certain yet"

        with service.db.write() as session:
            session.execute(update(Attempt).values(lease_until=0))
        state, reason = self.first_attempt(service, dispatcher, job_id)

        assert (state, reason) == ("lost", f"its lease ran out: nothing was heard from it for {JOB_SECONDS} s")
        job = service.job(job_id)
        assert job["state"] == "queued"
        assert "lease ran out" in job["pending_reason"]
