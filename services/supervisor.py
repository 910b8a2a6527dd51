"""Keeps the API and the dispatcher running on one listening socket, and takes them down in order.

The socket belongs to this process, so a restarted API has the old port and callers wait meanwhile instead of being
refused. Each child holds the read end of a pipe whose write ends are here, so it sees when this process dies. The
API's pipe is held open by the dispatcher as well: work that drains then still has an API to save itself to.
"""

from __future__ import annotations

import errno
import fcntl
import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.errors import BadSetting
from services.settings import Settings

log = logging.getLogger(__name__)

API = (sys.executable, "-m", "api")
DISPATCHER = (sys.executable, "-m", "services.dispatcher")

LOOK_SECONDS = 0.1
# A child that ran this long had got over its start, so its death says nothing about the next one.
SETTLED_SECONDS = 10.0
# Five starts in a row that come to nothing, with 3 s of waiting between: a fault that no further start will mend.
MOST_QUICK_DEATHS = 5
# What the dispatcher may need beyond the drain itself: to end what did not leave, and to put that on record.
ENDING_SECONDS = 15.0
# One that is started only to drain has imports before it: a second of CPU, which took half a minute on a busy machine.
STARTING_SECONDS = 60.0
# The API lets requests in flight finish for 5 s.
API_SECONDS = 10.0


@dataclass
class Child:
    """A process that is to run, and its history of quick deaths."""

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    fds: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    quick_deaths: int = 0
    not_before: float = 0.0

    def start(self, *more: str) -> None:
        """In a process group of its own: Ctrl-C on a terminal goes to the supervisor alone."""
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [*self.command, *more], env=self.env, stdin=subprocess.DEVNULL, pass_fds=self.fds, process_group=0
        )

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tend(self) -> None:
        """Start it again if it has died; a little later each time, while it dies at once."""
        if self.running:
            return
        now = time.monotonic()
        if self.process is not None:
            settled = now - self.started_at > SETTLED_SECONDS
            self.quick_deaths = 0 if settled else self.quick_deaths + 1
            pause = 0.0 if settled else 0.1 * 2**self.quick_deaths
            self.not_before = now + pause
            log.warning("the %s died (exit %s): again in %g s", self.name, self.process.returncode, pause)
            self.process = None
        if now >= self.not_before:
            self.start()

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """Whatever else it has in its process group goes too."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Supervisor:
    """Runs until it is told to stop, or until a child can't be kept alive."""

    def __init__(self, settings: Settings, listening: socket.socket, api: Child, dispatcher: Child) -> None:
        self._settings = settings
        self._address = _reachable(listening)
        self._api = api
        self._dispatcher = dispatcher
        self._asked = 0  # times that somebody asked to stop
        self._heeded = 0  # of these, how many have been acted on
        self._stopping = threading.Event()

    def run(self) -> int:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._ask_to_stop)
        # In a thread: a socket that nobody serves yet keeps the question waiting, and a death must not wait with it.
        teller = threading.Thread(target=self._tell_when_ready, name="readiness")
        teller.start()
        failed = False
        while not self._asked and not failed:
            for child in (self._api, self._dispatcher):
                child.tend()
                if child.quick_deaths >= MOST_QUICK_DEATHS:
                    log.error("the %s dies whenever it starts: giving up, its reason stands above", child.name)
                    failed = True
            time.sleep(LOOK_SECONDS)
        self._stopping.set()
        self._heeded = 1
        self._take_down()
        teller.join()
        return 1 if failed else 0

    def _ask_to_stop(self, *_: object) -> None:
        self._asked += 1

    @property
    def _hurried(self) -> bool:
        return self._heeded > 1

    def _tell_when_ready(self) -> None:
        while not _answers(self._address):
            if self._stopping.wait(LOOK_SECONDS):
                return
        host, port = self._address
        url = _url(host, port)
        print(f"ready at {url}", flush=True)
        print(
            f"a first job: curl {url}/jobs -H 'Content-Type: application/json' "
            """-d '{"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}'""",
            flush=True,
        )

    def _take_down(self) -> None:
        """The dispatcher first, since what it drains saves its work through the API."""
        log.info("stopping: running attempts may take %g s to save their work", self._settings.drain_seconds)
        if not self._drained():
            log.warning("the dispatcher did not end well: another one clears up after it")
            self._drained()
        self._api.terminate()
        self._wait(self._api, API_SECONDS)
        self._api.kill()
        log.info("stopped")

    def _drained(self) -> bool:
        """Whether a dispatcher has ended all attempts and itself."""
        ending = ENDING_SECONDS
        if not self._dispatcher.running:
            self._dispatcher.start("--drain", *(["--now"] if self._hurried else []))
            ending += STARTING_SECONDS
        else:
            self._dispatcher.terminate()
        self._wait(self._dispatcher, self._settings.drain_seconds + ending)
        self._dispatcher.kill()
        return self._dispatcher.process is not None and self._dispatcher.process.returncode == 0

    def _wait(self, child: Child, seconds: float) -> None:
        """Until it has ended or its time is up. Whoever asks to stop once more is in a hurry, and so is the child."""
        deadline = time.monotonic() + seconds
        while child.running and time.monotonic() < deadline:
            if self._asked > self._heeded:
                log.info("hurrying: what has not saved its work by now loses it since its last save")
                self._heeded = max(self._asked, 2)
                child.terminate()
                deadline = time.monotonic() + ENDING_SECONDS
            if child is not self._api:
                self._api.tend()
            time.sleep(LOOK_SECONDS)


