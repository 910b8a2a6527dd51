"""What every test may use, and one thread for each process, set before torch is imported: they share few cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import Bench

LEFT_OUT = pytest.StashKey[int]()

os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What needs a GPU is left out where there is none, and counted among the deselected."""
    for_a_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not for_a_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        items[:] = [item for item in items if item not in for_a_gpu]
        config.hook.pytest_deselected(items=for_a_gpu)
        config.stash[LEFT_OUT] = len(for_a_gpu)


def pytest_report_collectionfinish(config: pytest.Config) -> str:
    left_out = config.stash.get(LEFT_OUT, 0)
    return f"no CUDA device here: {left_out} tests marked gpu are left out" if left_out else ""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The state of a service without its processes."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()
