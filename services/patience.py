"""What a process does about a database that does not answer: says so once for each try, and tries again."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from services.database import Database, check_schema, unusable
from services.stopping import Stop

log = logging.getLogger(__name__)

# A database that is away is asked again this often.
LONGEST_PAUSE_SECONDS = 10.0


def pause(seconds: float, failures: int) -> float:
    """Twice as long after each failure in a row, for however many hours they go on."""
    return min(seconds * 2.0 ** min(failures, 16), max(seconds, LONGEST_PAUSE_SECONDS))


@contextmanager
def noting(errors: list[Exception]) -> Iterator[None]:
    """What fails here does not keep the rest from being done."""
    try:
        yield
    except Exception as error:
        errors.append(error)


def tell(errors: Sequence[Exception]) -> None:
    """A database that is away is a line for each pass, anything else a traceback."""
    seen: set[str] = set()
    for error in errors:
        if str(error) in seen:
            continue
        seen.add(str(error))
        if isinstance(error, DBAPIError):
            log.warning("the database does not answer, trying again: %s", error.orig)
        else:
            log.error("trying again after: %s", error, exc_info=error)


def wait_for(db: Database, stop: Stop) -> None:
    """A database that is not up yet is no reason to die; one of another version is."""
    while not stop.asked:
        try:
            return check_schema(db)
        except DBAPIError as error:
            log.warning("%s; trying again", unusable(error))
        stop.wait(1.0)
    return None
