"""Many watchers at the cost of one, and streams that may break anywhere."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api import watching
from api.deps import Parts
from services.database import Database
from tests.integration.over_http import Service, serving
from tests.integration.test_api_events import a_note, stream
from tests.statements import Statement, asked
from tests.waiting import DEADLINE_SECONDS, wait_until


def reads_of_events(statements: list[Statement]) -> int:
    """Questions for a page of events. How often it is asked whether there are any only time tells."""
    return sum("FROM events" in statement.sql and "LIMIT" in statement.sql for statement in statements)


@contextmanager
def looks_of(hub: watching.Hub, db: Database) -> Iterator[list[list[str]]]:
    """What the database was asked, by anybody, from the end of each look to the end of the next one."""
    looks: list[list[str]] = []
    look = hub._look

    with asked(db) as statements:

        def noted(known: dict[str, int]) -> Any:
            found = look(known)
            looks.append([statement.sql for statement in statements])
            statements.clear()
            return found

        hub._look = noted  # type: ignore[method-assign]
        yield looks


async def some(pieces: AsyncIterator[bytes], count: int) -> list[bytes]:
    return [await anext(pieces) for _ in range(count)]


def reads_for(service: Service, watchers: int) -> int:
    """What it takes to bring ten events, said one after another, to so many watchers who have seen the rest."""
    job_id = service.submit()["id"]
    worker = service.claim()
    worker.say(a_note(0))
    start = len(service.http.get(f"/jobs/{job_id}/events").json()["data"])
    parts = Parts(db=service.db, settings=service.settings, store=service.store, launcher=service.launcher)

    async def watch() -> int:
        streams = [parts.hub.follow(job_id, 0) for _ in range(watchers)]
        await asyncio.gather(*(some(pieces, start) for pieces in streams))
        with asked(service.db) as statements:
            for number in range(1, 11):
                await asyncio.to_thread(worker.say, a_note(number))
                told = await asyncio.gather(*(some(pieces, 1) for pieces in streams))
                assert {piece for (piece,) in told} == {told[0][0]}
                assert f'"number":{number}' in told[0][0].decode()
        for pieces in streams:
            await pieces.aclose()  # type: ignore[attr-defined]
        return reads_of_events(statements)

    return asyncio.run(watch())


def test_two_hundred_watchers_cost_the_database_what_one_does(service: Service) -> None:
    one, many = reads_for(service, 1), reads_for(service, 200)

    assert (one, many) == (10, 10), "each event is read once, however many want it"


def test_two_hundred_connections_hear_all_for_one_look_at_a_time(service: Service) -> None:
    """The same over real HTTP: 200 streams of a running service, each of which is told every event once."""
    job_id = service.submit()["id"]
    worker = service.claim()
    request = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
    port = int(service.url.rpartition(":")[2])

    async def heard(reader: asyncio.StreamReader, number: int) -> bytes:
        return await reader.readuntil(f'"number":{number}'.encode())

    async def watch() -> tuple[list[bytes], int]:
        lines = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
        for _, writer in lines:
            writer.write(request)
        await asyncio.to_thread(worker.say, a_note(0))
        await asyncio.gather(*(heard(reader, 0) for reader, _ in lines))
        with asked(service.db) as statements:
            for number in range(1, 6):
                await asyncio.to_thread(worker.say, a_note(number))
                told = await asyncio.gather(*(heard(reader, number) for reader, _ in lines))
        for _, writer in lines:
            writer.close()
        return told, reads_of_events(statements)

    told, read = asyncio.run(watch())

    assert [piece.count(b"event: note") for piece in told] == [1] * 200
    assert read == 5, "watchers that read each for itself would have read a thousand times"


def test_watchers_of_many_jobs_share_one_look(service: Service) -> None:
    jobs = [service.submit()["id"] for _ in range(50)]
    parts = Parts(db=service.db, settings=service.settings, store=service.store, launcher=service.launcher)

    async def watch() -> list[list[str]]:
        streams = [parts.hub.follow(job_id, 0) for job_id in jobs]
        await asyncio.gather(*(some(pieces, 1) for pieces in streams))
        waiting = [asyncio.create_task(anext(pieces)) for pieces in streams]  # type: ignore[arg-type]
        with looks_of(parts.hub, service.db) as looks:
            while len(looks) < 12:
                await asyncio.sleep(service.settings.poll_seconds)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return looks

    looks = asyncio.run(watch())

    asked = [[said for said in look if "BEGIN" not in said] for look in looks[2:]]  # once all wait for what is new
    assert [len(look) for look in asked] == [1] * len(asked), "one question for all of them"
    assert len({said for look in asked for said in look}) == 1


def test_nothing_is_missed_or_repeated_over_restarts(tmp_path: Path) -> None:
    """The reader comes back with the last id that it saw, to another process on the same database."""
    seen: list[int] = []
    job_id, worker_token = "", ("", "")
    for life in range(3):
        with serving(tmp_path) as service:
            if life == 0:
                job_id = service.submit()["id"]
                worker = service.claim()
                worker_token = (worker.attempt_id, worker.token)
            worker = type(worker)(service.url, *worker_token)
            for number in range(3):
                worker.say(a_note(number), first_seq=3 * life + number)
            last = str(seen[-1]) if seen else None
            with stream(service, job_id, last_event_id=last) as events:
                # One less than there are: a restart comes in the middle.
                seen += [int(next(events).id) for _ in range(4 if life == 0 else 3)]
            if life == 2:
                worker.succeed()
                with stream(service, job_id, last_event_id=str(seen[-1])) as events:
                    seen += [int(said.id) for said in events]
                everything = service.http.get(f"/jobs/{job_id}/events").json()["data"]

    assert seen == [event["seq"] for event in everything] == list(range(1, len(seen) + 1))


def test_a_watcher_that_has_fallen_far_behind_catches_up_by_itself(service: Service) -> None:
    """More events than a feed keeps come between two steps of a slow reader, while a quick one sees them all."""
    job_id = service.submit()["id"]
    worker = service.claim()
    worker.say(a_note(0))
    parts = Parts(db=service.db, settings=service.settings, store=service.store, launcher=service.launcher)
    count = watching.EVENTS_KEPT * 2

    async def watch() -> tuple[list[bytes], list[bytes]]:
        slow, quick = parts.hub.follow(job_id, 0), parts.hub.follow(job_id, 0)
        early = await some(slow, 1), await some(quick, 1)
        await asyncio.to_thread(worker.say, *(a_note(number) for number in range(1, count)))
        await asyncio.to_thread(worker.succeed)
        ahead = [piece async for piece in quick]
        return early[0] + [piece async for piece in slow], early[1] + ahead

    slowly, quickly = asyncio.run(watch())

    assert slowly == quickly
    assert sum(piece.startswith(b"event: note") for piece in slowly) == count
    assert [int(piece.rpartition(b"id: ")[2]) for piece in slowly] == list(range(1, len(slowly) + 1))


def test_a_look_that_finds_no_free_connection_is_followed_by_another(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = service.submit()["id"]
    worker = service.claim()
    worker.say(a_note(0))
    parts = Parts(db=service.db, settings=service.settings, store=service.store, launcher=service.launcher)
    looks = 0
    look = parts.hub._look

    def once_in_vain(known: dict[str, int]) -> object:
        nonlocal looks
        looks += 1
        if looks == 2:
            raise PoolTimeout("QueuePool limit reached")
        return look(known)

    monkeypatch.setattr(parts.hub, "_look", once_in_vain)

    async def watch() -> list[bytes]:
        stream = parts.hub.follow(job_id, 0)
        seen = await some(stream, 1)
        while looks < 2:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(worker.succeed)
        async with asyncio.timeout(DEADLINE_SECONDS):
            return seen + [piece async for piece in stream]

    told = asyncio.run(watch())

    assert b'"succeeded"' in told[-1]


def test_a_reader_that_stops_to_read_is_cut_off_and_may_come_back(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "STALLED_SECONDS", 0.3)
    job_id = service.submit()["id"]
    worker = service.claim()
    large = "x" * 200_000
    for number in range(60):  # more than all buffers between here and there hold
        worker.say(a_note(number).model_copy(update={"data": {"number": number, "large": large}}))

    received = bytearray()
    with closing(socket.socket()) as reader:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        reader.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
        request = f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        reader.sendall(request.encode())
        wait_until("it is watching", lambda: b"event: " in waiting_in(reader))
        wait_until("it is cut off", lambda: service.parts.hub.watchers == 0)
        with suppress(ConnectionError):
            while piece := reader.recv(65_536):
                received += piece

    assert 0 < received.count(b"event: note") < 60
    assert not received.endswith(b"0\r\n\r\n"), "the stream broke and did not end"
    monkeypatch.undo()  # a busy machine keeps the server waiting for a reader that reads
    worker.succeed()
    with stream(service, job_id, last_event_id="1") as events:
        assert sum(said.event == "note" for said in events) == 60


def waiting_in(reader: socket.socket) -> bytes:
    """What has come, and stays to be read."""
    try:
        return reader.recv(65_536, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
