"""Hosts on one machine: each a network namespace with a disk of its own, on a switch in a namespace of its own.

No address, no device and no mount of theirs is ever seen outside. Where namespaces can't be made, hosts are no more
than processes that know where they belong, all on 127.0.0.1; a line that is cut is then a host that is stopped.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from purlkit.processes import PROC, session_members
from tests.cluster.kernel import living, network_of, read
from tests.waiting import wait_until

NETNS = Path("/run/netns")
NETWORK = "10.88.7"
CLONE_NEWNET = 0x40000000
# What a host's disk is called on that host, whichever it is: data folders have the same path everywhere.
HERE = "here"

# Processes that see each other alone, as in a container: Ray looks for its node among all that it can see.
APART = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
# A disk of its own: what the host's processes find under the path that all hosts use.
WITH_DISK = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'


@dataclass
class Host:
    """What runs here is started by `start`, or while `entered`; and ends with the host."""

    name: str
    address: str
    folder: Path  # its disk, as the test sees it
    disk: Path  # the same as its own processes see it
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: dict[int, int] = field(default_factory=dict)

    def start(
        self, *command: str, log: str, environ: Mapping[str, str], cwd: Path | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.folder / log).open("ab") as output, self.entered():
            process = subprocess.Popen(
                self._here(command),
                env={**environ, "TMPDIR": str(self.disk / "tmp"), "CLUSTER_HOST": self._mark},
                cwd=cwd or self.folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM, for what was started here."""
        process.terminate()

    def log(self, name: str) -> str:
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """As if its power had gone: everything that runs here, at once. Its disk stays."""
        while pids := self.pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.started:
                process.poll()
        for process in self.started:
            process.wait()
        self.started.clear()

    def pids(self, *words: str) -> list[int]:
        """Its living processes, or those whose command line has all of these words."""
        if not words:
            return self._all()
        outside = self._wrappers()
        found = (pid for pid in self._all() if pid not in outside)
        return [pid for pid in found if all(word in read(pid, "cmdline") for word in words)]

    @property
    def _mark(self) -> str:
        return str(self.folder)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Sockets and processes that this thread makes meanwhile are this host's."""
        yield

    def port(self, number: int) -> int:
        """Where this host has what others find at this port."""
        if number not in self.ports:
            with socket.create_server((self.address, 0)) as probe:
                self.ports[number] = probe.getsockname()[1]
        return self.ports[number]

    def cut_off(self) -> None:
        """Nothing reaches it any more, and nothing comes from it."""
        for pid in self.pids():
            os.kill(pid, signal.SIGSTOP)

    def reconnect(self) -> None:
        for pid in self.pids():
            os.kill(pid, signal.SIGCONT)

    def _here(self, command: tuple[str, ...]) -> list[str]:
        return list(command)

    def _wrappers(self) -> set[int]:
        return set()

    def _all(self) -> list[int]:
        """By the mark that is inherited, or, where a title has been written over it, by the session."""
        mark = f"CLUSTER_HOST={self._mark} "
        sessions = {pid for process in self.started for pid in session_members(process.pid)}
        return [pid for pid in living() if pid in sessions or mark in read(pid, "environ") + " "]


