"""What every test may use, and one thread for each process, set before torch is imported: they share few cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import Bench

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """The state of a service without its processes."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()
