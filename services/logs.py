"""What processes say: one line for each event of our own, and the end of what an attempt said."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from services import artifacts
from services.artifacts import Blob, Store
from services.database import Database

# Of a longer one the end is kept: what a reader wants of a log is how it ended.
KEPT_BYTES = 8 * 2**20


# A line for each request, where logs are collected; on a terminal it would bury the rest.
ACCESS = logging.getLogger("purl.access")

# Whose request or work the lines are about, for as long as it is: threads of a request inherit it.
_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("about", default={})  # noqa: B039, never changed in place
NAMES = ("request_id", "job_id", "attempt_id")


def set_up(process: str, environ: Mapping[str, str] = os.environ) -> None:
    """Called once by each process of the service, before anything else; Settings complain of a bad format later."""
    as_json = environ.get("PURL_LOG_FORMAT", "").strip() == "json"
    said = f"%(asctime)s {process} %(levelname)s %(message)s"
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(process) if as_json else logging.Formatter(said))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    ACCESS.setLevel(logging.INFO if as_json else logging.WARNING)
    # These tell of every step at INFO; what matters of it is said by those who take it.
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def path_of(row_id: str, data_dir: Path) -> Path:
    """Where what an attempt or a check says is written on this machine."""
    return data_dir / "logs" / f"{row_id}.log"


@contextmanager
def about(**names: str) -> Iterator[None]:
    """Every line from within, and from threads that it starts, bears these."""
    before = _ABOUT.set({**_ABOUT.get(), **names})
    try:
        yield
    finally:
        _ABOUT.reset(before)


class JsonLines(logging.Formatter):
    """One object a line: when, who, how bad and what; then whose request, job and attempt; then what the event has."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "process": self._process,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_ABOUT.get(),
            **{name: getattr(record, name) for name in NAMES if hasattr(record, name)},
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def keep_tail(path: Path, db: Database, store: Store) -> Blob | None:
    """The end of a log as a blob, from the beginning of a line; None if there is no log."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return None
    with path.open("rb") as file, store.begin() as writer:
        if size > KEPT_BYTES:
            file.seek(size - KEPT_BYTES)
            file.readline()
        writer.write(file.read(KEPT_BYTES))
        return artifacts.keep(db, writer)
