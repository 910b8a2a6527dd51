"""A session of the database that is bound to a tenant: what it sees, counts and changes, and what of it is a quota."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import aliased

from services import artifacts, attempts, jobs, quotas, tenants, weights
from services.errors import NotFound, QueueFull, StorageQuota
from services.key_table import ApiKey
from services.quotas import Quotas
from services.settings import Settings
from services.states import JobState
from services.tables import Artifact, Attempt, Base, Event, Job, LogChunk, SavedBlob, UploadedWeights
from services.testing import a_blob, a_spec, an_episode
from tests.bench import Bench

ROOT = Path(__file__).parent.parent.parent


def test_every_table_is_somebodys_or_known_to_be_nobodys() -> None:
    known = [*tenants.OWNED, *tenants.OF_A_JOB, *tenants.OF_AN_ATTEMPT, *tenants.NOBODYS]

    assert len(known) == len(set(known))
    assert set(known) == {mapper.class_ for mapper in Base.registry.mappers}
    assert all(hasattr(table, "tenant") for table in tenants.OWNED)
    assert all(hasattr(table, "job_id") for table in tenants.OF_A_JOB)
    assert all(hasattr(table, "attempt_id") for table in tenants.OF_AN_ATTEMPT)


def test_who_asks_on_everybodys_behalf_is_known() -> None:
    """These see all tenants: whether bytes may go, and how full the service is. No route is among them."""
    asking = {
        str(path.relative_to(ROOT))
        for package in ("api", "services")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r"\bEVERYBODYS\b", path.read_text())
    }

    assert asking == {"services/tenants.py", "services/quotas.py", "services/artifacts/blobs.py"}


def test_routes_get_the_database_from_one_place() -> None:
    """As their caller may see it; only workers, the health of the service and the login know a whole one."""
    whole = {
        str(path.relative_to(ROOT / "api"))
        for path in (ROOT / "api").rglob("*.py")
        if re.search(r"\bWhole(?:Database)?Dep\b|app\.state\.parts|\.of\(None\)", path.read_text())
    }

    assert whole == {
        "deps.py",
        "main.py",
        "server.py",
        "routes/attempts.py",
        "routes/checks.py",
        "routes/health.py",
        "dashboard/login.py",
    }


class TestASession:
    """Of each table there is a row of alice's; bob's session finds none, however it asks."""

    @pytest.fixture
    def filled(self, bench: Bench) -> Bench:
        alices = bench.db.of("alice")
        with alices.write() as session:
            job_id = jobs.submit(session, a_spec(labels={"team": "a"}), key="k", body_sha256="0" * 64).job.id
        worker = bench.claim()
        worker.beat()
        worker.say(an_episode(0))
        worker.save("state", b"saved")
        worker.stage("log.txt", b"staged")
        with bench.db.write() as session:
            attempts.append_log(session, session.get_one(Attempt, worker.claim.attempt_id), 0, b"said")
            fresh = {"sha256": "1" * 64, "bytes": 1, "tensors": 1, "created_at": 0}
            session.execute(insert(UploadedWeights).values({**fresh, "tenant": "alice"}))
            sweep = {"id": "swp_1", "spec": {}, "created_at": 0, "tenant": "alice"}
            session.execute(insert(Base.metadata.tables["sweeps"]).values(sweep))
            key = {"prefix": "purl_a", "name": "a", "scopes": "read", "key_sha256": "0" * 64, "created_at": 0}
            session.execute(insert(ApiKey).values({**key, "tenant": "alice"}))
            check = {"id": "chk_1", "token_sha256": "0", "spec": {}, "fingerprint": "0", "created_at": 0}
            check |= {"expires_at": 0, "tenant": "alice"}
            session.execute(insert(Base.metadata.tables["checks"]).values(check))
        assert job_id == worker.claim.job_id
        return bench

    def test_counts_gets_and_joins_only_its_own(self, filled: Bench) -> None:
        owned = (*tenants.OWNED, *tenants.OF_A_JOB, *tenants.OF_AN_ATTEMPT)
        with filled.db.of("alice").read() as mine, filled.db.of("bob").read() as others:
            for table in owned:
                keys = [column.key for column in table.__mapper__.primary_key]  # type: ignore[attr-defined]
                row = mine.scalars(select(table).limit(1)).one()
                identity = tuple(getattr(row, key) for key in keys)

                assert mine.scalar(select(func.count()).select_from(table)), table
                assert others.scalar(select(func.count()).select_from(table)) == 0, table
                assert others.get(table, identity) is None, table
                assert others.execute(select(*(getattr(table, key) for key in keys))).first() is None, table
                assert others.scalar(select(select(func.count()).select_from(table).scalar_subquery())) == 0, table
                assert others.scalars(select(aliased(table))).first() is None, table

    def test_sees_nothing_by_way_of_a_join(self, filled: Bench) -> None:
        joins = (
            select(Attempt.id).join(Job),
            select(Job.id).join(Attempt),
            select(Event.seq).join(Job, Job.id == Event.job_id),
            select(LogChunk.start).join(Attempt).join(Job),
            select(Artifact.name).where(Artifact.job_id.in_(select(Job.id))),
        )
        with filled.db.of("alice").read() as mine, filled.db.of("bob").read() as others:
            for query in joins:
                assert mine.execute(query).first() is not None, str(query)
                assert others.execute(query).first() is None, str(query)

    def test_changes_nothing_of_others(self, filled: Bench) -> None:
        with filled.db.of("bob").write() as session:
            assert session.execute(update(Job).values(name="bob was here")).rowcount == 0  # type: ignore[attr-defined]
            assert session.execute(delete(SavedBlob)).rowcount == 0  # type: ignore[attr-defined]
            assert session.execute(delete(Job)).rowcount == 0  # type: ignore[attr-defined]

    def test_bytes_that_another_tenant_names_stay(self, filled: Bench) -> None:
        """Bob deletes his job: of the same bytes alice's are kept."""
        blob = a_blob(b"saved")
        assert artifacts.remove_unnamed(filled.db.of("bob"), filled.store, [blob.sha256]) == 0


