"""How long a process waits for a database that is away."""

from __future__ import annotations

from services.patience import pause


def test_pauses_double_up_to_ten_seconds_and_stay_there_for_days() -> None:
    assert [pause(0.5, failures) for failures in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert pause(0.5, 100_000) == 10


def test_who_looks_seldom_does_not_look_more_often_because_of_a_failure() -> None:
    assert pause(60.0, 3) == 60
