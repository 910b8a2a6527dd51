"""A proxy in front of several servers: each in turn, and another where one does not answer."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@contextmanager
def balanced(*ports: int) -> Iterator[str]:
    """Its address. What could not be sent goes elsewhere; what was sent and not answered only if it is a read."""
    turns = itertools.cycle(range(len(ports)))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            first = next(turns)
            for port in ports[first:] + ports[:first]:
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                    connection.connect()
                except OSError:
                    continue
                with closing(connection):
                    try:
                        connection.request(self.command, self.path, body=body, headers=dict(self.headers))
                        answer = connection.getresponse()
                        content = answer.read()
                    except (OSError, http.client.HTTPException):
                        if self.command == "GET":
                            continue
                        break
                    self._answer(answer.status, content, answer.headers.get("Content-Type", ""))
                    return
            self._answer(502, b'{"code": "bad_gateway"}', "application/json")

        do_GET = do_POST = _pass_on

        def _answer(self, status: int, content: bytes, kind: str) -> None:
            self.send_response_only(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
