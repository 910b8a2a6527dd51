"""What a stranger might do with a connection alone, before or beside any request: none needs a key."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path

import pytest

from api import body as bodies
from api import server as server_module
from tests.integration.over_http import Service, serving
from tests.security.test_attacks import connected
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
MIB = 2**20
POST = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("target")) as service:
        service.empty()
        yield service


def send_without_end(line: socket.socket, piece: bytes) -> int:
    """How much of it was taken before the line was cut."""
    sent = 0
    with suppress(ConnectionError):
        while sent < 100 * MIB:
            line.sendall(piece)
            sent += len(piece)
    return sent


@pytest.mark.parametrize("path", [b"/jobs", b"/nowhere"], ids=["while it is read", "behind an answer"])
@pytest.mark.parametrize(
    ("begin", "goes_on"),
    [
        (b"2\r\n{}\r\n0\r\n", b"X-More: and more\r\n" * 2000),
        (b"2\r\n{}\r\n0\r\nX-More: ", b"a" * 65_536),
        (b"2;more=", b"a" * 65_536),
        (b"", b"0" * 65_536),
    ],
    ids=["trailers", "one trailer", "an extension", "the size of a chunk"],
)
def test_what_only_frames_a_body_has_an_end(target: Service, path: bytes, begin: bytes, goes_on: bytes) -> None:
    """The parser would keep it all, or read on for ever. What was in the machine's own buffers counts as taken."""
    with connected(target) as line:
        line.sendall(POST % path + b"Transfer-Encoding: chunked\r\n\r\n" + begin)

        assert send_without_end(line, goes_on) < 50 * MIB


def test_requests_whose_answers_nobody_reads_have_an_end(target: Service) -> None:
    with connected(target) as line:
        assert send_without_end(line, b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000) < 50 * MIB

    assert target.http.get("/livez").status_code == 200


def test_who_was_refused_is_not_listened_to_for_ever(target: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    with connected(target) as line:
        # A busy machine may need more than the second for the way in, so that begins when the line is known.
        line.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = HTTPResponse(line)
        first.begin()
        assert first.read()
        monkeypatch.setattr(server_module, "HEAD_SECONDS", 1.0)
        line.sendall(POST % b"/nowhere" + b"Content-Length: 1000000000\r\n\r\n")
        assert b" 404 " in line.recv(4096)

        def cut_off() -> bool:
            try:
                line.sendall(b" ")
            except ConnectionError:
                return True
            return False

        wait_until("the line is cut", cut_off, seconds=20)


def test_a_body_that_comes_byte_by_byte_is_given_up(target: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and all of them would take years."""
    monkeypatch.setattr(bodies, "STALLED_SECONDS", 0.5)
    with connected(target) as line:
        line.sendall(POST % b"/jobs" + b"Content-Length: 1000000\r\n\r\n")
        line.settimeout(0.05)

        def answered() -> bytes:
            with suppress(ConnectionError):
                line.sendall(b" ")
            with suppress(TimeoutError):
                return line.recv(4096)
            return b""

        assert b" 408 " in wait_until("it is refused", answered)


def test_hanging_up_on_a_stream_with_another_request_behind_it_fills_no_log(
    target: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """The server is told of it by what it writes: no page of traceback then, and the stream is over."""
    job = target.submit()["id"]
    stream = f"GET /jobs/{job}/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode()
    with connected(target) as line:
        line.sendall(stream + b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b" 200 " in line.recv(4096)
        wait_until("it is counted", lambda: target.parts.streams.count == 1)

    def ended() -> bool:
        for move in ("pause", "resume"):
            target.http.post(f"/jobs/{job}/{move}")
        return target.parts.streams.count == 0

    wait_until("it has ended", ended)
    assert "Traceback" not in caplog.text


def test_there_are_no_more_connections_than_files_for_them() -> None:
    """Where all files are open nobody is answered, not even with a refusal, and the database can't be opened."""
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1000))\n"
        "from api.server import room_for\n"
        "print(room_for(100), room_for(10_000), resource.getrlimit(resource.RLIMIT_NOFILE)[0])\n"
    )

    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)

    assert said.stdout.split() == ["100", "800", "1000"]
