"""What a database is asked while a test looks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import event

from services.database import Database


class Statement(NamedTuple):
    sql: str
    given: Any  # its parameters, as the driver gets them

    @property
    def is_select(self) -> bool:
        return self.sql.lstrip().startswith("SELECT")


@contextmanager
def asked(db: Database) -> Iterator[list[Statement]]:
    """Every statement meanwhile, by whatever thread of this process."""
    statements: list[Statement] = []

    def note(_connection: object, _cursor: object, sql: str, given: Any, *_: object) -> None:
        statements.append(Statement(sql, given))

    event.listen(db.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(db.engine, "before_cursor_execute", note)
