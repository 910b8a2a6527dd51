"""The tables that the migrations make are the tables that the program means."""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import select
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from services import database
from services.database import Database, check_schema, clock, now_ms, upgrade
from services.errors import SchemaMismatch
from services.tables import Attempt, Base, Event, Job, SavedBlob
from services.testing import settings_in
from tests.bench import Bench

# On SQLite this copies the table of jobs and drops the old one, with attempts and saved work pointing to it.
LATER_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = "HEAD"


def upgrade():
    with op.batch_alter_table("jobs", recreate="always") as table:
        table.add_column(sa.Column("colour", sa.Text()))
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    return settings_in(tmp_path).database_url


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    db = Database.open(url)
    yield db
    db.close()


def test_the_migrations_make_what_the_tables_say(url: str, db: Database) -> None:
    upgrade(url)

    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_upgrading_twice_keeps_what_is_there(bench: Bench) -> None:
    job_id = bench.submit()

    upgrade(bench.settings.database_url)

    assert bench.job(job_id).id == job_id


def test_a_later_revision_may_change_a_table_that_others_point_to(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = bench.running()
    worker.save("search", b"1")
    later = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, later)
    head = ScriptDirectory(str(later)).get_current_head()
    (later / "versions" / "later.py").write_text(LATER_REVISION.replace("HEAD", str(head)))
    monkeypatch.setattr(database, "MIGRATIONS", later)

    upgrade(bench.settings.database_url)

    check_schema(bench.db)
    assert worker.beat() == "continue"
    with bench.db.read() as session:
        assert session.get(SavedBlob, (worker.claim.job_id, "search")) is not None


def test_a_database_without_tables_is_refused(db: Database) -> None:
    with pytest.raises(SchemaMismatch, match="python -m services migrate"):
        check_schema(db)


def test_a_newer_database_is_refused(url: str, db: Database) -> None:
    upgrade(url)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(SchemaMismatch, match="newer"):
        check_schema(db)


def test_an_upgrade_that_fails_leaves_nothing_behind(url: str, db: Database) -> None:
    with db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE weights (this_is_in_the_way INTEGER)")

    with pytest.raises(Exception, match="already exists"):
        upgrade(url)

    with db.engine.connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    assert names == ["weights"]


def test_every_connection_is_set_up_to_keep_its_promises(db: Database) -> None:
    with db.read() as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 20_000}


def test_a_writer_holds_the_lock_from_its_first_word(url: str, db: Database) -> None:
    upgrade(url)

    with db.write() as session:
        session.execute(select(Job.id))
        other = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        other.close()


def test_a_reader_sees_one_moment_and_changes_nothing(bench: Bench) -> None:
    with bench.db.read() as session:
        before = len(list(session.scalars(select(Job.id))))
        job_id = bench.submit()
        assert len(list(session.scalars(select(Job.id)))) == before

    with bench.db.read() as session:
        session.get_one(Job, job_id).name = "changed"
        session.flush()

    assert bench.job(job_id).name is None


def test_what_fails_half_way_is_undone(bench: Bench) -> None:
    job_id = bench.submit()

    def rename_and_fail() -> None:
        with bench.db.write() as session:
            session.get_one(Job, job_id).name = "changed"
            session.add(Event(job_id="job_of_nobody", seq=1, type="note", data={}, created_at=0))

    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        rename_and_fail()

    assert bench.job(job_id).name is None


def test_rows_go_with_their_job(bench: Bench) -> None:
    worker = bench.running()
    worker.save("search", b"1")
    worker.stage("policy.json", b"{}")

    with bench.db.write() as session:
        session.delete(session.get_one(Job, worker.claim.job_id))

    with bench.db.read() as session:
        for table in Base.metadata.tables.values():
            assert session.execute(select(table)).all() == []


def test_the_clock_is_utc_in_milliseconds(db: Database) -> None:
    before = time.time_ns() // 1_000_000
    with db.read() as session:
        moment = clock(session)
    after = time.time_ns() // 1_000_000

    assert before - 1 <= moment <= after + 1


def test_nothing_is_peculiar_to_sqlite() -> None:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

    assert "clock_timestamp()" in str(select(now_ms()).compile(dialect=dialect))
    for table in Base.metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert (index.dialect_options["sqlite"]["where"] is None) == (
                index.dialect_options["postgresql"]["where"] is None
            )


def test_a_claim_passes_over_rows_that_another_claimer_holds_on_postgresql() -> None:
    queue = select(Attempt.id).with_for_update(skip_locked=True)

    assert "FOR UPDATE SKIP LOCKED" in str(queue.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
