"""The server below the application: uvicorn, with an end to what it would otherwise read or wait for without one."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket

import uvicorn
from fastapi import FastAPI
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

log = logging.getLogger("purl.api")

# Requests in flight take milliseconds, streams of events end at once when asked, and only a large download is left.
SHUTDOWN_SECONDS = 5
# Longer than clients keep an idle connection (httpx: 5 s), so it is they who close it and never both at once.
KEEP_ALIVE_SECONDS = 30
# A head is sent at once: who needs longer holds a connection that others could use.
HEAD_SECONDS = 30.0
# Of a request's line and headers together: many times what a browser sends. Of what frames a body, and of what follows
# it, no more may come in one go either.
MAX_HEAD_BYTES = 64 * 1024
# Requests that were sent before the one ahead of them was answered. Browsers and clients don't; each takes kilobytes.
MOST_WAITING = 100
# What the process opens beside connections: the database, the store, its libraries.
SPARE_FILES = 200

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
    """The parser collects for as long as something comes, and waits for as long as nothing does: this one counts."""

    _in_head = True
    _head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _message_is_here = True
    _got_on = False  # a head has ended, or a piece of a body has come
    _running: RequestResponseCycle | None = None

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
        # Of requests that came together, uvicorn tells only the last that nobody listens any more.
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._got_on = False
        super().data_received(data)
        if self.transport.is_closing():
            return
        self._head_bytes = 0 if self._got_on else self._head_bytes + len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            if self._in_head:
                self._answer(b"431 Request Header Fields Too Large", TOO_LARGE)
            else:
                self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["purl.cut_off"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        self._in_head, self._head_bytes, self._message_is_here = True, 0, False
        self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        # What follows a body looks like headers. Nobody asks for it, and it is not kept.
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head, self._got_on = False, True
        self._head_is_here()
        if self.transport.is_closing():
            return
        super().on_headers_complete()
        if len(self.pipeline) > MOST_WAITING:
            self.transport.abort()

    def on_body(self, body: bytes) -> None:
        self._got_on = True
        if not self.transport.is_closing():
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._message_is_here = True
        if self.transport.is_closing():
            return
        super().on_message_complete()
        if self.cycle.response_complete:
            self._expect_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Who was refused may go on sending, and be heard by nobody: not for ever.
        if self.cycle.response_complete and not self._message_is_here and not self.transport.is_closing():
            self._expect_head()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _unsupported_upgrade_warning(self) -> None:
        """Whoever asks for another protocol is answered in this one. It is nothing to fill a log with."""

    def _expect_head(self) -> None:
        """Of this request, of the next one, or the rest of one that is answered: what comes must come soon."""
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


def room_for(connections: int) -> int:
    """So many, or as many as the machine lets this process open beside files of its own. Each connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = max(10, min(connections, soft - SPARE_FILES))
    if room < connections:
        log.warning("only %d connections at once, for no more than %d files may be open (ulimit -n)", room, soft)
    return room
