"""The rows that name an attempt's files: staged at first, published by its last word."""

from __future__ import annotations

import pytest

from purlkit.results import LOG, Finish, Outcome
from services import artifacts
from services.errors import ArtifactConflict, NotFound
from services.testing import a_blob
from tests.bench import Bench


def test_the_same_bytes_again_are_fine_and_others_are_not(bench: Bench) -> None:
    worker = bench.running()
    worker.stage("policy.json", b"{}")
    worker.stage("policy.json", b"{}")

    with pytest.raises(ArtifactConflict):
        worker.stage("policy.json", b"[]")


def test_what_is_staged_is_not_to_be_seen_before_the_finish(bench: Bench) -> None:
    worker = bench.running()
    worker.stage("policy.json", b"{}")

    with bench.db.read() as session:
        assert artifacts.list_published(session, worker.claim.job_id) == []
        with pytest.raises(NotFound):
            artifacts.find(session, worker.claim.job_id, "policy.json")


def test_a_log_grows_in_sight(bench: Bench) -> None:
    worker = bench.running()

    for log in (b"line 1\n", b"line 1\nline 2\n"):
        worker.stage(LOG, log)
        with bench.db.read() as session:
            assert artifacts.find(session, worker.claim.job_id, LOG).sha256 == a_blob(log).sha256


def test_a_later_attempt_takes_the_place_of_an_earlier_one(bench: Bench) -> None:
    first = bench.running()
    first.stage(LOG, b"first")
    first.stage("policy.json", b"{}")
    first.finish(Finish(outcome=Outcome.DRAINED, artifacts=("policy.json",)))
    second = bench.claim()
    second.stage(LOG, b"second")
    second.stage("policy.json", b"[]")
    second.finish(Finish(outcome=Outcome.DRAINED, artifacts=("policy.json",)))

    with bench.db.read() as session:
        published = artifacts.list_published(session, first.claim.job_id)

    assert [(row.name, row.sha256) for row in published] == [
        (LOG, a_blob(b"second").sha256),
        ("policy.json", a_blob(b"[]").sha256),
    ]