class TestQuotas:
    def test_of_waiting_jobs_each_tenant_has_its_own(self, bench: Bench) -> None:
        limits = Quotas(tenant_queued=1)

        def submit(tenant: str) -> None:
            with bench.db.of(tenant).write() as session:
                jobs.submit(session, a_spec(), limits=limits)

        submit("alice")
        with pytest.raises(QueueFull, match="1 of your jobs"):
            submit("alice")
        submit("bob")

    def test_of_bytes_each_tenant_has_its_own_and_all_have_one(self, bench: Bench) -> None:
        with bench.db.of("alice").write() as session:
            artifacts.announce(session, a_blob(b"12345").sha256)
            weights.record(session, a_blob(b"12345"), 1)

        def ask(tenant: str, limits: Quotas) -> None:
            with bench.db.of(tenant).read() as session:
                quotas.check_storage(session, limits)

        with pytest.raises(StorageQuota, match="you may store"):
            ask("alice", Quotas(tenant_stored_bytes=5))
        ask("bob", Quotas(tenant_stored_bytes=5))
        with pytest.raises(StorageQuota):
            ask("bob", Quotas(stored_bytes=5))

    def test_of_running_jobs_and_nobody_waits_for_who_has_many(self, bench: Bench) -> None:
        settings = Settings.from_environ({**bench.environ, "PURL_MAX_RUNNING": "10", "PURL_TENANT_RUNNING": "1"})
        for tenant in ("alice", "alice", "bob"):
            with bench.db.of(tenant).write() as session:
                jobs.submit(session, a_spec())

        started = []
        for _ in range(3):
            with bench.db.write() as session:
                claim = attempts.claim(session, settings)
                started.append(claim and session.get_one(Job, claim.job_id).tenant)

        assert started == ["alice", "bob", None]


def test_a_job_of_nobodys_session_is_the_defaults(bench: Bench) -> None:
    job_id = bench.submit()

    with bench.db.of(tenants.DEFAULT).read() as session:
        assert jobs.get(session, job_id).state is JobState.QUEUED
    with bench.db.of("bob").read() as session, pytest.raises(NotFound):
        jobs.get(session, job_id)
