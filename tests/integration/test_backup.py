"""What was saved can be loaded: into the same kind of database or the other, and nothing else is ever lost."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from purlkit.results import CHECKPOINT
from services import artifacts, attempts, backup
from services.artifacts import LocalStore
from services.database import Database, upgrade
from services.errors import BadSetting
from services.states import JobState
from services.tables import Base
from services.testing import a_blob, an_episode, settings_in
from tests.bench import Bench
from tests.s3 import S3Server

BYTES = b"the pruned network"


@pytest.fixture
def ended(bench: Bench) -> str:
    """A job that has come to its end, with its file in the store."""
    worker = bench.running(name="kept")
    worker.say(an_episode(0), an_episode(1))
    put(bench.store, BYTES)
    worker.succeed(BYTES)
    return worker.claim.job_id


@pytest.fixture
def other(tmp_path: Path, request: pytest.FixtureRequest, bench: Bench) -> str:
    """An empty database of the other kind."""
    if bench.db.engine.dialect.name == "sqlite":
        url: str = request.getfixturevalue("postgresql_url")
        return url
    return settings_in(tmp_path / "other").database_url


def put(store: artifacts.Store, data: bytes) -> None:
    with store.begin() as writer:
        writer.write(data)
        writer.seal(None)
        writer.commit()


def rows(db: Database) -> dict[str, list[tuple[object, ...]]]:
    with db.read() as session:
        tables = Base.metadata.sorted_tables
        return {table.name: sorted(map(tuple, session.execute(select(table))), key=repr) for table in tables}


def test_all_rows_and_files_come_back_in_the_other_kind_of_database(
    bench: Bench, ended: str, other: str, tmp_path: Path
) -> None:
    waiting = bench.submit(priority=3)
    assert backup.save(bench.db, bench.store, tmp_path / "backup") == 0

    store = LocalStore(tmp_path / "elsewhere")
    settings = settings_in(tmp_path / "other", PURL_DATABASE_URL=other)
    settings.data_dir.mkdir(exist_ok=True)
    assert backup.load(tmp_path / "backup", settings, store) == 0

    with closing(Database.open(other)) as db:
        assert rows(db) == rows(bench.db)
        with db.read() as session:
            kept = artifacts.find(session, ended, CHECKPOINT)
    assert store.path(kept.sha256).read_bytes() == BYTES
    assert bench.job(waiting).state is JobState.QUEUED


# In the other direction the test above brings the rows, without the second that each command takes to start.
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_by_command_from_one_bucket_by_a_folder_into_another(
    bench: Bench, other: str, s3: S3Server, bucket: str, tmp_path: Path
) -> None:
    """As docs/operate.md has it, and with what the commands say."""
    kept, elsewhere = s3.store(bucket, tmp_path / "spool"), s3.make_bucket(f"{bucket}-elsewhere")
    put(kept, BYTES)
    worker = bench.running()
    worker.succeed(BYTES)
    own = {"PURL_ARTIFACTS": f"s3://{bucket}", **s3.environ()}
    new = {"PURL_DATA_DIR": str(tmp_path / "other"), "PURL_DATABASE_URL": other, "PURL_ARTIFACTS": f"s3://{elsewhere}"}

    saved = command("save", tmp_path / "backup", {**bench.environ, **own})
    loaded = command("load", tmp_path / "backup", {**own, **new})

    assert saved == loaded == f"{tmp_path / 'backup'}: all is there"
    with s3.store(elsewhere, tmp_path / "spool").open(a_blob(BYTES).sha256) as file:
        assert file.read(1000) == BYTES
    with closing(Database.open(other)) as db:
        assert rows(db) == rows(bench.db)
    again = subprocess.run(
        [sys.executable, "-m", "services.backup", "load", tmp_path / "backup"],
        env={**os.environ, **own, **new},
        capture_output=True,
        text=True,
    )
    assert (again.returncode, "nothing is ever written over" in again.stderr) == (1, True)


def command(what: str, folder: Path, environ: dict[str, str]) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "services.backup", what, folder],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_a_backup_is_brought_up_to_date_with_what_is_new(bench: Bench, ended: str, tmp_path: Path) -> None:
    backup.save(bench.db, bench.store, tmp_path / "backup")
    bench.submit()

    backup.save(bench.db, bench.store, tmp_path / "backup")

    with closing(Database.open(f"sqlite:///{tmp_path / 'backup' / backup.ROWS}")) as kept:
        assert rows(kept) == rows(bench.db)
    assert sorted(path.name for path in (tmp_path / "backup").iterdir() if not path.name.startswith("purl.db-")) == [
        backup.FILES,
        backup.ROWS,
    ]
    assert ended


def test_a_file_that_is_missing_is_told(
    bench: Bench, ended: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended
    bench.store.remove(a_blob(BYTES).sha256)

    assert backup.save(bench.db, bench.store, tmp_path / "backup") == 1
    assert a_blob(BYTES).sha256 in capsys.readouterr().err


def test_what_ran_when_it_was_saved_is_taken_up_again(bench: Bench, other: str, tmp_path: Path) -> None:
    worker = bench.running()
    bench.age(worker, 3600)
    backup.save(bench.db, None, tmp_path / "backup")
    settings = settings_in(tmp_path / "other", PURL_DATABASE_URL=other)
    settings.data_dir.mkdir(exist_ok=True)
    backup.load(tmp_path / "backup", settings, None)

    with closing(Bench(settings.data_dir, other)) as restored:
        (overdue,) = restored.overdue(attempts.expired)
        assert overdue == worker.claim.attempt_id
        assert restored.job(worker.claim.job_id).state is JobState.RUNNING


def test_a_database_that_has_jobs_is_never_written_over(bench: Bench, ended: str, tmp_path: Path) -> None:
    backup.save(bench.db, bench.store, tmp_path / "backup")
    before = rows(bench.db)

    with pytest.raises(BadSetting, match="nothing is ever written over"):
        backup.load(tmp_path / "backup", bench.settings, bench.store)

    assert rows(bench.db) == before
    assert ended


def test_a_folder_without_a_backup_is_refused_by_name(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"FOLDER holds no backup: name one that holds purl\.db"):
        backup.load(tmp_path / "nothing", bench.settings, bench.store)


def test_a_backup_of_an_older_version_is_as_good(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    folder.mkdir()
    upgrade(f"sqlite:///{folder / backup.ROWS}", revision="0003")
    settings = settings_in(tmp_path / "new")
    settings.data_dir.mkdir()

    assert backup.load(folder, settings, None) == 0
