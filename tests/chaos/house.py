"""The service's own processes, as forks of one that has imported the program: a start takes a tenth of a second, and
what starts, connects, serves and dies is the program itself. One that dies is started again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

PRELOADED = ["pytest", "api.__main__", "services.dispatcher", "tests.chaos.house", "tests.chaos.alone", "obstore"]
# What a server imports when it begins to serve, which is half of its start.
PRELOADED += ["uvloop", "uvicorn.loops.uvloop", "uvicorn.lifespan.on", "anyio._backends._asyncio", "h11"]
PRELOADED += ["tests.chaos.warm"]
LOOK_SECONDS = 0.01
NOBODY = "http://127.0.0.1:9"

Target = Callable[..., None]


@dataclass
class Kept:
    """A process that runs until it is let go, however often it dies."""

    name: str
    target: Target
    args: tuple[Any, ...]
    process: BaseProcess
    deaths: int = 0
    again: bool = True  # started again when it dies


@dataclass
class House:
    """Started processes, and whoever starts them again."""

    log: Path
    kept: dict[str, Kept] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _closing: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOADED)
        self._keeper = threading.Thread(target=self._keep, name="keeper")
        self._keeper.start()

    def start(self, name: str, target: Target, *args: Any) -> None:
        with self._lock:
            self.kept[name] = Kept(name, target, args, self._started(target, args))

    def once(self, name: str, target: Target, *args: Any) -> None:
        """One that is over when it is over."""
        with self._lock:
            self.kept[name] = Kept(name, target, args, self._started(target, args), again=False)

    def _started(self, target: Target, args: tuple[Any, ...]) -> BaseProcess:
        process = self._context.Process(target=_begin, args=(self.log, target, args), daemon=True)
        process.start()
        return process

    def kill(self, name: str) -> bool:
        return self.send(name, signal.SIGKILL)

    def send(self, name: str, number: signal.Signals) -> bool:
        """Whether there was anybody to get it: one that has died is not there until it is started again."""
        with self._lock, suppress(ProcessLookupError):
            os.kill(self.pid(name), number)
            return True
        return False

    def pid(self, name: str) -> int:
        with self._lock:
            pid = self.kept[name].process.pid
            assert pid is not None
            return pid

    def restart(self, name: str, *more: Any, seconds: float = 120.0) -> int | None:
        """SIGTERM, and a new one when it has left: with these arguments, or the old ones. The old one's exit status."""
        with self._lock:
            kept = self.kept[name]
            kept.again = False
        kept.process.terminate()
        kept.process.join(seconds)
        self.start(name, kept.target, *(more or kept.args))
        return kept.process.exitcode

    def deaths(self) -> int:
        with self._lock:
            return sum(kept.deaths for kept in self.kept.values())

    def close(self) -> None:
        self._closing.set()
        self._keeper.join()
        for name in list(self.kept):
            kept = self.kept.pop(name)
            kept.process.kill()
            kept.process.join()

    def _keep(self) -> None:
        while not self._closing.wait(LOOK_SECONDS):
            with self._lock:
                for kept in self.kept.values():
                    if kept.again and not kept.process.is_alive():
                        kept.deaths += 1
                        kept.process = self._started(kept.target, kept.args)


def _begin(log: Path, target: Target, args: tuple[Any, ...]) -> None:
    """First of all in the new process: what it says goes to the test's own file."""
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    logging.root.handlers.clear()
    # A client of S3 that is given no keys asks its cloud for some, at an address outside this machine: not from a test.
    os.environ["AWS_METADATA_ENDPOINT"] = NOBODY
    target(*args)


# ---- what runs in these processes


def api(environ: Mapping[str, str], listening: socket.socket) -> None:
    """`python -m api` on the socket of whoever started it."""
    import api.__main__

    os.environ.update({**environ, "PURL_SOCKET_FD": str(listening.detach())})
    sys.exit(api.__main__.main())


def api_of_its_own(environ: Mapping[str, str]) -> None:
    """`python -m api` at the port of its settings."""
    import api.__main__

    os.environ.update(environ)
    sys.exit(api.__main__.main())


def dispatcher(environ: Mapping[str, str], worker: str) -> None:
    """`python -m services.dispatcher`, but for what it starts."""
    import functools

    from services import dispatcher as program

    os.environ.update(environ)
    program.Dispatcher = functools.partial(program.Dispatcher, worker=worker)  # type: ignore[misc, assignment]
    sys.exit(program.main([]))


def listen() -> tuple[socket.socket, str]:
    """A socket that outlives whoever serves on it, and its address."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
    return listening, f"http://127.0.0.1:{listening.getsockname()[1]}"


def wait_for_port(url: str, seconds: float = 240.0) -> None:
    import httpx

    deadline = time.monotonic() + seconds
    with closing(httpx.Client(base_url=url, trust_env=False, verify=False, timeout=seconds)) as http:
        while time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if http.get("/readyz").status_code == 200:
                    return
            time.sleep(LOOK_SECONDS)
    raise AssertionError(f"nobody answers at {url}")
