"""The short form: a job on a cluster of two nodes with token auth, and the node that its driver is on goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.running import LEAST_JOB
from tests.cluster.topology import START_SECONDS, Cluster, a_cluster
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

EPISODES = 24
JOB = {
    **LEAST_JOB,
    # The search is what is interrupted, and takes seconds; what comes before and behind it may be short. An episode
    # costs little beside the processes.
    "search": {**LEAST_JOB["search"], "episodes": EPISODES, "retrain": {"epochs": 4}},
    "baselines": ["global"],
    "race": {"seeds": 1},
}
SEARCH = "search"  # what an attempt saves of it


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    # Two starts of an attempt on a busy machine, where Ray takes half a minute and more until a driver says its first
    # word. One whose node has gone is known to be lost by what Ray says of it.
    # A dispatcher that asks Ray less often than most tests' costs less.
    with a_cluster(nodes=2, servers=1, PURL_LEASE_SECONDS="120", PURL_POLL_SECONDS="2") as cluster:
        yield cluster


def test_a_job_runs_from_post_to_checkpoint_though_a_node_is_killed(cluster: Cluster) -> None:
    """By Ray Jobs and S3; the worker came with the job and knows neither. What was finished is not played again."""
    user = cluster.user
    job_id = user.submit(JOB)
    user.searching(job_id, episodes=1)
    wait_until("its search is saved", lambda: SEARCH in cluster.saved(job_id))
    killed = user.job(job_id)["attempts"][-1]["number"]

    cluster.node_of_the_driver().kill()
    job = user.ended(job_id)

    assert job["state"] == "succeeded", job["error"]
    # One more is lost if it starts, by Ray's choice, on the node that Ray has not missed yet.
    *lost, last = job["attempts"]
    assert {attempt["state"] for attempt in lost} == {"lost"}
    assert last["state"] == "succeeded"
    assert [episode["index"] for episode in user.episodes(job_id)] == list(range(EPISODES))
    assert {episode["attempt"] for episode in user.episodes(job_id)} == {killed, last["number"]}
    assert user.wrong_files(job_id) == []
    checkpoint = job["result"]["checkpoint"]["href"]
    assert user.http.get(checkpoint, params={"redirect": "true"}).status_code == 307
    assert "phase: search" in user.http.get(f"/jobs/{job_id}/artifacts/attempt.log").text
    name = f"/api/jobs/{job_id}-a{last['number']}"
    # A driver that takes longer than ten seconds to leave after its last word is ended, and then called stopped.
    ended = ("SUCCEEDED", "STOPPED")
    wait_until("Ray knows it too", lambda: cluster.ray(name)["status"] in ended, seconds=START_SECONDS)
