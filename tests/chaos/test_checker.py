"""The checker itself: of a history that keeps every promise it says nothing, of one that breaks one it says which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.chaos.history import Final, Op, violations

JOB = "job_1"
Said = dict[str, Any]


def a_job(state: str = "queued", **changes: Any) -> Said:
    ended = {"succeeded": ({"checkpoint": {"sha256": "abc"}}, None), "failed": (None, {"code": "boom"})}
    result, error = ended.get(state, (None, {"code": "cancelled"} if state == "cancelled" else None))
    told = {"state": state, "requested": None, "result": result, "error": error, "finished_at": None, "spec": {}}
    return {**told, "created_at": "now", "pending_reason": None, "attempts": [], **changes}


@dataclass
class Story:
    """A job that is lost once, saves its work, and succeeds with its second attempt: nothing is wrong with it."""

    ops: list[Op] = field(default_factory=list)
    states: list[str] = field(default_factory=lambda: ["queued", "running", "queued", "running", "succeeded"])
    notes: list[str] = field(default_factory=lambda: ["1.0", "1.1", "2.0"])
    job: Said = field(default_factory=lambda: a_job("succeeded"))
    checkpoint: str | None = "abc"
    other_finals: dict[str, Final] = field(default_factory=dict)
    there: bool = True

    def __post_init__(self) -> None:
        self.told(0, "submit", key="k")
        self.told(1, "see", **a_job())
        self.told(2, "brief", 1, step=0)
        self.told(3, "beat", 1)
        self.told(4, "say", 1, notes=["1.0", "1.1"])
        self.told(5, "save", 1, step=1)
        self.told(6, "see", **a_job("running"))
        self.told(10, "brief", 2, step=1)
        self.told(11, "beat", 2)
        self.told(12, "say", 2, notes=["2.0"])
        self.told(13, "finish", 2, checkpoint="abc")
        self.told(14, "see", **a_job("succeeded"))

    def told(self, at: float, what: str, attempt: int = 0, *, job: str = JOB, lasts: float = 0.5, **told: Any) -> None:
        self.ops.append(Op(what=what, job=job, attempt=attempt, sent=at, ended=at + lasts, told=told))

    def without(self, what: str) -> None:
        self.ops = [op for op in self.ops if op.what != what]

    def ends(self, state: str) -> None:
        """Otherwise than with success, of which nobody was told then."""
        self.without("finish")
        self.ops.pop()
        self.job, self.checkpoint, self.states[-1] = a_job(state), None, state

    def found(self) -> list[str]:
        moves = [{"type": "state", "data": {"state": state}} for state in self.states]
        notes = [{"type": "note", "data": {"note": note}} for note in self.notes]
        events = [{**event, "seq": seq} for seq, event in enumerate(moves + notes, start=1)]
        finals = {JOB: Final(self.job, events, self.checkpoint)} if self.there else {}
        return violations(sorted(self.ops, key=lambda op: op.ended), {**finals, **self.other_finals})


def test_of_a_history_that_keeps_every_promise_nothing_is_said() -> None:
    assert Story().found() == []


def test_what_overlaps_may_have_happened_in_either_order() -> None:
    story = Story()
    story.told(13.2, "see", lasts=2, **a_job("running"))  # asked before the last word was acknowledged
    story.told(9, "save", 1, lasts=4, step=2)  # and this before the second attempt was there

    assert story.found() == []


def test_a_pause_that_was_taken_back_and_a_cancel_that_is_under_way_are_no_violations() -> None:
    story = Story()
    story.told(6.5, "pause", lasts=0.1)
    story.told(6.7, "see", lasts=0.1, **a_job("running", requested="pause"))
    story.told(7, "resume")
    story.told(8, "see", **a_job("running"))
    assert story.found() == []

    story = Story()
    story.ends("cancelled")
    story.told(12, "cancel")
    story.told(12.6, "see", **a_job("running", requested="cancel"))
    assert story.found() == []


def test_a_last_word_may_be_repeated() -> None:
    story = Story()
    story.told(20, "finish", 2, checkpoint="abc")
    story.told(21, "finish", 1)

    assert story.found() == []


def lost(story: Story) -> None:
    story.there = False


def of_nobody(story: Story) -> None:
    story.other_finals["job_2"] = Final(a_job(), [], None)


def twice_for_one_key(story: Story) -> None:
    story.told(1, "submit", job="job_2", key="k")


def there_although_deleted(story: Story) -> None:
    story.told(20, "delete")


def changed_after_its_end(story: Story) -> None:
    story.told(20, "see", **a_job("succeeded", finished_at="another time"))


def another_end_is_seen(story: Story) -> None:
    story.told(20, "see", **a_job("failed"))


def goes_on_after_its_end(story: Story) -> None:
    story.told(20, "see", **a_job("running"))


def goes_on_after_its_end_and_a_long_look_lies_between(story: Story) -> None:
    """It overlaps with the one before and the one after, and tells nothing of these two."""
    story.without("finish")
    story.told(14.2, "see", lasts=4, **a_job("running"))
    story.told(16, "see", lasts=5, **a_job("running"))


def a_success_is_not_seen(story: Story) -> None:
    story.told(13.6, "see", lasts=0.1, **a_job("running"))


def a_cancel_is_not_seen(story: Story) -> None:
    story.ends("cancelled")
    story.told(12, "cancel")
    story.told(13, "see", **a_job("running"))


def a_pause_is_not_seen(story: Story) -> None:
    story.told(6.5, "pause", lasts=0.1)
    story.told(7, "see", **a_job("running"))


def a_cancel_is_overtaken(story: Story) -> None:
    story.told(12, "cancel")


def a_success_is_cancelled(story: Story) -> None:
    """Each of both was accepted, and a job has one end."""
    story.job, story.checkpoint, story.states[-1] = a_job("cancelled"), None, "cancelled"
    story.ops.pop()
    story.told(14, "cancel")


def begins_in_the_middle(story: Story) -> None:
    del story.states[0]


def moves_as_it_may_not(story: Story) -> None:
    story.states[2:3] = ["paused"]


def ends_twice(story: Story) -> None:
    story.states.append("succeeded")


def says_one_thing_and_its_events_another(story: Story) -> None:
    story.states[-1] = "failed"


def never_ends(story: Story) -> None:
    story.ends("running")
    story.states.pop()


def a_stale_write(story: Story) -> None:
    story.told(12, "save", 1, step=2)


def a_stale_write_before_its_successor_has_written(story: Story) -> None:
    story.told(10.6, "beat", 1, lasts=0.1)


def a_write_after_the_last_word(story: Story) -> None:
    story.told(13.6, "say", 2, notes=[])


def a_write_after_the_end(story: Story) -> None:
    story.ends("cancelled")
    story.told(14, "see", **a_job("cancelled"))
    story.told(15, "beat", 2)


def a_stale_write_of_a_job_that_was_deleted(story: Story) -> None:
    story.there = False
    story.told(20, "delete")
    story.told(12, "beat", 1)


def saved_work_is_lost(story: Story) -> None:
    story.told(6, "save", 1, step=2)


def an_event_is_lost(story: Story) -> None:
    story.notes.remove("1.1")


def an_event_counts_twice(story: Story) -> None:
    story.notes.append("2.0")


def an_event_that_was_not_acknowledged_counts_twice(story: Story) -> None:
    story.notes += ["2.1", "2.1"]


def events_change_places(story: Story) -> None:
    story.notes[:2] = ["1.1", "1.0"]


def two_attempts_have_results(story: Story) -> None:
    story.told(13, "finish", 3, checkpoint="def")


def one_attempt_has_two_results(story: Story) -> None:
    story.told(13, "finish", 2, checkpoint="def")


def two_attempts_have_succeeded(story: Story) -> None:
    story.job["attempts"] = [{"state": "succeeded"}, {"state": "succeeded"}]


def another_result(story: Story) -> None:
    story.job = a_job("succeeded", result={"checkpoint": {"sha256": "def"}})
    story.checkpoint = "def"
    story.ops.pop()


def corrupt(story: Story) -> None:
    story.checkpoint = "def"


def a_result_and_an_error(story: Story) -> None:
    story.job["error"] = {"code": "boom"}


def no_result(story: Story) -> None:
    story.job["result"] = None


BROKEN: list[tuple[Callable[[Story], None], str]] = [
    (lost, "was acknowledged and is lost"),
    (of_nobody, "job_2: nobody was told of it"),
    (twice_for_one_key, "the key k made 2 jobs"),
    (there_although_deleted, "was deleted and is there"),
    (changed_after_its_end, "had ended succeeded and changed afterwards"),
    (another_end_is_seen, "had ended succeeded and changed afterwards"),
    (goes_on_after_its_end, "was seen succeeded and then running"),
    (goes_on_after_its_end_and_a_long_look_lies_between, "was seen succeeded and then running"),
    (a_success_is_not_seen, "a finish was accepted, and then it was seen running"),
    (a_cancel_is_not_seen, "a cancel was accepted, and then it was seen running"),
    (a_pause_is_not_seen, "a pause was accepted, and then it was seen running"),
    (a_cancel_is_overtaken, "a cancel was accepted, and then it was seen succeeded"),
    (a_success_is_cancelled, "a finish was accepted, and then it was seen cancelled"),
    (begins_in_the_middle, "moved from None to running"),
    (moves_as_it_may_not, "moved from paused to running"),
    (ends_twice, "ended 2 times"),
    (says_one_thing_and_its_events_another, "is succeeded, and its events end with failed"),
    (never_ends, "never ended: it is running"),
    (a_stale_write, "attempt 1 was let write (save) after attempt 2 had been heard"),
    (a_stale_write_before_its_successor_has_written, "attempt 1 was let write (beat) after attempt 2 had been heard"),
    (a_write_after_the_last_word, "attempt 2 was let write (say) after its own last word"),
    (a_write_after_the_end, "attempt 2 was let write (beat) after its job had ended"),
    (a_stale_write_of_a_job_that_was_deleted, "attempt 1 was let write (beat) after attempt 2 had been heard"),
    (saved_work_is_lost, "attempt 2 began at step 1, and 2 had been saved"),
    (an_event_is_lost, "the event '1.1' is there 0 times"),
    (an_event_counts_twice, "the event '2.0' is there 2 times"),
    (an_event_that_was_not_acknowledged_counts_twice, "an event is there twice"),
    (events_change_places, "the events of attempt 1 are not in their order"),
    (two_attempts_have_results, "has the results of the attempts [2, 3]"),
    (one_attempt_has_two_results, "has the results of the attempts [2, 2]"),
    (two_attempts_have_succeeded, "more than one of its attempts has succeeded"),
    (another_result, "its result is not the one that was acknowledged"),
    (corrupt, "its checkpoint is def, and its result says abc"),
    (a_result_and_an_error, "is succeeded, with a result and with an error"),
    (no_result, "is succeeded, without a result and without an error"),
]


@pytest.mark.parametrize(("break_it", "says"), BROKEN, ids=[break_it.__name__ for break_it, _ in BROKEN])
def test_a_promise_that_is_broken_is_named(break_it: Callable[[Story], None], says: str) -> None:
    story = Story()
    break_it(story)

    assert any(says in said for said in story.found()), story.found()
