"""The moves of design.md, and none besides."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import IllegalMove
from services.states import ATTEMPT_MOVES, JOB_MOVES, LIVE, AttemptState, JobState, check_move

# "queued → failed" is for a job whose attempts were all lost before they ever reported.
MOVES = {
    "queued": "running paused cancelled failed",
    "running": "succeeded failed cancelled paused queued",
    "paused": "queued cancelled",
    "succeeded": "",
    "failed": "",
    "cancelled": "",
}


@pytest.mark.parametrize(("before", "after"), [*product(JobState, repeat=2)])
def test_a_job_moves_as_designed_and_not_otherwise(before: JobState, after: JobState) -> None:
    if after in MOVES[before].split():
        check_move(before, after)
    else:
        with pytest.raises(IllegalMove):
            check_move(before, after)


@pytest.mark.parametrize(("before", "after"), [*product(AttemptState, repeat=2)])
def test_an_attempt_only_goes_forward(before: AttemptState, after: AttemptState) -> None:
    order = (AttemptState.LAUNCHING, AttemptState.RUNNING)
    legal = before in order and after not in order[: order.index(before) + 1]
    if legal:
        check_move(before, after)
    else:
        with pytest.raises(IllegalMove):
            check_move(before, after)


def test_every_state_has_its_moves_listed() -> None:
    assert set(JOB_MOVES) == set(JobState)
    assert set(ATTEMPT_MOVES) == set(AttemptState)


def test_ended_is_what_nothing_follows() -> None:
    assert [state for state in JobState if state.is_terminal] == ["succeeded", "failed", "cancelled"]
    assert [state for state in AttemptState if not state.is_terminal] == list(LIVE)


@given(st.lists(st.sampled_from(JobState), min_size=1))
def test_no_history_of_legal_moves_goes_on_after_an_end(tried: list[JobState]) -> None:
    history = [JobState.QUEUED]
    for state in tried:
        try:
            check_move(history[-1], state)
        except IllegalMove:
            continue
        history.append(state)

    assert not any(before.is_terminal for before, _ in pairwise(history))
