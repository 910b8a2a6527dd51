"""Jobs on a real Ray cluster with token auth, by Ray Jobs: the service knows no more of it than its address."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator

import obstore
import pytest
from obstore.store import S3Store as Bucket

from tests.acceptance.running import JOB_SECONDS, LONGER_JOB, ON_IMAGES, SMALL_JOB, RunningService, serving
from tests.ray_head import TOKEN, RayHead, ray_head
from tests.s3 import S3Server, s3_server
from tests.unit.test_image_folders import write_images
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def head(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayHead]:
    """Its node has keys to the data sets; nobody else ever tells them to a worker."""
    with ray_head(PURL_DATASETS_CACHE=str(tmp_path_factory.mktemp("node") / "cache"), **s3.environ()) as head:
        yield head


@pytest.fixture(scope="module")
def data(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data root in S3 with one folder of images."""
    folder = tmp_path_factory.mktemp("images")
    write_images(folder / "image-folder" / "flowers")
    bucket = Bucket(s3.make_bucket("data"), **s3.options())
    for file in folder.rglob("*.*"):
        obstore.put(bucket, f"sets/{file.relative_to(folder)}", file.read_bytes())
    return "s3://data/sets"


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def service(
    head: RayHead, s3: S3Server, data: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningService]:
    yield from serving(
        tmp_path_factory.mktemp("cluster") / "data",
        PURL_RAY_ADDRESS=head.address,
        RAY_AUTH_TOKEN=TOKEN,
        PURL_DATASETS_DIR=data,
        PURL_ARTIFACTS=f"s3://{s3.make_bucket('artifacts')}/purl",
        **s3.environ(),
    )


# tests/cluster/test_short.py runs one on Ray Jobs, with its artifacts in S3; images from there are what
# tests/integration/test_data_in_s3.py reads.
@pytest.mark.long
def test_a_job_runs_from_images_in_s3_to_checkpoint(service: RunningService, head: RayHead) -> None:
    """On Ray Jobs; the worker came with the job, reads its data from one bucket, and knows nothing of the other."""
    seen = {one["name"]: one for one in service.http.get("/datasets", timeout=90).json()["data"]}
    assert (seen["image-folder"]["available"], seen["image-folder"]["reason"]) == (True, None)
    assert seen["imagenet"]["available"] is False
    assert "imagenet/train and imagenet/val" in seen["imagenet"]["reason"]

    job = service.ended(service.submit(ON_IMAGES))

    assert job["state"] == "succeeded", job["error"]
    told = job["result"]["checkpoint"]
    assert hashlib.sha256(service.http.get(told["href"]).content).hexdigest() == told["sha256"]
    assert service.http.get(told["href"], params={"redirect": "true"}).status_code == 307
    assert "phase: search" in service.http.get(f"/jobs/{job['id']}/artifacts/attempt.log").text
    # Stopped, where the driver's interpreter takes longer to end than the dispatcher waits for it.
    ended = ("SUCCEEDED", "STOPPED")
    wait_until("Ray knows it too", lambda: head.job(f"{job['id']}-a1")["status"] in ended, seconds=JOB_SECONDS)


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
