"""Sweeps over HTTP: made at once or not at all, run like any jobs, seen and stopped together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter

from api import schemas
from purlkit.results import ErrorReport, Finish, Outcome
from tests.integration.over_http import LEAST, Service, assert_problem, serving

GRID = {"search.reward": ["capped", "cubic"], "seed": [0, 1]}


def sweep(service: Service, grid: dict[str, Any] = GRID, **more: Any) -> dict[str, Any]:
    response = service.http.post("/sweeps", json={"base": LEAST, "grid": grid, **more})
    assert response.status_code == 202, response.text
    made: dict[str, Any] = response.json()
    assert response.headers["location"] == made["links"]["self"]
    return made


def states(service: Service, made: dict[str, Any]) -> list[str]:
    return [row["state"] for row in service.http.get(made["links"]["self"]).json()["table"]]


def test_a_grid_becomes_jobs_like_any_other(service: Service) -> None:
    made = sweep(service, name="rewards")

    assert made["jobs"] == {"queued": 4}
    assert [row["settings"] for row in made["table"]][1] == {"search.reward": "capped", "seed": 1}
    jobs = service.http.get(made["links"]["jobs"]).json()["data"]
    assert {job["sweep"] for job in jobs} == {made["id"]}
    assert [job["name"] for job in reversed(jobs)][2] == "rewards: search.reward=cubic seed=0"
    assert [job["id"] for job in reversed(jobs)] == [row["job"] for row in made["table"]]
    assert jobs[0]["spec"]["search"]["reward"] == "cubic"


def test_the_table_fills_as_jobs_end_and_what_is_answered_is_what_is_documented(service: Service) -> None:
    made = sweep(service)
    service.claim().succeed()
    service.claim().finish(Finish(outcome=Outcome.FAILED, error=ErrorReport(code="boom", message="it went wrong")))
    service.claim().beat()

    told = service.http.get(made["links"]["self"]).json()

    assert told["jobs"] == {"queued": 1, "running": 1, "succeeded": 1, "failed": 1}
    assert not told["ended"]
    done, failed, running, queued = told["table"]
    (candidate,) = done["result"]["candidates"]
    assert (candidate["method"], candidate["accuracy"], "layers" in candidate) == ("global", 0.9, False)
    assert (done["error"], failed["error"]["code"], failed["result"]) == (None, "boom", None)
    assert (running["state"], queued["state"]) == ("running", "queued")
    view = schemas.SweepView.model_validate_json(TypeAdapter(Any).dump_json(told))
    assert view.model_dump(mode="json") == told
    (listed,) = service.http.get("/sweeps").json()["data"]
    assert listed == {name: told[name] for name in schemas.SweepSummary.model_fields}


def test_a_retry_takes_the_place_of_the_ended_job(service: Service) -> None:
    made = sweep(service)
    first = made["table"][0]["job"]
    service.http.post(f"/jobs/{first}/cancel")

    again = service.http.post(f"/jobs/{first}/retry").json()

    table = service.http.get(made["links"]["self"]).json()["table"]
    assert [row["job"] for row in table] == [again["id"], *(row["job"] for row in made["table"][1:])]


def test_all_of_it_is_paused_resumed_and_cancelled(service: Service) -> None:
    made = sweep(service)
    here = made["links"]["self"]
    service.claim().succeed()
    running = service.claim()
    running.beat()

    paused = service.http.post(f"{here}/pause")
    assert paused.status_code == 202
    assert states(service, made) == ["succeeded", "running", "paused", "paused"]
    assert running.beat().json()["command"] == "pause"

    assert service.http.post(f"{here}/resume").status_code == 202
    assert states(service, made) == ["succeeded", "running", "queued", "queued"]
    assert running.beat().json()["command"] == "continue", "a pause that had not happened yet is taken back"

    assert service.http.post(f"{here}/cancel").status_code == 202
    assert running.beat().json()["command"] == "cancel"
    running.finish(Finish(outcome=Outcome.CANCELLED))
    assert states(service, made) == ["succeeded", "cancelled", "cancelled", "cancelled"]
    assert service.http.post(f"{here}/cancel").status_code == 202, "repeating is fine"
    assert service.http.get(here).json()["ended"]
    assert_problem(service.http.post(f"{here}/pause"), 409, "illegal_move")
    assert_problem(service.http.post(f"{here}/resume"), 409, "illegal_move")


def test_the_same_key_gives_the_same_sweep_again(service: Service) -> None:
    key, body = {"Idempotency-Key": "once"}, {"base": LEAST, "grid": GRID}

    first = service.http.post("/sweeps", json=body, headers=key)
    again = service.http.post("/sweeps", json=body, headers=key)
    other = service.http.post("/sweeps", json={**body, "grid": {"seed": [0]}}, headers=key)

    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    assert_problem(other, 422, "idempotency_mismatch")
    assert_problem(service.http.post("/jobs", json=LEAST, headers=key), 422, "idempotency_mismatch")
    assert len(service.http.get("/jobs").json()["data"]) == 4


@pytest.mark.parametrize(
    ("grid", "pointer"),
    [
        ({"seed": [0, "one"]}, "/grid/seed/1"),
        ({"search": {"odd": {"reward": "none"}}}, "/grid/search/odd/reward"),
        ({"seed": [0], "serch.reward": ["cubic"]}, "/grid/serch.reward"),
        ({"model.name": ["digits-resnet", "no-such-net"]}, "/grid/model.name/1"),
        ({"model.weights": {"mine": {"sha256": "0" * 64}}}, "/grid/model.weights/mine/sha256"),
        ({"seed": []}, "/grid/seed"),
    ],
)
def test_one_bad_job_and_none_is_made(service: Service, grid: dict[str, Any], pointer: str) -> None:
    response = service.http.post("/sweeps", json={"base": LEAST, "grid": grid})

    assert response.status_code == 422, response.text
    assert response.json()["errors"][0]["pointer"] == pointer
    assert service.http.get("/jobs").json()["data"] == []
    assert service.http.get("/sweeps").json()["data"] == []


def test_a_queue_without_room_for_all_takes_none(tmp_path_factory: pytest.TempPathFactory) -> None:
    with serving(tmp_path_factory.mktemp("narrow"), PURL_MAX_QUEUED="3") as service:
        response = service.http.post("/sweeps", json={"base": LEAST, "grid": GRID})

        assert_problem(response, 429, "queue_full")
        assert service.http.get("/jobs").json()["data"] == []


def test_a_sweep_goes_with_the_last_of_its_jobs(service: Service) -> None:
    made = sweep(service, {"seed": [0, 1]})
    service.http.post(f"{made['links']['self']}/cancel")
    first, last = (row["job"] for row in made["table"])

    service.http.delete(f"/jobs/{first}")
    assert states(service, made) == ["cancelled"]
    service.http.delete(f"/jobs/{last}")

    assert_problem(service.http.get(made["links"]["self"]), 404, "not_found")


def test_pages_of_sweeps_are_newest_first(service: Service) -> None:
    made = [sweep(service, {"seed": [number]})["id"] for number in range(3)]

    first = service.http.get("/sweeps", params={"limit": 2}).json()
    rest = service.http.get("/sweeps", params={"limit": 2, "after": first["next"]}).json()

    assert [one["id"] for one in [*first["data"], *rest["data"]]] == made[::-1]
    wrong = service.http.get("/sweeps", params={"after": service.http.get("/jobs?limit=1").json()["next"]})
    assert_problem(wrong, 422, "invalid_cursor")
