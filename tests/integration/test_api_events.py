"""What happened to a job, as pages and as a live stream that may break anywhere."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.deps import Parts
from purlkit.results import WorkerEvent
from tests.integration.over_http import Service, assert_problem, serving
from tests.waiting import wait_until


def a_note(number: int) -> WorkerEvent:
    return WorkerEvent(type="note", data={"number": number})


@dataclass(frozen=True)
class Said:
    """One event of a stream, as a browser would see it."""

    id: str
    event: str
    data: dict[str, Any]


@contextmanager
def stream(service: Service, job_id: str, last_event_id: str | None = None, **params: Any) -> Iterator[Iterator[Said]]:
    """A reader of its own, which only leaving the `with` or the server ends."""
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_event_id} if last_event_id else {})
    address = f"{service.url}/jobs/{job_id}/events"
    with httpx.stream("GET", address, headers=headers, params=params, trust_env=False, timeout=30) as response:
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache"
        yield parsed(response)


def parsed(response: httpx.Response) -> Iterator[Said]:
    fields: dict[str, str] = {}
    for line in response.iter_lines():
        if line.startswith(":"):
            continue
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Said(id=fields["id"], event=fields["event"], data=json.loads(fields["data"]))
            fields = {}


def test_pages_end_where_the_next_one_begins(service: Service) -> None:
    job_id = service.submit()["id"]
    worker = service.claim()
    worker.say(*(a_note(number) for number in range(5)))

    pages: list[dict[str, Any]] = []
    after = "0"
    while not pages or pages[-1]["has_more"]:
        pages.append(service.http.get(f"/jobs/{job_id}/events", params={"after": after, "limit": 3}).json())
        after = pages[-1]["next"]
    worker.say(a_note(5))
    later = service.http.get(f"/jobs/{job_id}/events", params={"after": after}).json()

    events = [event for page in pages for event in page["data"]]
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert [event["data"]["number"] for event in events if event["type"] == "note"] == [0, 1, 2, 3, 4]
    assert (events[0]["type"], events[0]["data"]["state"], events[0]["attempt"]) == ("state", "queued", None)
    assert events[-1]["attempt"] == worker.attempt_id
    assert [event["data"] for event in later["data"]] == [{"number": 5}]


def test_a_page_with_nothing_new_says_where_to_ask_again(service: Service) -> None:
    job_id = service.submit()["id"]

    page = service.http.get(f"/jobs/{job_id}/events", params={"after": 1}).json()

    assert page == {"data": [], "has_more": False, "next": "1"}


def test_a_stream_tells_everything_as_it_comes_and_ends_with_the_job(service: Service) -> None:
    job_id = service.submit()["id"]
    worker = service.claim()
    worker.beat()

    with stream(service, job_id) as events:
        seen = [next(events) for _ in range(3)]
        worker.say(a_note(1))
        seen.append(next(events))
        worker.succeed()
        seen += events

    ids = [int(said.id) for said in seen]
    assert ids == list(range(1, len(seen) + 1))
    assert all(said.data["seq"] == int(said.id) and said.data["type"] == said.event for said in seen)
    assert (seen[3].event, seen[3].data["data"]) == ("note", {"number": 1})
    assert [said.data["data"]["state"] for said in seen if said.event == "state"] == ["queued", "running", "succeeded"]
    assert len(seen) == len(service.http.get(f"/jobs/{job_id}/events").json()["data"])


def test_a_reader_that_reconnects_after_each_event_misses_none_and_sees_none_twice(service: Service) -> None:
    job_id = service.submit()["id"]
    worker = service.claim()
    worker.say(*(a_note(number) for number in range(6)))
    worker.succeed()
    everything = [event["seq"] for event in service.http.get(f"/jobs/{job_id}/events").json()["data"]]

    seen: list[int] = []
    for _ in everything:
        with stream(service, job_id, last_event_id=str(seen[-1]) if seen else None) as events:
            seen.append(int(next(events).id))

    assert seen == everything


def test_a_reconnect_wins_over_the_address(service: Service) -> None:
    """A browser repeats the address it was given, `after` included, and adds how far it came."""
    job_id = service.submit()["id"]
    service.claim().succeed()

    with stream(service, job_id, last_event_id="3", after=1) as events:
        assert next(events).id == "4"


def test_a_job_that_has_said_all_tells_readers_to_stay_away(service: Service) -> None:
    path = service.submit()["links"]["self"]
    service.http.post(f"{path}/cancel")
    last = service.http.get(f"{path}/events").json()["next"]

    response = service.http.get(f"{path}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": last})

    assert (response.status_code, response.content) == (204, b"")


def test_a_long_history_comes_whole(service: Service) -> None:
    """More than one look at the database brings."""
    job_id = service.submit()["id"]
    worker = service.claim()
    worker.say(*(a_note(number) for number in range(350)))
    worker.succeed()

    with stream(service, job_id) as events:
        numbers = [said.data["data"]["number"] for said in events if said.event == "note"]

    assert numbers == list(range(350))


@pytest.mark.parametrize("last", ["x", "-1", "1.5", "9" * 30])
def test_a_last_event_id_that_is_none(service: Service, last: str) -> None:
    path = service.submit()["links"]["events"]

    response = service.http.get(path, headers={"Accept": "text/event-stream", "Last-Event-ID": last})

    assert_problem(response, 422, "invalid_parameter")


def test_a_stream_of_no_job_is_a_problem(service: Service) -> None:
    assert_problem(service.http.get("/jobs/x/events", headers={"Accept": "text/event-stream"}), 404, "not_found")


def test_silence_is_broken_for_the_sake_of_proxies(service: Service) -> None:
    job_id = service.submit()["id"]
    parts = Parts(db=service.db, settings=service.settings, store=service.store, launcher=service.launcher)

    async def two_pieces() -> list[bytes]:
        pieces = parts.hub.follow(job_id, 0, heartbeat_seconds=0.1)
        return [await anext(pieces), await anext(pieces)]

    event, heartbeat = asyncio.run(two_pieces())

    assert event.startswith(b"event: state\n")
    assert heartbeat.startswith(b":")
    assert heartbeat.endswith(b"\n\n")


def test_open_streams_do_not_hold_up_a_server_that_stops(tmp_path: Path) -> None:
    """It would cancel them after SHUTDOWN_SECONDS, with an error in its log and the stream cut in the middle."""
    with serving(tmp_path) as service:
        job_id = service.submit()["id"]
        started, ended = threading.Event(), threading.Event()

        def watch() -> None:
            with stream(service, job_id) as events:
                for _ in events:
                    started.set()
            ended.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        wait_until("the stream flows", started.is_set)

    watcher.join()
    assert ended.is_set(), "the stream was broken instead of ended"
