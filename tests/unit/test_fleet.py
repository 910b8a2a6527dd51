"""A unit whose trainings are done in lanes of another process measures what it would measure by itself."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks import fleet
from benchmarks.fleet import Server
from benchmarks.lanes import Lanes
from benchmarks.remote import Remote, RemoteUnit, sent
from benchmarks.units import Unit
from purlkit.budget.search import default_settings
from purlkit.spec import Training
from purlkit.zoo.small import DigitsResNet
from tests.waiting import wait_until

WIDTH = 2
DEADLINE_SECONDS = 300  # processes that import torch are waited for


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


@pytest.fixture
def alone() -> Unit:
    return Unit("digits", 1, 100, width=WIDTH)


@pytest.fixture(autouse=True)
def _short_dense_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    brief = partial(Training, epochs=2)
    monkeypatch.setattr("benchmarks.units.Training", brief)
    monkeypatch.setattr("benchmarks.remote.Training", brief)


def test_a_dense_network_is_trained_once_for_all_who_ask(alone: Unit) -> None:
    with serving(2, lanes=1) as (one, other):
        first, second = one.dense.state_dict(), other.dense.state_dict()
        halfway = one.trained(epochs=1).state_dict()

    assert all(torch.equal(first[name], second[name]) for name in first)
    for trained, expected in ((first, alone.dense), (halfway, alone.trained(epochs=1))):
        for name, tensor in expected.state_dict().items():
            if "num_batches" not in name:
                torch.testing.assert_close(trained[name], tensor, rtol=0.05, atol=0.02)


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


@pytest.mark.parametrize("unread", [False, True])
def test_who_asks_a_process_that_has_gone_is_told_so(unread: bool) -> None:
    server, client = Pipe()
    remote = Remote(client)
    answer = ThreadPoolExecutor(1).submit(remote.start, nn.Linear(1, 1))
    assert server.poll(DEADLINE_SECONDS)
    if not unread:
        server.recv_bytes()

    server.close()

    with pytest.raises(ConnectionError, match="has gone"):
        answer.result(DEADLINE_SECONDS)


def test_the_processes_of_units_end_when_the_one_that_trains_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Namespace(data="digits", blocks=1, units="100-101", sparsity=[0.9], file=tmp_path / "told.jsonl")
    monkeypatch.setattr(fleet, "RemoteUnit", lambda *_, remote: SimpleNamespace(dense=remote.start(nn.Linear(1, 1))))
    ends, units = fleet.started(asked)
    try:
        for end in ends:
            assert end.poll(DEADLINE_SECONDS)
        for end in ends:
            end.close()
        for unit in units:
            unit.join(DEADLINE_SECONDS)

        assert [unit.exitcode for unit in units] == [1, 1]
    finally:
        for unit in units:
            unit.kill()


def test_one_that_dies_with_an_answer_unread_does_not_end_the_others() -> None:
    (one, dies), (other, lives) = Pipe(), Pipe()
    lanes: Any = SimpleNamespace(count=1, start_of=dict)
    server = Thread(target=Server(lanes, [one, other]).serve, daemon=True)
    server.start()

    sent(dies, (1, "start", {}))
    assert dies.poll(DEADLINE_SECONDS)
    dies.close()
    wait_until("the server has heard of it", lambda: one.closed)
    sent(lives, (1, "start", {}))

    assert lives.poll(DEADLINE_SECONDS)
    lives.close()
    server.join(DEADLINE_SECONDS)
    assert not server.is_alive()


def test_one_who_goes_in_the_middle_of_a_training_does_not_end_the_others(alone: Unit) -> None:
    told = (alone.splits.train, alone.splits.reward, default_settings(alone.splits.train).retrain)
    uniform = alone.naive(0.8)["uniform"]
    with serving(2, lanes=2) as (leaves, stays), ThreadPoolExecutor(1) as thread:
        left = thread.submit(leaves.yardstick(alone.copy(), *told), uniform, 1)
        stays.yardstick(alone.copy(), *told)  # what it asks is answered after the other's training was taken
        leaves.remote.leave()

        assert stays.yardstick(alone.copy(), *told)(uniform, 1).loss > 0
        with pytest.raises(ConnectionError):
            left.result(DEADLINE_SECONDS)
