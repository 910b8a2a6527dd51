"""The table of docs/protocol.md on one GPU: all units of a shape at once, their trainings side by side in lanes.

    python -m benchmarks.fleet --data digits --blocks 3 --sparsity 0.95 0.97 0.98 --units 0-9 --file budget.jsonl

Each unit at each sparsity is a process that searches; what it would train it asks of the one process that has the
device. A run that was stopped goes on where it was. Without a GPU it works, slowly.
"""

from __future__ import annotations

import argparse
import heapq
import multiprocessing
import pickle
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.budget import run
from benchmarks.lane_net import LaneNet
from benchmarks.lanes import Lanes, Measured, Order, Start
from benchmarks.units import FINE_TUNE_SEEDS, Lines, Unit, Value
from purlkit.budget.allocation import Allocation
from purlkit.budget.yardstick import Worth, Yardstick
from purlkit.pruning.masks import Mask
from purlkit.seeds import derive
from purlkit.spec import FineTune, Retrain, Training
from purlkit.training.data import Samples
from purlkit.zoo.small import DigitsResNet

SIZES = (8, 16, 32, 48, 64, 96, 128, 160, 192)  # of what is stepped together, for each of which there is a graph
STEPS, IMAGES = 8000, 1_000_000
BLOCK = 10  # steps between two looks at who wants what
Place = tuple[int, int]  # of images in the store: from, how many


@dataclass(frozen=True, eq=False)
class Bits:
    """A row of booleans, small enough to be sent around."""

    packed: npt.NDArray[np.uint8]
    count: int

    @classmethod
    def of(cls, row: Tensor) -> Bits:
        return cls(np.packbits(row.numpy()), len(row))

    def row(self) -> Tensor:
        return torch.from_numpy(np.unpackbits(self.packed, count=self.count).view(np.bool_))


@dataclass(frozen=True, eq=False)
class Job:
    """One training and what to measure after it."""

    start: int
    kept: Bits
    order: Order
    measured_on: Sequence[Place] = ()
    shared: str = ""  # what several ask for is done once, under this name, and they get the trained network


@dataclass(frozen=True, eq=False)
class Done:
    measured: list[Measured]
    state: dict[str, Tensor] | None


