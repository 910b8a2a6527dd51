"""The dispatcher's little HTTP server, on PURL_METRICS_PORT: /metrics for Prometheus, /livez for who restarts it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from services import metrics
from services.database import Database
from services.errors import BadSetting
from services.gauges import Gauges
from services.settings import Settings

log = logging.getLogger(__name__)

# A pass that ends many attempts on a slow cluster takes a minute or two; one that takes this long hangs.
LONGEST_PASS_SECONDS = 300.0
# Nobody holds a thread for longer than this without a word.
PATIENCE_SECONDS = 10.0
LOOK_SECONDS = 0.1  # how soon it notices that it is to end


class Pulse:
    """Moved by every pass, also by one that failed: a database that is away is no reason to be restarted."""

    def __init__(self) -> None:
        self._at = time.monotonic()

    def beat(self) -> None:
        self._at = time.monotonic()

    @property
    def alive(self) -> bool:
        return time.monotonic() - self._at < LONGEST_PASS_SECONDS


@contextmanager
def telling(settings: Settings, db: Database, pulse: Pulse) -> Iterator[int | None]:
    """Answers as long as the `with` lasts, on the port that it yields; does nothing where none is set."""
    if settings.metrics_port is None:
        yield None
        return
    gauges = Gauges(db)
    pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
        "/metrics": lambda: (200, metrics.CONTENT_TYPE, metrics.render(gauges.registry)),
        "/livez": lambda: (200, "text/plain", b"ok\n") if pulse.alive else (503, "text/plain", b"its passes hang\n"),
    }
    try:
        server = ThreadingHTTPServer((settings.host, settings.metrics_port), _handler(pages))
    except OSError as error:
        remedy = "choose another, or leave it empty for none"
        raise BadSetting("PURL_METRICS_PORT", f"can't be had ({error.strerror})", remedy=remedy) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(LOOK_SECONDS,), name="metrics", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def _handler(pages: dict[str, Callable[[], tuple[int, str, bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = PATIENCE_SECONDS

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            status, kind, body = page() if page else (404, "text/plain", b"/metrics or /livez\n")
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: object) -> None:
            log.debug("asked: %s", said)

    return Handler
