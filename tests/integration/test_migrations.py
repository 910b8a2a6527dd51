"""The tables that the migrations make are the tables that the program means, and what was in them is still there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, inspect, select

from api.represent import episode_view, job_views
from api.schemas import JobView
from services import attempts, database, episodes
from services.database import Database, check_schema, upgrade
from services.errors import SchemaMismatch
from services.settings import Settings
from services.tables import Base, Job, JobLabel, SavedBlob
from services.testing import settings_in
from tests import postgres
from tests.bench import Bench

# What a database of each released revision held, table by table. A revision that is released gets its file here.
RELEASED = sorted((Path(__file__).parent / "released").glob("*.json"))

# On SQLite this copies the table of jobs and drops the old one, with attempts and saved work pointing to it.
LATER_REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "9998"
down_revision = "{head}"


def upgrade():
    copied = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("jobs", recreate=copied) as table:
        table.add_column(sa.Column("colour", sa.Text()))
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without any table."""
    if request.param == "sqlite":
        yield settings_in(tmp_path).database_url
        return
    server: postgres.Databases = request.getfixturevalue("postgresql")
    url = server.create(template="template0")
    yield url
    server.drop(url)


@pytest.fixture
def db(url: str) -> Iterator[Database]:
    db = Database.open(url)
    yield db
    db.close()


def head() -> str:
    return ScriptDirectory(str(database.MIGRATIONS)).get_current_head() or ""


def fill(db: Database, tables: dict[str, list[dict[str, Any]]]) -> None:
    """As the program of that time would have: by the columns that there were."""
    there = MetaData()
    with db.engine.begin() as connection:
        there.reflect(connection)
        for table in there.sorted_tables:
            for row in tables.get(table.name, []):
                present = {name: value for name, value in row.items() if value is not None}
                connection.execute(table.insert().values(present))


def held(db: Database, tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    """What of these columns is in the database now."""
    there = MetaData()
    with db.engine.connect() as connection:
        there.reflect(connection)
        return {
            name: [
                {column: row._mapping[column] for column in rows[0]}
                for row in connection.execute(select(there.tables[name]))
            ]
            for name, rows in tables.items()
            if rows
        }


def in_order(tables: dict[str, list[dict[str, Any]]]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: sorted(rows, key=lambda row: json.dumps(row, sort_keys=True)) for name, rows in tables.items() if rows
    }


def test_the_migrations_make_what_the_tables_say(url: str, db: Database) -> None:
    upgrade(url)

    with db.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize("released", RELEASED, ids=[path.stem for path in RELEASED])
def test_from_every_released_revision_nothing_is_lost(url: str, db: Database, released: Path) -> None:
    before = json.loads(released.read_text())
    upgrade(url, revision=released.stem)
    fill(db, before)

    upgrade(url)

    check_schema(db)
    assert in_order(held(db, before)) == in_order(before)


@pytest.mark.parametrize("released", RELEASED, ids=[path.stem for path in RELEASED])
def test_what_an_older_program_left_goes_on_with_this_one(url: str, db: Database, released: Path) -> None:
    upgrade(url, revision=released.stem)
    fill(db, json.loads(released.read_text()))
    upgrade(url)

    with db.read() as session:
        everything = list(session.scalars(select(Job)))
        shown = {view.name: view for view in map(JobView.model_validate_json, job_views(session, everything))}
        labelled = {job_id for (job_id,) in session.execute(select(JobLabel.job_id))}
        finished = episodes.page(session, shown["finished"].id).items
        played = [episode_view(row).index for row in finished]
        waiting = {job.name: (job.cpus, job.gpus) for job in everything}
    assert shown["finished"].result is not None
    assert {job.model for job in everything} == {job.spec["model"]["name"] for job in everything}
    assert labelled == {job.id for job in everything if job.spec["labels"]}
    assert played == [0, 1, 0]
    assert (waiting["queued"], waiting["paused"]) == ((1.0, 0.5), (2.0, 0.0)), "as its spec says, or as it defaults"
    with db.write() as session:
        (live,) = attempts.live(session)
        attempts.rescue(session, live, reason="it was running when the service was stopped to be upgraded")
        claims = [attempts.claim(session, Settings.from_environ({"PURL_MAX_RUNNING": "9"})) for _ in range(4)]
    claimed = {claim.job_id for claim in claims if claim is not None}
    assert {shown[name].id for name in ("running", "waiting for its next try", "queued")} >= claimed
    assert shown["queued"].id in claimed


def test_upgrading_twice_keeps_what_is_there(bench: Bench) -> None:
    job_id = bench.submit()

    upgrade(bench.settings.database_url)

    assert bench.job(job_id).id == job_id


def test_many_may_bring_a_new_database_up_to_date_at_once(url: str, db: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [url] * 4))

    check_schema(db)


def test_a_later_revision_may_change_a_table_that_others_point_to(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = bench.running()
    worker.save("search", b"1")
    later = tmp_path / "migrations"
    shutil.copytree(database.MIGRATIONS, later)
    (later / "versions" / "9998_later.py").write_text(LATER_REVISION.format(head=head()))
    monkeypatch.setattr(database, "MIGRATIONS", later)

    upgrade(bench.settings.database_url)

    check_schema(bench.db)
    assert worker.beat() == "continue"
    with bench.db.read() as session:
        assert session.get(SavedBlob, (worker.claim.job_id, "search")) is not None


def test_a_database_without_tables_is_refused(db: Database) -> None:
    with pytest.raises(SchemaMismatch, match="python -m services migrate"):
        check_schema(db)


def test_an_older_database_is_refused(url: str, db: Database) -> None:
    upgrade(url, revision="0001")

    with pytest.raises(SchemaMismatch, match="older than this program: run python -m services migrate"):
        check_schema(db)


def test_a_newer_database_is_refused(url: str, db: Database) -> None:
    upgrade(url)
    with db.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(SchemaMismatch, match="newer"):
        check_schema(db)


def test_an_upgrade_that_fails_leaves_nothing_behind(url: str, db: Database) -> None:
    with db.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE weights (this_is_in_the_way INTEGER)")

    with pytest.raises(Exception, match="already exists"):
        upgrade(url)

    assert inspect(db.engine).get_table_names() == ["weights"]
