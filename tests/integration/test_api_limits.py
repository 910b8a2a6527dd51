"""How much the service takes: jobs that wait, bytes that are stored, one request for each key."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.integration.over_http import LEAST, Service, assert_problem, serving
from tests.integration.test_api_weights import a_file
from tests.integration.test_api_wire import received


def connected(service: Service) -> socket.socket:
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_a_full_queue_says_when_to_come_back(tmp_path: Path) -> None:
    with serving(tmp_path, PURL_MAX_QUEUED="2") as service:
        first, second = service.submit(), service.submit()
        key = {"Idempotency-Key": "third"}

        refused = service.http.post("/jobs", json=LEAST, headers=key)
        assert_problem(refused, 429, "queue_full")
        assert int(refused.headers["retry-after"]) > 0

        service.http.post(f"/jobs/{first['id']}/cancel")
        accepted = service.http.post("/jobs", json=LEAST, headers=key)
        replayed = service.http.post("/jobs", json=LEAST, headers=key)
        assert (accepted.status_code, replayed.status_code) == (202, 202), (
            "an answer is repeated though the queue is full"
        )
        assert_problem(service.http.post(f"/jobs/{first['id']}/retry"), 429, "queue_full")
        assert service.job(second["id"])["queue_position"] == 1


def test_a_full_store_takes_no_new_work_and_lets_the_old_end(tmp_path: Path) -> None:
    with serving(tmp_path, PURL_MAX_STORED_BYTES="1000") as service:
        job = service.submit()
        worker = service.claim()

        assert worker.succeed(b"x" * 2000).status_code == 200, "what runs gets to its end"
        assert service.job(job["id"])["state"] == "succeeded"
        for refused in (
            service.http.post("/jobs", json=LEAST),
            service.http.post(f"/jobs/{job['id']}/retry"),
            service.upload(a_file()),
        ):
            assert_problem(refused, 429, "storage_quota")
            assert int(refused.headers["retry-after"]) > 0


def test_an_upload_that_would_be_too_much_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with serving(tmp_path, PURL_MAX_STORED_BYTES="1000") as service:
        head = b"POST /weights HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
        with connected(service) as connection:
            connection.sendall(head + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
            answer = received(connection)

        assert answer.startswith(b"HTTP/1.1 429 ")
        assert service.upload(a_file(1)).status_code == 201


def test_equal_bytes_count_once(tmp_path: Path) -> None:
    with serving(tmp_path, PURL_MAX_STORED_BYTES="3000") as service:
        for _ in range(3):
            service.submit()
            assert service.claim().succeed(b"x" * 2000).status_code == 200

        assert service.http.post("/jobs", json=LEAST).status_code == 202


def test_a_key_that_is_being_answered_is_not_answered_twice(service: Service) -> None:
    """The first request is still sending its body when the second one comes."""
    body = json.dumps(LEAST).encode()
    key = {"Idempotency-Key": "slow"}
    head = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nIdempotency-Key: slow\r\n"

    with connected(service) as slow:
        slow.sendall(head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body))
        assert received(slow).startswith(b"HTTP/1.1 100 "), "its body is being read"
        response = service.http.post("/jobs", json=LEAST, headers=key)
        assert_problem(response, 409, "idempotency_in_flight")
        assert int(response.headers["retry-after"]) > 0
        slow.sendall(body)
        first = received(slow)

    replayed = service.http.post("/jobs", json=LEAST, headers=key)
    assert first.startswith(b"HTTP/1.1 202 ")
    assert json.loads(first.partition(b"\r\n\r\n")[2])["id"] == replayed.json()["id"]
    assert len(service.http.get("/jobs").json()["data"]) == 1


def test_two_keys_are_none(service: Service) -> None:
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]

    problem = assert_problem(service.http.post("/jobs", json=LEAST, headers=headers), 422, "invalid_parameter")

    assert problem["errors"][0]["parameter"] == "idempotency-key"
    assert service.http.get("/jobs").json()["data"] == []
