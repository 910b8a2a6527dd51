"""Jobs over HTTP: submitted, looked at, stopped."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from purlkit.results import Finish, Outcome
from purlkit.spec import JobSpec
from services import jobs
from services.database import Database
from tests.integration.over_http import LEAST, Service, assert_problem, serving


def test_the_least_body_makes_a_job_with_every_default_filled_in(service: Service) -> None:
    response = service.http.post("/jobs", json=LEAST)

    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}" == job["links"]["self"]
    assert (job["state"], job["queue_position"], job["pending_reason"]) == ("queued", 1, "next in the queue")
    assert job["spec"]["dataset"] == {"name": "digits", "kwargs": {}}
    assert job["spec"]["search"]["episodes"] == 55
    assert job["fingerprint"] == JobSpec.model_validate(LEAST).resolve().fingerprint
    assert (job["result"], job["error"], job["attempts"], job["links"]["checkpoint"]) == (None, None, [], None)


def test_a_202_is_durable(service: Service) -> None:
    job = service.submit()

    other_process = Database.open(service.settings.database_url)
    with other_process.read() as session:
        assert jobs.get(session, job["id"]).state == "queued"
    other_process.close()


def test_the_same_key_and_body_give_the_same_job_again(service: Service) -> None:
    key = {"Idempotency-Key": "order 66, first try"}
    reordered = {"targets": {"sparsity": 0.9}, "model": {"name": "digits-resnet"}}

    first = service.http.post("/jobs", json=LEAST, headers=key)
    again = service.http.post("/jobs", json=reordered, headers=key)

    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert len(service.http.get("/jobs").json()["data"]) == 1


def test_the_same_key_with_another_body_is_refused(service: Service) -> None:
    key = {"Idempotency-Key": "order 66"}
    service.http.post("/jobs", json=LEAST, headers=key)

    response = service.http.post("/jobs", json={**LEAST, "seed": 1}, headers=key)

    assert_problem(response, 422, "idempotency_mismatch")
    assert len(service.http.get("/jobs").json()["data"]) == 1


@pytest.mark.parametrize("key", ["", "k" * 256, "tab\there", "umlaut \xfc"])
def test_a_key_is_printable_and_short(service: Service, key: str) -> None:
    response = service.http.post("/jobs", json=LEAST, headers={b"Idempotency-Key": key.encode("latin-1")})

    problem = assert_problem(response, 422, "invalid_parameter")
    assert problem["errors"][0]["parameter"] == "idempotency-key"
    assert service.http.get("/jobs").json()["data"] == []


def test_pages_go_from_the_newest_to_the_oldest_and_nothing_moves_when_a_job_is_added(service: Service) -> None:
    made = [service.submit(name=f"job {number}")["id"] for number in range(5)]

    first = service.http.get("/jobs", params={"limit": 2}).json()
    service.submit(name="newer than all of them")
    second = service.http.get("/jobs", params={"limit": 2, "after": first["next"]}).json()
    third = service.http.get("/jobs", params={"limit": 2, "after": second["next"]}).json()

    seen = [job["id"] for page in (first, second, third) for job in page["data"]]
    assert seen == list(reversed(made))
    assert [page["has_more"] for page in (first, second, third)] == [True, True, False]
    assert third["next"] is None


def test_jobs_by_state(service: Service) -> None:
    queued, cancelled = service.submit()["id"], service.submit()["id"]
    service.http.post(f"/jobs/{cancelled}/cancel")

    def ids(state: str) -> list[str]:
        return [job["id"] for job in service.http.get("/jobs", params={"state": state}).json()["data"]]

    assert (ids("queued"), ids("cancelled"), ids("running")) == ([queued], [cancelled], [])


@pytest.mark.parametrize(
    ("parameter", "value", "code"),
    [
        ("limit", "0", "invalid_parameter"),
        ("limit", "101", "invalid_parameter"),
        ("limit", "9" * 30, "invalid_parameter"),
        ("limit", "many", "invalid_parameter"),
        ("state", "happy", "invalid_parameter"),
        ("after", "x" * 201, "invalid_parameter"),
        ("after", "x", "invalid_cursor"),
        ("after", "é", "invalid_cursor"),
    ],
)
def test_a_parameter_that_makes_no_sense(service: Service, parameter: str, value: str, code: str) -> None:
    problem = assert_problem(service.http.get("/jobs", params={parameter: value}), 422, code)

    if code == "invalid_parameter":
        assert problem["errors"][0]["parameter"] == parameter


def test_an_unchanged_job_is_not_sent_again(service: Service) -> None:
    path = service.submit()["links"]["self"]
    etag = service.http.get(path).headers["etag"]

    unchanged = service.http.get(path, headers={"If-None-Match": f'"other", W/{etag}'})
    service.http.post(f"{path}/cancel")
    changed = service.http.get(path, headers={"If-None-Match": etag})

    assert (unchanged.status_code, unchanged.content, unchanged.headers["etag"]) == (304, b"", etag)
    assert changed.status_code == 200
    assert changed.json()["state"] == "cancelled"


def test_a_job_that_moves_up_in_the_queue_has_changed(service: Service) -> None:
    first, second = service.submit(), service.submit()
    before = service.http.get(second["links"]["self"])

    service.http.post(f"/jobs/{first['id']}/cancel")
    after = service.http.get(second["links"]["self"], headers={"If-None-Match": before.headers["etag"]})

    assert (before.json()["queue_position"], after.json()["queue_position"]) == (2, 1)
    assert (before.json()["pending_reason"], after.json()["pending_reason"]) == (
        "waiting for 1 job ahead",
        "next in the queue",
    )


@pytest.mark.parametrize(
    "job_id", ["job_0123456789abcdefghjkmnpqrs", "nonsense", "%00", "job_" + "z" * 5000, "..%2f.."]
)
@pytest.mark.parametrize(
    ("method", "below"),
    [
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("GET", "/events"),
        ("GET", "/episodes"),
        ("GET", "/artifacts"),
        ("GET", "/artifacts/pruned.safetensors"),
        ("GET", "/checkpoint"),
        ("GET", "/report"),
    ],
)
def test_a_job_that_is_not_there(service: Service, method: str, below: str, job_id: str) -> None:
    assert_problem(service.http.request(method, f"/jobs/{job_id}{below}"), 404, "not_found")


def test_a_queued_job_is_paused_resumed_and_cancelled_at_once(service: Service) -> None:
    path = service.submit()["links"]["self"]

    states = []
    for move in ("pause", "pause", "resume", "resume", "cancel", "cancel"):
        response = service.http.post(f"{path}/{move}")
        assert response.status_code == 202
        states.append(response.json()["state"])

    assert states == ["paused", "paused", "queued", "queued", "cancelled", "cancelled"]
    job = service.http.get(path).json()
    assert (job["result"], job["error"]["code"]) == (None, "cancelled")
    assert job["finished_at"] is not None


def test_a_running_job_is_cancelled_once_its_attempt_says_so(service: Service) -> None:
    job = service.submit()
    worker = service.claim()
    assert worker.beat().json()["command"] == "continue"

    asked = service.http.post(f"/jobs/{job['id']}/cancel").json()
    told = worker.beat().json()["command"]
    worker.finish(Finish(outcome=Outcome.CANCELLED))

    assert (asked["state"], asked["requested"], told) == ("running", "cancel", "cancel")
    assert service.job(job["id"])["state"] == "cancelled"


@pytest.mark.parametrize("move", ["pause", "resume"])
def test_an_ended_job_moves_no_more(service: Service, move: str) -> None:
    path = service.submit()["links"]["self"]
    service.http.post(f"{path}/cancel")

    assert_problem(service.http.post(f"{path}/{move}"), 409, "illegal_move")


def test_a_job_that_never_paused_can_not_be_resumed(service: Service) -> None:
    path = service.submit()["links"]["self"]

    assert_problem(service.http.post(f"{path}/resume"), 409, "illegal_move")


def test_a_database_that_fails_is_a_503_that_says_when_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        # A table that is gone stands for every way in which a database fails.
        with service.db.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE idempotency_keys")

        response = service.http.post("/jobs", json=LEAST, headers={"Idempotency-Key": "one"})

    assert_problem(response, 503, "database_unavailable")
    assert response.headers["retry-after"] == "1"


def test_every_answer_has_json_that_a_stranger_can_read(service: Service) -> None:
    response: httpx.Response = service.http.get(service.submit(name="größer ✓")["links"]["self"])

    assert response.headers["content-type"] == "application/json"
    assert response.json()["name"] == "größer ✓"
