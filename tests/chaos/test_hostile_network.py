"""Jobs go through while S3 fails in every way that it knows and PostgreSQL dies again and again."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from tests import postgres
from tests.acceptance.running import LONGER_JOB, serving
from tests.chaos.calls import Client, file_of
from tests.chaos.history import History, read, violations
from tests.chaos.scale import is_long, tell, times
from tests.chaos.town import a_town, background
from tests.faults import Fault, FaultProxy, fault_proxy
from tests.s3 import s3_server

JOBS = times(300, short=6)
# PostgreSQL dies as soon as work is saved and after so many seconds each time, and so often at most: a slow machine
# would be at it for ever in the short form. A request to S3 fails so soon after another that has.
DEATH_SECONDS, MOST_DEATHS = (20.0, 10_000) if is_long() else (3.0, 2)
FAULT_SECONDS = 0.2
# What hangs would keep a worker for as long as its patience lasts; that has a test of its own, without a clock.
FAULTS = tuple(fault for fault in get_args(Fault) if fault != "hang")


@dataclass
class World:
    """A database that dies and a store that fails, and what a service must be told to use them."""

    server: postgres.Server
    proxy: FaultProxy
    database_url: str
    environ: dict[str, str]
    deaths: int = 0

    @contextmanager
    def hostile(self) -> Iterator[None]:
        over = threading.Event()
        threads = [background(lambda: self._kill(over)), background(lambda: self._trouble(over))]
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()
            self.proxy.forget()

    def _kill(self, over: threading.Event) -> None:
        """The first time as soon as work is saved: a quick machine may have ended all jobs before another."""
        before = len(self.proxy.requests)
        while len(self.proxy.requests) == before:
            if over.wait(0.02):
                return
        while self.deaths < MOST_DEATHS:
            self.server.kill()
            self.server.start()
            self.deaths += 1
            if over.wait(DEATH_SECONDS):
                return

    def _trouble(self, over: threading.Event) -> None:
        chance = random.Random(0)
        while not over.wait(FAULT_SECONDS):
            # Never two at a time: faults that pile up would fail every request for ever. And for whatever comes next:
            # one that waits for a HEAD, which hardly ever comes, would keep all others from happening.
            if not self.proxy.waiting:
                self.proxy.plan("", chance.choice(FAULTS))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "s3").mkdir()
    with postgres.running_server() as server, s3_server(tmp_path / "s3") as s3, fault_proxy(s3.url) as proxy:
        with closing(postgres.Databases(server.url)) as databases:
            url = databases.create()
        bucket = s3.make_bucket("hostile")
        environ = {**s3.environ(), "AWS_ENDPOINT_URL_S3": proxy.url, "PURL_ARTIFACTS": f"s3://{bucket}/some/where"}
        yield World(server, proxy, url, environ)


def test_jobs_end_and_their_artifacts_match(world: World, tmp_path: Path) -> None:
    with a_town(tmp_path / "town", world.database_url, server=world.server, **world.environ) as town:
        with world.hostile():
            jobs = [town.client.submit(f"job {number}") for number in range(JOBS)]
            ended = [town.client.wait_for(job_id, "succeeded", "failed", seconds=600) for job_id in jobs]
        found = town.violations()

    tell(
        f"{JOBS} jobs, {world.deaths} deaths of PostgreSQL, {len(world.proxy.requests)} requests to S3, "
        f"{len(world.proxy.met)} of them failed"
    )
    assert found == []
    assert {job["state"] for job in ended} == {"succeeded"}
    assert world.deaths > 0
    assert world.proxy.met


@pytest.mark.long
@pytest.mark.acceptance
def test_a_real_search_and_race_end_and_their_files_match(world: World, tmp_path: Path) -> None:
    """Ray, RLlib and all: the same for one job as users have it."""
    for service in serving(tmp_path / "data", PURL_DATABASE_URL=world.database_url, **world.environ):
        with closing(Client(service.url, History(file_of(tmp_path, "client")))) as client:
            with world.hostile():
                job_id = client.submit("a real one", **LONGER_JOB)
                ended = client.wait_for(job_id, "succeeded", "failed", seconds=900)
            finals = {job_id: client.final(job_id)}

    tell(
        f"{world.deaths} deaths of PostgreSQL, {len(world.proxy.requests)} requests to S3, {len(world.proxy.met)} of "
        f"them failed, attempts {ended['attempts']}"
    )
    assert violations(read(tmp_path / "history"), finals) == []
    assert ended["state"] == "succeeded", ended["error"]
    assert world.deaths > 0
    assert world.proxy.met
