"""Files on disk and the rows that name them."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from purlkit.results import LOG, Finish, Outcome
from services import artifacts
from services.artifacts import LocalStore
from services.errors import ArtifactConflict, DigestMismatch, NotFound, StoreFull, StoreUnavailable
from services.testing import a_blob
from tests.bench import Bench

DATA = b"weights " * 100_000
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "artifacts")


def files(store: LocalStore) -> list[str]:
    return sorted(str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file())


class TestStore:
    def test_keeps_what_was_written_under_its_sha256(self, store: LocalStore) -> None:
        with store.begin() as writer:
            for start in range(0, len(DATA), 65_536):
                writer.write(DATA[start : start + 65_536])
            blob = writer.commit(expected_sha256=SHA256)

        assert (blob.sha256, blob.bytes) == (SHA256, len(DATA))
        with store.open(SHA256) as file:
            assert file.read() == DATA
        assert files(store) == [f"blobs/{SHA256[:2]}/{SHA256}"]

    def test_nothing_exists_before_the_commit(self, store: LocalStore) -> None:
        with store.begin() as writer:
            writer.write(DATA)
            with pytest.raises(NotFound):
                store.open(SHA256)

    def test_a_writer_that_is_left_early_leaves_nothing(self, store: LocalStore) -> None:
        with pytest.raises(ZeroDivisionError), store.begin() as writer:
            writer.write(bytes(1 // 0))

        assert files(store) == []

    def test_other_bytes_than_announced_are_thrown_away(self, store: LocalStore) -> None:
        writer = store.begin()
        writer.write(DATA[:-1])

        with pytest.raises(DigestMismatch):
            writer.commit(expected_sha256=SHA256)

        assert files(store) == []

    def test_the_same_bytes_by_many_writers_are_one_file(self, store: LocalStore) -> None:
        def put(_: int) -> str:
            with store.begin() as writer:
                writer.write(DATA)
                return writer.commit().sha256

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(put, range(16))) == {SHA256}

        assert files(store) == [f"blobs/{SHA256[:2]}/{SHA256}"]

    def test_a_spoilt_copy_is_mended_by_the_next_writer(self, store: LocalStore) -> None:
        with store.begin() as writer:
            writer.write(DATA)
            writer.commit()
        store.path(SHA256).write_bytes(b"spoilt")

        with store.begin() as writer:
            writer.write(DATA)
            writer.commit()

        assert store.path(SHA256).read_bytes() == DATA

    @pytest.mark.parametrize(
        "name", ["", "0" * 64, SHA256.upper(), SHA256[:63], SHA256 + "\n", "../" * 21 + "x", "/etc/passwd", "\0" * 64]
    )
    def test_opens_nothing_but_a_sha256_that_it_has(self, store: LocalStore, name: str) -> None:
        with pytest.raises(NotFound):
            store.open(name)


def test_a_full_disk_is_a_clear_error_and_leaves_nothing(store: LocalStore) -> None:
    """On the kernel's own full device, which takes no byte."""
    writer = store.begin()
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer.fileno())
    os.close(full)

    with pytest.raises(StoreFull, match="PURL_ARTIFACTS"):
        writer.write(DATA)

    assert files(store) == []


def test_a_disk_that_fails_is_not_called_full(store: LocalStore) -> None:
    writer = store.begin()
    os.close(writer.fileno())

    with pytest.raises(StoreUnavailable):
        writer.write(DATA)

    assert files(store) == []


class TestStaging:
    def test_the_same_bytes_again_are_fine_and_others_are_not(self, bench: Bench) -> None:
        worker = bench.running()
        worker.stage("policy.json", b"{}")
        worker.stage("policy.json", b"{}")

        with pytest.raises(ArtifactConflict):
            worker.stage("policy.json", b"[]")

    def test_what_is_staged_is_not_to_be_seen_before_the_finish(self, bench: Bench) -> None:
        worker = bench.running()
        worker.stage("policy.json", b"{}")

        with bench.db.read() as session:
            assert artifacts.list_published(session, worker.claim.job_id) == []
            with pytest.raises(NotFound):
                artifacts.find(session, worker.claim.job_id, "policy.json")

    def test_a_log_grows_in_sight(self, bench: Bench) -> None:
        worker = bench.running()

        for log in (b"line 1\n", b"line 1\nline 2\n"):
            worker.stage(LOG, log)
            with bench.db.read() as session:
                assert artifacts.find(session, worker.claim.job_id, LOG).sha256 == a_blob(log).sha256

    def test_a_later_attempt_takes_the_place_of_an_earlier_one(self, bench: Bench) -> None:
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
