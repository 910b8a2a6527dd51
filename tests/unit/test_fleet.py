"""A unit whose trainings are done in lanes of another process measures what it would measure by itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import Pipe
from threading import Thread

import pytest
import torch

from benchmarks.fleet import Server
from benchmarks.lanes import Lanes
from benchmarks.remote import Remote, RemoteUnit
from benchmarks.units import Unit
from purlkit.budget.search import default_settings
from purlkit.training.evaluate import accuracy
from purlkit.zoo.small import DigitsResNet

WIDTH = 2


@contextmanager
def serving(units: int, *, lanes: int) -> Iterator[list[RemoteUnit]]:
    """So many times the same unit, with one server for all of them."""
    like = Unit("digits", 1, 100, width=WIDTH)
    model = like.untrained()
    assert isinstance(model, DigitsResNet)
    shape = like.image_shape
    bank = Lanes(model, shape, lanes=lanes, batch=100, steps=400, images=5000, device="cpu")
    pipes = [Pipe() for _ in range(units)]
    server = Thread(target=Server(bank, [own for own, _ in pipes]).serve)
    server.start()
    asking = [RemoteUnit("digits", 1, 100, width=WIDTH, remote=Remote(others)) for _, others in pipes]
    try:
        yield asking
    finally:
        for unit in asking:
            unit.remote.leave()
        server.join()


@pytest.fixture(scope="module")
def alone() -> Unit:
    return Unit("digits", 1, 100, width=WIDTH)


def test_a_dense_network_is_trained_once_for_all_who_ask(alone: Unit) -> None:
    with serving(2, lanes=1) as (one, other):
        first, second = one.dense.state_dict(), other.dense.state_dict()

        assert all(torch.equal(first[name], second[name]) for name in first)
        assert accuracy(one.dense, one.splits.reward) == pytest.approx(
            accuracy(alone.dense, alone.splits.reward), abs=0.04
        )


def test_an_allocation_is_worth_and_becomes_what_it_does_alone(alone: Unit) -> None:
    with serving(1, lanes=2) as [unit]:
        vars(unit)["dense"] = alone.dense  # the same to the last bit
        lamp = alone.naive(0.8)["lamp"]
        settings = default_settings(alone.splits.train)
        told = (alone.splits.train, alone.splits.reward, settings.retrain)

        losses = unit.yardstick(unit.copy(), *told).losses([lamp, alone.naive(0.8)["uniform"]], seed=3)
        outcome = unit.outcome(lamp, epochs=2)

    expected = alone.yardstick(alone.copy(), *told)
    assert losses == pytest.approx([expected(lamp, 3).loss, expected(alone.naive(0.8)["uniform"], 3).loss], rel=0.02)
    for name, values in alone.outcome(lamp, epochs=2).items():
        assert outcome[name] == pytest.approx(values, abs=0.02)
