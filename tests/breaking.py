"""A way to a server that breaks: connections that end after so many bytes, as those through a bad network do."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Breaking:
    """Passes everything on to `url`, but of each of the next answers no more than the given numbers of bytes."""

    url: str
    after: list[int] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                incoming, _ = self._listening.accept()
                self.connections += 1
                left = self.after.pop(0) if self.after else 2**62
                self._threads.append(threading.Thread(target=self._pass_on, args=(incoming, left)))
                self._threads[-1].start()

    def _pass_on(self, incoming: socket.socket, left: int) -> None:
        parts = urlsplit(self.url)
        with incoming, suppress(OSError), socket.create_connection((parts.hostname, parts.port)) as outgoing:
            while left > 0:
                for source in select.select([incoming, outgoing], [], [])[0]:
                    piece = source.recv(min(left, 65_536))
                    if not piece:
                        return
                    if source is outgoing:
                        incoming.sendall(piece)
                        left -= len(piece)
                    else:
                        outgoing.sendall(piece)


@contextmanager
def breaking(url: str, *after: int) -> Iterator[Breaking]:
    way = Breaking(url, list(after))
    try:
        yield way
    finally:
        way.close()
