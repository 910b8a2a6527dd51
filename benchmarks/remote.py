"""A unit of docs/protocol.md whose trainings are done by another process, the one that has the device."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.lane_net import LaneNet
from benchmarks.lanes import Measured, Order
from benchmarks.units import FINE_TUNE_SEEDS, Unit, Value
from purlkit.budget.allocation import Allocation
from purlkit.budget.yardstick import Worth, Yardstick
from purlkit.pruning.masks import Mask
from purlkit.seeds import derive
from purlkit.spec import FineTune, Retrain, Training
from purlkit.training.data import Samples
from purlkit.zoo.small import DigitsResNet

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
        with self._sending, suppress(OSError):  # or it has been left already
            sent(self._connection, (0, "leave"))

    def _ask(self, what: tuple[Any, ...]) -> Any:
        answer: Future[Any] = Future()
        with self._sending:
            self._number += 1
            self._asked[self._number] = answer
            sent(self._connection, (self._number, *what))
        return answer.result()

    def _listen(self) -> None:
        while True:
            try:
                number, answer = received(self._connection)
            except (EOFError, OSError):  # an OSError where it has left something unread
                for answer in list(self._asked.values()):
                    answer.set_exception(ConnectionError("the process that trains has gone"))
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
        model, training = self.untrained(), Training()
        net, place = net_of(model), self.place(self.splits.train)
        order = Order.of(*place, training, derive(self.number, "dense"))
        if epochs is not None:  # so far with the rates of the whole training
            steps = len(order.images) * epochs // training.epochs
            order = Order(order.images[:steps], order.rates[:steps])
        shared = f"dense {self.number} after {len(order.images)}"
        done = self.remote.train(Job(self.remote.start(model), Bits.of(net.kept({})), order, shared=shared))
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
        self._counting = Lock()

    def losses(self, allocations: Sequence[Allocation], seed: int) -> list[float]:
        return self._unit.each(lambda allocation: self(allocation, seed).loss, allocations)

    def _measure(self, mask: Mask, seed: int) -> Worth:
        with self._counting:
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


def sent(connection: Connection, what: Any) -> None:
    # By pickle itself: multiprocessing's own way opens a file for each tensor.
    connection.send_bytes(pickle.dumps(what))


def received(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())
