"""What happened to a job, in order and once, however often a worker says it."""

from __future__ import annotations

import pytest

from purlkit.results import WorkerEvent
from services import episodes, events
from services.errors import EventGap, InvalidCursor, InvalidEvent
from services.testing import FakeWorker, an_episode
from tests.bench import Bench


def note(number: int) -> WorkerEvent:
    return WorkerEvent(type="note", data={"number": number})


def said(bench: Bench, worker: FakeWorker) -> list[int]:
    return [event.data["number"] for event in bench.events(worker.claim.job_id) if event.type == "note"]


def test_a_batch_that_comes_twice_counts_once(bench: Bench) -> None:
    worker = bench.running()

    worker.say(note(0), note(1), first_seq=0)
    worker.say(note(0), note(1), first_seq=0)

    assert said(bench, worker) == [0, 1]


def test_of_a_batch_that_overlaps_only_the_new_ones_are_kept(bench: Bench) -> None:
    worker = bench.running()

    worker.say(note(0), note(1), first_seq=0)
    worker.say(note(1), note(2), first_seq=1)
    worker.say(note(0), first_seq=0)

    assert said(bench, worker) == [0, 1, 2]


def test_a_gap_is_refused_with_the_number_to_go_on_from(bench: Bench) -> None:
    worker = bench.running()
    worker.say(note(0), first_seq=0)

    with pytest.raises(EventGap, match="from sequence number 1") as refusal:
        worker.say(note(2), first_seq=2)

    assert refusal.value.expected == 1
    assert said(bench, worker) == [0]


def test_each_attempt_counts_from_nought(bench: Bench) -> None:
    first = bench.running()
    first.say(note(0), first_seq=0)
    bench.rescue(first)
    second = bench.next_try(first.claim.job_id)

    second.say(note(1), first_seq=0)

    assert said(bench, second) == [0, 1]


def test_pages_go_on_where_the_one_before_ended(bench: Bench) -> None:
    worker = bench.running()
    worker.say(*[note(number) for number in range(5)])
    job_id = worker.claim.job_id
    seen: list[int] = []
    after = 0

    with bench.db.read() as session:
        while (page := events.page(session, job_id, after, limit=3)).items:
            seen += [event.seq for event in page.items]
            after = int(page.next or 0)

    assert seen == list(range(1, len(seen) + 1))
    assert seen == [event.seq for event in bench.events(job_id)]
    assert (page.has_more, page.next) == (False, str(seen[-1]))


def test_the_whole_story_of_a_job_that_was_rescued(bench: Bench) -> None:
    first = bench.running()
    bench.rescue(first)
    bench.next_try(first.claim.job_id).succeed()

    story = [(event.type, event.data.get("number"), event.data["state"]) for event in bench.events(first.claim.job_id)]

    assert story == [
        ("state", None, "queued"),
        ("attempt", 1, "launching"),
        ("state", None, "running"),
        ("attempt", 1, "lost"),
        ("state", None, "queued"),
        ("attempt", 2, "launching"),
        ("state", None, "running"),
        ("attempt", 2, "succeeded"),
        ("state", None, "succeeded"),
    ]


def test_an_episode_played_again_replaces_its_row_and_keeps_both_events(bench: Bench) -> None:
    first = bench.running()
    first.say(an_episode(0, accuracy=0.4), an_episode(1, accuracy=0.4))
    bench.rescue(first)
    second = bench.next_try(first.claim.job_id)

    second.say(an_episode(1, accuracy=0.6))

    with bench.db.read() as session:
        rows = episodes.page(session, first.claim.job_id).items
    assert [(row.index, row.attempt, row.data["accuracies"][-1]) for row in rows] == [(0, 1, 0.4), (1, 2, 0.6)]
    assert [event.type for event in bench.events(first.claim.job_id)].count("episode") == 3


def test_episodes_of_the_search_come_before_the_greedy_ones(bench: Bench) -> None:
    worker = bench.running()
    worker.say(*[an_episode(index, kind="greedy") for index in range(2)], *[an_episode(index) for index in range(12)])
    seen: list[tuple[str, int]] = []
    after = None

    with bench.db.read() as session:
        while True:
            page = episodes.page(session, worker.claim.job_id, after=after, limit=5)
            seen += [(row.kind, row.index) for row in page.items]
            after = page.next
            if after is None:
                break

    assert seen == [("search", index) for index in range(12)] + [("greedy", 0), ("greedy", 1)]


@pytest.mark.parametrize("cursor", ["c2VhcmNo", "c2VhcmNoOi0x", "d2FsazoxMg", "?"])
def test_a_foreign_cursor_is_refused(bench: Bench, cursor: str) -> None:
    with pytest.raises(InvalidCursor), bench.db.read() as session:
        episodes.page(session, bench.submit(), after=cursor)


def test_an_episode_that_is_none_is_refused_with_the_rest_of_its_batch(bench: Bench) -> None:
    worker = bench.running()
    broken = WorkerEvent(type="episode", data={**an_episode(0).data, "accuracies": [1.5]})

    with pytest.raises(InvalidEvent, match="accuracies"):
        worker.say(note(0), broken, first_seq=0)

    assert said(bench, worker) == []
