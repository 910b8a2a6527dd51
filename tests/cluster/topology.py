"""The whole of docs/operate.md on hosts of one machine: database, store, services behind the proxy, and a Ray cluster.

user ── front (Caddy, two doors) ── server1, server2 (an API and a dispatcher each) ── db, s3
                                       │                                 ┌ node1
                                       └────────────── head (Ray) ───────┼ node2
                                                                         └ node3
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from services.database import Database
from services.tables import SavedBlob
from tests import postgres
from tests.acceptance.running import QUICK, STOP_SECONDS
from tests.cluster.hosts import Host, Hosts, hosts, wait_for_line
from tests.cluster.kernel import read
from tests.cluster.user import User
from tests.debian import program
from tests.faults import FaultProxy, fault_proxy
from tests.proxy import RUN, caddyfile
from tests.s3 import S3Server, s3_server
from tests.unit.test_image_folders import write_images
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent

TOKEN = "a-token-of-the-tests-" + "0" * 43
API, FRONT, INNER, STORE, DATABASE, GCS, DASHBOARD = 8000, 8000, 8001, 9000, 5432, 6379, 8265
BUCKET, DATA = "artifacts", "data"
NODE_CPUS = 2
# Small: nothing in these jobs is larger than a few megabytes, and three nodes share one machine's memory.
OBJECT_STORE = "100000000"
START_SECONDS = 300.0

AGENT_PORTS = (
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
)
# What a node has while nobody uses it, by the titles that Ray gives to processes. All others do a job's work.
RAYS_OWN = ("IDLE", "DashboardAgent", "RuntimeEnvAgent", "JobSupervisor", "SPILL_", "RESTORE_", "DELETE_")
# What ends is started again, as a container or a unit of systemd would be.
AGAIN = 'while :; do "$@"; echo "ended with $?, again"; sleep 1; done'


@dataclass
class Cluster:
    hosts: Hosts
    user: User
    database: postgres.Server
    database_url: str  # through its socket; the servers have another address of it
    store: FaultProxy
    s3: S3Server
    nodes: list[Host]
    servers: list[Host]
    environ: dict[str, str]  # of the service's processes
    code: Path = ROOT  # the program that is started from now on
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def head(self) -> Host:
        return self.hosts.by_name["head"]

    # ---- Ray

    def start_head(self) -> None:
        more = [f"--dashboard-host={self.head.address}", f"--dashboard-port={self.head.port(DASHBOARD)}"]
        self._start_ray(self.head, "--head", f"--port={self.head.port(GCS)}", "--num-cpus=0", *more)

    def start_node(self, node: Host) -> None:
        address = f"--address={self.head.address}:{self.head.port(GCS)}"
        # Keys to the data sets are the nodes' own affair: no job and no spec says them.
        keys = {**self.s3.environ(), "AWS_ENDPOINT_URL_S3": self.store.url}
        cache = {"PURL_DATASETS_CACHE": str(node.disk / "cache")}
        self._start_ray(node, address, f"--num-cpus={NODE_CPUS}", **keys, **cache)

    def _start_ray(self, host: Host, *words: str, **own_environ: str) -> None:
        # Hosts that share an address must not share ports, nor a folder for Ray's files.
        own = [f"--{name}={host.port(52_000 + number)}" for number, name in enumerate(AGENT_PORTS)]
        folder = f"--temp-dir={host.disk / 'ray'}"
        ray = [str(Path(sys.executable).with_name("ray")), "start", "--block", *words, *own, folder]
        rest = [f"--node-ip-address={host.address}", "--disable-usage-stats", f"--object-store-memory={OBJECT_STORE}"]
        # A cluster's `python` is the one that has Ray.
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        auth = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
        threads = {"OMP_NUM_THREADS": "1", "PATH": path}
        environ = {**_inherited(), **auth, **threads, **own_environ}
        host.start("sh", "-c", AGAIN, "sh", *ray, *rest, log="ray.log", environ=environ)

    def ray(self, path: str, **params: str) -> Any:
        """What the head's dashboard says, as a dispatcher would ask it."""
        with self.head.entered():
            answer = httpx.get(
                f"http://{self.head.address}:{self.head.port(DASHBOARD)}{path}",
                params=params,
                headers={"Authorization": f"Bearer {TOKEN}"},
                timeout=30,
                trust_env=False,
                verify=False,  # plain HTTP: to read certificates for each call would take longer than the answer
            )
        return answer.raise_for_status().json()

    def nodes_alive(self) -> int:
        """As the head sees it; 0 while it does not answer."""
        try:
            told = self.ray("/api/v0/nodes", filter_keys="state", filter_predicates="=", filter_values="ALIVE")
        except httpx.HTTPError:
            return 0
        return sum("CPU" in node["resources_total"] for node in told["data"]["result"]["result"])

    def wait_for_nodes(self, count: int) -> None:
        wait_until(
            f"the head has {count} nodes", lambda: self.nodes_alive() == count, seconds=START_SECONDS, longest_pause=1.0
        )

    def node_of_the_driver(self) -> Host:
        return wait_until("a driver runs", lambda: next((n for n in self.nodes if n.pids("workers.run")), None))

    # ---- the service

    def start_server(self, server: Host) -> None:
        self.start_api(server)
        self.start_dispatcher(server)

    def start_api(self, server: Host) -> None:
        own = {"PURL_HOST": server.address, "PURL_PORT": str(server.port(API))}
        self._start(server, "api", **own)
        wait_for_line(server, server.port(API))

    def start_dispatcher(self, server: Host) -> None:
        self._start(server, "services.dispatcher")

    def _start(self, server: Host, module: str, **own: str) -> None:
        environ = {**self.environ, "PURL_DATA_DIR": str(server.disk / "data"), **own}
        command = (sys.executable, "-m", module)
        self.processes[f"{module} {server.name}"] = server.start(
            *command, log=f"{module}.log", environ=environ, cwd=self.code
        )

    def stop(self, module: str, server: Host) -> int:
        """As whoever operates it would: asked, and waited for. Its exit status."""
        process = self.processes.pop(f"{module} {server.name}")
        server.ask_to_end(process)
        return process.wait(STOP_SECONDS)

    def command(self, *words: str) -> str:
        """`python -m services …` on the first server, and what it printed."""
        server = self.servers[0]
        with server.entered():
            ran = subprocess.run(
                [sys.executable, "-m", "services", *words],
                env={**self.environ, "PURL_DATA_DIR": str(server.folder / "by-hand")},
                cwd=self.code,
                capture_output=True,
                text=True,
            )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout.strip()

    def metrics(self, server: Host) -> str:
        """What Prometheus would get of its API."""
        headers = {"Authorization": f"Bearer {self.user.key}"}
        url = f"http://{server.address}:{server.port(API)}/metrics"
        with server.entered():
            return httpx.get(url, headers=headers, trust_env=False, timeout=30).raise_for_status().text

    def stored(self) -> list[str]:
        """The names of all objects in the bucket."""
        listing = self.s3.link("GET", BUCKET)
        with self.hosts.by_name["s3"].entered():
            said = httpx.get(listing, trust_env=False).raise_for_status().text
        return re.findall(r"<Key>([^<]+)</Key>", said)

    def saved(self, job_id: str) -> list[str]:
        """What the next attempt of this job would find, by its names."""
        with closing(Database.open(self.database_url)) as db, db.read() as session:
            return list(session.scalars(select(SavedBlob.name).where(SavedBlob.job_id == job_id)))

    # ---- what happens to it

    def restart_database(self) -> None:
        """Killed as by kill -9, and there again."""
        self.database.kill()
        with self.hosts.by_name["db"].entered():
            self.database.start()


