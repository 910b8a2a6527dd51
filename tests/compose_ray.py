"""`ray-head` and `ray-worker` of docker-compose.yml by their own commands: two nodes of this machine, with token auth.

Each has ports that are free and a folder of its own, in place of its container's ports and /tmp.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.cluster.kernel import living, read
from tests.compose_machine import VENV, Machine
from tests.ports import free_ports
from tests.waiting import DEADLINE_SECONDS, wait_until

START_SECONDS = STOP_SECONDS = 300.0
METRICS, AGENT = "8080", "52365"


@dataclass
class RayOfTheFile:
    machine: Machine
    folder: Path
    address: str
    metrics: dict[str, str] = field(default_factory=dict)  # of each node: where Prometheus asks it
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start_head(self) -> None:
        dashboard = self.address.rpartition(":")[2]
        self._start("ray-head", f"--dashboard-port={dashboard}")

    def start_worker(self) -> None:
        """Once the head is healthy, as the file wants it."""
        wait_until("the head takes jobs", self._takes_jobs, seconds=START_SECONDS)
        wait_until("the head is healthy", lambda: self.machine.is_healthy("ray-head"), seconds=START_SECONDS)
        self._start("ray-worker")

    def wait_for_worker(self) -> None:
        wait_until("the worker is a node", lambda: self.nodes()[1:], seconds=START_SECONDS)

    def nodes(self) -> list[dict[str, Any]]:
        """Those that live, the head first."""
        told = self.ask("/api/v0/nodes", filter_keys="state", filter_predicates="=", filter_values="ALIVE")
        nodes: list[dict[str, Any]] = told["data"]["result"]["result"]
        return sorted(nodes, key=lambda node: not node["is_head_node"])

    def ask(self, path: str, **params: str) -> Any:
        """The dashboard, as the dispatcher does."""
        headers = {"Authorization": f"Bearer {self.machine.secret('ray-token')}"}
        url = f"{self.address}{path}"
        # Plain HTTP, asked many times while it starts: to read certificates each time would be a second of CPU.
        answer = httpx.get(url, params=params, headers=headers, timeout=DEADLINE_SECONDS, trust_env=False, verify=False)
        return answer.raise_for_status().json()

    def written(self) -> bytes:
        """All that its nodes have put down: logs, packages, what jobs were started with."""
        paths = (path for path in self.folder.rglob("*") if path.is_file() and not path.is_symlink())
        return b"".join(path.read_bytes() for path in paths)

    def stop(self) -> list[str]:
        """As `docker compose stop`, the nodes before their head. What is left of them, which should be nothing."""
        for process in reversed(self.processes):
            process.terminate()
            process.wait(STOP_SECONDS)
        with suppress(AssertionError):
            wait_until("its last process has ended", lambda: not self._pids())
        return self.processes_left()

    def processes_left(self) -> list[str]:
        """The command line of each; of one that is just ending there is none."""
        return [command for pid in self._pids() if (command := read(pid, "cmdline").strip())]

    def kill(self) -> None:
        while pids := self._pids():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for process in self.processes:
                process.poll()

    def _start(self, service: str, *more: str) -> None:
        metrics, agent, agent_grpc, runtime_env = free_ports(4)
        self.metrics[service] = f"127.0.0.1:{metrics}"
        self.machine.own.setdefault(service, {}).update({METRICS: str(metrics), AGENT: str(agent)})
        own = (
            f"--dashboard-agent-listen-port={agent}",
            f"--dashboard-agent-grpc-port={agent_grpc}",
            f"--runtime-env-agent-port={runtime_env}",
            # A node that shared its head's folder would find its jobs' code cleared away by the head.
            f"--temp-dir={self.folder / service}",
        )
        path = f"{self.folder}:{VENV}:{os.environ['PATH']}"
        process = self.machine.start(service, more=(*more, *own), TMPDIR=str(self.folder), PATH=path)
        self.processes.append(process)

    def _takes_jobs(self) -> bool:
        assert self.processes[0].poll() is None, self.machine.log("ray-head")
        try:
            self.ask("/api/jobs/")
        except httpx.HTTPError:
            return False
        return True

    def _pids(self) -> list[int]:
        """By the mark in their environment, or, where a title has been written over it, by the folder on their line."""
        mark, folder = f"TMPDIR={self.folder} ", f"{self.folder}/"
        return [pid for pid in living() if mark in read(pid, "environ") + " " or folder in read(pid, "cmdline")]


@contextmanager
def ray_of_the_file(machine: Machine, *, python: str = "") -> Iterator[RayOfTheFile]:
    """Nothing has been started yet. `python`: a script that the nodes find by this name, before their own."""
    # A path that is short enough for Ray's sockets.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        if python:
            script = Path(folder) / "python"
            script.write_text(python)
            script.chmod(0o755)
        gcs, dashboard = free_ports(2)
        ray = RayOfTheFile(machine, Path(folder), f"http://127.0.0.1:{dashboard}")
        machine.names |= {"http://ray-head:8265": ray.address, "ray-head:6379": f"127.0.0.1:{gcs}"}
        machine.own["ray-head"] = {"6379": str(gcs), "0.0.0.0": "127.0.0.1"}
        try:
            yield ray
            left = ray.stop()
        finally:
            ray.kill()
        assert left == []
