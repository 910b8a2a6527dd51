"""`make demo`'s program with a short search: it ends well, and the mask is the same bits each time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.running import ROOT

pytestmark = pytest.mark.acceptance


def demo(output: Path, *, runners: int) -> str:
    command = [
        sys.executable,
        "examples/demo.py",
        "--episodes",
        "4",
        "--runners",
        str(runners),
        "--output",
        str(output),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def mask(said: str) -> str:
    [line] = [line for line in said.splitlines() if line.startswith("mask sha256 ")]
    return line


def test_it_prints_its_table_and_verdict_and_one_runner_gives_the_bits_of_two(tmp_path: Path) -> None:
    first, second = demo(tmp_path / "two", runners=2), demo(tmp_path / "one", runners=1)

    assert "episode  1/4" in first
    assert [line.split()[0] for line in first.splitlines() if "90.00%" in line][:2] == ["PuRL", "global"]
    assert "\nverdict: " in first
    assert mask(first) == mask(second)
    assert (tmp_path / "two" / "pruned.safetensors").stat().st_size > 77_072 * 4
