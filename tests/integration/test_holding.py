"""A job's data in Ray's store: one copy for all processes of a node, and without the images that nobody may see."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from benchmarks.searching import own_memory
from purlkit.errors import InvalidSpec
from purlkit.spec import JobSpec
from purlkit.training.data import Images, Splits
from purlkit.zoo import datasets
from tests.faults import fault_proxy
from tests.integration.test_data_in_s3 import FLOWERS, Data, send_flowers
from tests.s3 import S3Server
from workers import cluster
from workers.holding import hold

SPEC = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}}).resolve()


@pytest.fixture(scope="module", autouse=True)
def one_cluster() -> Iterator[None]:
    with cluster.connected(""):
        yield


def random_images(n: int) -> Images:
    x = torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(n))
    return Images(x.contiguous(memory_format=torch.channels_last), torch.arange(n) % 10)


def splits_of(train: int) -> Splits:
    return Splits(random_images(train), random_images(20), random_images(30), random_images(40))


@ray.remote(num_cpus=0.5)
class Process:
    """One of the job's, as far as its data go."""

    def take(self, held: list[Any], *, copied: bool) -> tuple[float, float]:
        """By how much its own memory grew, and a sum for which it had to look at every image."""
        before = own_memory(os.getpid())
        self.splits: Splits = ray.get(held[0])
        if copied:
            train = self.splits.train[:]
            self.splits = replace(self.splits, train=Images(train.x.clone(), train.y.clone()))
        return own_memory(os.getpid()) - before, float(self.splits.train[:].x.double().sum())


def test_two_processes_of_a_node_look_at_one_copy() -> None:
    splits = splits_of(6000)
    data, total = hold(splits, SPEC), float(splits.train[:].x.double().sum())
    one, other, with_its_own = (Process.remote() for _ in range(3))

    grew, seen = zip(*ray.get([each.take.remote([data], copied=False) for each in (one, other)]), strict=True)
    grew_by_copy, _ = ray.get(with_its_own.take.remote([data], copied=True))

    assert seen == (total, total)
    size = splits.train.nbytes / 2**20  # 70 MiB, of which the sum in 64 bits leaves nothing behind
    assert max(grew) < size / 4
    assert grew_by_copy > size * 3 / 4, "what the test is worth"


def test_the_images_that_are_reported_on_are_not_there() -> None:
    held: Splits = ray.get(hold(splits_of(50), SPEC))

    assert held.sizes == {"train": 50, "reward": 20, "select": 30, "test": 0}


def test_the_layout_is_kept_for_it_decides_about_the_last_bit() -> None:
    splits = splits_of(50)

    held: Splits = ray.get(hold(splits, SPEC))

    for name in ("train", "reward", "select"):
        ours, theirs = getattr(splits, name)[:], getattr(held, name)[:]
        assert torch.equal(ours.x, theirs.x)
        assert ours.x.stride() == theirs.x.stride()


@ray.remote(num_cpus=0.5)
def looked_at(held: list[Any]) -> Splits:
    splits: Splits = ray.get(held[0])
    return replace(splits, train=splits.train[:], reward=splits.reward[:], select=splits.select[:])


def test_images_in_a_bucket_are_read_there_with_the_keys_of_the_node_and_what_was_listed_here(
    s3: S3Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = send_flowers(Data(s3, bucket, tmp_path / "data"))
    with fault_proxy(s3.url) as line:
        node = s3.environ() | {"AWS_ENDPOINT_URL_S3": line.url, "PURL_DATASETS_CACHE": str(tmp_path / "node")}
        for name, value in s3.environ().items():
            monkeypatch.setenv(name, value)
        held = hold(datasets.load(FLOWERS, data.url), SPEC)

        seen: Splits = ray.get(looked_at.options(runtime_env={"env_vars": node}).remote([held]))

        asked = list(line.requests)
    there = datasets.load(FLOWERS, data.folder)
    for name in ("train", "reward", "select"):
        assert torch.equal(getattr(seen, name).x, getattr(there, name)[:].x)
    assert len(asked) == len(there.train) + len(there.reward) + len(there.select)
    assert [request for request in asked if "list-type" in request] == []


def test_images_that_can_not_leave_their_process_are_named() -> None:
    @dataclass(frozen=True, eq=False)
    class WithALock(Images):
        lock: Any = None

        def __reduce__(self) -> Any:
            return WithALock, (self.x, self.y, self.augment, threading.Lock())

    images = random_images(10)
    splits = replace(splits_of(10), train=WithALock(images.x, images.y))

    with pytest.raises(InvalidSpec, match="digits can't be handed to another process") as refused:
        hold(splits, SPEC)
    assert refused.value.at == "/dataset/name"
