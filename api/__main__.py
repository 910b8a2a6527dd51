"""The HTTP process: `python -m api`.

Started by the supervisor it serves on the supervisor's socket, so a restart keeps the port and no connection is
refused meanwhile. Started by hand it binds the address of the settings itself.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import replace

from purlkit.startup import leave, loading

with loading():
    from sqlalchemy.exc import DBAPIError

    from api.main import create_app
    from api.server import Server, make_server, room_for
    from purlkit.errors import PurlError
    from services import attempts, keys, logs, supervisor
    from services.artifacts import open_store
    from services.database import Database, check_schema, unusable
    from services.launch import launcher_for
    from services.patience import wait_for
    from services.settings import Settings
    from services.stopping import PARENT_FD, Stop

log = logging.getLogger("purl.api")


def listening_socket(settings: Settings, environ: Mapping[str, str]) -> socket.socket:
    """The supervisor's socket, or one of our own at the settings' address."""
    inherited = environ.get("PURL_SOCKET_FD")
    if inherited is not None:
        return socket.socket(fileno=int(inherited))
    listening = supervisor.listen(settings)
    print(f"serving at {url_of(listening)}", flush=True)
    return listening


def url_of(listening: socket.socket) -> str:
    """Where processes of this machine reach the socket."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def drain_when_orphaned(parent_fd: int, server: Server, db: Database, settings: Settings) -> None:
    """Waits for the supervisor's death, then serves on while an attempt still needs this process to save its work."""
    while os.read(parent_fd, 4096):
        pass
    log.warning("the supervisor is gone: serving until no attempt is live, at most %g s", settings.drain_seconds)
    deadline = time.monotonic() + settings.drain_seconds
    while time.monotonic() < deadline:
        with suppress(DBAPIError), db.read() as session:
            if not attempts.live(session):
                break
        time.sleep(settings.poll_seconds)
    server.should_exit = True


def main(environ: Mapping[str, str] = os.environ) -> int:
    logs.set_up("api")
    try:
        settings = Settings.from_environ(environ)
        with closing(Database.open(settings.database_url)) as db:
            serve(db, settings, environ)
    except PurlError as problem:
        print(f"purl: {problem}", file=sys.stderr)
        return 1
    except DBAPIError as problem:
        print(f"purl: {unusable(problem)}", file=sys.stderr)
        return 1
    return 0


def serve(db: Database, settings: Settings, environ: Mapping[str, str]) -> None:
    parent = environ.get(PARENT_FD)
    if parent is not None:
        # The service has worked before: it will again, and callers wait at the supervisor's socket meanwhile.
        with closing(Stop(int(parent))) as orphaned:
            wait_for(db, orphaned)
    check_schema(db)
    is_open = keys.is_open(db, settings)
    store, launcher = open_store(settings), launcher_for(settings, environ)
    listening = listening_socket(settings, environ)
    if is_open and parent is None:
        print(keys.OPEN, flush=True)
    settings = replace(
        settings,
        public_url=settings.public_url or url_of(listening),
        max_connections=room_for(settings.max_connections),
    )
    server = make_server(create_app(db, settings, store, launcher))
    if parent is not None:
        watch = (int(parent), server, db, settings)
        threading.Thread(target=drain_when_orphaned, args=watch, name="parent", daemon=True).start()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Uvicorn raises what it caught once more when it is done: that must not end us before the database is closed.
        signal.signal(number, server.handle_exit)
    server.run(sockets=[listening])


if __name__ == "__main__":
    leave(main())
