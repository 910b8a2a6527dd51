"""Cancel, pause, resume and retry in every state: the moves of the contract and no others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from purlkit.results import ErrorReport, Finish, Outcome
from tests.integration.over_http import HttpWorker, Service, assert_problem

Situation = Callable[[Service, str], object]


def running(service: Service, _: str) -> HttpWorker:
    worker = service.claim()
    worker.beat()
    return worker


def asked(*moves: str) -> Situation:
    def ask(service: Service, job_id: str) -> None:
        for move in moves:
            assert service.http.post(f"/jobs/{job_id}/{move}").status_code == 202

    return ask


def paused_by_its_attempt(service: Service, job_id: str) -> None:
    worker = running(service, job_id)
    asked("pause")(service, job_id)
    worker.finish(Finish(outcome=Outcome.PAUSED))


def running_again_after_a_resume(service: Service, job_id: str) -> None:
    asked("pause", "resume")(service, job_id)
    running(service, job_id)


def running_after_a_resume_and_being_cancelled(service: Service, job_id: str) -> None:
    running_again_after_a_resume(service, job_id)
    asked("cancel")(service, job_id)


def running_and(*moves: str) -> Situation:
    def do(service: Service, job_id: str) -> None:
        running(service, job_id)
        asked(*moves)(service, job_id)

    return do


def succeeded(service: Service, job_id: str) -> None:
    running(service, job_id).succeed()


def failed(service: Service, job_id: str) -> None:
    error = ErrorReport(code="boom", message="it went wrong")
    running(service, job_id).finish(Finish(outcome=Outcome.FAILED, error=error))


# What each request is answered, and the state and the pending request that it leaves; None: refused with a 409.
Left = tuple[str, str | None] | None
TABLE: dict[str, tuple[Situation, Left, Left, Left]] = {
    # situation                          cancel                   pause                  resume
    "queued": (lambda _, __: None, ("cancelled", None), ("paused", None), None),
    "starting": (lambda s, _: s.claim(), ("cancelled", None), ("paused", None), None),
    "running": (running, ("running", "cancel"), ("running", "pause"), None),
    "being paused": (running_and("pause"), ("running", "cancel"), ("running", "pause"), ("running", None)),
    "being cancelled": (running_and("cancel"), ("running", "cancel"), None, None),
    "being cancelled after a resume": (
        running_after_a_resume_and_being_cancelled,
        ("running", "cancel"),
        None,
        None,
    ),
    "paused": (asked("pause"), ("cancelled", None), ("paused", None), ("queued", None)),
    "paused by its attempt": (paused_by_its_attempt, ("cancelled", None), ("paused", None), ("queued", None)),
    "resumed": (asked("pause", "resume"), ("cancelled", None), ("paused", None), ("queued", None)),
    "running again": (
        running_again_after_a_resume,
        ("running", "cancel"),
        ("running", "pause"),
        ("running", None),
    ),
    "succeeded": (succeeded, None, None, None),
    "failed": (failed, None, None, None),
    "cancelled": (asked("cancel"), ("cancelled", None), None, None),
}


@pytest.mark.parametrize("situation", TABLE)
@pytest.mark.parametrize("move", ["cancel", "pause", "resume"])
def test_every_request_in_every_state(service: Service, situation: str, move: str) -> None:
    bring, *expected = TABLE[situation]
    left = expected[["cancel", "pause", "resume"].index(move)]
    job_id = service.submit()["id"]
    bring(service, job_id)
    before = service.job(job_id)

    response = service.http.post(f"/jobs/{job_id}/{move}")

    job = service.job(job_id)
    if left is None:
        assert_problem(response, 409, "illegal_move")
        assert job == before, "what is refused changes nothing"
    else:
        assert response.status_code == 202, response.text
        assert (job["state"], job["requested"]) == left


@pytest.mark.parametrize("situation", ["succeeded", "failed", "cancelled"])
def test_an_ended_job_is_retried_as_a_new_one_that_names_its_parent(service: Service, situation: str) -> None:
    spec = {"name": "mine", "labels": {"team": "vision"}, "seed": 7, "priority": 3}
    parent = service.submit(**spec)
    TABLE[situation][0](service, parent["id"])
    ended = service.job(parent["id"])

    response = service.http.post(f"/jobs/{parent['id']}/retry")

    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/jobs/{job['id']}"
    assert (job["parent"], job["state"], job["attempts"]) == (parent["id"], "queued", [])
    assert (job["spec"], job["fingerprint"]) == (parent["spec"], parent["fingerprint"])
    assert parent["parent"] is None
    assert service.job(parent["id"]) == ended, "an ended job never changes"


@pytest.mark.parametrize("situation", ["queued", "running", "being cancelled", "paused"])
def test_a_job_that_has_not_ended_is_not_retried(service: Service, situation: str) -> None:
    job_id = service.submit()["id"]
    TABLE[situation][0](service, job_id)

    assert_problem(service.http.post(f"/jobs/{job_id}/retry"), 409, "illegal_move")


def test_a_retry_with_a_key_is_made_once_and_its_key_is_no_others(service: Service) -> None:
    first, other = service.submit()["id"], service.submit()["id"]
    asked("cancel")(service, first)
    asked("cancel")(service, other)
    key = {"Idempotency-Key": "again"}

    once, twice = (service.http.post(f"/jobs/{first}/retry", headers=key) for _ in range(2))
    elsewhere = service.http.post(f"/jobs/{other}/retry", headers=key)

    assert once.json()["id"] == twice.json()["id"]
    assert twice.headers["idempotent-replayed"] == "true"
    assert_problem(elsewhere, 422, "idempotency_mismatch")


def test_a_job_may_run_out_of_its_time_and_wait_by_its_priority(service: Service) -> None:
    service.submit()
    urgent = service.submit(priority=100, timeout_seconds=0.001)
    assert urgent["queue_position"] == 1

    worker = running(service, "")
    worker.finish(Finish(outcome=Outcome.DRAINED))

    job = service.job(urgent["id"])
    assert (job["state"], job["error"]["code"]) == ("failed", "timeout")
