"""The benchmarks run, and their arithmetic is right. What they measure belongs to docs/benchmarks.md."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from benchmarks import search
from benchmarks.api import AIMS
from benchmarks.step import in_turn, ratio_of
from benchmarks.sweep import Scaled, by_chance, value_of
from tests.landscape import Landscape


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

    assert [line.split()[0] for line in printed.splitlines()[1:5]] == ["step", "bfloat16", "training", "bare"]
    assert "1.000 x bare" in printed


def test_a_row_of_the_search_is_run_by_its_name() -> None:
    command = [sys.executable, "-m", "benchmarks.search", "lookahead", "--small"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert [part.split(":")[0] for part in printed.removeprefix("lookahead: ").split("; ")] == ["1", "2", "4", "8"]


def test_a_row_that_is_not_there_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["search", "other"])

    with pytest.raises(SystemExit) as refused:
        search.main()

    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert all(row in said for row in search.ROWS)


def test_a_process_is_started_as_it_is_and_as_it_was() -> None:
    command = [sys.executable, "-m", "benchmarks.starts", "--only", "dispatcher", "--rounds", "1"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert printed.startswith("dispatcher: ")
    as_it_is, as_it_was, ratio = (float(number) for number in re.findall(r"\d+\.\d+", printed))
    assert ratio == pytest.approx(as_it_is / as_it_was, abs=0.05)


def test_a_sweep_names_the_value_that_it_changes() -> None:
    assert value_of({"agent": {"learning_rate": 0.1}}) == 0.1


def test_a_landscape_pays_beta_times_what_it_pays() -> None:
    landscape = Landscape(actions=12)
    env, other = Scaled(landscape, 1.0), Scaled(landscape, 10.0)
    for each in (env, other):
        each.reset()
        each.step(landscape.best[0] + 1)

    assert env.walk.rewards == pytest.approx((-1 / 11,))
    assert other.walk.rewards == pytest.approx((-10 / 11,))


def test_chance_is_what_even_policies_earn() -> None:
    # One layer, best at action 4 of 0 to 11: the distances of the actions add up to 38.
    assert Landscape(layers=1).best == [4]
    assert by_chance(1, policies=20_000) == pytest.approx(-(38 / 12) / 11, abs=0.005)


def test_the_api_is_measured_beside_an_empty_route() -> None:
    command = [sys.executable, "-m", "benchmarks.api", "--jobs", "5", "--rounds", "1", "--seconds", "0.05"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    *rows, what_the_star_means = printed[1:]
    assert [line.split("  ")[0] for line in rows] == list(AIMS)
    assert all("x empty" in line for line in rows)
    assert what_the_star_means.startswith("* ")
