"""Jobs go through while S3 fails in every way that it knows and PostgreSQL dies again and again."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from typing import get_args

from tests import postgres
from tests.chaos.scale import is_long, tell, times
from tests.chaos.town import a_town, background
from tests.faults import Fault, FaultProxy, fault_proxy
from tests.s3 import s3_server

JOBS = times(300, short=6)
# PostgreSQL dies so often. A request to S3 fails so soon after another that has.
DEATH_SECONDS = 20.0 if is_long() else 3.0
FAULT_SECONDS = 0.2
# What hangs would keep a worker for as long as its patience lasts; that has a test of its own, without a clock.
FAULTS = tuple(fault for fault in get_args(Fault) if fault != "hang")


def trouble(proxy: FaultProxy, over: threading.Event) -> None:
    chance = random.Random(0)
    while not over.wait(FAULT_SECONDS):
        # Never two at a time: faults that pile up would fail every request for ever.
        if proxy.waiting:
            continue
        proxy.plan(chance.choice(["PUT", "HEAD", "GET"]), chance.choice(FAULTS))


def test_jobs_end_and_their_artifacts_match(tmp_path: Path) -> None:
    over, deaths = threading.Event(), 0
    with ExitStack() as stack:
        server = stack.enter_context(postgres.running_server())
        with closing(postgres.Databases(server.url)) as databases:
            url = databases.create()
        (tmp_path / "s3").mkdir()
        s3 = stack.enter_context(s3_server(tmp_path / "s3"))
        bucket = s3.make_bucket("hostile")
        proxy = stack.enter_context(fault_proxy(s3.url))
        environ = {**s3.environ(), "AWS_ENDPOINT_URL_S3": proxy.url, "PURL_ARTIFACTS": f"s3://{bucket}/some/where"}
        town = stack.enter_context(a_town(tmp_path / "town", url, server=server, **environ))

        def kill_the_database() -> None:
            nonlocal deaths
            while not over.wait(DEATH_SECONDS):
                server.kill()
                server.start()
                deaths += 1

        threads = [background(kill_the_database), background(lambda: trouble(proxy, over))]
        try:
            jobs = [town.client.submit(f"job {number}") for number in range(JOBS)]
            ended = [town.client.wait_for(job_id, "succeeded", "failed", seconds=600) for job_id in jobs]
        finally:
            over.set()
            for thread in threads:
                thread.join()
        proxy.forget()
        found = town.violations()

    tell(f"{JOBS} jobs, {deaths} deaths of PostgreSQL, {len(proxy.requests)} requests to S3")
    assert found == []
    assert {job["state"] for job in ended} == {"succeeded"}
    assert deaths > 0