def at_work(host: Host) -> list[int]:
    """Drivers of attempts, and whatever Ray runs for them, by any name."""
    titles = {pid: read(pid, "cmdline").partition("ray::")[2] for pid in host.pids("ray::")}
    busy = [pid for pid, title in titles.items() if title and not title.startswith(RAYS_OWN)]
    return [*host.pids("workers.run"), *busy]


@contextmanager
def a_cluster(*, nodes: int, servers: int, **own: str) -> Iterator[Cluster]:
    """Ready to take jobs; with more than one server behind the proxy, and settings of its own. Nothing is left of it
    afterwards."""
    with ExitStack() as stack:
        made = stack.enter_context(hosts())
        user, db, s3, head = (made.add(name) for name in ("user", "db", "s3", "head"))
        of_nodes = [made.add(f"node{number + 1}") for number in range(nodes)]
        of_servers = [made.add(f"server{number + 1}") for number in range(servers)]
        front = made.add("front") if servers > 1 else of_servers[0]
        public, inner = front.port(FRONT), front.port(INNER if servers > 1 else API)
        with s3.entered():
            swift = stack.enter_context(s3_server(s3.folder))
            line = stack.enter_context(fault_proxy(swift.url, host=s3.address, port=s3.port(STORE)))
        # Signed out here: a program that is asked for the first time starts threads, and they would stay in there.
        make_buckets = [swift.link("PUT", name) for name in (BUCKET, DATA)]
        images = made.folder / "images"
        write_images(images / "image-folder" / "flowers")
        with s3.entered():
            for make in make_buckets:
                httpx.put(make, trust_env=False).raise_for_status()
            for file in images.rglob("*.*"):
                swift.put_as_it_is(f"{DATA}/{file.relative_to(images)}", file.read_bytes())
        with db.entered():
            database = stack.enter_context(postgres.running_server(host=db.address, port=db.port(DATABASE)))
        # Closed at once: a connection to a server that will be killed is of no use later.
        with closing(postgres.Databases(database.url)) as databases:
            url = databases.create()
        cluster = Cluster(
            hosts=made,
            user=User(user, f"http://{front.address}:{public}"),
            database=database,
            database_url=url,
            store=line,
            s3=swift,
            nodes=of_nodes,
            servers=of_servers,
            environ={
                **_inherited(),
                **QUICK,
                **swift.environ(),
                "AWS_ENDPOINT_URL_S3": line.url,
                "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
                "PURL_DATABASE_URL": database.by_network(url),
                "PURL_ARTIFACTS": f"s3://{BUCKET}/purl",
                "PURL_DATASETS_DIR": f"s3://{DATA}",
                "PURL_RAY_ADDRESS": f"http://{head.address}:{head.port(DASHBOARD)}",
                "PURL_RAY_DRIVER_CPUS": "1",
                "PURL_PUBLIC_URL": f"http://{front.address}:{inner}",
                "PURL_MAX_RUNNING": "2",
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN": TOKEN,
                **own,
            },
        )
        stack.callback(cluster.user.close)
        cluster.start_head()
        for node in of_nodes:
            cluster.start_node(node)
        cluster.user.key = cluster.command("keys", "create", "--name", "tests", "--scopes", "read,submit,admin")
        for server in of_servers:
            cluster.start_server(server)
        if servers > 1:
            _start_proxy(front, of_servers)
        wait_for_line(front, public)
        cluster.wait_for_nodes(nodes)
        yield cluster


def _start_proxy(front: Host, servers: list[Host]) -> None:
    text = caddyfile(
        published=f"http://{front.address}:{front.port(FRONT)}",
        inner=f"http://{front.address}:{front.port(INNER)}",
        apis=[f"{server.address}:{server.port(API)}" for server in servers],
    )
    (front.folder / "Caddyfile").write_text(text)
    caddy = str(program("caddy", package="caddy"))
    command = (caddy, *RUN, str(front.disk / "Caddyfile"))
    front.start(*command, log="caddy.log", environ={**os.environ, "HOME": str(front.disk)})


def _inherited() -> dict[str, str]:
    ours = ("PURL_", "PYTHONPATH", "RAY_", "AWS_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}
