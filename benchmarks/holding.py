"""What a data set takes of a node's memory: once in Ray's store, or read by each process for itself.

`python -m benchmarks.holding`: two processes that have taken 60,000 images of 3×32×32, as CIFAR has them; by how much
each one's own memory has grown, as the kernel counts it, and how long it took.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import ray
import torch

from benchmarks.searching import own_memory
from purlkit.spec import JobSpec
from purlkit.training.data import Images, Splits
from workers import cluster
from workers.holding import hold

SPEC = JobSpec.model_validate({"model": {"name": "resnet20-cifar"}, "targets": {"sparsity": 0.5}}).resolve()


def images(n: int) -> Splits:
    x = torch.randn(n, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    few = Images(x[:1], torch.zeros(1, dtype=torch.long))
    return Splits(Images(x, torch.arange(n) % 10), few, few, few)


@ray.remote(num_cpus=0.5)
class Process:
    """Looks at every image once, so that all of them are in memory."""

    def take(self, data: list[Any], n: int) -> tuple[float, float]:
        images(1)  # what torch itself takes is there before
        before, began = own_memory(os.getpid()), time.monotonic()
        self.splits: Splits = ray.get(data[0]) if data else images(n)
        for part in self.splits.train[:].x.split(1000):
            part.sum()
        return own_memory(os.getpid()) - before, time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60_000)
    n = parser.parse_args().images
    cluster.quiet()
    with cluster.connected(""):
        for name, data in (("each its own", []), ("held once", [hold(images(n), SPEC)])):
            grown = ray.get([Process.remote().take.remote(data, n) for _ in range(2)])  # type: ignore[attr-defined]
            told = ", ".join(f"{more:.0f} MiB in {seconds:.1f} s" for more, seconds in grown)
            print(f"{name:14} {told}")


if __name__ == "__main__":
    main()
