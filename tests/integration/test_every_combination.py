"""The whole service on either database with either store: SQLite and PostgreSQL, a folder and S3.

The parts have tests of their own; here is what they must do together, the same in all four houses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from purlkit.results import CHECKPOINT, LOG
from services.cleaning import clean
from services.dispatcher import Dispatcher
from services.launch import LocalLauncher
from tests.integration.over_http import Service, a_success, assert_problem, serving
from tests.integration.stores import Shelf, sha256_of
from tests.integration.test_api_weights import a_file
from tests.programs.quick_worker import CHECKPOINT_BYTES
from tests.waiting import wait_until


@dataclass(frozen=True)
class House:
    service: Service
    shelf: Shelf

    def clean(self) -> str:
        settings = replace(self.service.settings, clean_grace_seconds=0.0, keep_weights_days=0.001 / 86_400)
        return str(clean(self.service.db, self.shelf.store, settings))

    def holds(self, *contents: bytes) -> bool:
        return self.shelf.names() == sorted(map(sha256_of, contents))


@pytest.fixture
def house(database_url: str, shelf: Shelf, tmp_path: Path) -> Iterator[House]:
    with serving(tmp_path / "service", store=shelf.store, PURL_DATABASE_URL=database_url) as service:
        yield House(service, shelf)


def test_a_job_of_uploaded_weights_runs_in_a_process_and_goes_without_a_trace(house: House) -> None:
    """Its search is a pretence, and all else is real: dispatcher, process, heartbeats, uploads, last word."""
    service, dense = house.service, a_file()
    service.settings.datasets_dir.mkdir(parents=True)
    dispatcher = Dispatcher(
        service.db, service.settings, LocalLauncher(), house.shelf.store, worker="tests.programs.quick_worker"
    )
    assert service.upload(dense).status_code == 201
    job = service.submit(model={"name": "digits-resnet", "weights": {"sha256": sha256_of(dense)}})
    path = job["links"]["self"]

    def over() -> bool:
        dispatcher.tick()
        (attempt,) = service.job(job["id"])["attempts"] or [None]
        return bool(attempt and attempt["ended_at"] and LOG in names_of(service, path))

    wait_until("the job is over and its log is kept", over, seconds=300)  # it begins with the start of a process

    ended = service.job(job["id"])
    assert ended["state"] == "succeeded", ended["error"]
    checkpoint = service.http.get(f"{path}/checkpoint").content
    assert (checkpoint, sha256_of(checkpoint)) == (CHECKPOINT_BYTES, ended["result"]["checkpoint"]["sha256"])
    assert names_of(service, path) == {CHECKPOINT, LOG}
    assert house.clean() == "logs 1", "the job has a copy of its own"
    assert service.http.delete(path).status_code == 204
    assert house.holds(dense)
    wait_until("their time is over", lambda: house.clean() == "weights 1, blobs 1")
    assert house.holds()


def names_of(service: Service, path: str) -> set[str]:
    return {artifact["name"] for artifact in service.http.get(f"{path}/artifacts").json()["data"]}


def test_a_stale_attempt_publishes_nothing_and_what_it_sent_is_swept(house: House) -> None:
    service = house.service
    path = service.submit()["links"]["self"]
    stale = service.claim()
    stale.save("search", b"an episode")
    stale.stage(CHECKPOINT, b"of the stale one")
    service.drain(stale)
    successor = service.claim()

    assert_problem(stale.finish(a_success(b"of the stale one")), 409, "attempt_superseded")
    assert_problem(stale.save("search", b"too late"), 409, "attempt_superseded")
    assert successor.call("GET", "/saved/search").content == b"an episode"
    assert successor.succeed(b"of the successor").status_code == 200

    assert service.http.get(f"{path}/checkpoint").content == b"of the successor"
    wait_until("what nobody needs is gone", lambda: house.clean() == "nothing")
    assert house.holds(b"of the successor")
    assert service.http.get(f"{path}/checkpoint").content == b"of the successor"
