"""A service without processes whose workers really store what they send, for tests of what stays and what goes."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import update

from services import artifacts
from services.artifacts import Blob
from services.cleaning import DAY_MS, Cleaned, clean
from services.tables import Attempt, Check, Job, StoredBlob
from services.testing import FakeWorker
from tests.bench import Bench
from tests.integration.stores import Shelf, sha256_of

LONG_AGO_DAYS = 10
LONG_AGO = LONG_AGO_DAYS * DAY_MS


class Yard:
    """A service whose workers really store what they send."""

    def __init__(self, bench: Bench, shelf: Shelf) -> None:
        self.bench = bench
        self.shelf = shelf

    def keep(self, data: bytes) -> Blob:
        with self.shelf.store.begin() as writer:
            writer.write(data)
            return artifacts.keep(self.bench.db, writer)

    def save(self, worker: FakeWorker, name: str, data: bytes) -> None:
        self.keep(data)
        worker.save(name, data)

    def pass_time(self) -> None:
        """As if everything that is on record had happened ten days ago."""
        with self.bench.db.write() as session:
            session.execute(update(StoredBlob).values(touched_at=StoredBlob.touched_at - LONG_AGO))
            session.execute(update(Attempt).values(ended_at=Attempt.ended_at - LONG_AGO))
            session.execute(update(Job).values(finished_at=Job.finished_at - LONG_AGO))
            session.execute(update(Check).values(expires_at=Check.expires_at - LONG_AGO))

    def clean(self, **settings: float) -> Cleaned:
        return clean(self.bench.db, self.shelf.store, replace(self.bench.settings, **settings))

    def holds(self, data: bytes) -> bool:
        return sha256_of(data) in self.shelf.names()
