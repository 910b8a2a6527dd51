"""What the dashboard makes of numbers and records, without a server."""

from __future__ import annotations

import re

import pytest

from api.dashboard import charts
from api.dashboard.charts import Walk
from api.dashboard.compare import _differing
from api.dashboard.history import racing, rungs_of
from api.dashboard.rendering import duration, size
from api.dashboard.rows import target_of
from services.testing import a_spec


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (4.2, "4 s"), (75, "1 min 15 s"), (7260, "2 h 1 min"), (3600, "1 h"), (200_000, "2 d 7 h")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(("count", "said"), [(999, "999 B"), (75_300, "75.3 kB"), (2**31, "2.15 GB")])
def test_sizes(count: int, said: str) -> None:
    assert size(count) == said


def test_a_target_is_named_by_what_it_is_a_share_of() -> None:
    assert target_of({"sparsity": 0.9, "accuracy": 0.95}) == "90 %"
    assert target_of({"sparsity": [0.5, 0.875]}) == "50 %, 87.5 %"
    assert target_of({"sparsity": None, "flops": 0.4}) == "40 % of the multiply-adds"
    assert target_of("another version's") == ""


def test_equal_numbers_are_no_difference() -> None:
    ours = {"a": "0.9", "b": "1", "c": '"sgd"', "d": "0"}
    theirs = {"a": "0.90", "b": "2", "c": '"adam"', "d": "0.0"}

    assert [name for name, _ in _differing([ours, theirs])] == ["b", "c"]


def a_walk(index: int) -> Walk:
    return Walk(index=index, accuracy=0.9, sparsity=0.8, earned=-0.1 * index, actions=(1, 2))


@pytest.mark.parametrize("count", [1, 2, 30])
def test_a_curve_is_there_from_the_first_episode_on(count: int) -> None:
    ends, earned = charts.learning([a_walk(index) for index in range(count)], a_spec(search={"episodes": 30}))

    marks = [str(plot.__html__()).count("<title>episode") for plot in (ends, earned)]
    assert marks == [2 * count, count], "accuracy and sparsity; the return"
    assert charts.learning([], a_spec()) == []


def test_layers_episodes_and_epochs_are_counted_in_whole_numbers() -> None:
    walks = [a_walk(index) for index in range(2)]
    plots = [
        *charts.learning(walks, a_spec(search={"episodes": 2})),
        charts.policy({"best": [0.5, 1.0, 0.2]}, ""),
        charts.racing({"LAMP": [(2.0, 0.9)]}),
        charts.overlaid({"1. a": [(1.0, 0.4), (2.0, 0.5)]}, "Return", "return"),
    ]

    for plot in plots:
        below = re.findall(r'<text x="[\d.]+" y="[\d.]+" text-anchor="middle">([\d.]+)</text>', str(plot.__html__()))
        assert below
        assert [tick for tick in below if "." in tick] == []


def test_the_chance_of_a_random_cut_is_drawn_for_every_target() -> None:
    spec = a_spec(targets={"sparsity": [0.5, 0.9]}, search={"episodes": 10})

    ends, _ = charts.learning([a_walk(0)], spec)

    assert str(ends.__html__()).count('class="shade"') == 2


def test_the_latest_word_on_a_rung_counts_and_what_is_strange_is_left_out() -> None:
    def told(accuracy: float | None, epochs: int = 1) -> dict[str, object]:
        candidates = [{"method": "lamp", "variant": None, "select_accuracy": accuracy, "goes_on": True}]
        return {"target": 0.9, "epochs": epochs, "of_epochs": 10, "seeds": 1, "candidates": candidates}

    held = rungs_of([told(0.8, 3), told(0.7), told(0.1), told(None, 10), {"from": "the future"}])

    assert [rung.epochs for rung in held] == [1, 3, 10]
    assert racing(held) == {"LAMP": [(1.0, 0.7), (3.0, 0.8)]}