class Remote:
    """The process that has the device, for the threads of another one."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._sending = connection, Lock()
        self._asked: dict[int, Future[Any]] = {}
        self._number = 0
        Thread(target=self._listen, daemon=True).start()

    def store(self, images: Samples) -> Place:
        whole = images[:]
        return self._ask(("store", whole.x.contiguous(), whole.y)), len(images)

    def start(self, model: nn.Module) -> int:
        state: int = self._ask(("start", {name: tensor.clone() for name, tensor in model.state_dict().items()}))
        return state

    def train(self, job: Job) -> Done:
        done: Done = self._ask(("train", job))
        return done

    def leave(self) -> None:
        with self._sending:
            self._connection.send_bytes(pickle.dumps((0, "leave")))

    def _ask(self, what: tuple[Any, ...]) -> Any:
        answer: Future[Any] = Future()
        with self._sending:
            self._number += 1
            self._asked[self._number] = answer
            self._connection.send_bytes(pickle.dumps((self._number, *what)))
        return answer.result()

    def _listen(self) -> None:
        while True:
            try:
                number, answer = pickle.loads(self._connection.recv_bytes())
            except EOFError:
                return
            self._asked.pop(number).set_result(answer)


@dataclass(frozen=True, kw_only=True)
class RemoteUnit(Unit):
    """One whose trainings are done in lanes, as many at once as it has asked for."""

    remote: Remote = field(compare=False)
    _places: dict[int, tuple[Samples, Place]] = field(default_factory=dict, compare=False)
    _lock: Any = field(default_factory=Lock, compare=False)

    def each(self, work: Callable[[Any], Value], items: Sequence[Any]) -> list[Value]:
        with ThreadPoolExecutor(max(1, len(items))) as threads:
            return list(threads.map(work, items))

    def yardstick(self, model: nn.Module, images: Samples, measured_on: Samples, training: Retrain) -> Yardstick:
        return RemoteYardstick(self, model, images, measured_on, training)

    def place(self, images: Samples) -> Place:
        """Where they lie in the store; each is sent there once."""
        with self._lock:
            if id(images) not in self._places:
                self._places[id(images)] = images, self.remote.store(images)
            return self._places[id(images)][1]

    def trained(self, epochs: int | None = None) -> nn.Module:
        if epochs is not None:
            raise NotImplementedError("here a dense network is trained to the end")
        model = self.untrained()
        net, place = net_of(model), self.place(self.splits.train)
        order = Order.of(*place, Training(), derive(self.number, "dense"))
        done = self.remote.train(
            Job(self.remote.start(model), Bits.of(net.kept({})), order, shared=f"dense {self.number}")
        )
        assert done.state is not None
        model.load_state_dict(done.state, strict=False)
        return model

    def outcome(self, allocation: Allocation, epochs: int | None = None) -> dict[str, list[float]]:
        kept = Bits.of(net_of(self.dense).kept(self.mask_of(allocation).keep))
        start, place = self.remote.start(self.dense), self.place(self.splits.train)
        measured_on = [self.place(self.splits.select), self.place(self.splits.test)]
        training = FineTune() if epochs is None else FineTune(epochs=epochs)
        orders = [Order.of(*place, training, derive(self.number, "fine-tune", s)) for s in range(FINE_TUNE_SEEDS)]
        done = self.each(lambda order: self.remote.train(Job(start, kept, order, measured_on)), orders)
        return {name: [each.measured[index].accuracy for each in done] for index, name in enumerate(("select", "test"))}


class RemoteYardstick(Yardstick):
    def __init__(
        self, unit: RemoteUnit, model: nn.Module, images: Samples, measured_on: Samples, training: Retrain
    ) -> None:
        super().__init__(model, images, measured_on, training)
        self._unit, self._net, self._start = unit, net_of(model), unit.remote.start(model)
        self._place, self._measured_place = unit.place(images), unit.place(measured_on)

    def losses(self, allocations: Sequence[Allocation], seed: int) -> list[float]:
        return self._unit.each(lambda allocation: self(allocation, seed).loss, allocations)

    def _measure(self, mask: Mask, seed: int) -> Worth:
        self.trained += 1
        order = Order.of(*self._place, self._training, seed)
        done = self._unit.remote.train(
            Job(self._start, Bits.of(self._net.kept(mask.keep)), order, [self._measured_place])
        )
        [measured] = done.measured
        return Worth(measured.loss, measured.accuracy)


def net_of(model: nn.Module) -> LaneNet:
    assert isinstance(model, DigitsResNet)
    return LaneNet(model)


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
            number, kind, *what = pickle.loads(asker.recv_bytes())
        except EOFError:
            number, kind, what = 0, "leave", []
        if kind == "leave":
            self._askers.remove(asker)
            asker.close()
        elif kind == "train":
            self._take(Running(asker, number, what[0], len(what[0].order.images)))
        elif kind == "store":
            _answer(asker, number, self._lanes.store(*what))
        else:
            self._starts.append(self._lanes.start_of(what[0]))
            _answer(asker, number, len(self._starts) - 1)

    def _take(self, asked: Running) -> None:
        name = asked.job.shared
        if name in self._known:
            _answer(asked.asker, asked.number, self._known[name])
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
            self._answer(ended)

    def _answer(self, ended: dict[int, Running]) -> None:
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
                _answer(each.asker, each.number, done)
            if name:
                self._known[name] = done
            self._lanes.end(lane)
            del self._running[lane]
            heapq.heappush(self._free, lane)


def _answer(asker: Connection, number: int, answer: Any) -> None:
    # By pickle itself: multiprocessing's own way opens a file for each tensor.
    asker.send_bytes(pickle.dumps((number, answer)))


def search_unit(connection: Connection, asked: argparse.Namespace, number: int, sparsity: float) -> None:
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
    first, last = map(int, asked.units.split("-"))

    # Forked before this process has touched a device.
    context, ends, units = multiprocessing.get_context("fork"), [], []
    for number, sparsity in product(range(first, last + 1), asked.sparsity):
        own, others = context.Pipe()
        units.append(context.Process(target=search_unit, args=(others, asked, number, sparsity)))
        units[-1].start()
        others.close()
        ends.append(own)

    torch.set_num_threads(1)
    probe = Unit(asked.data, asked.blocks, first)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    began = time.monotonic()
    model, shape = probe.untrained(), probe.image_shape
    assert isinstance(model, DigitsResNet)
    lanes = Lanes(model, shape, lanes=asked.lanes, batch=100, steps=STEPS, images=IMAGES, device=device)
    server = Server(lanes, ends)
    server.serve()
    seconds = time.monotonic() - began
    what = f"{asked.data}, {asked.blocks} blocks a stage, {len(units)} searches"
    print(f"{what}: {server.steps} steps of {server.lane_steps / server.steps:.0f} networks in {seconds:.0f} s")
    for unit in units:
        unit.join()


if __name__ == "__main__":
    main()
