"""kill -9 leaves what the kernel has not written yet, a power cut does not: the order of syncs itself is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine.default import DefaultDialect

from services import artifacts
from services.artifacts import LocalStore
from services.database import Database
from services.testing import database_in


class Disk:
    """What would be left after a power cut: files whose bytes, and folders whose names, have been synced."""

    def __init__(self) -> None:
        self.synced: set[int] = set()
        self.unsynced_names: set[int] = set()
        self.said: list[str] = []

    def fsync(self, descriptor: int) -> None:
        inode = os.fstat(descriptor).st_ino
        self.synced.add(inode)
        self.unsynced_names.discard(inode)

    def rename(self, source: Path, target: Path) -> None:
        if source.stat().st_ino not in self.synced:
            self.said.append("a file got its name before its bytes were on the disk")
        self.name(target)

    def name(self, path: Path) -> None:
        self.unsynced_names.add(path.parent.stat().st_ino)

    def commit(self) -> None:
        if self.unsynced_names:
            self.said.append("a row was committed while a name that it may speak of was not on the disk")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    fsync, replace, mkdir, commit = os.fsync, Path.replace, os.mkdir, DefaultDialect.do_commit

    def noted_commit(self: Any, connection: Any) -> None:
        disk.commit()
        commit(self, connection)

    def noted_replace(self: Path, target: Path) -> Path:
        disk.rename(self, target)
        return replace(self, target)

    def noted_mkdir(path: Any, *args: Any) -> None:
        mkdir(path, *args)
        disk.name(Path(path))

    def noted_fsync(descriptor: int) -> None:
        fsync(descriptor)
        disk.fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    monkeypatch.setattr(os, "mkdir", noted_mkdir)
    monkeypatch.setattr(DefaultDialect, "do_commit", noted_commit)
    return disk


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    with closing(database_in(tmp_path)) as db:
        yield db


def test_bytes_then_name_then_row(tmp_path: Path, db: Database, disk: Disk) -> None:
    """The database is there before the disk is looked at: how it is made says nothing of the store."""
    store = LocalStore(tmp_path / "artifacts")
    for data in (b"one", b"another"):
        with store.begin() as writer:
            writer.write(data)
            blob = artifacts.keep(db, writer)
        with db.write() as session:
            artifacts.confirm(session, blob.sha256)

    assert disk.said == []
    assert len(disk.synced) >= 4
