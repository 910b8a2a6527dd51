"""An attempt's log, read while it grows."""

from __future__ import annotations

import pytest

from purlkit.results import LOG
from services.database import Database
from tests.integration.over_http import HttpWorker, Service, assert_problem


def append(worker: HttpWorker, start: int, data: bytes) -> int:
    response = worker.call("POST", "/log", params={"start": start}, content=data)
    assert response.status_code == 200, response.text
    size: int = response.json()["bytes"]
    return size


def log_of(service: Service, number: int = 1) -> str:
    (job,) = service.http.get("/jobs").json()["data"]
    address: str = job["attempts"][number - 1]["log"]
    assert address == f"/jobs/{job['id']}/attempts/{number}/log"
    return address


@pytest.fixture
def worker(service: Service) -> HttpWorker:
    service.submit()
    return service.claim()


def test_a_log_is_read_while_it_grows(service: Service, worker: HttpWorker) -> None:
    path = log_of(service)
    assert service.http.get(path).content == b""

    assert append(worker, 0, b"first\n") == 6
    whole = service.http.get(path)
    append(worker, 6, b"second\n")
    more = service.http.get(path, headers={"Range": "bytes=6-"})
    nothing = service.http.get(path, headers={"Range": "bytes=13-"})

    assert (whole.status_code, whole.content) == (200, b"first\n")
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.headers["cache-control"] == "no-store"
    assert (more.status_code, more.content, more.headers["content-range"]) == (206, b"second\n", "bytes 6-12/13")
    assert_problem(nothing, 416, "range_not_satisfiable")
    assert nothing.headers["content-range"] == "bytes */13", "a reader learns that there is nothing new yet"


def test_a_reader_follows_it_to_its_end_and_knows_when_that_is(service: Service, worker: HttpWorker) -> None:
    """As `purl logs -f` does: each answer says what is new, that nothing is, or that nothing will be."""
    path, read, told = log_of(service), b"", list[tuple[int, bool]]()

    def ask() -> bool:
        nonlocal read
        answer = service.http.get(path, headers={"Range": f"bytes={len(read)}-"})
        read += answer.content if answer.status_code == 206 else b""
        told.append((answer.status_code, "etag" in answer.headers))
        return told[-1] == (416, True)

    ask()
    append(worker, 0, b"first\n")
    ask()
    ask()
    append(worker, 6, b"second\n")
    ask()
    worker.beat()
    worker.stage(LOG, b"first\nsecond\nlast\n", "text/plain")
    worker.succeed()
    assert not ask()
    assert ask()

    assert read == b"first\nsecond\nlast\n"
    assert told == [(416, False), (206, False), (416, False), (206, False), (206, True), (416, True)]


@pytest.mark.parametrize("asked", ["0-0", "2-7", "5-6", "3-", "-4", "0-100"])
def test_any_part_of_it(service: Service, worker: HttpWorker, asked: str) -> None:
    said = b"abc" + b"def" + b"ghi"
    for start in (0, 3, 6):
        append(worker, start, said[start : start + 3])

    part = service.http.get(log_of(service), headers={"Range": f"bytes={asked}"})

    first, last = asked.split("-")
    expected = said[-int(last) :] if not first else said[int(first) : int(last or 100) + 1]
    assert (part.status_code, part.content) == (206, expected)


def test_what_is_sent_twice_is_there_once(service: Service, worker: HttpWorker) -> None:
    append(worker, 0, b"abc")

    assert append(worker, 0, b"abc") == 3
    assert append(worker, 1, b"bcde") == 5
    assert service.http.get(log_of(service)).content == b"abcde"


def test_what_would_leave_a_gap_is_refused(service: Service, worker: HttpWorker) -> None:
    append(worker, 0, b"abc")

    response = worker.call("POST", "/log", params={"start": 4}, content=b"e")

    assert "from offset 3" in assert_problem(response, 409, "log_gap")["detail"]
    assert service.http.get(log_of(service)).content == b"abc"


def test_a_piece_is_bounded_and_so_is_the_whole(worker: HttpWorker) -> None:
    too_large = worker.call("POST", "/log", params={"start": 0}, content=b"x" * (256 * 1024 + 1))
    piece, sent = b"x" * (256 * 1024), 0
    while sent < 8 * 2**20:
        sent = append(worker, sent, piece)

    assert_problem(too_large, 413, "body_too_large")
    assert_problem(worker.call("POST", "/log", params={"start": sent}, content=b"x"), 413, "too_large")


def test_only_the_attempt_itself_writes(service: Service, worker: HttpWorker) -> None:
    service.drain(worker)
    response = worker.call("POST", "/log", params={"start": 0}, content=b"late")

    assert_problem(response, 409, "attempt_superseded")
    assert_problem(worker.call("POST", "/log", token="x", params={"start": 0}, content=b"x"), 401, "unauthorized")


def test_the_file_at_the_end_takes_the_place_of_the_pieces(service: Service, worker: HttpWorker) -> None:
    append(worker, 0, b"first\n")
    worker.stage(LOG, b"first\nlast\n", "text/plain; charset=utf-8")
    worker.succeed()

    whole = service.http.get(log_of(service))
    rest = service.http.get(log_of(service), headers={"Range": "bytes=6-"})
    known = service.http.get(log_of(service), headers={"If-None-Match": whole.headers["etag"]})

    assert (whole.content, rest.content, known.status_code) == (b"first\nlast\n", b"last\n", 304)


def test_each_attempt_keeps_its_own(service: Service) -> None:
    job = service.submit()
    for number in (1, 2):
        worker = service.claim()
        worker.stage(LOG, f"attempt {number}".encode(), "text/plain; charset=utf-8")
        if number == 1:
            service.drain(worker)

    logs = [service.http.get(log_of(service, number)).text for number in (1, 2)]
    published = service.http.get(f"/jobs/{job['id']}/artifacts/{LOG}").text
    assert (logs, published) == (["attempt 1", "attempt 2"], "attempt 2")


def test_a_log_outlives_the_process_that_took_it(service: Service, worker: HttpWorker) -> None:
    append(worker, 0, b"said before the restart\n")

    other_process = Database.open(service.settings.database_url)
    with other_process.engine.connect() as connection:
        said = connection.exec_driver_sql("SELECT data FROM log_chunks").scalars().all()
    other_process.close()
    assert said == [b"said before the restart\n"]


@pytest.mark.parametrize("number", ["0", "2", "x", "-1", "1.0", "9" * 30, "%00", "%F0%9D%9F%8F"])
@pytest.mark.usefixtures("worker")
def test_an_attempt_that_is_not_there(service: Service, number: str) -> None:
    path = log_of(service).replace("/1/", f"/{number}/")

    assert_problem(service.http.get(path), 404, "not_found")
