"""Requests per second of the jobs API, beside an empty route of the same server, with few jobs in the table and many.

    python -m benchmarks.api
    python -m benchmarks.api --jobs 10 --rounds 3

One process serves, this one asks over as many connections as are given, with prepared requests and a reader that looks
for nothing but the length of an answer. The routes are measured in turn, so that whatever else the machine does hits
all alike; each number is the median over the rounds.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import insert, select

from api.__main__ import url_of
from api.main import create_app
from api.server import make_server
from services import attempts, jobs
from services.artifacts import LocalStore
from services.database import Database
from services.ids import new_id
from services.supervisor import listen
from services.tables import Job, Leftover
from services.testing import FakeLauncher, FakeWorker, a_spec, an_episode, database_in, settings_in

READS = {"GET /jobs/{id}, ended": 0.40, "GET /jobs/{id}, queued": 0.40, "GET /jobs?limit=10": 0.30}
POST, FLOOR = "POST /jobs", "one bare insert"
# An answer holds until somebody writes, so each read is measured beside somebody who does as well.
BUSY = "{} *"
AIMS: dict[str, float | None] = {
    **READS,
    **{BUSY.format(name): aim for name, aim in READS.items()},
    POST: 0.15,
    FLOOR: None,
}
LONGEST_SECONDS = 30  # that one answer may take
COMMITS_PER_SECOND = 50  # as of 500 attempts that send a heartbeat every 10 s
WAITING = 2  # jobs in the queue, however many have ended
BODY = json.dumps({"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}})


def main() -> None:
    asked = _arguments()
    if asked.serve:
        serve(asked.serve)
        return
    if asked.write:
        write(asked.write)
        return
    found = {count: measure(count, asked) for count in asked.jobs}
    print(f"{'route':24}" + "".join(f"{f'{count:,} jobs':>28}" for count in asked.jobs) + "    aim  many to few")
    for name, aim in AIMS.items():
        ratios = {
            count: statistics.median(rate / beside for rate, beside in found[count][name]) for count in asked.jobs
        }
        cells = [
            f"{statistics.median(rate for rate, _ in found[count][name]):8.0f}/s {ratios[count]:6.2f} x empty"
            for count in asked.jobs
        ]
        fewest, most = min(asked.jobs), max(asked.jobs)
        print(
            f"{name:24}"
            + "".join(f"{cell:>28}" for cell in cells)
            + f"   {'    ' if aim is None else f'{aim:.2f}'}  {ratios[most] / ratios[fewest]:.2f}"
        )
    print(f"* while another process commits {COMMITS_PER_SECOND} times a second")


def measure(count: int, asked: argparse.Namespace) -> dict[str, list[tuple[float, float]]]:
    with tempfile.TemporaryDirectory(prefix="purl-bench-") as folder:
        ended, queued = fill(Path(folder), count)
        with served(Path(folder)) as address:
            paths = (f"/jobs/{ended}", f"/jobs/{queued}", "/jobs?limit=10")
            reads = {name: a_request("GET", path) for name, path in zip(READS, paths, strict=True)}
            rates = in_turn(address, reads, asked)
            with written(Path(folder)):
                rates |= in_turn(address, {BUSY.format(name): read for name, read in reads.items()}, asked)
            # Last, because what is posted stays in the table that the others read.
            rates |= in_turn(address, {POST: a_request("POST", "/jobs", BODY)}, asked)
            rates[FLOOR] = [(bare_inserts(Path(folder), asked.seconds), beside) for _, beside in rates[POST]]
    return rates


def in_turn(
    address: tuple[str, int], requests: Mapping[str, bytes], asked: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """The rate of each, and that of the empty route just before it, in every round after one to warm up."""
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in requests}
    for turn in range(asked.rounds + 1):
        seconds = asked.seconds if turn else min(0.3, asked.seconds)
        for name, request in requests.items():
            beside = ask(address, a_request("GET", "/empty"), asked.connections, seconds)
            rate = ask(address, request, asked.connections, seconds)
            if turn:
                rates[name].append((rate, beside))
    return rates


def fill(folder: Path, count: int) -> tuple[str, str]:
    """A database with so many jobs, all of which succeeded but for the newest; one of each kind."""
    db = database_in(folder)
    with db.write() as session:
        job_id = jobs.submit(session, a_spec()).job.id
        claim = attempts.claim(session, settings_in(folder))
    assert claim is not None
    worker = FakeWorker(db, claim)
    worker.say(an_episode(0))
    worker.succeed()
    with db.write() as session:
        ended = session.execute(select(Job.__table__).where(Job.id == job_id)).mappings().one()
        copies = [{**ended, "id": new_id("job")} for _ in range(count - WAITING - 1)]
        for start in range(0, len(copies), 1000):
            session.execute(insert(Job), copies[start : start + 1000])
        for _ in range(WAITING):
            queued = jobs.submit(session, a_spec()).job.id
    db.close()
    return job_id, queued


def bare_inserts(folder: Path, seconds: float) -> float:
    """What the disk allows: one row of a job's size in a table of its own, as durable, by one who does nothing else."""
    with closing(sqlite3.connect(folder / "bare.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS rows (spec TEXT)")
        done, started = 0, time.perf_counter()
        while (now := time.perf_counter()) < started + seconds or not done:
            connection.execute("INSERT INTO rows VALUES (?)", (a_spec().model_dump_json(),))
            done += 1
    return done / (now - started)


def write(folder: Path) -> None:
    """Commits again and again what changes nothing that anybody reads."""
    db = Database.open(settings_in(folder).database_url)
    while True:
        with db.write() as session:
            session.execute(insert(Leftover).values(attempt_id=new_id("att"), handle={}))
        time.sleep(1 / COMMITS_PER_SECOND)


@contextmanager
def written(folder: Path) -> Iterator[None]:
    with subprocess.Popen([sys.executable, "-m", "benchmarks.api", "--write", str(folder)]) as process:
        try:
            yield
        finally:
            process.terminate()


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, int]]:
    command = [sys.executable, "-m", "benchmarks.api", "--serve", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        host, _, port = process.stdout.readline().strip().removeprefix("http://").partition(":")
        try:
            yield host, int(port)
        finally:
            process.terminate()


def serve(folder: Path) -> None:
    """The service's own server and application, with one route more."""
    settings = settings_in(folder, PURL_PORT="0", PURL_MAX_QUEUED="1000000000")
    listening = listen(settings)
    app = create_app(
        Database.open(settings.database_url),
        replace(settings, public_url=url_of(listening)),
        LocalStore(settings.artifacts),
        FakeLauncher(),
    )

    @app.get("/empty")
    def empty() -> dict[str, str]:
        return {}

    print(url_of(listening), flush=True)
    make_server(app).run(sockets=[listening])


def ask(address: tuple[str, int], request: bytes, connections: int, seconds: float) -> float:
    """Answers per second when each connection asks again as soon as it is answered."""
    answered = 0
    with selectors.DefaultSelector() as waiting:
        for _ in range(connections):
            connection = socket.create_connection(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waiting.register(connection, selectors.EVENT_READ, bytearray())
            connection.sendall(request)
        started = time.perf_counter()
        while (now := time.perf_counter()) < started + seconds or not answered:
            assert now < started + seconds + LONGEST_SECONDS, "the server does not answer"
            for key, _ in waiting.select(timeout=1):
                asking, answer = key.fileobj, key.data
                assert isinstance(asking, socket.socket)
                answer += asking.recv(1 << 20)
                if _is_whole(answer):
                    answer.clear()
                    answered += 1
                    asking.sendall(request)
        for key in list(waiting.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
    return answered / (now - started)


def _is_whole(answer: bytearray) -> bool:
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    assert answer.startswith(b"HTTP/1.1 20"), bytes(head)
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return len(body) >= int(length)


def a_request(method: str, path: str, body: str = "") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body}".encode()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[10, 100_000], help="how many jobs are in the table")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each route in each round")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
