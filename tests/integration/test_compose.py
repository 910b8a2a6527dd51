"""What docker-compose.yml says runs here as plain processes: its commands with its environment, and a job through them.

In place of containers' names stand ports of this machine; database and S3 server are the tests' own. Grafana alone is
not run, for Debian has none: `test_deploy_compose` looks at what it is given, and its board's questions are put to
Prometheus here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import yaml

from tests import compose, postgres
from tests.acceptance.running import ENDED, JOB_SECONDS, LEAST_JOB
from tests.compose_machine import Machine
from tests.compose_ray import RayOfTheFile, ray_of_the_file
from tests.integration.over_http import LEAST
from tests.ports import free_ports
from tests.prometheus import ask
from tests.proxy import caddyfile
from tests.s3 import KEY, SECRET, S3Server
from tests.waiting import wait_until

DEPLOY = compose.ROOT / "deploy"
# The nodes' python, which runs this in place of attempts. The work itself takes a minute of two CPUs.
QUICK_WORKER = f"""#!/bin/sh
[ "$*" = "-m workers.run" ] && PYTHONPATH={compose.ROOT} exec {sys.executable} -m tests.programs.quick_worker
exec {sys.executable} "$@"
"""
# Nobody plays an episode here, and this machine need not have a GPU.
EMPTY_PANELS = {"Episodes a second", "Steps a second", "GPU memory that searches took", "GPUs of the nodes"}


@dataclass(frozen=True)
class Up:
    """All of the file, and a job that has gone through it."""

    machine: Machine
    ray: RayOfTheFile
    outside: httpx.Client  # through the published door, with the first API key
    prometheus: httpx.Client
    job: dict[str, Any]


@contextmanager
def a_machine(folder: Path, s3: S3Server, postgresql: postgres.Databases) -> Iterator[Machine]:
    url = postgresql.create(template="template0")
    subprocess.run([DEPLOY / "secrets.sh", folder / "secrets"], check=True, capture_output=True)
    # These servers know other secrets: what is in no file is not known here.
    for name, value in {"database-url": url, "s3-access-key": KEY, "s3-secret-key": SECRET}.items():
        assert (folder / "secrets" / name).exists()
        (folder / "secrets" / name).write_text(value)
    (folder / "datasets").mkdir()
    metrics, published, inner, prometheus = free_ports(4)
    names = {
        "/run/secrets": str(folder / "secrets"),
        "/datasets": str(folder / "datasets"),
        "/app/": f"{compose.ROOT}/",
        "http://s3:8333": s3.url,
        "s3://purl/": f"s3://compose-{secrets.token_hex(4)}/",
        "http://proxy:8001": f"http://127.0.0.1:{inner}",
        "9000": str(metrics),
    }
    watch = {"/etc/prometheus": str(folder / "watch"), "=/prometheus": f"={folder}/series", "9090": str(prometheus)}
    own = {"proxy": {"/etc/caddy": str(folder), "8000": str(published)}, "prometheus": watch}
    with ExitStack() as cleanup:
        cleanup.callback(postgresql.drop, url)
        yield Machine(folder, names, cleanup, own)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((QUICK_WORKER, LEAST), id="quick worker"),
        # A whole job on a cluster is in `make test` already, by tests/cluster/test_short.py.
        pytest.param(("", LEAST_JOB), id="real job", marks=pytest.mark.long),
    ],
)
def up(
    s3: S3Server,
    postgresql: postgres.Databases,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Iterator[Up]:
    python, spec = request.param
    with a_machine(tmp_path_factory.mktemp("compose"), s3, postgresql) as machine, ExitStack() as opened:
        # What is started first ends last.
        ray = machine.cleanup.enter_context(ray_of_the_file(machine, python=python))
        ray.start_head()
        assert machine.ends_well("migrate") == "the database is up to date"
        assert machine.ends_well("bucket").endswith("is made")
        assert machine.ends_well("key").endswith("works now")
        ray.start_worker()
        apis = [start_api(machine, nth) for nth in (1, 2)]
        start_proxy(machine, apis)
        machine.start("dispatcher")
        prometheus = opened.enter_context(start_prometheus(machine, apis, ray))
        door = f"http://127.0.0.1:{machine.own['proxy']['8000']}"
        key = {"Authorization": f"Bearer {machine.secret('api-key')}"}
        outside = opened.enter_context(httpx.Client(base_url=door, headers=key, trust_env=False, timeout=60))
        wait_until("the door is open", lambda: answers(outside, "/readyz"))
        ray.wait_for_worker()
        job = outside.post("/jobs", json=spec).raise_for_status().json()
        ended = wait_until("the job has ended", lambda: job_if_ended(outside, job["id"]), seconds=JOB_SECONDS)
        yield Up(machine, ray, outside, prometheus, ended)


def start_api(machine: Machine, nth: int) -> str:
    """Where it is: both would have one port, on addresses of their own."""
    api = machine.start("api", nth=nth, PURL_PORT="0")
    assert api.stdout is not None
    url = api.stdout.readline().decode().removeprefix("serving at ").strip()
    machine.own["api"] = {"http://127.0.0.1:8000": url}
    return urlsplit(url).netloc


def start_proxy(machine: Machine, apis: list[str]) -> None:
    published, inner = f"http://127.0.0.1:{machine.own['proxy']['8000']}", machine.names["http://proxy:8001"]
    (machine.folder / "Caddyfile").write_text(caddyfile(published=published, inner=inner, apis=apis))
    machine.start("proxy")


@contextmanager
def start_prometheus(machine: Machine, apis: list[str], ray: RayOfTheFile) -> Iterator[httpx.Client]:
    """By its own configuration; what DNS would say of the containers' names is said here."""
    known = {"api": apis, "dispatcher": [f"127.0.0.1:{machine.names['9000']}"]}
    known |= {service: [address] for service, address in ray.metrics.items()}
    shutil.copytree(DEPLOY / "prometheus", machine.folder / "watch")
    path = machine.folder / "watch/prometheus.yml"
    config = yaml.safe_load(machine.here("prometheus", path.read_text()))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    for job in config["scrape_configs"]:
        names = [name for asked in job.pop("dns_sd_configs") for name in asked["names"]]
        assert set(names) <= set(compose.services())
        job["static_configs"] = [{"targets": [address for name in names for address in known.get(name, [])]}]
    path.write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{machine.own['prometheus']['9090']}"
    machine.start("prometheus", more=[f"--web.listen-address={address}"])
    with httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=60) as http:
        wait_until("Prometheus is ready", lambda: answers(http, "/-/ready"))
        yield http


