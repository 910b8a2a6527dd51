"""Making room and running out of it: DELETE of a job, the watermark, a store and a database that take no more."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event

from purlkit.results import Finish, Outcome
from tests.faults import FaultProxy, fault_proxy
from tests.integration.over_http import LEAST, Service, assert_problem, serving
from tests.integration.stores import S3Shelf, Shelf
from tests.integration.test_api_weights import a_file
from tests.s3 import S3Server


@pytest.fixture
def stocked(shelf: Shelf, tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "service", store=shelf.store, PURL_MAX_RUNNING="10") as service:
        yield service


def test_a_deleted_job_takes_its_files_along_and_leaves_those_of_others(stocked: Service, shelf: Shelf) -> None:
    jobs = [stocked.submit() for _ in range(2)]
    for worker in (stocked.claim(), stocked.claim()):
        worker.save("dense", b"shared")
        worker.succeed(worker.attempt_id.encode())
    assert len(shelf.names()) == 3

    response = stocked.http.delete(jobs[0]["links"]["self"])

    assert (response.status_code, response.content) == (204, b"")
    assert len(shelf.names()) == 2
    assert_problem(stocked.http.get(jobs[0]["links"]["self"]), 404, "not_found")
    assert_problem(stocked.http.delete(jobs[0]["links"]["self"]), 404, "not_found")
    assert stocked.http.get(f"{jobs[1]['links']['self']}/checkpoint").status_code == 200


@pytest.mark.parametrize("state", ["queued", "running", "paused"])
def test_a_job_that_has_not_ended_is_not_deleted(service: Service, state: str) -> None:
    job = service.submit()
    if state == "running":
        service.claim().beat()
    elif state == "paused":
        service.http.post(f"{job['links']['self']}/pause")

    problem = assert_problem(service.http.delete(job["links"]["self"]), 409, "illegal_move")

    assert "cancel it first" in problem["detail"]
    assert service.job(job["id"])["state"] == state


def test_a_job_is_deleted_though_the_store_fails(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    """Its rows go now, and the cleaner will see to the bytes."""
    with fault_proxy(s3.url) as proxy:
        shelf = S3Shelf(s3.store(bucket, tmp_path / "spool", url=proxy.url))
        with serving(tmp_path / "service", store=shelf.store) as service:
            job = service.submit()
            service.claim().succeed(b"the pruned network")
            proxy.plan("delete", *["500"] * 20)

            assert service.http.delete(job["links"]["self"]).status_code == 204
            assert_problem(service.http.get(job["links"]["self"]), 404, "not_found")
        assert len(shelf.names()) == 1


class TestANearlyFullDisk:
    @pytest.fixture
    def full(self, tmp_path: Path) -> Iterator[Service]:
        with serving(tmp_path) as service:
            service.submit()
            yield service

    def fill(self, service: Service) -> None:
        object.__setattr__(service.settings, "min_free_bytes", 2**60)

    def test_nothing_new_is_taken_in(self, full: Service) -> None:
        worker = full.claim()
        ended = full.submit()
        full.http.post(f"{ended['links']['self']}/cancel")
        self.fill(full)

        refusals = [
            full.http.post("/jobs", json=LEAST),
            full.http.post(f"{ended['links']['self']}/retry"),
            full.upload(a_file()),
            worker.stage("policy.json", b"{}"),
            worker.save("search", b"state"),
        ]

        for refusal in refusals:
            assert "PURL_DATA_DIR" in assert_problem(refusal, 507, "store_full")["detail"]
        assert "no room" in assert_problem(full.http.get("/readyz"), 503, "not_ready")["detail"]

    def test_what_runs_can_still_say_how_it_ends(self, full: Service) -> None:
        worker = full.claim()
        self.fill(full)

        assert worker.beat().status_code == 200
        assert worker.finish(Finish(outcome=Outcome.DRAINED)).status_code == 200
        assert full.http.get("/jobs").status_code == 200


def test_a_database_that_is_full_is_told_apart_from_one_that_is_away(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        service.db.engine.dispose()

        @event.listens_for(service.db.engine, "connect")
        def _no_more_pages(connection: sqlite3.Connection, _: object) -> None:
            connection.execute("PRAGMA max_page_count = 1").close()

        refusal = next(
            answer for answer in (service.http.post("/jobs", json=LEAST) for _ in range(200)) if answer.is_error
        )

    assert_problem(refusal, 507, "store_full")


@pytest.fixture
def bad_line(s3: S3Server, bucket: str, tmp_path: Path) -> Iterator[tuple[Service, FaultProxy]]:
    with fault_proxy(s3.url) as proxy:
        store = s3.store(bucket, tmp_path / "spool", url=proxy.url)
        with serving(tmp_path / "service", store=store) as service:
            yield service, proxy


def test_a_worker_whose_upload_fails_is_told_to_try_again_and_can(bad_line: tuple[Service, FaultProxy]) -> None:
    service, proxy = bad_line
    service.submit()
    worker = service.claim()
    proxy.plan("PUT", *["503"] * 3)

    assert_problem(worker.stage("policy.json", b"{}"), 503, "store_unavailable")
    assert worker.stage("policy.json", b"{}").status_code == 200


def test_a_store_that_does_not_answer_is_not_ready(bad_line: tuple[Service, FaultProxy]) -> None:
    service, proxy = bad_line
    assert service.http.get("/readyz").status_code == 200

    proxy.plan("GET", *["503"] * 3)

    assert_problem(service.http.get("/readyz"), 503, "not_ready")
