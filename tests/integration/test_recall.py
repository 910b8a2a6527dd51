"""What was read of an unchanged database is said again, and never once it has changed: on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest
from sqlalchemy import text

from api import recall
from api.recall import Recall
from services.database import Database
from tests.bench import Bench
from tests.waiting import wait_until


class Reader:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self) -> bytes:
        self.reads += 1
        return b"%d" % self.reads


class Notices(threading.Event):
    """Tells who waits for it."""

    waiting: ClassVar[list[threading.Thread]] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waiting.append(threading.current_thread())
        return super().wait(timeout)


@pytest.fixture(autouse=True)
def time_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "KEPT_SECONDS", 60.0)


def test_while_nobody_writes_it_is_read_once_for_each_question(bench: Bench) -> None:
    memory, read = Recall(bench.db), Reader()

    bench.submit()
    answers = [memory.get("a", read), memory.get("a", read), memory.get("b", read), memory.get("a", read)]

    assert answers == [b"1", b"1", b"2", b"1"]


def test_after_every_commit_it_is_read_anew_whoever_made_it(bench: Bench) -> None:
    memory, read = Recall(bench.db), Reader()
    other_process = Database.open(bench.environ["PURL_DATABASE_URL"])

    def by_another() -> None:
        with other_process.write() as session:
            session.execute(text("UPDATE jobs SET priority = priority + 1"))

    bench.submit()
    writes: list[Callable[[], object]] = [bench.submit, by_another, bench.submit, by_another]
    for expected, write in enumerate(writes, start=1):
        assert memory.get("a", read) == memory.get("a", read) == b"%d" % expected
        write()
    other_process.close()

    assert memory.get("a", read) == b"5"


def test_what_is_not_committed_is_not_there_and_what_was_read_meanwhile_is_not_kept(bench: Bench) -> None:
    memory = Recall(bench.db)

    def count() -> bytes:
        with bench.db.read() as session:
            return b"%d" % session.execute(text("SELECT count(*) FROM jobs")).scalar_one()

    with bench.db.write() as session:
        session.execute(text("DELETE FROM jobs"))
        before = memory.get("jobs", count)
    bench.submit()

    def read_as_somebody_writes() -> bytes:
        told = count()
        bench.submit()
        return told

    assert before == b"0"
    assert memory.get("jobs", count) == b"1"
    bench.submit()
    assert memory.get("jobs", read_as_somebody_writes) == b"2"
    assert memory.get("jobs", count) == b"3"


def test_readers_in_many_threads_are_told_what_is_committed(bench: Bench) -> None:
    """Whoever asks after a commit sees it, whatever the others have asked before."""
    memory, failures = Recall(bench.db), list[str]()
    committed = 0

    def count() -> bytes:
        with bench.db.read() as session:
            return b"%d" % session.execute(text("SELECT count(*) FROM jobs")).scalar_one()

    def look() -> None:
        while committed < 10:
            least = committed
            told = int(memory.get("jobs", count))
            if told < least:
                failures.append(f"{told} of {least}")

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        bench.submit()
        committed += 1
    for thread in threads:
        thread.join()

    assert failures == []


def test_who_asks_while_another_reads_the_same_waits_for_that_unless_somebody_has_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "Event", Notices)
    monkeypatch.setattr(Notices, "waiting", [])
    memory, reading, written = Recall(bench.db), threading.Event(), threading.Event()
    reads: list[str] = []

    def slowly() -> bytes:
        reads.append("slowly")
        reading.set()
        assert written.wait(60)
        return b"before"

    def at_once() -> bytes:
        reads.append("at once")
        return b"after"

    with ThreadPoolExecutor() as pool:
        first = pool.submit(memory.get, "a", slowly)
        assert reading.wait(60)
        together = [pool.submit(memory.get, "a", at_once) for _ in range(3)]
        wait_until("all wait for the first", lambda: len(Notices.waiting) == 3)
        bench.submit()
        after = memory.get("a", at_once)
        written.set()

        assert [first.result(), *(one.result() for one in together)] == [b"before"] * 4
    assert after == b"after"
    assert reads == ["slowly", "at once"]


def test_who_has_waited_for_a_failure_reads_for_itself(bench: Bench) -> None:
    memory, reading, waits = Recall(bench.db), threading.Event(), threading.Event()

    def fails() -> bytes:
        reading.set()
        assert waits.wait(60)
        raise LookupError

    with ThreadPoolExecutor() as pool:
        first = pool.submit(memory.get, "a", fails)
        assert reading.wait(60)
        second = pool.submit(memory.get, "a", lambda: b"read")
        waits.set()

        assert second.result() == b"read"
        with pytest.raises(LookupError):
            first.result()


def test_an_answer_is_not_kept_for_ever(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may tell of a clock that goes on without anybody writing."""
    monkeypatch.setattr(recall, "KEPT_SECONDS", 0.0)
    memory, read = Recall(bench.db), Reader()

    assert [memory.get("a", read), memory.get("a", read)] == [b"1", b"2"]


def test_a_failure_is_not_kept(bench: Bench) -> None:
    memory, read = Recall(bench.db), Reader()

    def fails() -> bytes:
        raise LookupError

    with pytest.raises(LookupError):
        memory.get("a", fails)

    assert memory.get("a", read) == b"1"


def test_what_is_kept_is_bounded_however_many_questions_are_made_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "KEPT_BYTES", 10 * (recall.BESIDE_BYTES + 100))
    memory = Recall(bench.db)

    for number in range(100):
        memory.get(number, lambda: b"x" * 100)
        assert len(memory._answers) <= 10
    read = Reader()

    assert memory.get(99, read) == b"x" * 100, "the latest is still there"
    assert memory.get(0, read) == b"1"
