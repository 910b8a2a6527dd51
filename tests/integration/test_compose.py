"""What docker-compose.yml says runs here as plain processes: its commands with its environment, and a job through them.

In place of containers' names stand ports of this machine; in place of Ray a head that starts another worker.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests import compose, postgres
from tests.fake_ray import FakeRay, fake_ray
from tests.integration.over_http import LEAST
from tests.s3 import KEY, SECRET, S3Server
from tests.waiting import DEADLINE_SECONDS, wait_until

# What tests.programs.quick_worker makes of every network.
CHECKPOINT = b"the pruned network"


@dataclass
class Machine:
    """Runs the services of the file, each with nothing but what the file and its image give it."""

    folder: Path
    names: dict[str, str]  # what stands for the names of containers, and for paths in them
    cleanup: ExitStack
    logs: dict[str, Path] = field(default_factory=dict)

    def start(self, service: str, *, nth: int = 1, **instead: str) -> subprocess.Popen[bytes]:
        said = compose.services()[service]
        data = self.folder / f"{service}-{nth}"
        environ = {**compose.image_environ(said["build"]["dockerfile"]), **said["environment"]}
        environ = {name: self._here(str(value)) for name, value in environ.items() if name != "PATH"}
        own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(compose.ROOT), "PURL_DATA_DIR": str(data)}
        quick = {"PURL_HOST": "127.0.0.1", "PURL_POLL_SECONDS": "0.05", "PURL_DRAIN_SECONDS": "1"}
        self.logs[service] = self.folder / f"{service}.log"
        with self.logs[service].open("ab") as log:
            process = subprocess.Popen(
                self._command(said["command"]),
                env={**environ, **own, **quick, **instead},
                cwd=compose.ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert process.stdout is not None
        self.cleanup.callback(process.stdout.close)
        self.cleanup.callback(process.wait, DEADLINE_SECONDS)
        self.cleanup.callback(process.terminate)
        return process

    def ends_well(self, service: str) -> str:
        """What it printed."""
        process = self.start(service)
        printed, _ = process.communicate(timeout=DEADLINE_SECONDS)
        assert process.returncode == 0, self.logs[service].read_text()
        return printed.decode().strip()

    def is_healthy(self, service: str) -> bool:
        """By the check of the file itself."""
        _, *command = compose.services()[service]["healthcheck"]["test"]
        return subprocess.run(self._command(command), cwd=compose.ROOT, capture_output=True).returncode == 0

    def _command(self, words: list[str]) -> list[str]:
        program, *rest = words
        assert program == "python"
        return [sys.executable, *(self._here(word) for word in rest)]

    def _here(self, text: str) -> str:
        for name, instead in self.names.items():
            text = text.replace(name, instead)
        return text


@pytest.fixture
def ray(tmp_path: Path) -> Iterator[FakeRay]:
    (tmp_path / "datasets").mkdir()
    with fake_ray(
        "the token", module="tests.programs.quick_worker", PURL_DATASETS_DIR=str(tmp_path / "datasets")
    ) as ray:
        yield ray


@pytest.fixture
def machine(tmp_path: Path, s3: S3Server, ray: FakeRay, postgresql: postgres.Databases) -> Iterator[Machine]:
    url = postgresql.create(template="template0")
    secrets = tmp_path / "secrets"
    subprocess.run([compose.ROOT / "deploy/secrets.sh", secrets], check=True, capture_output=True)
    # The servers are the tests' own and know other secrets: what is in no file is not known here.
    own = {"database-url": url, "s3-access-key": KEY, "s3-secret-key": SECRET, "ray-token": "the token"}
    for name, value in own.items():
        assert (secrets / name).exists()
        (secrets / name).write_text(value)
    names = {
        "/run/secrets": str(secrets),
        "http://s3:8333": s3.url,
        "http://ray-head:8265": ray.url,
        "s3://purl/": f"s3://compose-{tmp_path.name[-20:].replace('_', '-')}/",
        "9000": str(a_free_port()),
    }
    with ExitStack() as cleanup:
        cleanup.callback(postgresql.drop, url)
        yield Machine(tmp_path, names, cleanup)


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def test_a_job_goes_through_what_the_file_starts(machine: Machine, ray: FakeRay) -> None:
    assert machine.ends_well("migrate") == "the database is up to date"
    assert machine.ends_well("bucket").endswith("is made")
    assert machine.ends_well("key").endswith("works now")
    apis = [machine.start("api", nth=nth, PURL_PORT="0") for nth in (1, 2)]
    urls = [api.stdout.readline().decode().removeprefix("serving at ").strip() for api in apis if api.stdout]
    machine.names["http://proxy:8001"] = urls[0]
    machine.start("dispatcher")
    wait_until("it is up", lambda: "looking after the queue" in machine.logs["dispatcher"].read_text())
    assert machine.is_healthy("dispatcher")

    key = {"Authorization": f"Bearer {(machine.folder / 'secrets/api-key').read_text()}"}
    assert httpx.get(f"{urls[0]}/jobs", trust_env=False).status_code == 401
    job = httpx.post(f"{urls[0]}/jobs", json=LEAST, headers=key, trust_env=False, timeout=30).raise_for_status().json()
    ended = wait_until(
        "the other API says that it has ended",
        lambda: (
            found if (found := get(urls[1], f"/jobs/{job['id']}", key))["state"] not in ("queued", "running") else None
        ),
    )

    assert ended["state"] == "succeeded", ended["error"]
    path = f"{urls[1]}/jobs/{job['id']}/checkpoint"
    checkpoint = httpx.get(path, headers=key, trust_env=False).raise_for_status().content
    assert checkpoint == CHECKPOINT
    assert hashlib.sha256(checkpoint).hexdigest() == ended["result"]["checkpoint"]["sha256"]
    assert [asked["entrypoint_num_cpus"] for asked in ray.submitted] == [1]
    secret = {"database-url", "s3-secret-key", "api-key"}
    sent = json.dumps(ray.submitted)
    assert not [name for name in secret if (machine.folder / "secrets" / name).read_text() in sent]
    assert named_in(machine.logs["api"], job["id"]) >= {"request_id", "job_id", "route", "process"}
    assert named_in(machine.logs["dispatcher"], job["id"]) >= {"attempt_id", "job_id", "process"}


def get(url: str, path: str, headers: dict[str, str]) -> dict[str, dict[str, dict[str, str]]]:
    answer = httpx.get(f"{url}{path}", headers=headers, trust_env=False).raise_for_status()
    found: dict[str, dict[str, dict[str, str]]] = answer.json()
    return found


def named_in(log: Path, job_id: str) -> set[str]:
    """What the lines about this job have; every line of a log is one object."""
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return {name for line in lines if line.get("job_id") == job_id for name in line}
