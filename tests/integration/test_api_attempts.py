"""The worker's side over HTTP, from a claim to a result, and what becomes of a worker that is no longer wanted."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from purlkit.results import (
    CHECKPOINT,
    LOG,
    AttemptBrief,
    ErrorReport,
    Finish,
    Heartbeat,
    Outcome,
    Phase,
    Progress,
    WorkerEvent,
)
from services.testing import a_blob, a_result, an_episode
from tests.integration.over_http import HttpWorker, Service, a_success, assert_problem


@pytest.fixture
def worker(service: Service) -> HttpWorker:
    service.submit()
    return service.claim()


def test_a_whole_life(service: Service) -> None:
    job_id = service.submit(seed=7)["id"]
    worker = service.claim()

    brief = AttemptBrief.model_validate_json(worker.call("GET").content)
    assert (brief.job_id, brief.number, brief.spec.seed, brief.saved, brief.weights_href) == (job_id, 1, 7, {}, None)
    assert worker.beat(Phase.DENSE).json() == {"lease_seconds": 60.0, "command": "continue"}
    assert worker.save("dense", b"dense weights").status_code == 200
    assert worker.say(WorkerEvent(type="phase", data={"phase": "search"})).status_code == 204
    assert worker.say(*(an_episode(index) for index in range(3)), an_episode(0, kind="greedy")).status_code == 204
    running = service.job(job_id)
    assert worker.stage(LOG, b"all is well\n", "text/plain").status_code == 200
    assert worker.succeed(b"pruned").json() == {"job_state": "succeeded"}

    assert (running["state"], running["phase"], running["attempts"][0]["state"]) == ("running", "dense", "running")
    job = service.job(job_id)
    assert (job["state"], job["error"], job["attempts"][0]["state"]) == ("succeeded", None, "succeeded")
    assert job["result"]["checkpoint"] == {
        "name": "pruned.safetensors",
        "sha256": hashlib.sha256(b"pruned").hexdigest(),
        "bytes": 6,
        "href": f"/jobs/{job_id}/checkpoint",
    }
    assert service.http.get(job["links"]["checkpoint"]).content == b"pruned"
    files = service.http.get(job["links"]["artifacts"]).json()["data"]
    assert [(file["name"], file["media_type"]) for file in files] == [
        (LOG, "text/plain"),
        (CHECKPOINT, "application/octet-stream"),
    ]


def test_a_job_that_waits_for_room_on_a_busy_cluster_says_so_for_as_long_as_it_does(
    service: Service, worker: HttpWorker
) -> None:
    (job,) = service.http.get("/jobs").json()["data"]

    def told(waits_for: str | None) -> str | None:
        progress = Progress(fraction=0.1, phase=Phase.SEARCH, waits_for=waits_for)
        beat = Heartbeat(phase=Phase.SEARCH, counter=1, progress=progress)
        assert worker.call("POST", "/heartbeat", json=beat.model_dump(mode="json")).status_code == 200
        seen = service.job(job["id"])
        assert seen["state"] == "running"
        return seen["pending_reason"]

    assert told("the cluster is busy") == "the cluster is busy"
    assert told(None) is None


def test_the_search_history_comes_in_pages(service: Service, worker: HttpWorker) -> None:
    worker.say(an_episode(0, kind="greedy"), *(an_episode(index) for index in range(3)))
    (job,) = service.http.get("/jobs").json()["data"]
    path = job["links"]["episodes"]

    first = service.http.get(path, params={"limit": 3}).json()
    second = service.http.get(path, params={"limit": 3, "after": first["next"]}).json()

    episodes = [*first["data"], *second["data"]]
    assert [(episode["kind"], episode["index"]) for episode in episodes] == [
        ("search", 0),
        ("search", 1),
        ("search", 2),
        ("greedy", 0),
    ]
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert episodes[0]["attempt"] == 1
    assert episodes[0]["actions"] == [1, 2]


def test_work_that_was_saved_goes_to_the_next_attempt(service: Service, worker: HttpWorker) -> None:
    worker.beat()
    worker.save("search", b"after one episode")
    saved = worker.save("search", b"after two episodes")
    service.drain(worker)

    heir = service.claim()
    brief = AttemptBrief.model_validate_json(heir.call("GET").content)
    fetched = heir.call("GET", brief.saved["search"].href)

    assert saved.json() == {"sha256": hashlib.sha256(b"after two episodes").hexdigest(), "bytes": 18}
    assert brief.number == 2
    assert (brief.saved["search"].sha256, brief.saved["search"].bytes) == (saved.json()["sha256"], 18)
    assert fetched.content == b"after two episodes"
    assert_problem(heir.call("GET", "/saved/nothing"), 404, "not_found")


CALLS: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "", {}),
    ("GET", "/saved/dense", {}),
    ("GET", "/weights", {}),
    ("POST", "/heartbeat", {"json": {"phase": "search", "counter": 1}}),
    ("POST", "/events", {"json": {"first_seq": 0, "events": []}}),
    ("PUT", "/saved/dense", {"content": b"x"}),
    ("PUT", "/artifacts/policy.json", {"content": b"x"}),
    ("POST", "/finish", {"json": {"outcome": "drained"}}),
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=[f"{call[0]} {call[1]}" for call in CALLS])
def test_only_the_attempts_own_token_opens_it(
    service: Service, worker: HttpWorker, method: str, path: str, body: dict[str, Any]
) -> None:
    with_another = HttpWorker(service.url, worker.attempt_id, "not the token")
    nobody = HttpWorker(service.url, "att_" + "0" * 26, worker.token)
    malformed = HttpWorker(service.url, "nonsense", worker.token)
    address = f"/attempts/{worker.attempt_id}{path}"

    for response in (
        service.http.request(method, address, **body),
        service.http.request(method, address, headers={"Authorization": "Basic eDp5"}, **body),
        with_another.call(method, path, **body),
        nobody.call(method, path, **body),
        malformed.call(method, path, **body),
    ):
        assert_problem(response, 401, "unauthorized")
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "body"), CALLS, ids=[f"{call[0]} {call[1]}" for call in CALLS])
def test_an_attempt_that_was_given_up_changes_nothing(
    service: Service, worker: HttpWorker, method: str, path: str, body: dict[str, Any]
) -> None:
    worker.beat()
    service.drain(worker)
    heir = service.claim()
    heir.beat()

    assert_problem(worker.call(method, path, **body), 409, "attempt_superseded")

    (job,) = service.http.get("/jobs").json()["data"]
    assert (job["state"], [tried["state"] for tried in job["attempts"]]) == ("running", ["drained", "running"])
    assert heir.beat().status_code == 200


def test_a_finish_may_be_repeated_but_not_changed(service: Service, worker: HttpWorker) -> None:
    first = worker.succeed(b"pruned")
    again = worker.finish(a_success(b"pruned"))
    other = worker.finish(Finish(outcome=Outcome.FAILED, error=ErrorReport(code="late", message="a change of mind")))

    assert (first.status_code, again.status_code, again.json()) == (200, 200, {"job_state": "succeeded"})
    assert_problem(other, 409, "attempt_superseded")
    (job,) = service.http.get("/jobs").json()["data"]
    assert job["error"] is None


def test_a_failure_is_told_with_its_code_message_and_log(service: Service, worker: HttpWorker) -> None:
    worker.stage(LOG, b"Traceback", "text/plain")
    error = ErrorReport(code="shape_mismatch", message="the model can't take these images: choose another")
    worker.finish(Finish(outcome=Outcome.FAILED, error=error, artifacts=(LOG,)))

    (job,) = service.http.get("/jobs").json()["data"]
    assert (job["state"], job["result"]) == ("failed", None)
    assert (job["error"]["code"], job["error"]["message"]) == (error.code, error.message)
    assert service.http.get(f"{job['links']['artifacts']}/{LOG}").content == b"Traceback"
    assert_problem(service.http.get(f"/jobs/{job['id']}/checkpoint"), 404, "no_checkpoint")


def test_a_result_must_be_of_the_checkpoint_that_was_sent(service: Service, worker: HttpWorker) -> None:
    worker.stage(CHECKPOINT, b"one network")
    lie = Finish(outcome=Outcome.SUCCEEDED, result=a_result(a_blob(b"another network")), artifacts=(CHECKPOINT,))

    assert_problem(worker.finish(lie), 422, "invalid_finish")
    (job,) = service.http.get("/jobs").json()["data"]
    assert job["state"] == "running"
    assert service.http.get(job["links"]["artifacts"]).json() == {"data": []}


def test_staged_files_are_nobodys_business_and_the_log_is_everybodys(service: Service, worker: HttpWorker) -> None:
    (job,) = service.http.get("/jobs").json()["data"]
    worker.stage("policy.json", b"{}", "application/json")
    worker.stage(LOG, b"one line\n", "text/plain; charset=utf-8")
    worker.stage(LOG, b"one line\nanother\n", "text/plain; charset=utf-8")

    assert_problem(service.http.get(f"{job['links']['artifacts']}/policy.json"), 404, "not_found")
    assert service.http.get(f"{job['links']['artifacts']}/{LOG}").content == b"one line\nanother\n"


def test_one_name_has_one_content(worker: HttpWorker) -> None:
    assert worker.stage("policy.json", b"{}").status_code == 200
    assert worker.stage("policy.json", b"{}").status_code == 200
    assert_problem(worker.stage("policy.json", b"[]"), 409, "artifact_conflict")


def test_bytes_that_were_spoilt_on_their_way_are_not_kept(service: Service, worker: HttpWorker) -> None:
    assert_problem(worker.put("/saved/dense", b"spoilt", announced=b"whole"), 400, "digest_mismatch")
    assert_problem(worker.call("PUT", "/saved/dense", content=b"x"), 400, "digest_required")

    assert AttemptBrief.model_validate_json(worker.call("GET").content).saved == {}
    assert service.files() == []


@pytest.mark.parametrize("name", [".hidden", "a%2fb", "..%2f..%2fetc", "%00", "n" * 101, "umlaut-ü"])
def test_a_name_is_no_path(worker: HttpWorker, name: str) -> None:
    response = worker.save(name, b"x")

    assert response.status_code in (404, 422)
    assert response.headers["content-type"] == "application/problem+json"


def test_events_come_once_and_in_order(service: Service, worker: HttpWorker) -> None:
    (job,) = service.http.get("/jobs").json()["data"]
    notes = [WorkerEvent(type="note", data={"number": number}) for number in range(4)]

    worker.say(*notes[:2])
    worker.say(*notes[:3], first_seq=0)
    gap = worker.say(notes[3], first_seq=9)

    assert "number 3" in assert_problem(gap, 409, "event_gap")["detail"]
    events = service.http.get(job["links"]["events"]).json()["data"]
    assert [event["data"]["number"] for event in events if event["type"] == "note"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("path", "body", "at"),
    [
        ("/heartbeat", '{"phase": "lunch", "counter": 1}', "/phase"),
        ("/heartbeat", '{"phase": "search", "counter": 1e3}', "/counter"),
        ("/heartbeat", '{"phase": "search", "counter": ' + "9" * 25 + "}", "/counter"),
        ("/events", '{"first_seq": 0, "events": [{"type": "note", "data": {"x": NaN}}]}', "/events/0/data/x"),
        ("/events", '{"first_seq": 0, "events": [{"type": "note", "data": {"x": "\\u0000"}}]}', "/events/0/data/x"),
        ("/events", '{"first_seq": 0, "events": [{"type": "note"}]}', "/events/0/data"),
        ("/finish", '{"outcome": "glorious"}', "/outcome"),
        ("/finish", '{"outcome": "failed", "error": {"code": "x"}}', "/error/message"),
    ],
)
def test_a_worker_that_talks_nonsense(worker: HttpWorker, path: str, body: str, at: str) -> None:
    response = worker.call("POST", path, content=body, headers={"Content-Type": "application/json"})

    problem = assert_problem(response, 422, "invalid_body")
    assert [error["pointer"] for error in problem["errors"]] == [at]


def test_an_episode_that_is_none(worker: HttpWorker) -> None:
    response = worker.say(WorkerEvent(type="episode", data={"index": -1}))

    assert_problem(response, 422, "invalid_event")
