"""The benchmarks run, and their arithmetic is right. What they measure belongs to docs/benchmarks.md."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.api import AIMS
from benchmarks.step import in_turn, ratio_of


def test_work_is_done_in_turn_after_a_round_to_warm_up() -> None:
    done: list[str] = []

    times = in_turn({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, rounds=2)

    assert done == ["a", "b"] * 3
    assert {name: len(taken) for name, taken in times.items()} == {"a": 2, "b": 2}


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio_of([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0  # of 2, 3 and 1


def test_the_step_is_measured_beside_what_it_can_not_do_without() -> None:
    command = [sys.executable, "-m", "benchmarks.step", "--model", "mlp", "--images", "8", "--rounds", "1"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert [line.split()[0] for line in printed.splitlines()[1:4]] == ["step", "training", "bare"]
    assert "1.000 x bare" in printed


def test_the_api_is_measured_beside_an_empty_route() -> None:
    command = [sys.executable, "-m", "benchmarks.api", "--jobs", "5", "--rounds", "1", "--seconds", "0.05"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert [line.split("  ")[0] for line in printed[1:]] == list(AIMS)
    assert all("x empty" in line for line in printed[1:])
