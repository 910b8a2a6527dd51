"""Many attempts at once, as the service hears them: heartbeats, episodes and saved work, from one process.

`python -m benchmarks.crowd` reads its orders as JSON from standard input and answers with what it saw. Each attempt
has a connection of its own and says one thing at a time, as a worker does. What it says has its moment, whether the
service is slow or not, and a call's time is counted from that moment on: waiting for one's turn is waiting too.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Any

from purlkit.results import Episode, Heartbeat, Phase, WorkerEvent, WorkerEvents

# The demo's network.
LAYERS = 10
# Of one answer. Who waits for longer has lost the call, and a real worker would repeat it.
ANSWER_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What each attempt says, and how often: what has no period, or no bytes, is not said."""

    attempts: list[tuple[str, str, str]]  # id, token, job
    addresses: list[tuple[str, int]]
    seconds: float
    next_seq: dict[str, int]  # of those that have said something before
    beat_seconds: float = 0
    episode_seconds: float = 0
    state_bytes: int = 0
    watchers: int = 0  # streams of events, each of one job


@dataclass
class Heard:
    """By kind of call: how long each took, how many were due, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    due: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    failures: list[str] = field(default_factory=list)
    events_seen: int = 0
    took: float = 0.0
    next_seq: dict[str, int] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        kinds = {
            kind: {"due": self.due[kind], "answered": len(took), "p50": _share(took, 50), "p99": _share(took, 99)}
            for kind, took in self.seconds.items()
        }
        failed = {"count": len(self.failures), "first": self.failures[:3]}
        return {
            "calls": kinds,
            "failed": failed,
            "events_seen": self.events_seen,
            "seconds": self.took,
            "next_seq": self.next_seq,
        }


class Refused(Exception):
    """The service answers, but not with a success."""


class Connection:
    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, head: str, body: bytes = b"") -> None:
        reader, writer = self._streams = self._streams or await asyncio.open_connection(*self._address)
        writer.write(f"{head}\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        said = await reader.readexactly(length)
        if not answer.startswith(b"http/1.1 2"):
            raise Refused(said.decode()[:200])

    async def watch(self, path: str, heard: Heard) -> None:
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n".encode())
        while line := await reader.readline():
            heard.events_seen += line.startswith(b"id:")

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Member:
    """One attempt of the crowd."""

    def __init__(self, orders: Orders, heard: Heard, number: int) -> None:
        self._orders, self._heard = orders, heard
        self._id, token, _ = orders.attempts[number]
        self._path = f"/attempts/{self._id}"
        self._bearer = f"Authorization: Bearer {token}"
        self._connection = Connection(orders.addresses[number % len(orders.addresses)])
        self._seq = orders.next_seq.get(self._id, 0)
        self._random = random.Random(number)

    async def work(self, start: float) -> None:
        periods = {"beat": self._orders.beat_seconds, "episode": self._orders.episode_seconds}
        due = {kind: start + self._random.uniform(0, period) for kind, period in periods.items() if period}
        end = start + self._orders.seconds
        while due and (moment := min(due.values())) < end:
            kind = min(due, key=due.__getitem__)
            due[kind] += periods[kind]
            await asyncio.sleep(moment - time.monotonic())
            await self._say("beat", moment, self._beat) if kind == "beat" else await self._play(moment)
        self._connection.close()
        self._heard.next_seq[self._id] = self._seq

    async def _play(self, moment: float) -> None:
        """An episode, and the state of the search after it."""
        await self._say("episode", moment, self._episode)
        if self._orders.state_bytes:
            await self._say("state", time.monotonic(), self._state)

    async def _say(self, kind: str, moment: float, call: Any) -> None:
        self._heard.due[kind] += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await call()
        except (OSError, EOFError, TimeoutError, Refused) as problem:
            self._heard.failures.append(f"{kind}: {type(problem).__name__} {problem}")
            self._connection.close()
        else:
            self._heard.seconds[kind].append(time.monotonic() - moment)

    async def _beat(self) -> None:
        beat = Heartbeat(phase=Phase.SEARCH, counter=time.monotonic_ns())
        await self._post("heartbeat", beat.model_dump_json())

    async def _episode(self) -> None:
        episode = an_episode(self._seq)
        event = WorkerEvent(type="episode", data=episode.model_dump(mode="json"))
        await self._post("events", WorkerEvents(first_seq=self._seq, events=(event,)).model_dump_json())
        self._seq += 1

    async def _state(self) -> None:
        state = f"{self._id} {self._seq}".encode().ljust(self._orders.state_bytes, b"\0")
        digest = base64.b64encode(hashlib.sha256(state).digest()).decode()
        head = f"PUT {self._path}/saved/search HTTP/1.1\r\n{self._bearer}\r\nRepr-Digest: sha-256=:{digest}:"
        await self._connection.call(head, state)

    async def _post(self, what: str, body: str) -> None:
        head = f"POST {self._path}/{what} HTTP/1.1\r\n{self._bearer}\r\nContent-Type: application/json"
        await self._connection.call(head, body.encode())


def an_episode(index: int) -> Episode:
    return Episode(
        index=index,
        kind="search",
        actions=tuple(range(LAYERS)),
        rewards=tuple(-0.123456789 * layer for layer in range(LAYERS)),
        accuracies=tuple(0.987654321 - 0.01 * layer for layer in range(LAYERS)),
        sparsities=tuple(0.0912345678 * layer for layer in range(LAYERS)),
        seconds=1.5,
        runner=0,
        weights_version=index,
    )


async def perform(orders: Orders) -> Heard:
    heard, watching = Heard(), []
    for number in range(orders.watchers):
        _, _, job = orders.attempts[number % len(orders.attempts)]
        connection = Connection(orders.addresses[number % len(orders.addresses)])
        watching.append(asyncio.create_task(connection.watch(f"/jobs/{job}/events", heard)))
    members = [Member(orders, heard, number) for number in range(len(orders.attempts))]
    start = time.monotonic() + 0.2
    await asyncio.gather(*(member.work(start) for member in members))
    heard.took = time.monotonic() - start
    for task in watching:
        task.cancel()
    await asyncio.gather(*watching, return_exceptions=True)
    return heard


def _share(values: list[float], percent: int) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else sum(values)


if __name__ == "__main__":
    orders = Orders(**json.load(sys.stdin))
    print(json.dumps(asyncio.run(perform(orders)).told()))
