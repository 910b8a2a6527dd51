"""Connections that keep the service's promises, sessions that see one moment, a clock that is the database's own."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.dialects import postgresql as dialect
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.schema import CreateTable

from services.database import Database, clock, now_ms
from services.tables import Base, Event, Job
from tests.bench import Bench


@pytest.fixture
def on_sqlite(sqlite_url: str) -> Iterator[Database]:
    with closing(Database.open(sqlite_url)) as db:
        yield db


@pytest.fixture
def on_postgresql(postgresql_url: str) -> Iterator[Database]:
    with closing(Database.open(postgresql_url)) as db:
        yield db


def test_every_connection_to_sqlite_is_set_up_to_keep_its_promises(on_sqlite: Database) -> None:
    with on_sqlite.read() as session:
        pragmas = {
            name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }

    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 20_000}


def test_and_so_is_every_connection_to_postgresql(on_postgresql: Database) -> None:
    settings = ("synchronous_commit", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_isolation")

    def shown() -> list[str]:
        return [str(session.execute(text(f"SHOW {name}")).scalar()) for name in settings]

    with on_postgresql.write() as session:
        assert shown() == ["on", "20s", "1min", "read committed"]
    with on_postgresql.read() as session:
        assert shown() == ["on", "20s", "1min", "repeatable read"]


def test_a_commit_is_durable_even_where_the_server_is_set_to_answer_early(postgresql_url: str) -> None:
    with closing(Database.open(postgresql_url)) as db, db.write() as session:
        name = session.execute(text("SELECT current_database()")).scalar()
        session.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))

    with closing(Database.open(postgresql_url)) as db, db.write() as session:
        assert session.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_a_writer_of_sqlite_holds_the_lock_from_its_first_word(on_sqlite: Database) -> None:
    with on_sqlite.write() as session:
        session.execute(select(Job.id))
        other = sqlite3.connect(str(on_sqlite.engine.url.database), timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        assert other.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
        other.close()


def test_a_connection_that_was_lost_meanwhile_is_replaced_before_it_is_used(
    on_postgresql: Database, postgresql_url: str
) -> None:
    with on_postgresql.read() as session:
        lost = session.scalars(select(func.pg_backend_pid())).one()
    with closing(Database.open(postgresql_url)) as other, other.write() as session:
        session.execute(select(func.pg_terminate_backend(lost, 5000)))

    with on_postgresql.read() as session:
        assert session.scalars(select(func.pg_backend_pid())).one() != lost


def test_a_transaction_that_outlasts_the_database_leaves_no_connection_behind(postgresql_url: str) -> None:
    db = Database.open(postgresql_url)
    with db.read() as session:
        late: Any = session.connection().connection.dbapi_connection
        db.close()
        session.execute(select(Job.id))

    assert late.closed


def test_who_is_cut_off_in_the_middle_of_a_transaction_does_not_hold_its_locks_for_ever(
    tmp_path: Path, postgresql_url: str
) -> None:
    """On SQLite a lock goes with its process. On PostgreSQL the server has to give up on the silent one."""
    with closing(Bench(tmp_path, postgresql_url)) as bench, bench.db.engine.connect() as silent:
        worker = bench.running()
        silent.exec_driver_sql("SELECT id FROM jobs FOR UPDATE")
        silent.exec_driver_sql("SET idle_in_transaction_session_timeout = 200")  # from here on it is silent

        assert worker.beat() == "continue"

        with pytest.raises(DBAPIError) as lost:
            silent.exec_driver_sql("SELECT 1")
        assert lost.value.connection_invalidated


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

    with pytest.raises(IntegrityError, match=r"(?i)foreign key"):
        rename_and_fail()

    assert bench.job(job_id).name is None


def test_rows_go_with_their_job(bench: Bench) -> None:
    worker = bench.running()
    worker.save("search", b"1")
    worker.stage("policy.json", b"{}")

    with bench.db.write() as session:
        session.delete(session.get_one(Job, worker.claim.job_id))

    with bench.db.read() as session:
        for name, table in Base.metadata.tables.items():
            # What the store holds has no job: the cleaner sees to it.
            assert name == "blobs" or session.execute(select(table)).all() == []


def test_the_clock_is_utc_in_milliseconds(bench: Bench) -> None:
    with bench.db.read() as session:
        clock(session)  # connecting takes its time
        before = time.time_ns() // 1_000_000
        moment = clock(session)
    after = time.time_ns() // 1_000_000

    assert before - 1 <= moment <= after + 1


def test_the_clock_goes_on_within_a_transaction(bench: Bench) -> None:
    """One that had to wait for a lock must not write down when it began to wait."""
    with bench.db.write() as session:
        first = clock(session)
        time.sleep(0.01)
        assert clock(session) >= first + 9


def test_nothing_is_peculiar_to_sqlite() -> None:
    postgresql = dialect.dialect()  # type: ignore[no-untyped-call]

    assert "clock_timestamp()" in str(select(now_ms()).compile(dialect=postgresql))
    for table in Base.metadata.sorted_tables:
        assert str(CreateTable(table).compile(dialect=postgresql))
        for index in table.indexes:
            assert (index.dialect_options["sqlite"]["where"] is None) == (
                index.dialect_options["postgresql"]["where"] is None
            )
