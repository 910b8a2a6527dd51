"""The cleaner, on both stores, just as somebody sends again what it has come for."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select

from services import artifacts, attempts
from services.artifacts import blobs
from services.errors import SweptMeanwhile
from services.tables import SavedBlob
from tests.bench import Bench
from tests.integration.stores import Shelf, sha256_of
from tests.integration.yard import Yard


@pytest.fixture
def yard(bench: Bench, shelf: Shelf) -> Yard:
    return Yard(bench, shelf)


class TestAMeeting:
    """Bytes that have lain unnamed for long are sent again, just as the cleaner comes for them."""

    DATA = b"the same bytes again"

    @pytest.fixture
    def old(self, yard: Yard) -> str:
        sha256 = yard.keep(self.DATA).sha256
        yard.pass_time()
        return sha256

    @pytest.mark.usefixtures("old")
    def test_sent_again_before_the_cleaner_looks_they_are_fresh(self, yard: Yard) -> None:
        worker = yard.bench.running()
        yard.keep(self.DATA)

        assert yard.clean().blobs == 0

        worker.save("search", self.DATA)
        assert yard.holds(self.DATA)

    def test_named_before_the_cleaner_gets_there_they_stay(self, yard: Yard, old: str) -> None:
        with yard.bench.db.read() as session:
            doomed = blobs.unnamed(session, idle_ms=0)
        worker = yard.bench.running()
        yard.save(worker, "search", self.DATA)

        artifacts.remove_unnamed(yard.bench.db, yard.shelf.store, doomed)

        assert doomed == [old]
        assert yard.holds(self.DATA)

    def test_removed_before_they_are_named_they_are_asked_for_again(self, yard: Yard, old: str) -> None:
        worker = yard.bench.running()
        blob = yard.keep(self.DATA)
        artifacts.remove_unnamed(yard.bench.db, yard.shelf.store, [old])

        with pytest.raises(SweptMeanwhile), yard.bench.db.write() as session:
            attempts.save_work(session, worker.attempt, "search", blob)

        yard.save(worker, "search", self.DATA)
        assert yard.holds(self.DATA)

    def test_whoever_wins_no_row_ever_names_missing_bytes(self, yard: Yard) -> None:
        """Both for real and at once, on few contents and with hardly any grace, so that they meet all the time.

        The grace grows with each that it was too short for: a busy machine needs longer from the store to the row.
        """
        contents = [f"content {number}".encode() for number in range(3)]
        done = threading.Event()
        refused = 0

        def clean_on() -> None:
            while not done.is_set():
                grace = 100 * 2**refused
                artifacts.remove_unnamed(yard.bench.db, yard.shelf.store, map(sha256_of, contents), idle_ms=grace)

        cleaners = [threading.Thread(target=clean_on) for _ in range(2)]
        worker = yard.bench.running()
        for cleaner in cleaners:
            cleaner.start()
        try:
            for turn in range(15):
                data = contents[turn % 3]
                blob = yard.keep(data)
                try:
                    with yard.bench.db.write() as session:
                        attempts.save_work(session, worker.attempt, "search", blob)
                except SweptMeanwhile:
                    refused += 1
                    continue
                assert yard.holds(data), "a row names it"
        finally:
            done.set()
            for cleaner in cleaners:
                cleaner.join()

        with yard.bench.db.read() as session:
            for named in session.scalars(select(SavedBlob.sha256)):
                assert named in yard.shelf.names()
        assert refused < 15
