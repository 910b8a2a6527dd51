"""A proxy between us and an HTTP service that fails as it is told: once for each fault that it was given."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

Fault = Literal[
    "drop",  # the request never arrives
    "lose the answer",  # it is carried out, and the connection breaks before the answer
    "hang",  # it is carried out, and no answer comes for ten minutes
    "cut the request",  # half of its body arrives
    "cut the answer",  # half of the answer's body comes back
    "301",
    "403",
    "500",
    "503",
]


@dataclass
class FaultProxy:
    url: str = ""
    upstream: str = ""
    requests: list[str] = field(default_factory=list)
    met: list[Fault] = field(default_factory=list)
    always: Fault | None = None  # while this is set every request fares so, until it is None again
    _planned: list[tuple[str, Fault]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def plan(self, request: str, *faults: Fault) -> None:
        """The next requests whose line contains all of these words, such as "PUT" or "POST uploadId=", fare so; any
        with none."""
        with self._lock:
            self._planned += [(request, fault) for fault in faults]

    def forget(self) -> None:
        """The line is mended."""
        with self._lock:
            self._planned.clear()

    @property
    def waiting(self) -> int:
        """Faults that nobody has met yet."""
        return len(self._planned)

    def meet(self, line: str) -> Fault | None:
        with self._lock:
            self.requests.append(line)
            fault = self.always or self._next(line)
            if fault is not None:
                self.met.append(fault)
            return fault

    def _next(self, line: str) -> Fault | None:
        for place, (request, fault) in enumerate(self._planned):
            if all(word in line for word in request.split()):
                del self._planned[place]
                return fault
        return None

    def wait_for_the_end(self) -> None:
        self._closing.wait(600)


@contextmanager
def fault_proxy(upstream: str, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[FaultProxy]:
    proxy = FaultProxy(upstream=upstream)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def _pass_on(self) -> None:
            self.close_connection = True
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = proxy.meet(f"{self.command} {self.path}")
            if fault == "drop":
                return
            if fault is not None and fault.isdigit():
                self._answer(int(fault), [], b"")
                return
            if fault == "cut the request":
                self._send_half(body)
                return
            status, headers, content = self._forward(body)
            if fault == "hang":
                proxy.wait_for_the_end()
            elif fault != "lose the answer":
                self._answer(status, headers, content, cut=fault == "cut the answer")

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

        def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
            with closing(http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=60)) as connection:
                connection.request(self.command, self.path, body=body, headers=dict(self.headers))
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()

        def _send_half(self, body: bytes) -> None:
            host, port = urlsplit(upstream).hostname, urlsplit(upstream).port
            with socket.create_connection((host, port)) as connection:
                lines = [f"{self.command} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in self.headers.items())]
                connection.sendall("\r\n".join([*lines, "", ""]).encode() + body[: len(body) // 2])

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes, *, cut: bool = False) -> None:
            self.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                    self.send_header(name, value)
            length = {name.lower(): value for name, value in headers}.get("content-length", str(len(content)))
            self.send_header("Content-Length", length)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut else content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, port), Handler)
    proxy.url = f"http://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy._closing.set()
        server.shutdown()
        thread.join()
        server.server_close()
