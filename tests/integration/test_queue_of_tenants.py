"""The line where several tenants stand in it: each is told the truth, though it sees only its own jobs."""

from __future__ import annotations

import random

import pytest
from sqlalchemy import select

from services import attempts, jobs, outlook
from services.outlook import Outlook
from services.settings import Settings
from services.tables import Job
from services.testing import FakeWorker, a_spec
from tests.bench import Bench

MANY = {"PURL_MAX_RUNNING": "100"}
ONE_EACH = {**MANY, "PURL_TENANT_RUNNING": "1"}


def submit(bench: Bench, tenant: str, priority: int = 0) -> str:
    with bench.db.of(tenant).write() as session:
        return jobs.submit(session, a_spec(priority=priority)).job.id


def claim(bench: Bench, environ: dict[str, str]) -> FakeWorker | None:
    with bench.db.write() as session:
        claim = attempts.claim(session, Settings.from_environ({**bench.environ, **environ}))
    return claim and FakeWorker(bench.db, claim)


def told(bench: Bench, tenant: str, *job_ids: str) -> list[Outlook]:
    """What a page with these jobs says to their tenant."""
    with bench.db.of(tenant).read() as session:
        page = list(session.scalars(select(Job).where(Job.id.in_(job_ids))))
        found = outlook.of(session, page, {})
    return [found[job_id] for job_id in job_ids]


def test_a_page_counts_the_jobs_of_others_though_it_shows_none_of_them(bench: Bench) -> None:
    bench.announce(**MANY)
    first, _, _, fourth = (submit(bench, tenant) for tenant in ("alice", "bob", "bob", "alice"))

    assert [one.position for one in told(bench, "alice", first, fourth)] == [1, 4]
    assert [one.reason for one in told(bench, "alice", first, fourth)] == [
        "next in the queue",
        "waiting for 3 jobs ahead",
    ]


def test_who_is_held_back_by_the_tenants_limit_is_told_so_and_is_in_nobodys_way(bench: Bench) -> None:
    bench.announce(**ONE_EACH)
    running, second, third = (submit(bench, "alice") for _ in range(3))
    others = submit(bench, "bob")
    worker = claim(bench, ONE_EACH)
    assert worker is not None
    assert worker.claim.job_id == running
    limit = "of your jobs 1 may run at once (PURL_TENANT_RUNNING)"

    assert told(bench, "alice", second, third) == [
        Outlook(reason=f"{limit}: 1 running"),
        Outlook(reason=f"{limit}: 1 running and 1 ahead of it"),
    ]
    assert told(bench, "bob", others) == [Outlook(position=1, reason="next in the queue; 1 job running")]

    worker.beat()
    worker.succeed()
    assert [one.position for one in told(bench, "alice", second, third)] == [1, None]
    assert told(bench, "alice", third)[0].reason == f"{limit}: 0 running and 1 ahead of it"
    assert [one.position for one in told(bench, "bob", others)] == [2]


@pytest.mark.parametrize("limit", [None, 1, 2, 3])
def test_jobs_start_in_the_order_in_which_they_were_told_to_stand(bench: Bench, limit: int | None) -> None:
    environ = MANY if limit is None else {**MANY, "PURL_TENANT_RUNNING": str(limit)}
    chance = random.Random(limit)
    bench.announce(**environ)
    tenant_of = {}
    for _ in range(24):
        tenant = chance.choice(["alice", "alice", "bob", "carol"])
        tenant_of[submit(bench, tenant, chance.randrange(3))] = tenant
    begun = [claim(bench, environ) for _ in range(3)]
    waiting = tenant_of.keys() - {one.claim.job_id for one in begun if one}

    alone = {job_id: told(bench, tenant_of[job_id], job_id)[0] for job_id in waiting}
    together = {}
    for tenant in sorted(set(tenant_of.values())):
        mine = [job_id for job_id in waiting if tenant_of[job_id] == tenant]
        together |= dict(zip(mine, told(bench, tenant, *mine), strict=True))

    started = []
    while (worker := claim(bench, environ)) is not None:
        started.append(worker.claim.job_id)
    in_line = sorted((one.position, job_id) for job_id, one in alone.items() if one.position is not None)
    assert in_line == list(enumerate(started, 1))
    assert together == alone
    held_back = {job_id for job_id, one in alone.items() if "PURL_TENANT_RUNNING" in (one.reason or "")}
    assert held_back == waiting - set(started)