@dataclass
class Namespace(Host):
    """A host with a network of its own."""

    namespace: str = ""
    switch: str = ""

    @contextmanager
    def entered(self) -> Iterator[None]:
        with Path("/proc/thread-self/ns/net").open() as before, (NETNS / self.namespace).open() as there:
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(before.fileno())

    def port(self, number: int) -> int:
        return number

    def ask_to_end(self, process: subprocess.Popen[bytes]) -> None:
        """To the one that `unshare` waits for."""
        (child,) = (PROC / f"{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)

    def cut_off(self) -> None:
        _ip("-n", self.switch, "link", "set", "dev", self.name, "down")

    def reconnect(self) -> None:
        _ip("-n", self.switch, "link", "set", "dev", self.name, "up")

    def _wrappers(self) -> set[int]:
        """`unshare` stays, and bears the words of what it has started."""
        return {process.pid for process in self.started}

    def _here(self, command: tuple[str, ...]) -> list[str]:
        return [*APART, "sh", "-c", WITH_DISK, "sh", str(self.folder), str(self.disk), *command]

    def _all(self) -> list[int]:
        ours = (NETNS / self.namespace).stat().st_ino
        return [pid for pid in living() if pid != os.getpid() and network_of(pid) == ours]


@dataclass
class Hosts:
    """All of them, and what holds them together."""

    folder: Path
    kind: str
    name: str
    by_name: dict[str, Host] = field(default_factory=dict)

    def add(self, name: str) -> Host:
        disk = self.folder / "hosts" / name
        (disk / "tmp").mkdir(parents=True)
        if self.kind == PROCESSES:
            host = Host(name, "127.0.0.1", disk, disk)
        else:
            number = len(self.by_name) + 1
            host = Namespace(
                name,
                f"{NETWORK}.{number}",
                disk,
                self.folder / HERE,
                namespace=f"{self.name}-{name}",
                switch=self.name,
            )
            self._connect(host)
        self.by_name[name] = host
        return host

    def _connect(self, host: Namespace) -> None:
        """Both ends of its line are made where they belong."""
        _ip("netns", "add", host.namespace)
        line = ("type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        _ip("-n", self.name, "link", "add", "name", host.name, *line)
        _ip("-n", self.name, "link", "set", "dev", host.name, "master", "switch", "up")
        _ip("-n", host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", host.namespace, "link", "set", "dev", device, "up")

    def close(self) -> None:
        for host in self.by_name.values():
            host.kill()
        for namespace in _namespaces():
            if namespace == self.name or namespace.startswith(f"{self.name}-"):
                _ip("netns", "del", namespace)
        shutil.rmtree(self.folder)


NAMESPACES = "network namespaces"
PROCESSES = "processes on one address, for network namespaces can't be made here"


@contextmanager
def hosts() -> Iterator[Hosts]:
    """In namespaces where that can be had. CLUSTER_HOSTS=processes does without, as where it can't."""
    # A path that is short enough for the sockets of Ray and PostgreSQL, which owns nothing and must pass.
    folder = Path(tempfile.mkdtemp(prefix="purl-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / HERE).mkdir()
    name = f"purl-{secrets.token_hex(3)}"
    made = Hosts(folder, NAMESPACES if _make_switch(name) else PROCESSES, name)
    # A second Ctrl-C cuts short what pytest does after the first one, and may pass by the `finally` down there.
    atexit.register(made.close)
    try:
        # SIGTERM would end this process and leave all that it made: it is to be like Ctrl-C.
        with _on(signal.SIGTERM, signal.default_int_handler):
            yield made
    finally:
        # Whoever asked once need not ask again: this takes seconds, and must come to its end.
        with _on(signal.SIGTERM, signal.SIG_IGN), _on(signal.SIGINT, signal.SIG_IGN):
            made.close()
        atexit.unregister(made.close)


@contextmanager
def _on(number: signal.Signals, handler: Any) -> Iterator[None]:
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def _make_switch(name: str) -> bool:
    """False where this machine, or this account, has no namespaces to give."""
    if os.environ.get("CLUSTER_HOSTS") == "processes" or not shutil.which("ip") or not shutil.which("unshare"):
        return False
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError:
        return False
    try:
        _ip("-n", name, "link", "add", "name", "switch", "type", "bridge")
        _ip("-n", name, "link", "set", "dev", "switch", "up")
        subprocess.run([*APART, "true"], check=True, capture_output=True)
    except subprocess.CalledProcessError:
        _ip("netns", "del", name)
        return False
    return True


def wait_for_line(host: Host, port: int) -> None:
    """Until somebody listens there."""

    def answers() -> bool:
        with host.entered(), suppress(OSError), socket.create_connection((host.address, port), timeout=5):
            return True
        return False

    wait_until(f"{host.name} answers at {port}", answers, seconds=240)


def _namespaces() -> list[str]:
    return [path.name for path in NETNS.iterdir()] if NETNS.exists() else []


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


_libc = ctypes.CDLL(None, use_errno=True)


def _set_namespace(descriptor: int) -> None:
    """Of the calling thread alone, and of what it makes from now on."""
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