def job_if_ended(http: httpx.Client, job_id: str) -> dict[str, Any] | None:
    job: dict[str, Any] = http.get(f"/jobs/{job_id}").raise_for_status().json()
    return job if job["state"] in ENDED else None


def answers(http: httpx.Client, path: str) -> bool:
    try:
        return http.get(path).is_success
    except httpx.TransportError:
        return False


def test_a_job_goes_through_what_the_file_starts(up: Up) -> None:
    assert up.job["state"] == "succeeded", up.job["error"]
    told = up.job["result"]["checkpoint"]

    checkpoint = up.outside.get(f"/jobs/{up.job['id']}/checkpoint").raise_for_status().content

    assert hashlib.sha256(checkpoint).hexdigest() == told["sha256"]
    assert httpx.get(up.outside.base_url.join("/jobs"), timeout=60, trust_env=False).status_code == 401


def test_its_attempt_was_a_job_of_the_files_own_ray(up: Up) -> None:
    (attempt,) = up.ray.ask("/api/jobs/")
    head, worker = up.ray.nodes()

    assert attempt["submission_id"] == f"{up.job['id']}-a1"
    assert attempt["entrypoint"] == "exec python -m workers.run"
    assert attempt["driver_node_id"] == worker["node_id"]
    assert "CPU" not in head["resources_total"]


def test_what_must_have_ended_with_it_is_known_while_it_runs(up: Up) -> None:
    """After these tests nothing may be left of it: whoever looks for that would see all of these."""
    running = Counter(Path(command.split()[0]).name for command in up.ray.processes_left())

    assert running["gcs_server"] == 1
    assert running["raylet"] == 2


def test_the_cluster_was_told_neither_key_nor_database(up: Up) -> None:
    written = up.ray.written()

    assert up.job["id"].encode() in written
    for name in ("database-url", "s3-secret-key", "api-key"):
        assert up.machine.secret(name).encode() not in written, name


@pytest.mark.parametrize("service", ["api", "dispatcher", "ray-head", "ray-worker", "proxy", "prometheus"])
def test_the_files_own_check_finds_it_healthy(up: Up, service: str) -> None:
    # As docker does: one answer that took too long makes nothing unhealthy.
    wait_until(f"{service} is found healthy", lambda: up.machine.is_healthy(service))


def test_prometheus_finds_them_all_and_the_board_has_what_it_shows(up: Up) -> None:
    board = json.loads((DEPLOY / "grafana/purl.json").read_text())
    asked = {panel["title"]: [target["expr"] for target in panel.get("targets", [])] for panel in board["panels"]}

    def empty() -> set[str]:
        return {title for title, each in asked.items() if each and not any(ask(up.prometheus, one) for one in each)}

    def reached() -> Counter[str]:
        return Counter(one["metric"]["job"] for one in ask(up.prometheus, "up == 1"))

    wait_until("all were reached", lambda: reached() == {"purl-api": 2, "purl-dispatcher": 1, "ray": 2})
    # A rate is known once it has been asked for twice.
    wait_until("every other panel shows something", lambda: empty() <= EMPTY_PANELS)


def test_every_line_of_a_log_is_an_object_that_says_whose_it_is(up: Up) -> None:
    assert named_in(up.machine.log("api"), up.job["id"]) >= {"request_id", "job_id", "route", "process"}
    assert named_in(up.machine.log("dispatcher"), up.job["id"]) >= {"attempt_id", "job_id", "process"}


def named_in(log: str, job_id: str) -> set[str]:
    lines = [json.loads(line) for line in log.splitlines()]
    return {name for line in lines if line.get("job_id") == job_id for name in line}
