"""Kill what can be killed in mid-search: the job ends as if nothing had happened, bit for bit, and nothing is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from purlkit.processes import session_members
from purlkit.spec import Search
from tests import ray_processes
from tests.acceptance.running import JOB_SECONDS, LONGER_JOB, PATIENT, SMALL_JOB, RunningService, same_outcome, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance

LOOKAHEAD = Search().lookahead
# Enough of them, and slow enough, for an attempt that is killed among the first ones, one that is drained, and one that
# plays the rest. Among its rivals random search is not: that plays as much again.
EPISODES = 30
JOB = {
    **LONGER_JOB,
    "search": {**LONGER_JOB["search"], "episodes": EPISODES, "retrain": {"epochs": 12}},
    "baselines": ["uniform", "global"],
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("survival") / "data"


@pytest.fixture(scope="module")
def service(data_dir: Path) -> Iterator[RunningService]:
    yield from serving(data_dir, **PATIENT)


@pytest.fixture(scope="module")
def uninterrupted(service: RunningService) -> dict[str, Any]:
    """What the job gives when nobody disturbs it, with one runner."""
    job = service.ended(service.submit({**JOB, "resources": {"env_runners": 1}}))
    assert job["state"] == "succeeded", job["error"]
    return job


def test_a_dense_training_that_diverges_fails_the_job_with_the_field_to_blame(service: RunningService) -> None:
    hot = {"name": "mlp", "weights": {"train": {"epochs": 2, "learning_rate": 100}}}

    job = service.ended(service.submit({**SMALL_JOB, "model": hot}))

    assert job["state"] == "failed"
    assert (job["error"]["code"], job["error"]["at"]) == ("diverged", "/model/weights/train/learning_rate")


@pytest.mark.long
@pytest.mark.parametrize("kind", [ray_processes.RUNNER, ray_processes.RAYLET, ray_processes.GCS])
def test_whatever_of_ray_is_killed_the_job_ends_as_if_nothing_had_happened(
    service: RunningService, uninterrupted: dict[str, Any], kind: str
) -> None:
    job_id = service.submit(JOB)
    service.searching(job_id, episodes=8)

    os.kill(ray_processes.pids(kind, session=service.attempt_pids()[-1])[0], signal.SIGKILL)
    job = service.ended(job_id)

    same_outcome(service, job, uninterrupted)
    assert [episode["index"] for episode in service.episodes(job_id)] == list(range(EPISODES))


@pytest.mark.long
def test_an_attempt_killed_in_its_second_stage_is_followed_by_one_that_goes_on_there(service: RunningService) -> None:
    staged = {**SMALL_JOB, "stages": [0.5, 0.8], "stage_epochs": [3]}
    undisturbed = service.ended(service.submit({**staged, "resources": {"env_runners": 1}}))
    each = SMALL_JOB["search"]["episodes"]
    job_id = service.submit(staged)
    service.searching(job_id, episodes=each + 3)
    [pid] = service.attempt_pids()

    os.kill(pid, signal.SIGKILL)
    job = service.ended(job_id)

    same_outcome(service, job, undisturbed)
    episodes = service.episodes(job_id)
    assert [episode["index"] for episode in episodes] == list(range(2 * each))
    assert [episode["stage"] for episode in episodes] == [0] * each + [1] * each
    assert {episode["attempt"] for episode in episodes[:each]} == {1}
    assert [episode["stage"] for episode in service.episodes(job_id, kind="greedy")] == [0, 0, 1, 1]


def test_a_cancelled_job_ends_cancelled_and_its_processes_are_gone(service: RunningService) -> None:
    job_id = service.submit({**JOB, "resources": {"env_runners": 1}})
    service.searching(job_id, episodes=2)
    pids = service.attempt_pids()

    assert service.http.post(f"/jobs/{job_id}/cancel").status_code == 202
    job = service.ended(job_id)

    assert job["state"] == "cancelled"
    assert job["attempts"][-1]["state"] == "cancelled"
    wait_until("its processes are gone", lambda: not any(session_members(pid) for pid in pids))


def test_a_job_that_all_this_happens_to_ends_as_if_nothing_had_happened(
    service: RunningService, uninterrupted: dict[str, Any], data_dir: Path
) -> None:
    """API, dispatcher, a runner and Ray's head killed, then the attempt, then SIGTERM to the service and another one in
    its place."""
    job_id = service.submit(JOB)
    service.searching(job_id, episodes=4)
    [pid] = service.attempt_pids()
    with ray_processes.stopped(ray_processes.RUNNER, session=pid):
        for words in (("-m", "api"), ("-m", "services.dispatcher")):
            killed = service.child(*words)
            assert killed is not None
            os.kill(killed, signal.SIGKILL)
            wait_until(f"{words} is back", lambda w=words, k=killed: service.child(*w) not in (None, k))
        assert service.job(job_id)["state"] == "running"  # asked here, for an API takes seconds to answer again
    for kind in (ray_processes.RUNNER, ray_processes.GCS):
        os.kill(ray_processes.pids(kind, session=pid)[0], signal.SIGKILL)
    service.searching(job_id, episodes=8)
    assert service.attempt_pids() == [pid]  # the same attempt still: theirs were no losses of its

    os.kill(pid, signal.SIGKILL)
    wait_until("another attempt is there", lambda: len(service.job(job_id)["attempts"]) == 2, seconds=JOB_SECONDS)
    before = len(service.episodes(job_id))
    service.searching(job_id, episodes=before + 5)
    assert session_members(pid) == []
    assert service.stop(signal.SIGTERM) == 0
    assert service.left_over() == []

    for again in serving(data_dir, **PATIENT):
        job = again.ended(job_id)
        same_outcome(again, job, uninterrupted)
        assert [attempt["state"] for attempt in job["attempts"]] == ["lost", "drained", "succeeded"]
        by_attempt = dict.fromkeys((1, 2, 3), 0)
        for episode in again.episodes(job_id):
            by_attempt[episode["attempt"]] += 1
        # What was finished is not played again, but for those that others in front of them held up.
        assert by_attempt[1] >= 8 - LOOKAHEAD
        assert by_attempt[1] + by_attempt[2] >= before + 5 - LOOKAHEAD
        assert by_attempt[3] > 0


def test_ctrl_c_leaves_no_process_behind(data_dir: Path) -> None:
    service = RunningService(data_dir, **PATIENT)
    job_id = service.submit(JOB)
    wait_until("the attempt runs", lambda: service.job(job_id)["state"] == "running", seconds=JOB_SECONDS)

    assert service.stop(signal.SIGINT) == 0

    assert service.left_over() == []
