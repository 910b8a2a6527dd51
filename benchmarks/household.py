"""The processes of a service under load, each of them real, and their CPU seconds, as the kernel counts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from services import jobs
from services.artifacts import LocalStore
from services.database import Database
from services.dispatcher import Dispatcher
from services.settings import Settings
from services.testing import FakeLauncher, a_spec
from tests import postgres

TICKS = os.sysconf("SC_CLK_TCK")
# What is counted: CPU seconds of each kind of process, and bytes that the database writes to its log before it answers.
KINDS = ("api", "database", "wal")

Attempt = tuple[str, str, str]  # id, token, job
Costs = dict[str, float]
Value = TypeVar("Value")


@dataclass
class Household:
    """PostgreSQL, API processes that listen on loopback, and a dispatcher that starts nothing."""

    folder: Path
    db: Database
    settings: Settings
    environ: dict[str, str]
    postmaster: int
    apis: list[subprocess.Popen[str]] = field(default_factory=list)
    addresses: list[tuple[str, int]] = field(default_factory=list)

    def used(self) -> Costs:
        """Of each kind, until now."""
        with self.db.engine.connect() as connection:
            wal = connection.exec_driver_sql("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')").scalar_one()
        cpu = {"api": sum(cpu_of(api.pid) for api in self.apis), "database": cpu_of(self.postmaster, children=True)}
        return {**cpu, "wal": float(wal)}

    def cost(self, work: Callable[[], Value]) -> tuple[Value, Costs]:
        """What comes of it, and what it costs here."""
        before = self.used()
        value = work()
        return value, {kind: used - before[kind] for kind, used in self.used().items()}

    def newest_job(self) -> str:
        """Submitted just now, so that all others are ahead of it."""
        with self.db.write() as session:
            return jobs.submit(session, a_spec()).job.id

    def settle(self) -> None:
        """What a server does by itself after a minute: look at its tables, so that it knows how large they are."""
        with self.db.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE")


@contextmanager
def household(folder: Path, *, apis: int, attempts: int) -> Iterator[Household]:
    with ExitStack() as stack:
        server = stack.enter_context(postgres.running_server(durable=True))
        made = stack.enter_context(closing(postgres.Databases(server.url)))
        url = made.create()
        environ = {
            "PURL_DATA_DIR": str(folder),
            "PURL_DATABASE_URL": url,
            "PURL_PORT": "0",
            "PURL_MAX_RUNNING": str(attempts),
            "PURL_MAX_QUEUED": "1000000",
            # What is measured may be slow, and is not to be rescued for it.
            "PURL_LEASE_SECONDS": "3600",
        }
        db = Database.open(url)
        stack.callback(db.close)
        house = Household(folder, db, Settings.from_environ(environ), environ, server.postmaster)
        for _ in range(apis):
            api = stack.enter_context(process("-m", "api", environ=environ))
            house.apis.append(api)
            house.addresses.append(_address_of(api))
        yield house


@contextmanager
def process(*arguments: str, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environ}) as started:
        try:
            yield started
        finally:
            started.terminate()


def _address_of(api: subprocess.Popen[str]) -> tuple[str, int]:
    assert api.stdout is not None
    for line in api.stdout:
        if line.startswith("serving at http://"):
            host, _, port = line.strip().removeprefix("serving at http://").partition(":")
            return host, int(port)
    raise RuntimeError("the API has not started")


@dataclass(frozen=True, kw_only=True)
class Passes:
    """Those of a dispatcher."""

    claimed: list[Attempt]
    claiming_seconds: float
    idle_seconds: float  # of one pass with all of them running
    idle_cpu_seconds: float


def dispatched(house: Household, *, passes: int) -> Passes:
    """A dispatcher claims as many as may run, and then looks after them for so many passes."""
    with process("-m", "benchmarks.household", str(passes), environ=house.environ) as dispatcher:
        assert dispatcher.stdout is not None
        told = [json.loads(line) for line in dispatcher.stdout]
    first, later = told[0], told[1:]
    return Passes(
        claimed=[(one[0], one[1], one[2]) for one in first["claimed"]],
        claiming_seconds=first["seconds"],
        idle_seconds=sum(one["seconds"] for one in later) / len(later),
        idle_cpu_seconds=sum(one["cpu"] for one in later) / len(later),
    )


def crowd(orders: Mapping[str, Any]) -> dict[str, Any]:
    """What a crowd of attempts saw, and under `cpu` what it used itself."""
    before = os.times()
    command = [sys.executable, "-m", "benchmarks.crowd"]
    done = subprocess.run(command, input=json.dumps(orders), stdout=subprocess.PIPE, text=True, check=True)
    used = os.times()
    cpu = used.children_user + used.children_system - before.children_user - before.children_system
    return {**json.loads(done.stdout), "cpu": cpu}


def cpu_of(pid: int, *, children: bool = False) -> float:
    """Of a process, and of its children: those that live, and those that it has buried."""
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(int(ticks) for ticks in (stat[11:15] if children else stat[11:13])) / TICKS
    if not children:
        return own
    living = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return own + sum(cpu_of(int(child)) for child in living)


class CountingLauncher(FakeLauncher):
    """Starts nothing, and remembers what an attempt would have been told."""

    def told(self) -> Sequence[tuple[str, str, str]]:
        named = [(launch.env["PURL_ATTEMPT"], launch.env["PURL_TOKEN"], launch.name) for launch in self.launches]
        return [(attempt, token, name.rpartition("-a")[0]) for attempt, token, name in named]


def dispatch(passes: int, environ: Mapping[str, str] = os.environ) -> None:
    """The first pass claims, the others find nothing to do. Each is told as a line of JSON."""
    settings = Settings.from_environ({**environ, "PURL_PUBLIC_URL": "http://127.0.0.1:1"})
    db, launcher = Database.open(settings.database_url), CountingLauncher()
    dispatcher = Dispatcher(db, settings, launcher, LocalStore(settings.artifacts))
    for number in range(passes + 1):
        began, used = time.perf_counter(), time.process_time()
        dispatcher.tick()
        line: dict[str, Any] = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - used}
        if number == 0:
            line["claimed"] = launcher.told()
        print(json.dumps(line), flush=True)
    db.close()


if __name__ == "__main__":
    dispatch(int(sys.argv[1]))
