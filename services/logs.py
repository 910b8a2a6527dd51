"""What processes say: one line for each event of our own, and the end of what an attempt said."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from services import artifacts
from services.artifacts import Blob, Store
from services.database import Database

# Of a longer one the end is kept: what a reader wants of a log is how it ended.
KEPT_BYTES = 8 * 2**20


def set_up(process: str) -> None:
    """Called once by each process of the service, before anything else."""
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format=f"%(asctime)s {process} %(levelname)s %(message)s",
    )
    # These tell of every step at INFO; what matters of it is said by those who take it.
    for chatty in ("alembic", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def path_of(row_id: str, data_dir: Path) -> Path:
    """Where what an attempt or a check says is written on this machine."""
    return data_dir / "logs" / f"{row_id}.log"


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
