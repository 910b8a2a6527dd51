"""One engine for each of the two databases, every connection of it set up to keep the service's promises."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection

from services.errors import BadSetting

# A write holds its lock for milliseconds; a disk that takes this long to sync is not coming back.
BUSY_MS = 20_000

# As many as FastAPI has threads, so that no request waits for a connection while a thread is free.
SQLITE_CONNECTIONS = 40

# A server allows 100 in all by default: two APIs and two dispatchers fit. Who finds none free waits for a moment.
POSTGRESQL_CONNECTIONS = 20

# A server that vanished without a word is noticed while leases still last: a heartbeat waits 10 s for its answer.
POSTGRESQL_CONNECT = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": BUSY_MS,
}

POSTGRESQL_SESSION = (
    # A server or a role may be set to answer a commit before it is on disk; a 202 would then not be durable.
    "SET SESSION synchronous_commit = on",
    f"SET SESSION lock_timeout = {BUSY_MS}",
    # A process that is stopped or cut off in the middle of a transaction must not hold its locks for ever.
    f"SET SESSION idle_in_transaction_session_timeout = {3 * BUSY_MS}",
)


def make_engine(url: str, *, foreign_keys: bool = True) -> Engine:
    """Connects to nothing yet. `foreign_keys` is for migrations on SQLite alone."""
    parsed = make_url(url)
    return _sqlite(parsed, foreign_keys=foreign_keys) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)


# NaN is no JSON: refuse it here rather than store what PostgreSQL and clients can't read.
_to_json = partial(json.dumps, allow_nan=False, ensure_ascii=False, separators=(",", ":"))


def _postgresql(url: URL) -> Engine:
    try:
        engine = create_engine(
            url,
            json_serializer=_to_json,
            # A transaction sees what others have committed once it holds the row's lock; SERIALIZABLE would only
            # add retries to that. Readers ask for REPEATABLE READ: one moment for all of an answer.
            isolation_level="READ COMMITTED",
            pool_size=POSTGRESQL_CONNECTIONS,
            max_overflow=0,
            # After a restart of the server every connection in the pool is dead: each is tried before it is used.
            pool_pre_ping=True,
            connect_args={**POSTGRESQL_CONNECT, "application_name": "purl"},
        )
    except ImportError:
        remedy = "install it with: pip install 'psycopg[binary]'"
        raise BadSetting("PURL_DATABASE_URL", "needs the package psycopg", remedy=remedy) from None

    @event.listens_for(engine, "connect")
    def _prepare(connection: DBAPIConnection, _record: object) -> None:
        cursor = connection.cursor()
        for statement in POSTGRESQL_SESSION:
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    return engine


def _sqlite(url: URL, *, foreign_keys: bool) -> Engine:
    if url.database:
        _make_folder(Path(url.database).parent)
    engine = create_engine(url, json_serializer=_to_json, pool_size=SQLITE_CONNECTIONS)
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


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "choose a file in a folder that this account may write to"
        raise BadSetting("PURL_DATABASE_URL", f"can't be used ({error.strerror})", remedy=remedy) from error
