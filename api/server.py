"""The server below the application: uvicorn, with an end to what it would otherwise read or wait for without one."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Requests in flight take milliseconds, streams of events end at once when asked, and only a large download is left.
SHUTDOWN_SECONDS = 5
# Longer than clients keep an idle connection (httpx: 5 s), so it is they who close it and never both at once.
KEEP_ALIVE_SECONDS = 30
# A head is sent at once: who needs longer holds a connection that others could use.
HEAD_SECONDS = 30.0
# Of a request's line and headers together: many times what a browser sends.
MAX_HEAD_BYTES = 64 * 1024

TOO_LARGE = (
    b'{"type":"urn:purl:problem:head_too_large","title":"Head too large","status":431,'
    b'"detail":"the address and headers of a request may have %d bytes: send fewer or shorter ones",'
    b'"code":"head_too_large"}' % MAX_HEAD_BYTES
)


TOO_MANY = (
    b'{"type":"urn:purl:problem:too_many_connections","title":"Too many connections","status":429,'
    b'"detail":"as many connections are open as may be: close some, or try again","code":"too_many_connections"}'
)


class Server(uvicorn.Server):
    """Tells the event streams to end before it waits for the open connections."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.config.app.state.parts.stopping.set()  # type: ignore[union-attr]
        await super().shutdown(sockets)


class Protocol(HttpToolsProtocol):
    """The parser collects headers for as long as they come: this one counts them."""

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Each costs a file and some kilobytes, also one that never says a word.
        most: int = self.config.app.state.parts.settings.max_connections  # type: ignore[union-attr]
        if len(self.connections) > most:
            self._answer(b"429 Too Many Requests", TOO_MANY)
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._answer(b"431 Request Header Fields Too Large", TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["purl.cut_off"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self._in_head, self._head_bytes = True, 0
        self._expect_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_is_here()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_is_here()
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self.transport.abort)

    def _head_is_here(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _answer(self, status: bytes, problem: bytes) -> None:
        head = b"HTTP/1.1 %s\r\ncontent-type: application/problem+json\r\nretry-after: 5\r\n" % status
        self.transport.write(head + b"content-length: %d\r\nconnection: close\r\n\r\n" % len(problem) + problem)
        self.transport.close()


def make_server(app: FastAPI) -> Server:
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        access_log=False,
        log_config=None,  # services.logs has set up what there is to set up
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    return Server(config)
