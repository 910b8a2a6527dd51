"""The table of docs/protocol.md on one GPU: all units of a shape at once, their trainings side by side in lanes.

    python -m benchmarks.fleet --data digits --blocks 3 --sparsity 0.95 0.97 0.98 --units 0-9 --file budget.jsonl

Each unit at each sparsity is a process that searches; what it would train it asks of the one process that has the
device. A run that was stopped goes on where it was. Without a GPU it works, slowly.
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch

from benchmarks.budget import run
from benchmarks.lanes import Lanes, Measured, Start
from benchmarks.remote import Done, Job, Remote, RemoteUnit, received, sent
from benchmarks.units import Lines, Unit
from purlkit.zoo.small import DigitsResNet

SIZES = (8, 16, 32, 48, 64, 96, 128, 160, 192)  # of what is stepped together, for each of which there is a graph
STEPS, IMAGES = 8000, 1_000_000
BLOCK = 10  # steps between two looks at who wants what


@dataclass(eq=False)
class Running:
    asker: Connection
    number: int
    job: Job
    left: int


class Server:
    """Gives what is asked for to the lowest free lane, and steps as many lanes as are wanted."""

    def __init__(self, lanes: Lanes, askers: Sequence[Connection]) -> None:
        self._lanes, self._askers = lanes, list(askers)
        self._starts: list[Start] = []
        self._waiting: deque[Running] = deque()
        self._free = list(range(lanes.count))
        self._running: dict[int, Running] = {}
        self._shared: dict[str, list[Running]] = defaultdict(list)  # who waits, the one that runs first
        self._known: dict[str, Done] = {}
        self.steps, self.lane_steps = 0, 0

    def serve(self) -> None:
        """Until nobody asks any more."""
        while self._askers or self._waiting or self._running:
            busy = bool(self._waiting or self._running)
            for asker in wait(self._askers, 0 if busy else None) if self._askers else []:
                self._hear(asker)  # type: ignore[arg-type]
            while self._waiting and self._free:
                self._begin(self._waiting.popleft())
            if self._running:
                self._advance()

    def _hear(self, asker: Connection) -> None:
        try:
            number, kind, *what = received(asker)
        except (EOFError, OSError):  # an OSError from one that has left an answer unread
            number, kind, what = 0, "leave", []
        if kind == "leave":
            self._askers.remove(asker)
            asker.close()
        elif kind == "train":
            self._take(Running(asker, number, what[0], len(what[0].order.images)))
        elif kind == "store":
            _tell(asker, number, self._lanes.store(*what))
        else:
            self._starts.append(self._lanes.start_of(what[0]))
            _tell(asker, number, len(self._starts) - 1)

    def _take(self, asked: Running) -> None:
        name = asked.job.shared
        if name in self._known:
            _tell(asked.asker, asked.number, self._known[name])
            return
        if name:
            self._shared[name].append(asked)
        if not name or len(self._shared[name]) == 1:
            self._waiting.append(asked)

    def _begin(self, running: Running) -> None:
        lane = heapq.heappop(self._free)
        self._lanes.begin(lane, self._starts[running.job.start], running.job.kept.row(), running.job.order)
        self._running[lane] = running

    def _advance(self) -> None:
        wanted = max(self._running) + 1
        lanes = min([size for size in SIZES if size >= wanted] + [self._lanes.count])
        steps = min(BLOCK, *(running.left for running in self._running.values()))
        self._lanes.advance(lanes, steps)
        self.steps, self.lane_steps = self.steps + steps, self.lane_steps + steps * len(self._running)
        for running in self._running.values():
            running.left -= steps
        ended = {lane: running for lane, running in self._running.items() if running.left == 0}
        if ended:
            self._collect(ended)

    def _collect(self, ended: dict[int, Running]) -> None:
        measured: dict[int, list[Measured]] = {lane: [] for lane in ended}
        for nth in range(max(len(running.job.measured_on) for running in ended.values())):
            alike: dict[int, list[tuple[int, int]]] = defaultdict(list)
            for lane, running in ended.items():
                if nth < len(running.job.measured_on):
                    first, count = running.job.measured_on[nth]
                    alike[count].append((lane, first))
            for count, pairs in alike.items():
                lanes, firsts = zip(*pairs, strict=True)
                for lane, one in zip(lanes, self._lanes.measure(lanes, firsts, count), strict=True):
                    measured[lane].append(one)
        for lane, running in ended.items():
            name = running.job.shared
            state = {n: t.cpu() for n, t in self._lanes.state(lane).items()} if name else None
            done = Done(measured[lane], state)
            for each in self._shared.pop(name) if name else [running]:
                _tell(each.asker, each.number, done)
            if name:
                self._known[name] = done
            self._lanes.end(lane)
            del self._running[lane]
            heapq.heappush(self._free, lane)


def _tell(asker: Connection, number: int, answer: Any) -> None:
    with suppress(OSError):  # who has gone is not told, and the others go on
        sent(asker, (number, answer))


def started(asked: argparse.Namespace) -> tuple[list[Connection], list[BaseProcess]]:
    """A process for each unit at each sparsity, and the server's end of the line to it."""
    context = multiprocessing.get_context("fork")
    ends: list[Connection] = []
    units: list[BaseProcess] = []
    first, last = map(int, asked.units.split("-"))
    for number, sparsity in product(range(first, last + 1), asked.sparsity):
        own, others = context.Pipe()
        ends.append(own)
        units.append(context.Process(target=search_unit, args=(others, ends, asked, number, sparsity)))
        units[-1].start()
        others.close()
    return ends, units


def search_unit(
    connection: Connection, inherited: Sequence[Connection], asked: argparse.Namespace, number: int, sparsity: float
) -> None:
    for end in inherited:  # or this process would itself keep the line open when the server has gone
        end.close()
    torch.set_num_threads(1)
    unit = RemoteUnit(asked.data, asked.blocks, number, remote=Remote(connection))
    _ = unit.dense  # before there are threads that want it
    run(Lines(asked.file), unit, sparsity)
    unit.remote.leave()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("budget.jsonl"))
    parser.add_argument("--data", choices=["digits", "procedural"], default="digits")
    parser.add_argument("--blocks", type=int, default=1, help="in each stage: 1 makes 10 layers, 3 make 22")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.95, 0.97, 0.98])
    parser.add_argument("--units", default="0-9", help="from-to")
    parser.add_argument("--lanes", type=int, default=128)
    asked = parser.parse_args()
    ends, units = started(asked)  # forked before this process has touched a device
    try:
        told = _serve(asked, ends)
    finally:
        for end in ends:  # whoever still waits is not left waiting
            end.close()
        for unit in units:
            unit.join()
    print(f"{asked.data}, {asked.blocks} blocks a stage, {len(units)} searches: {told}")
    if failed := sum(unit.exitcode != 0 for unit in units):
        raise SystemExit(f"{failed} of {len(units)} searches failed: the same command goes on where they were")


def _serve(asked: argparse.Namespace, ends: Sequence[Connection]) -> str:
    torch.set_num_threads(1)
    probe = Unit(asked.data, asked.blocks, 0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.monotonic()
    model, shape = probe.untrained(), probe.image_shape
    assert isinstance(model, DigitsResNet)
    lanes = Lanes(model, shape, lanes=asked.lanes, batch=100, steps=STEPS, images=IMAGES, device=device)
    server = Server(lanes, ends)
    server.serve()
    seconds = time.monotonic() - began
    return f"{server.steps} steps of {server.lane_steps / max(1, server.steps):.0f} networks in {seconds:.0f} s"


if __name__ == "__main__":
    main()