def serve(settings: Settings, environ: Mapping[str, str], lock_fd: int) -> int:
    """Everything from the socket down, until told to stop."""
    with closing(listen(settings)) as listening:
        host, port = _reachable(listening)
        parent, parent_alive = os.pipe()
        either, either_alive = os.pipe()
        shared = {"PURL_PUBLIC_URL": settings.public_url or _url(host, port)}
        api = Child(
            "API",
            API,
            {**environ, **shared, "PURL_SOCKET_FD": str(listening.fileno()), "PURL_PARENT_FD": str(either)},
            (listening.fileno(), either, lock_fd),
        )
        dispatcher = Child(
            "dispatcher",
            DISPATCHER,
            {**environ, **shared, "PURL_PARENT_FD": str(parent)},
            (parent, either_alive, lock_fd),
        )
        try:
            return Supervisor(settings, listening, api, dispatcher).run()
        finally:
            for fd in (parent, parent_alive, either, either_alive):
                os.close(fd)


@contextmanager
def sole_use_of(data_dir: Path) -> Iterator[int]:
    """A lock on the folder. Children hold it too, so it lasts until the last of an earlier service has gone."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        held = (data_dir / ".lock").open("a")
    except OSError as error:
        remedy = "choose a folder that this account may write to"
        raise BadSetting("PURL_DATA_DIR", f"can't be used ({error.strerror})", remedy=remedy) from error
    with held as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadSetting(
                "PURL_DATA_DIR",
                "is in use by another service, or by one that is still stopping",
                remedy="stop that one first, or choose another folder",
            ) from None
        yield file.fileno()


def listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            remedy = "choose another, or 0 for any free one"
            raise BadSetting("PURL_PORT", f"can't be had ({error.strerror})", remedy=remedy) from error
        remedy = "choose an address of this machine, or 0.0.0.0 for all of them"
        raise BadSetting("PURL_HOST", f"can't be had ({error.strerror})", remedy=remedy) from error


def _url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _reachable(listening: socket.socket) -> tuple[str, int]:
    """An address that a process of this machine can connect to."""
    host, port = listening.getsockname()[:2]
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port


def _answers(address: tuple[str, int]) -> bool:
    connection = http.client.HTTPConnection(*address, timeout=1)
    with closing(connection):
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
