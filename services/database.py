"""The database: sessions that read, sessions that write, its clock, and the version of its tables."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import BigInteger, Connection, Engine, create_engine, event, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from services.errors import SchemaMismatch

MIGRATIONS = Path(__file__).parent / "migrations"

# A write holds SQLite's one lock for milliseconds; a disk that takes this long to sync is not coming back.
BUSY_MS = 20_000

# As many as FastAPI has threads, so that no request waits for a connection while a thread is free.
CONNECTIONS = 40


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
    return session.connection().execute(select(now_ms())).scalar_one()


class Database:
    """One engine for the process. Threads may share it; every `with` is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # Rows stay readable after their transaction: a handler answers with them.
        self._reading = sessionmaker(engine, expire_on_commit=False, autoflush=False)
        # SQLite has one writer at a time and lets the others sleep for ever longer: here they wait in line.
        self._one_writer = threading.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._writing = sessionmaker(engine.execution_options(sqlite_begin="BEGIN IMMEDIATE"), expire_on_commit=False)

    @classmethod
    def open(cls, url: str) -> Database:
        return cls(_engine(url))

    @contextmanager
    def read(self) -> Iterator[Session]:
        """One consistent view. Nothing that is changed in it is kept."""
        with self._reading() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """All or nothing; durable when the `with` ends without an exception."""
        with self._one_writer, self._writing.begin() as session:
            yield session

    def close(self) -> None:
        self.engine.dispose()


def upgrade(url: str) -> None:
    """Bring the tables to this program's version, creating what is missing."""
    # Changing a table on SQLite means copying it and dropping the old one, which would cascade to every row below.
    engine = _engine(url, foreign_keys=False)
    try:
        with engine.execution_options(sqlite_begin="BEGIN IMMEDIATE").begin() as connection:
            config = _alembic()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
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


def _engine(url: str, *, foreign_keys: bool = True) -> Engine:
    # NaN is no JSON: refuse it here rather than store what PostgreSQL and clients can't read.
    serializer = partial(json.dumps, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return create_engine(url, json_serializer=serializer, pool_size=CONNECTIONS, pool_pre_ping=True)
    if parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, json_serializer=serializer, pool_size=CONNECTIONS)
    pragmas = [
        f"PRAGMA busy_timeout = {BUSY_MS}",
        "PRAGMA journal_mode = WAL",
        # A commit that was answered must survive a power cut: less than FULL may lose the last ones in WAL mode.
        "PRAGMA synchronous = FULL",
        f"PRAGMA foreign_keys = {'ON' if foreign_keys else 'OFF'}",
    ]

    @event.listens_for(engine, "connect")
    def _prepare(connection: DBAPIConnection, _record: object) -> None:
        # The driver would begin transactions by its own rules, and always deferred.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer takes the lock before it reads: one that reads first and then finds another writer can only fail.
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return engine


def _alembic() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config


def _check_foreign_keys(connection: Connection) -> None:
    if connection.dialect.name == "sqlite" and connection.exec_driver_sql("PRAGMA foreign_key_check").first():
        raise SchemaMismatch("a migration would leave rows without their job", remedy="nothing was changed; report it")
