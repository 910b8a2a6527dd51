"""A real Ray cluster of one node with token auth, as an operator starts it, and ended by its own session alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from purlkit.processes import PROC, end_session, session_members
from tests.ports import free_ports
from tests.waiting import DEADLINE_SECONDS, wait_until

TOKEN = "a-token-of-the-tests-" + "0" * 43
START_SECONDS = 300.0  # of half a dozen processes, one after another


@dataclass
class RayHead:
    folder: Path
    address: str  # of its dashboard, for Ray Jobs
    gcs: str  # for drivers
    process: subprocess.Popen[bytes]

    @property
    def http(self) -> httpx.Client:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        # Plain HTTP, asked many times while it starts: to read certificates each time would be a second of CPU.
        return httpx.Client(
            base_url=self.address, headers=headers, timeout=DEADLINE_SECONDS, trust_env=False, verify=False
        )

    def job(self, name: str) -> dict[str, object]:
        with self.http as http:
            found: dict[str, object] = http.get(f"/api/jobs/{name}").raise_for_status().json()
        return found

    def jobs(self) -> list[str]:
        with self.http as http:
            return [job["submission_id"] for job in http.get("/api/jobs/").raise_for_status().json()]

    def pids(self, *words: str) -> list[int]:
        """Its processes whose command line has these words."""
        return [pid for pid in self._all() if all(word in _read(pid, "cmdline") for word in words)]

    def _all(self) -> list[int]:
        """Every process that carries this cluster's mark, or a command line that names its folder.

        Drivers and the watchers beside them run in sessions of their own, so sessions alone would miss some.
        """
        mark = f"TEST_CLUSTER={self.folder}"
        pids = (int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
        return [pid for pid in pids if mark in _read(pid, "environ") or str(self.folder) in _read(pid, "cmdline")]

    def kill(self) -> None:
        """As if the machine had gone: head, workers and drivers at once."""
        while pids := self._all():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
        end_session(self.process.pid, grace_seconds=0.0)
        self.process.wait()


@contextmanager
def ray_head(grows_by: dict[str, int] | None = None, **environ: str) -> Iterator[RayHead]:
    """`grows_by`: what each of two nodes has that Ray's own autoscaler starts here once somebody waits for them."""
    # A path that is short enough for Ray's sockets.
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    gcs, dashboard, agent, agent_grpc, metrics, env_agent = free_ports(6)
    command = [
        str(Path(sys.executable).with_name("ray")), "start", "--head", "--block",
        "--node-ip-address=127.0.0.1", f"--port={gcs}", f"--temp-dir={folder}", "--num-cpus=2",
        "--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}",
        f"--dashboard-agent-listen-port={agent}", f"--dashboard-agent-grpc-port={agent_grpc}",
        f"--metrics-export-port={metrics}", f"--runtime-env-agent-port={env_agent}",
        "--disable-usage-stats", "--object-store-memory=100000000",
    ]  # fmt: skip
    if grows_by is not None:
        config = folder / "autoscaling.json"
        config.write_text(json.dumps(_autoscaling(grows_by, gcs_address=f"127.0.0.1:{gcs}")))
        command.append(f"--autoscaling-config={config}")
        environ |= {"RAY_FAKE_CLUSTER": "1", "AUTOSCALER_UPDATE_INTERVAL_S": "1"}
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PURL_", "PYTHONPATH", "RAY_"))
    }
    # A cluster's `python` is the one that has Ray.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "TEST_CLUSTER": str(folder), "PATH": path}
    with (folder / "head.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**inherited, **auth, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=folder,
        )
    head = RayHead(folder, f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{gcs}", process)
    try:
        wait_until("the head takes jobs", lambda: _is_up(head), seconds=START_SECONDS)
        yield head
    finally:
        head.kill()
        assert session_members(process.pid) == []
        shutil.rmtree(folder, ignore_errors=True)


def _autoscaling(grows_by: dict[str, int], *, gcs_address: str) -> dict[str, Any]:
    """Ray's provider for its own tests: its nodes are raylets of this machine."""
    return {
        "cluster_name": "tests",
        "max_workers": 2,
        # The rest is as KubeRay has it: nodes look after themselves, nobody goes there by SSH.
        "provider": {
            "type": "fake_multinode",
            "gcs_address": gcs_address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "worker_liveness_check": False,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            "growing": {"resources": grows_by, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.1,
        "auth": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }


def _is_up(head: RayHead) -> bool:
    assert head.process.poll() is None, (head.folder / "head.log").read_text()
    try:
        with head.http as http:
            # Jobs are taken once an agent has registered; this route asks one.
            return http.get("/api/jobs/").is_success
    except httpx.TransportError:
        return False


def _read(pid: int, what: str) -> str:
    """Of a process that has ended there is nothing to read."""
    try:
        return (PROC / str(pid) / what).read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
