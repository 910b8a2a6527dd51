"""Ray as this attempt's engine: started or joined quietly, within a time, interruptible, and left clean."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from purlkit.errors import RayUnreachable

# Read by Ray when it is imported: no usage reports, no guessing of a virtual environment, no chatter of its C++ side.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}

START_SECONDS = 120.0  # a Ray of our own on a machine that is busy with other things; 4 s on an idle one
CONNECT_SECONDS = 30.0  # to a cluster that runs; Ray itself would try for two minutes and then end the process
TCP_SECONDS = 5.0
SHUTDOWN_SECONDS = 30.0
LOOK_SECONDS = 0.2


def quiet() -> None:
    """To be called before anything imports Ray."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


@contextmanager
def connected(
    address: str, scratch: Path | None = None, *, on_wait: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """A Ray of our own on this machine where no address is given, else the cluster there.

    Ray's ports are open to the machine's network, so a Ray of our own asks for a token that only this process and its
    children know. For a cluster's address the operator sets RAY_AUTH_MODE=token on every node and for the workers.
    It keeps its logs and sockets in `scratch`. While Ray starts `on_wait` is called, and may raise to stop.
    """
    if address:
        _knock(address)
        thread = _RayThread(address=address)
    else:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # without it Ray shares one file between all
        folder = {} if scratch is None else {"_temp_dir": str(_folder_for_ray(scratch))}
        thread = _RayThread(address="local", include_dashboard=False, **folder)
    thread.start()
    try:
        thread.wait(CONNECT_SECONDS if address else START_SECONDS, on_wait)
        logging.getLogger("ray.rllib").setLevel(logging.ERROR)
        yield
    finally:
        thread.end()


class _RayThread(threading.Thread):
    """Where Ray is started and stopped.

    Not in the main thread: there Ray would put its own handler of SIGTERM in place of ours, which saves the work first,
    and nothing could watch the time. And the thread stays: the kernel ends Ray's processes with the thread that started
    them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(name="ray", daemon=True)
        self._options = options
        self._failure: BaseException | None = None
        self._given_up = False
        self._ready, self._leave = threading.Event(), threading.Event()

    def run(self) -> None:
        import ray

        try:
            with _fewer_processes():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, namespace="purl", **self._options)
        except BaseException as error:  # where it can't connect Ray raises SystemExit
            self._failure = error
            return
        finally:
            self._ready.set()
        self._leave.wait()
        ray.shutdown()

    def wait(self, seconds: float, on_wait: Callable[[], None]) -> None:
        waited = 0.0
        while not self._ready.wait(LOOK_SECONDS):
            waited += LOOK_SECONDS
            on_wait()
            if waited > seconds:
                self._given_up = True
                raise RayUnreachable(f"Ray did not answer within {seconds:g} s", remedy=_REMEDY)
        if self._failure is not None:
            said = f"{type(self._failure).__name__}: {self._failure}"
            raise RayUnreachable(f"Ray can't be used: {said[:2000]}", remedy=_REMEDY) from self._failure

    def end(self) -> None:
        """Waits for Ray to be up first, should it be on its way: only then can it be taken down in order."""
        self._leave.set()
        if not self._given_up:
            self.join(SHUTDOWN_SECONDS)  # one that hangs goes with the process


@contextmanager
def _fewer_processes() -> Iterator[None]:
    """`ray.init` has no option for it. What a later Ray calls otherwise is started as before."""
    from ray._private.node import Node

    skipped = {name: getattr(Node, name) for name in NOBODY_ASKS if hasattr(Node, name)}
    for name in skipped:
        setattr(Node, name, NOBODY_ASKS[name])
    try:
        yield
    finally:
        for name, method in skipped.items():
            setattr(Node, name, method)


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _no_api_server(node: Any, *_: Any, **__: Any) -> None:
    """Only its address, which Ray would look for once a second, and each time write into a log that there is none.

    Nobody listens there, as at that of a server without pages. The port is below those that any account may take: what
    goes there has the token.
    """
    from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD

    node.get_gcs_client().internal_kv_put(DASHBOARD_ADDRESS.encode(), b"127.0.0.1:9", True, KV_NAMESPACE_DASHBOARD)


# What Ray starts beside each head, by the methods of its Node: a web server, here without pages; the autoscaler of one
# machine; a reader of the workers' output for drivers that want it. Nobody asks a Ray of our own, and they cost a third
# of its start.
NOBODY_ASKS: dict[str, Callable[..., None]] = {
    "start_api_server": _no_api_server,
    "start_monitor": _nothing,
    "start_log_monitor": _nothing,
}


_REMEDY = "look at attempt.log, at PURL_RAY_ADDRESS, and at RAY_AUTH_TOKEN where the cluster asks for one"


def _knock(address: str) -> None:
    """Whether anybody listens at host:port, told in seconds. What it is only Ray can find out."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=TCP_SECONDS).close()
    except OSError as error:
        raise RayUnreachable(
            f"nothing answers at the Ray cluster's address ({error.strerror or error})",
            remedy="start the cluster, or set PURL_RAY_ADDRESS to the host:port of its head",
        ) from error


def _folder_for_ray(scratch: Path) -> Path:
    """Ray opens its folder to every user of the machine; below one that is closed to them that does no harm."""
    folder = scratch / "r"
    folder.mkdir(exist_ok=True)
    return folder
