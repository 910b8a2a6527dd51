"""The whole API against a model of it that fits on a page: whatever is called in whatever order, both say the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import update

from purlkit.results import ErrorReport, Finish, Outcome
from services import attempts
from services.tables import Attempt, Job
from services.testing import an_episode
from tests.chaos.scale import tell, times
from tests.integration.over_http import LEAST, HttpWorker, Service, serving

STEPS = 50
# Of so many steps each. The steps are the same on both databases; the short form goes all the way on one of them.
RUNS = {"sqlite": times(200, short=5), "postgresql": times(200, short=3)}
JSON = {"Content-Type": "application/json"}
ENDED = ("succeeded", "failed", "cancelled")


@dataclass
class Model:
    """A job as the documents describe it."""

    key: str | None
    priority: int
    state: str = "queued"
    requested: str | None = None
    worker: HttpWorker | None = None
    number: int = 0  # of its latest attempt
    heard: bool = False  # whether that has reported
    saved: bytes = b""
    saves: int = 0
    notes: int = 0
    alike: int = 0  # failures at the same place
    resumed: bool = False
    stale: list[HttpWorker] = field(default_factory=list)

    def end_attempt(self, state: str) -> None:
        """A cancel that was accepted wins over whatever else would become of the job."""
        if self.worker is not None:
            self.stale.append(self.worker)
        self.worker, self.heard = None, False
        self.state = "cancelled" if self.requested == "cancel" else state
        if self.requested == "pause" and state == "queued":
            self.state = "paused"
        self.requested = None


class Api(RuleBasedStateMachine):
    service: Service
    steps = 0
    heard = refused = 0  # words of workers that were taken, and of those that had been given up

    def __init__(self) -> None:
        super().__init__()
        self.service.empty()
        self.jobs: dict[str, Model] = {}
        self.gone: list[str] = []
        self.keys: dict[str, str] = {}

    # ---- what users do

    @rule(priority=st.integers(0, 2), key=st.sampled_from([None, "a", "b", "c"]))
    def submit(self, priority: int, key: str | None) -> None:
        body = {**LEAST, "priority": priority}
        answer = self.service.http.post("/jobs", json=body, headers={"Idempotency-Key": key} if key else {})
        known = self.keys.get(key or "")
        if known is None:
            assert answer.status_code == 202, answer.text
            self.jobs[answer.json()["id"]] = Model(key, priority)
            if key:
                self.keys[key] = answer.json()["id"]
        elif self.jobs[known].priority == priority:
            assert (answer.status_code, answer.json()["id"]) == (202, known)
            assert answer.headers["idempotent-replayed"] == "true"
        else:
            assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), to=st.sampled_from(["cancel", "pause", "resume"]))
    def move(self, data: st.DataObject, to: str) -> None:
        running = [job_id for job_id in self._live() if self.jobs[job_id].state == "running"]
        job_id = data.draw(st.sampled_from(running)) if running and data.draw(st.booleans()) else self._pick(data)[0]
        job = self.jobs[job_id]
        answer = self.service.http.post(f"/jobs/{job_id}/{to}")
        if not self._may(job, to):
            assert (answer.status_code, answer.json()["code"]) == (409, "illegal_move"), (to, job, answer.text)
            return
        assert answer.status_code == 202, (to, job, answer.text)
        if to == "resume":
            job.resumed |= job.state == "paused" or job.requested == "pause"
            job.state = "queued" if job.state == "paused" else job.state
            job.requested = None
        elif job.state == "running":
            job.requested = to
        elif job.state == "queued" or to == "cancel":
            job.end_attempt("cancelled" if to == "cancel" else "paused")

    def _may(self, job: Model, to: str) -> bool:
        if to == "cancel":
            return job.state in ("queued", "running", "paused", "cancelled")
        if job.state in ENDED or job.requested == "cancel":
            return False
        return to == "pause" or job.state == "paused" or job.requested == "pause" or job.resumed

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        job_id, job = self._pick(data)
        answer = self.service.http.delete(f"/jobs/{job_id}")
        if job.state not in ENDED:
            assert (answer.status_code, answer.json()["code"]) == (409, "illegal_move")
            return
        assert answer.status_code == 204, answer.text
        del self.jobs[job_id]
        self.gone.append(job_id)
        if job.key:
            del self.keys[job.key]

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), to=st.sampled_from(["", "/events", "/episodes", "/checkpoint"]))
    def what_is_deleted_is_gone(self, data: st.DataObject, to: str) -> None:
        job_id = data.draw(st.sampled_from(self.gone))
        assert self.service.http.get(f"/jobs/{job_id}{to}").status_code == 404

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job_id, job = self._pick(data)
        answer = self.service.http.post(f"/jobs/{job_id}/retry")
        assert answer.status_code == (202 if job.state in ENDED else 409), answer.text
        if job.state in ENDED:
            assert answer.json()["parent"] == job_id
            self.jobs[answer.json()["id"]] = Model(None, job.priority)

    # ---- what the dispatcher does

    @rule()
    def claim(self) -> None:
        """Who waits longest of those that are most urgent; no wait after a failure is waited for."""
        with self.service.db.write() as session:
            session.execute(update(Job).values(not_before=0))
            claimed = attempts.claim(session, self.service.settings)
        waiting = [(-job.priority, job_id) for job_id, job in self.jobs.items() if job.state == "queued"]
        waiting = [(urgency, job_id) for urgency, job_id in waiting if self.jobs[job_id].worker is None]
        if claimed is None:
            live = sum(job.worker is not None for job in self.jobs.values())
            assert not waiting or live >= self.service.settings.max_running
            return
        assert claimed.job_id == min(waiting)[1]
        job = self.jobs[claimed.job_id]
        job.number += 1
        assert claimed.number == job.number
        job.worker = HttpWorker(self.service.url, claimed.attempt_id, claimed.token)

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        _, job, worker = self._working(data)
        with self.service.db.write() as session:
            attempt = session.get_one(Attempt, worker.attempt_id)
            session.execute(update(Job).where(Job.id == attempt.job_id).values(fruitless=0))
            attempts.rescue(session, attempt, reason="it was killed")
        job.end_attempt("queued")

    # ---- what workers do

    @rule(data=st.data())
    def beat(self, data: st.DataObject) -> None:
        _, job, worker = self._working(data)
        answer = worker.beat()
        assert (answer.status_code, answer.json()["command"]) == (200, job.requested or "continue")
        self._heard(job)

    @rule(data=st.data())
    def say(self, data: st.DataObject) -> None:
        """Its answer might have been lost: said again it counts once."""
        _, job, worker = self._working(data)
        said = worker._said
        for _ in range(2):
            assert worker.say(an_episode(job.notes), first_seq=said).status_code == 204
        job.notes += 1
        self._heard(job)

    @rule(data=st.data())
    def save(self, data: st.DataObject) -> None:
        """What is saved later counts, whatever this attempt or one before it had saved under that name."""
        _, job, worker = self._working(data)
        job.saves += 1
        job.saved = f"by attempt {job.number}, {job.saves}".encode()
        assert worker.save("search", job.saved).is_success
        assert worker.call("GET", "/saved/search").content == job.saved
        self._heard(job)

    @rule(data=st.data())
    def log(self, data: st.DataObject) -> None:
        _, job, worker = self._working(data)
        assert worker.call("POST", "/log", params={"start": 0}, content=b"a line\n").is_success
        self._heard(job)

    @rule(data=st.data(), outcome=st.sampled_from(list(Outcome)), retryable=st.booleans(), twice=st.booleans())
    def finish(self, data: st.DataObject, outcome: Outcome, retryable: bool, twice: bool) -> None:
        """Rather of one that was asked to stop: that is where two wills meet."""
        _, job, worker = self._working(data, rather=lambda job: job.requested is not None)
        if outcome is Outcome.SUCCEEDED:
            answer = worker.succeed()
            self._heard(job)
            job.end_attempt("succeeded")
        elif outcome is Outcome.FAILED:
            error = ErrorReport(code="boom", message="it went wrong", where="here:1", retryable=retryable)
            answer = worker.finish(Finish(outcome=outcome, error=error))
            self._heard(job)
            job.alike += 1
            again = retryable and job.alike < 3
            if not again and job.requested != "cancel":
                job.requested = None
            job.end_attempt("queued" if again else "failed")
        elif outcome is Outcome.CANCELLED and job.requested != "cancel":
            answer = worker.finish(Finish(outcome=outcome))
            assert (answer.status_code, answer.json()["code"]) == (409, "illegal_move")
            return
        else:
            with self.service.db.write() as session:
                session.execute(update(Job).values(fruitless=0))
            answer = worker.finish(Finish(outcome=outcome))
            self._heard(job)
            job.end_attempt("queued")
        assert (answer.status_code, answer.json()["job_state"]) == (200, job.state), answer.text
        if twice:
            again = worker.call("POST", "/finish", content=answer.request.content, headers=JSON)
            assert (again.status_code, again.json()) == (200, answer.json())

    @rule(data=st.data(), succeeds=st.booleans())
    def cancel_meets_a_last_word(self, data: st.DataObject, succeeds: bool) -> None:
        """Accepted first, it is what becomes of the job, whatever its attempt says then."""
        job_id, job, worker = self._working(data)
        assert worker.beat().is_success
        self._heard(job)
        assert self.service.http.post(f"/jobs/{job_id}/cancel").status_code == 202
        job.requested = "cancel"
        answer = worker.succeed() if succeeds else worker.finish(Finish(outcome=Outcome.PAUSED))
        job.end_attempt("queued")
        assert (answer.status_code, answer.json()["job_state"]) == (200, "cancelled"), answer.text

    @precondition(lambda self: any(job.stale for job in self.jobs.values()))
    @rule(data=st.data(), what=st.sampled_from(["beat", "say", "save", "log"]))
    def write_although_given_up(self, data: st.DataObject, what: str) -> None:
        worker = data.draw(st.sampled_from([worker for job in self.jobs.values() for worker in job.stale]))
        calls = {
            "beat": worker.beat,
            "say": lambda: worker.say(an_episode(99)),
            "save": lambda: worker.save("search", b"stale"),
            "log": lambda: worker.call("POST", "/log", params={"start": 0}, content=b"stale"),
        }
        answer = calls[what]()
        assert answer.status_code == 409, f"{what} of an attempt that was given up: {answer.status_code}"
        assert (answer.status_code, answer.json()["code"]) == (409, "attempt_superseded")
        type(self).refused += 1

    # ---- what must hold after each of them

    @invariant()
    def the_same_is_seen(self) -> None:
        type(self).steps += 1
        listed = self.service.http.get("/jobs", params={"limit": "100"}).json()["data"]
        assert [job["id"] for job in listed] == sorted(self.jobs, reverse=True)
        for seen in listed:
            job = self.jobs[seen["id"]]
            assert (seen["state"], seen["requested"]) == (job.state, job.requested), (seen, job)
            assert len(seen["attempts"]) == job.number
            assert (seen["result"] is not None, seen["error"] is not None) == (
                job.state == "succeeded",
                job.state in ("failed", "cancelled"),
            )

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def look_closely(self, data: st.DataObject) -> None:
        job_id, job = self._pick(data)
        events: list[dict[str, Any]] = self.service.http.get(f"/jobs/{job_id}/events?limit=1000").json()["data"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
        assert sum(event["type"] == "episode" for event in events) == job.notes
        assert [e for e in events if e["type"] == "state"][-1]["data"]["state"] == job.state
        if job.worker is not None and job.saved:
            assert job.worker.call("GET", "/saved/search").content == job.saved
        if job.state == "succeeded":
            assert self.service.http.get(f"/jobs/{job_id}/checkpoint").content == b"the pruned network"

    def _pick(self, data: st.DataObject) -> tuple[str, Model]:
        job_id = data.draw(st.sampled_from(sorted(self.jobs)))
        return job_id, self.jobs[job_id]

    def _working(
        self, data: st.DataObject, rather: Callable[[Model], bool] = lambda _: True
    ) -> tuple[str, Model, HttpWorker]:
        """A job with a live attempt, made if there is none: or most of what is drawn would find nothing to do."""
        if not self._live():
            self.submit(priority=0, key=None)
            self.claim()
        live = self._live()
        job_id = data.draw(st.sampled_from([job_id for job_id in live if rather(self.jobs[job_id])] or live))
        job = self.jobs[job_id]
        assert job.worker is not None
        return job_id, job, job.worker

    def _live(self) -> list[str]:
        return sorted(job_id for job_id, job in self.jobs.items() if job.worker is not None)

    def _heard(self, job: Model) -> None:
        job.state, job.heard = "running", True
        type(self).heard += 1


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    url: str = request.getfixturevalue(f"{request.param}_url")
    with serving(tmp_path / "service", PURL_DATABASE_URL=url, PURL_MAX_RUNNING="3") as service:
        yield service


def test_the_api_does_what_its_model_does(request: pytest.FixtureRequest, service: Service) -> None:
    runs = RUNS[request.node.callspec.params["service"]]
    machine = type("OnThisDatabase", (Api,), {"service": service, "steps": 0, "heard": 0, "refused": 0})

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=STEPS,
            # Not made shorter: each step is a request, and the steps that led to a difference are printed anyway.
            phases=(Phase.generate,),
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )

    told = f"{machine.heard} words of workers were taken, {machine.refused} refused"
    tell(f"{request.node.name}: {machine.steps} steps, no difference; {told}")
    # A model that hardly ever works finds no difference either.
    assert machine.steps >= 0.9 * runs * STEPS
    assert machine.heard > machine.steps / 10
    assert machine.refused > 0
