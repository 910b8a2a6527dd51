"""Requests as they come over the line: cut off, endless, meant for somebody else, or for an address that is none."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from api import body, server
from services.artifacts import LocalStore
from tests.integration.over_http import LEAST, Service, assert_problem, serving
from tests.integration.test_api_refusals import assert_no_job


def talk(service: Service, request: bytes) -> bytes:
    """Says this and returns the first thing that is answered."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(request)
        return received(connection)


def received(connection: socket.socket) -> bytes:
    """The next thing that is answered."""
    answer = b""
    while not is_whole(answer) and (more := connection.recv(65_536)):
        answer += more
    return answer


def is_whole(answer: bytes) -> bool:
    """Head and body: a busy machine sends them one by one."""
    head, ended, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    return bool(ended) and len(body) >= (int(length[1]) if length else 0)


HEAD = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize("length", [b"52428800", b"9" * 18, b"1" + b"0" * 18])
def test_a_client_that_asks_first_need_not_send_anything(service: Service, length: bytes) -> None:
    answer = talk(service, HEAD + b"Content-Length: " + length + b"\r\nExpect: 100-continue\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_length_that_is_too_short_cuts_the_body(service: Service) -> None:
    body = json.dumps(LEAST).encode()

    answer = talk(service, HEAD + b"Content-Length: 10\r\n\r\n" + body)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert_no_job(service)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", "", "[", "127.0.0.2"])
def test_a_page_that_has_its_own_name_lead_here_gets_nothing(service: Service, host: str) -> None:
    """DNS rebinding: the browser believes that this machine is the page's own server."""
    response = service.http.get("/jobs", headers={"Host": host})

    assert_problem(response, 421, "unknown_host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "[::1]:8000"])
def test_the_names_of_this_machine(service: Service, host: str) -> None:
    assert service.http.get("/livez", headers={"Host": host}).status_code == 200


def test_behind_a_proxy_the_public_name_is_its_own(tmp_path: Path) -> None:
    with serving(tmp_path, public_url="https://prune.example:8443") as service:
        assert service.http.get("/livez", headers={"Host": "prune.example:8443"}).status_code == 200
        assert service.http.get("/livez", headers={"Host": "other.example"}).status_code == 421


@pytest.mark.parametrize("one_header", [True, False], ids=["one header", "many headers"])
def test_endless_headers_are_cut_off(service: Service, one_header: bool) -> None:
    endless = b"X-More: " + b"x" * 200_000 if one_header else b"X-More: x\r\n" * 20_000

    answer = talk(service, b"GET /jobs HTTP/1.1\r\nHost: localhost\r\n" + endless)

    assert answer.startswith(b"HTTP/1.1 431 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "head_too_large"


def test_a_client_that_leaves_before_it_has_said_all(service: Service) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")

    assert_no_job(service)


def test_a_body_that_does_not_come_is_not_waited_for(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "STALLED_SECONDS", 0.1)

    answer = talk(service, HEAD + b"Idempotency-Key: stalled\r\nContent-Length: 1000\r\n\r\n{")
    monkeypatch.undo()  # for this one only: on a busy machine, a body that does come takes as long
    sent_again = service.http.post("/jobs", json=LEAST, headers={"Idempotency-Key": "stalled"})

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "body_stalled"
    assert sent_again.status_code == 202, "its key is free again"


@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nHost: local"], ids=["nothing", "half a head"])
def test_a_head_that_does_not_come_is_not_waited_for(
    service: Service, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.1)
    host, port = service.url.removeprefix("http://").split(":")

    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(said)
        with suppress(ConnectionResetError):
            assert connection.recv(1024) == b""
    monkeypatch.undo()

    assert service.http.get("/livez").status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", "/nowhere"), ("GET", "/jobs/"), ("POST", "/nowhere")])
def test_an_address_that_is_none(service: Service, method: str, path: str) -> None:
    assert_problem(service.http.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/jobs", "GET, HEAD, POST"),
        ("PUT", "/models", "GET, HEAD"),
        ("DELETE", "/weights", "GET, HEAD, POST"),
        ("PATCH", "/jobs/x/cancel", "POST"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("DELETE", "/docs", "GET, HEAD"),
    ],
)
def test_a_method_that_an_address_does_not_take(service: Service, method: str, path: str, allow: str) -> None:
    response = service.http.request(method, path)

    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == allow


def test_a_fault_of_our_own_says_no_more_than_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: LocalStore) -> None:
        raise KeyError(str(tmp_path))

    with serving(tmp_path) as service:
        monkeypatch.setattr(LocalStore, "begin", fail)
        response = service.upload(b"x")

    assert_problem(response, 500, "internal_error")
    assert str(tmp_path) not in response.text
    assert str(tmp_path) in caplog.text, "whoever runs the service finds the cause in its log"
