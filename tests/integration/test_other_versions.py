"""Records that another version of the program stored: shown as they are, and never a reason for a 500."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from services.tables import EpisodeRow, Job
from services.testing import an_episode
from tests.integration.over_http import LEAST, HttpWorker, Service, assert_problem

OLD: dict[str, Any] = {"of": "another version", "checkpoint": {"sha256": "0" * 64}}


def store(service: Service, job_id: str, **columns: Any) -> None:
    with service.db.write() as session:
        session.execute(update(Job).where(Job.id == job_id).values(columns))


@pytest.fixture
def finished(service: Service) -> str:
    job_id: str = service.submit()["id"]
    worker: HttpWorker = service.claim()
    worker.say(an_episode(0))
    worker.succeed()
    return job_id


@pytest.mark.parametrize("column", ["spec", "result"])
def test_a_record_that_means_nothing_here_is_shown_as_it_was_stored(
    service: Service, finished: str, column: str
) -> None:
    store(service, finished, **{column: OLD})

    alone = service.http.get(f"/jobs/{finished}")
    listed = service.http.get("/jobs")

    assert (alone.status_code, listed.status_code) == (200, 200)
    assert alone.json()[column]["of"] == "another version"
    assert listed.json()["data"] == [alone.json()]
    assert alone.json()["state"] == "succeeded"


@pytest.mark.parametrize(
    "points",
    [
        None,
        [],
        [{"target": 0.9}],
        [{"checkpoint": {"name": "a"}}],
        [{"target": "most", "checkpoint": {}}],
        ["?"],
        {"a": 1},
    ],
    ids=str,
)
def test_points_that_mean_nothing_here_are_shown_as_well_and_lead_nowhere(
    service: Service, finished: str, points: object
) -> None:
    store(service, finished, result={**OLD, "points": points})

    told = service.http.get(f"/jobs/{finished}")
    asked = service.http.get(f"/jobs/{finished}/checkpoint", params={"sparsity": 0.5})

    assert (told.status_code, told.json()["result"]["points"]) == (200, points)
    problem = assert_problem(asked, 404, "no_checkpoint")
    assert problem["detail"].endswith("ask without `sparsity` for its only checkpoint")
    assert service.http.get(f"/jobs/{finished}/checkpoint").status_code == 200


def test_a_target_that_the_job_does_not_have_is_answered_with_those_it_has(service: Service, finished: str) -> None:
    """Of several points those that can be read count."""
    readable = {"target": 0.75, "checkpoint": {"name": "pruned.safetensors"}}
    store(service, finished, result={**OLD, "points": [{"goal": 0.5}, readable]})

    asked = service.http.get(f"/jobs/{finished}/checkpoint", params={"sparsity": 0.5})

    assert assert_problem(asked, 404, "no_checkpoint")["detail"].endswith("ask for one of 0.75")
    assert service.http.get(f"/jobs/{finished}/checkpoint", params={"sparsity": 0.75}).status_code == 200


def test_an_error_is_too(service: Service) -> None:
    job_id = service.submit()["id"]
    service.http.post(f"/jobs/{job_id}/cancel")
    store(service, job_id, error={"text": "an error had another form once"})

    assert service.job(job_id)["error"] == {"text": "an error had another form once"}


def test_so_is_progress(service: Service) -> None:
    job_id = service.submit()["id"]
    store(service, job_id, progress={"percent": 50})

    assert service.job(job_id)["progress"]["percent"] == 50


def test_layers_of_a_result_that_means_nothing_here(service: Service, finished: str) -> None:
    store(service, finished, result=OLD)

    problem = assert_problem(service.http.get(f"/jobs/{finished}/layers"), 404, "no_result")

    assert "another version" in problem["detail"]


def test_what_can_not_be_read_can_not_be_retried(service: Service, finished: str) -> None:
    store(service, finished, spec=OLD)

    problem = assert_problem(service.http.post(f"/jobs/{finished}/retry"), 422, "invalid_spec")

    assert "another version" in problem["detail"]


def test_an_episode_is_shown_as_it_was_stored(service: Service, finished: str) -> None:
    with service.db.write() as session:
        session.execute(update(EpisodeRow).values(data={"of": "another version"}))

    answer = service.http.get(f"/jobs/{finished}/episodes")

    assert answer.status_code == 200
    assert answer.json()["data"] == [{"of": "another version", "attempt": 1}]


def test_what_this_version_stored_is_read_as_what_it_is(service: Service, finished: str) -> None:
    job = service.job(finished)

    assert job["spec"]["model"]["name"] == LEAST["model"]["name"]  # type: ignore[index]
    assert job["result"]["checkpoint"]["href"] == f"/jobs/{finished}/checkpoint"
    assert [attempt["cause"] for attempt in job["attempts"]] == [None]
