"""The long form, `make cluster-test`: what can happen to a cluster happens to one, each time in the middle of a job.

After each event the job ends from its saved work with the bits of one that nobody disturbed, its files are what their
sha256 says, and nothing of it is left on any host.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from services.database import Database
from tests.acceptance.running import LONGER_JOB, ON_IMAGES, same_outcome
from tests.cluster.hosts import NAMESPACES
from tests.cluster.topology import START_SECONDS, Cluster, a_cluster, at_work
from tests.versions import FILLED_IN, REVISION, next_version
from tests.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.long]

# A search with time enough for all that happens to it, and not much behind it.
JOB: dict[str, Any] = {
    **LONGER_JOB,
    "search": {**LONGER_JOB["search"], "episodes": 100},
    "baselines": ["global"],
    "race": {"seeds": 1},
}
STORE_IS_AWAY_SECONDS = 60.0
CUT_OFF_SECONDS = 60.0

Tell = Callable[[str, object], None]
Settled = Callable[[str, float], list[str]]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with a_cluster(nodes=3, servers=2) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> str:
    """What the job gives with one runner when nothing happens."""
    return cluster.user.done({**JOB, "resources": {"env_runners": 1}})


@pytest.fixture
def running(cluster: Cluster, undisturbed: str) -> str:
    """A job in the middle of its search, with two runners, on a cluster that is whole."""
    for node in cluster.nodes:
        if not node.pids():
            cluster.start_node(node)
    cluster.wait_for_nodes(3)
    job_id = cluster.user.submit(JOB)
    cluster.user.searching(job_id, episodes=5)
    assert job_id != undisturbed
    return job_id


@pytest.fixture
def settled(cluster: Cluster, running: str, undisturbed: str, record_property: Tell) -> Settled:
    """Follows the job to its end, looks at what is left, and tells of it. How its attempts ended."""
    refused = cluster.user.transport.refused

    def settled(event: str, seconds: float) -> list[str]:
        ended = cluster.user.ended_as_if_undisturbed(running, undisturbed)
        again = cluster.user.played(running) - len(cluster.user.episodes(running))
        waited = cluster.user.transport.refused - refused
        told = (
            f"{event}: attempts {', '.join(ended)}; {again} episodes played again; {waited} reads asked again; "
            f"{seconds:.0f} s until going on"
        )
        record_property("told", told)
        print(f"\n  {told}", flush=True)  # a run that is cut short has told what it saw
        nothing_is_left(cluster)
        return ended

    return settled


def nothing_is_left(cluster: Cluster) -> None:
    """Of any attempt, on any host: no driver, no runner and nothing that trains, and nothing that Ray takes for one."""
    wait_until("no process of any attempt is left", lambda: not any(map(at_work, cluster.nodes)), seconds=START_SECONDS)
    ended = {"SUCCEEDED", "FAILED", "STOPPED"}
    wait_until("Ray has no job that runs", lambda: {job["status"] for job in cluster.ray("/api/jobs/")} <= ended)


def test_two_jobs_at_once_through_the_front_door(cluster: Cluster, undisturbed: str, record_property: Tell) -> None:
    record_property("told", f"hosts are {cluster.hosts.kind}")
    both = [cluster.user.submit(JOB), cluster.user.submit({**JOB, "resources": {"env_runners": 1}})]

    for job_id in both:
        assert cluster.user.ended_as_if_undisturbed(job_id, undisturbed) == ["succeeded"]

    jobs = [cluster.user.job(job_id) for job_id in both]
    assert max(job["started_at"] for job in jobs) < min(job["finished_at"] for job in jobs), "not at once"
    with_metrics = [host.name for host in cluster.servers if "purl_" in cluster.metrics(host)]
    assert with_metrics == ["server1", "server2"]
    assert cluster.user.http.get("/metrics").status_code == 404, "the front door lets nobody see it"


def test_a_job_from_images_in_s3_to_a_checkpoint(cluster: Cluster, record_property: Tell) -> None:
    """Each node fetches what its own processes read, with keys of its own, into its own cache."""
    told = cluster.user.http.get("/datasets", timeout=120).json()["data"]
    seen = {one["name"]: one["reason"] for one in told}
    assert seen["image-folder"] is None
    assert "imagenet/train and imagenet/val" in seen["imagenet"]

    # Nothing is decoded ahead: the runners open files as well, and not the driver alone.
    job_id = cluster.user.done({**ON_IMAGES, "resources": {"env_runners": 2, "data_bytes": 0}})

    assert cluster.user.wrong_files(job_id) == []
    with_files = [node.name for node in cluster.nodes if any((node.folder / "cache").glob("???/" + "?" * 64))]
    record_property("told", f"images in S3: fetched by {', '.join(with_files)}")
    assert len(with_files) > 1


def test_a_node_with_a_runner_is_killed(cluster: Cluster, running: str, settled: Settled) -> None:
    drivers = cluster.node_of_the_driver()
    with_runner = [node for node in cluster.nodes if node is not drivers and node.pids("ray::Player")]
    if not with_runner:
        pytest.fail("all runners are where the driver is: the cluster's nodes are too large for this test")

    began = time.monotonic()
    with_runner[0].kill()
    seconds = cluster.user.goes_on(running, since=began)

    ended = settled("a node with a runner killed", seconds)
    assert ended == ["succeeded"]


def test_the_node_with_the_driver_is_killed(cluster: Cluster, running: str, settled: Settled) -> None:
    node, began = cluster.node_of_the_driver(), time.monotonic()
    node.kill()
    seconds = cluster.user.goes_on(running, since=began)

    ended = settled("the node with the driver killed", seconds)
    assert ended[-1] == "succeeded"


def test_the_node_with_the_driver_is_cut_off_and_comes_back(cluster: Cluster, running: str, settled: Settled) -> None:
    """Its processes live on, and nobody hears of them: they end themselves before anybody else may start."""
    node = cluster.node_of_the_driver()

    began = time.monotonic()
    node.cut_off()
    if cluster.hosts.kind == NAMESPACES:
        wait_until("its driver has ended itself", lambda: not node.pids("workers.run"))
    seconds = cluster.user.goes_on(running, since=began)
    wait_until("it was away for a minute", lambda: time.monotonic() - began > CUT_OFF_SECONDS, seconds=90)
    node.reconnect()

    ended = settled("the node with the driver cut off for a minute", seconds)
    assert ended[-1] == "succeeded"


def test_the_head_is_killed_and_started_again(cluster: Cluster, running: str, settled: Settled) -> None:
    began = time.monotonic()
    cluster.head.kill()
    cluster.start_head()
    seconds = cluster.user.goes_on(running, since=began)

    ended = settled("the head killed and started again", seconds)
    assert ended[-1] == "succeeded"


def test_the_database_is_restarted(cluster: Cluster, running: str, settled: Settled) -> None:
    began = time.monotonic()
    cluster.restart_database()
    seconds = cluster.user.goes_on(running, since=began)

    ended = settled("the database killed and started again", seconds)
    assert ended == ["succeeded"]


def test_the_store_fails_for_a_minute(cluster: Cluster, running: str, settled: Settled) -> None:
    began = time.monotonic()
    cluster.store.always = "503"
    try:
        wait_until("it was away for a minute", lambda: time.monotonic() - began > STORE_IS_AWAY_SECONDS, seconds=90)
    finally:
        cluster.store.always = None
    seconds = cluster.user.goes_on(running, since=time.monotonic())

    ended = settled("the store answered 503 for a minute, and is back", seconds)
    assert ended[-1] == "succeeded"


def test_a_rolling_upgrade_with_a_migration(
    cluster: Cluster, running: str, undisturbed: str, settled: Settled, tmp_path: Path
) -> None:
    """The tables first, then one process after the other: reads go on, the job goes on, and so does what was stored."""
    cluster.code = next_version(tmp_path / "next", migrates=True)

    with reading(cluster, running) as answers:
        began = time.monotonic()
        assert cluster.command("migrate") == "the database is up to date"
        for server in cluster.servers:
            for module, start in (("services.dispatcher", cluster.start_dispatcher), ("api", cluster.start_api)):
                assert cluster.stop(module, server) == 0
                start(server)
        seconds = cluster.user.goes_on(running, since=began)
        ended = settled("a rolling upgrade with a migration", seconds)

    assert set(answers) == {"200"}
    assert len(answers) > 10, "there was somebody to notice"
    assert ended == ["succeeded"]
    assert in_the_database(cluster, "SELECT version_num FROM alembic_version") == [REVISION]
    assert set(in_the_database(cluster, "SELECT colour FROM jobs")) == {FILLED_IN}
    same_outcome(cluster.user, cluster.user.job(cluster.user.done(JOB)), cluster.user.job(undisturbed))


def test_nothing_is_left_in_the_store_that_no_row_names(cluster: Cluster, undisturbed: str) -> None:
    """After all that has happened; the module's own end sees to the processes, the namespaces and the folders."""
    assert cluster.user.job(undisturbed)["state"] == "succeeded"
    cluster.environ["PURL_CLEAN_GRACE_SECONDS"] = "0.001"
    cluster.command("clean")

    named = set(in_the_database(cluster, "SELECT sha256 FROM artifacts"))
    assert named
    assert {key.rpartition("/")[2] for key in cluster.stored()} == named


@contextmanager
def reading(cluster: Cluster, job_id: str) -> Iterator[list[str]]:
    """Ten reads a second through the front door meanwhile, none of them asked twice, and how each went."""
    over, answers = threading.Event(), list[str]()

    def read() -> None:
        with cluster.user.impatient() as http:
            while not over.wait(0.1):
                try:
                    answer = http.get(f"/jobs/{job_id}")
                    answers.append(str(answer.status_code) if answer.status_code == 200 else answer.text)
                except Exception as error:
                    answers.append(repr(error))

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def in_the_database(cluster: Cluster, query: str) -> list[Any]:
    with closing(Database.open(cluster.database_url)) as db, db.read() as session:
        return list(session.scalars(text(query)))
