"""Jobs on a real Ray cluster with token auth, by Ray Jobs: the service knows no more of it than its address."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator

import pytest

from tests.acceptance.running import JOB_SECONDS, LEAST_JOB, LONGER_JOB, SMALL_JOB, RunningService, serving
from tests.ray_head import TOKEN, RayHead, ray_head
from tests.s3 import S3Server, s3_server
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    with ray_head() as head:
        yield head


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def service(head: RayHead, s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    yield from serving(
        tmp_path_factory.mktemp("cluster") / "data",
        PURL_RAY_ADDRESS=head.address,
        RAY_AUTH_TOKEN=TOKEN,
        PURL_ARTIFACTS=f"s3://{s3.make_bucket('artifacts')}/purl",
        **s3.environ(),
    )


def test_a_job_runs_from_post_to_checkpoint(service: RunningService, head: RayHead) -> None:
    """On Ray Jobs and S3; the worker came with the job and knows neither."""
    job = service.ended(service.submit(LEAST_JOB))

    assert job["state"] == "succeeded", job["error"]
    told = job["result"]["checkpoint"]
    assert hashlib.sha256(service.http.get(told["href"]).content).hexdigest() == told["sha256"]
    assert service.http.get(told["href"], params={"redirect": "true"}).status_code == 307
    assert "phase: search" in service.http.get(f"/jobs/{job['id']}/artifacts/attempt.log").text
    wait_until("Ray knows it too", lambda: head.job(f"{job['id']}-a1")["status"] == "SUCCEEDED", seconds=JOB_SECONDS)


@pytest.mark.long
def test_a_killed_driver_is_followed_by_one_that_goes_on_from_the_last_finished_episode(
    service: RunningService, head: RayHead
) -> None:
    job_id = service.submit(LONGER_JOB)
    service.searching(job_id, episodes=8)
    (driver,) = head.pids("python -m workers.run")

    os.kill(driver, signal.SIGKILL)
    job = service.ended(job_id)

    assert job["state"] == "succeeded", job["error"]
    assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "succeeded"]
    assert {episode["attempt"] for episode in service.episodes(job_id)} == {1, 2}
    assert [episode["index"] for episode in service.episodes(job_id)] == list(range(40))


@pytest.mark.long
def test_a_dry_run_asks_the_cluster(service: RunningService) -> None:
    answer = service.http.post("/jobs", params={"dry_run": "true"}, json=SMALL_JOB, timeout=90)

    assert answer.status_code == 200, answer.text
    assert answer.json()["runnable"] is True
