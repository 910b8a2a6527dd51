"""The database: sessions that read, sessions that write, its clock, and the version of its tables."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from copy import copy
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Connection, Engine, PoolProxiedConnection, event, func, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from services.engine import make_engine
from services.errors import BadSetting, SchemaMismatch
from services.tenants import TenantSession

MIGRATIONS = Path(__file__).parent / "migrations"

# What PostgreSQL knows our own locks by: the letters "purl", and a number for each.
_LOCKS = 0x7075726C
UPGRADE_LOCK, CLAIM_LOCK = 1, 2


class now_ms(FunctionElement[int]):
    """The database's own clock: whole milliseconds of UTC."""

    type = BigInteger()
    inherit_cache = True


@compiles(now_ms, "sqlite")
def _now_on_sqlite(element: now_ms, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ARG001
    # SQLite counts milliseconds inside; a Julian day as a double is exact to 0.04 ms, so rounding restores them.
    return "CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)"


@compiles(now_ms, "postgresql")
def _now_on_postgresql(element: now_ms, compiler: SQLCompiler, **kwargs: Any) -> str:  # noqa: ARG001
    # Not now(): that is when the transaction began, and a transaction may have waited for a lock since.
    return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"


def clock(session: Session) -> int:
    """What time it is, for everything that is stored or compared. Asking does not flush a half-filled row."""
    return session.connection().execute(_NOW).scalar_one()


_NOW = select(now_ms())


class Tide:
    """Whether anybody, in whatever process, has committed anything since the last look.

    A value is given out once for each state of the database: while it stays the same, so does every answer.
    """

    def __init__(self, engine: Engine) -> None:
        self._sqlite = engine.dialect.name == "sqlite"
        self._engine = engine if self._sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = threading.Lock()
        self._connection: PoolProxiedConnection | None = None

    def now(self) -> object:
        if self._sqlite:
            return self._commits_of_others()
        # Whoever changes anything moves it: which transactions were over, and so can be seen.
        with self._engine.connect() as connection:
            return connection.exec_driver_sql("SELECT pg_current_snapshot()::text").scalar_one()

    def _commits_of_others(self) -> object:
        """SQLite counts for each connection what the others committed; this one never writes."""
        with self._lock:
            try:
                self._connection = self._connection or self._engine.raw_connection()
                with closing(self._connection.cursor()) as cursor:
                    cursor.execute("PRAGMA data_version")
                    return cursor.fetchone()
            except sqlite3.Error:
                return object()  # like nothing before: whoever asks reads anew, and is told there what is wrong

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class Database:
    """One engine for the process. Threads may share it; every `with` is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # On SQLite every transaction sees one moment; PostgreSQL has to be asked for it.
        sqlite = engine.dialect.name == "sqlite"
        snapshot = engine if sqlite else engine.execution_options(isolation_level="REPEATABLE READ")
        # Rows stay readable after their transaction: a handler answers with them.
        self._reading = sessionmaker(snapshot, class_=TenantSession, expire_on_commit=False, autoflush=False)
        # SQLite has one writer at a time and lets the others sleep for ever longer: here they wait in line.
        self._one_writer = threading.Lock() if sqlite else nullcontext()
        at_once = engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self._writing = sessionmaker(at_once, class_=TenantSession, expire_on_commit=False)
        self.tide = Tide(engine)
        self.tenant: str | None = None  # of everybody

    @classmethod
    def open(cls, url: str) -> Database:
        return cls(make_engine(url))

    def of(self, tenant: str) -> Database:
        """The same database as this tenant sees it: see services.tenants. Nobody closes it but whoever opened this."""
        theirs = copy(self)
        theirs.tenant = tenant
        return theirs

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view. Nothing that is changed in it is kept."""
        with self._reading(info={"tenant": self.tenant}) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """All or nothing; durable when the `with` ends without an exception."""
        with self._one_writer, self._writing(info={"tenant": self.tenant}) as session, session.begin():
            yield session

    def close(self) -> None:
        self.tide.close()
        # A thread may be in the middle of a transaction. The pool would take its connection back and never close it.
        event.listen(self.engine, "checkin", _close)
        self.engine.dispose()


def _close(_connection: object, record: ConnectionPoolEntry) -> None:
    record.close()


def alone(connection: Connection, lock: int) -> None:
    """Until the transaction ends nobody else gets past here with the same lock. SQLite's writers are alone anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(_LOCKS, lock)))


def unusable(error: DBAPIError) -> BadSetting:
    """What a database that can't be reached at the start is to whoever set it up: one line with the remedy."""
    said = " ".join(str(error.orig).split()) or type(error.orig).__name__
    remedy = "look at its host, name, user and password, or its file, and whether the server runs"
    return BadSetting("PURL_DATABASE_URL", f"leads to no database that answers ({said})", remedy=remedy)


def is_full(error: BaseException) -> bool:
    """Whether the database has no room left: to be told apart from one that does not answer."""
    cause = getattr(error, "orig", None)
    return getattr(cause, "sqlite_errorname", None) == "SQLITE_FULL" or getattr(cause, "sqlstate", None) == "53100"


def upgrade(url: str, *, revision: str = "head") -> None:
    """Bring the tables to this program's version, creating what is missing. An older `revision` is for tests."""
    # Changing a table on SQLite means copying it and dropping the old one, which would cascade to every row below.
    engine = make_engine(url, foreign_keys=False)
    try:
        with engine.execution_options(sqlite_begin="BEGIN IMMEDIATE").begin() as connection:
            alone(connection, UPGRADE_LOCK)
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
            _check_foreign_keys(connection)
    finally:
        engine.dispose()


def check_schema(db: Database) -> None:
    """Refuses a database whose tables are older or newer than this program."""
    with db.engine.connect() as connection:
        present = MigrationContext.configure(connection).get_current_revision()
    scripts = ScriptDirectory.from_config(_alembic())
    if present == scripts.get_current_head():
        return
    known = {script.revision for script in scripts.walk_revisions()}
    if present is None or present in known:
        raise SchemaMismatch("the database is older than this program", remedy="run python -m services migrate")
    raise SchemaMismatch("the database is newer than this program", remedy="run the version that it belongs to")


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _check_foreign_keys(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise SchemaMismatch("a migration would leave rows without their job", remedy="nothing was changed; report it")
