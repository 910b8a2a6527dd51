"""Attempts and checks as processes of this machine."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from purlkit import processes
from services.launch.protocol import Capacity, Handle

log = logging.getLogger(__name__)

# A Ray driver was measured to need 2 s to take its own processes down on SIGTERM.
GRACE_SECONDS = 5.0

SCRATCH_PREFIX = "purl-"
# WORKER_AWS_REGION is AWS_REGION to workers, and so on.
FOR_WORKERS = "WORKER_"

# Ray has sockets below it, and the kernel takes paths of 107 characters: 14 are the folder's name, 66 are Ray's.
LONGEST_SCRATCH_ROOT = 107 - 14 - 66

# The shell holds the process back until its handle is on record, and then becomes it: same id, same start. Should
# whoever launches it die before, the pipe closes, `read` fails and nothing was ever started.
HELD_BACK = 'read -r go && exec "$@" </dev/null'


class LocalLauncher:
    """Attempts as processes of this machine, each in a session of its own."""

    def __init__(self, *, grace_seconds: float = GRACE_SECONDS) -> None:
        self._grace_seconds = grace_seconds
        self._children: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def place(self) -> str:
        return " ".join([socket.gethostname(), *_namespace().values()])

    def capacity(self) -> Capacity | None:
        """A process here may join a cluster elsewhere, or start a Ray that says it has more than this machine."""
        return None

    def launch(
        self,
        env: Mapping[str, str],
        *,
        module: str,
        name: str,  # noqa: ARG002
        log_path: Path,
        record: Callable[[Handle], object] = lambda _: None,
    ) -> Handle:
        self._reap()
        log_path.parent.mkdir(parents=True, exist_ok=True)
        # The service's own settings stay here, its database's password and its key to S3 among them.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PURL_", "AWS_"))}
        # What is meant for workers has a name of its own: keys that read data sets need not be those of the service.
        inherited |= {name.removeprefix(FOR_WORKERS): os.environ[name] for name in inherited if _is_for_workers(name)}
        scratch = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=_scratch_root()))
        with log_path.open("ab") as output:
            child = subprocess.Popen(
                ["/bin/sh", "-c", HELD_BACK, "sh", sys.executable, "-m", module],
                env=inherited | dict(env) | {"PURL_SCRATCH_DIR": str(scratch)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[child.pid] = child
        handle = {**_handle(child.pid), "scratch": str(scratch)}
        assert child.stdin is not None
        # A broken pipe: somebody has ended it already, which whoever watches the handle will find.
        with suppress(BrokenPipeError), child.stdin as go:
            record(handle)
            go.write(b"go\n")
        return handle

    def alive(self, handle: Handle) -> bool:
        if not _is_here(handle):
            return not _is_of_an_earlier_boot(handle)
        alive = processes.is_alive(handle["pid"], handle["started"])
        self._reap()
        return alive

    def why_dead(self, handle: Handle) -> str | None:  # noqa: ARG002
        return None

    def ask_to_drain(self, handle: Handle) -> None:
        if _is_here(handle) and processes.is_alive(handle["pid"], handle["started"]):
            os.kill(handle["pid"], signal.SIGTERM)

    def end(self, handle: Handle, *, at_once: bool = False) -> None:
        if not _is_here(handle):
            return
        # An id with another owner means that nothing is left: members of a session keep its id from being given away.
        if processes.start_ticks(handle["pid"]) in (None, handle["started"]):
            left = processes.end_session(handle["pid"], grace_seconds=0.0 if at_once else self._grace_seconds)
            if left:
                log.error("the kernel won't let go of the processes %s of session %d", left, handle["pid"])
            self._reap()
        _remove_scratch(handle)

    def _reap(self) -> None:
        """Take note of children that have ended, or they would pile up as zombies."""
        for pid, child in list(self._children.items()):
            if child.poll() is not None:
                self._children.pop(pid, None)


def _is_for_workers(name: str) -> bool:
    return name.startswith(f"{FOR_WORKERS}AWS_")


def _scratch_root() -> str:
    usual = tempfile.gettempdir()
    return usual if len(usual) <= LONGEST_SCRATCH_ROOT else "/tmp"


def _remove_scratch(handle: Handle) -> None:
    """What a process leaves on the disk goes with it; a killed one can't see to that itself."""
    scratch = Path(handle.get("scratch", ""))
    if scratch.name.startswith(SCRATCH_PREFIX):
        shutil.rmtree(scratch, ignore_errors=True)


def _handle(pid: int) -> Handle:
    return {"pid": pid, "started": processes.start_ticks(pid), "host": socket.gethostname(), **_namespace()}


def _namespace() -> dict[str, str]:
    """Within what a process id means anything: one boot of one kernel, and in it one container."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"boot": boot, "namespace": str(Path("/proc/self/ns/pid").readlink())}


def _is_here(handle: Handle) -> bool:
    return {**handle, "host": socket.gethostname(), **_namespace()} == handle


def _is_of_an_earlier_boot(handle: Handle) -> bool:
    return bool(handle.get("host") == socket.gethostname() and handle["boot"] != _namespace()["boot"])
