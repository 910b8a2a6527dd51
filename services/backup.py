"""`python -m services.backup save FOLDER`, `… load FOLDER`: all that the service knows, in a folder of its own.

The folder holds a SQLite file, whatever database the service uses, and the stored files by their sha256. So it can be
looked into with any SQLite, needs no tool of PostgreSQL's version, and moves a service from the one to the other.

Rows are read in one transaction, one moment of the service, which may go on meanwhile. Files come after them: what a
row names was there before the row. Only a job that is deleted in between may lack its files, and `save` says so.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.exc import DBAPIError

from purlkit.errors import PurlError
from services import logs
from services.artifacts import LocalStore, Store, open_store
from services.artifacts.blobs import NAMING
from services.database import Database, check_schema, unusable, upgrade
from services.errors import BadSetting, NotFound
from services.settings import Settings
from services.tables import Base, Job

ROWS, FILES = "purl.db", "artifacts"
ROWS_AT_ONCE = 500
PIECE_BYTES = 2**20


def save(db: Database, store: Store | None, folder: Path) -> int:
    """How many files are missing. A folder that holds a backup gets what is new in it: files never change."""
    folder.mkdir(parents=True, exist_ok=True)
    check_schema(db)
    # The old rows stay until the new ones are whole.
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        file = Path(beside) / ROWS
        upgrade(_url(file))
        with closing(Database.open(_url(file))) as kept:
            with db.read() as session, kept.write() as into:
                _copy(session.connection(), into.connection())
            with kept.engine.connect() as connection:
                # Into the file itself, which is all that is kept of it.
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            missing = 0 if store is None else _copy_files(_named(kept), store, _files_of(folder))
        file.replace(folder / ROWS)
    return missing


def load(folder: Path, settings: Settings, store: Store | None) -> int:
    """How many files are missing. Into a database without jobs, whose tables are made where they are missing."""
    if not (folder / ROWS).is_file():
        raise BadSetting("FOLDER", "holds no backup", remedy=f"name one that holds {ROWS}")
    upgrade(settings.database_url)
    with closing(Database.open(settings.database_url)) as db, _brought_up_to_date(folder) as kept:
        with db.read() as session:
            if session.scalars(select(func.count()).select_from(Job)).one():
                remedy = "name an empty database: nothing is ever written over"
                raise BadSetting("PURL_DATABASE_URL", "leads to a database that has jobs", remedy=remedy)
        # Files first: what a row names has to be there.
        missing = 0 if store is None else _copy_files(_named(kept), _files_of(folder), store)
        with kept.read() as session, db.write() as into:
            for table in reversed(Base.metadata.sorted_tables):
                into.execute(table.delete())
            _copy(session.connection(), into.connection())
    return missing


@contextmanager
def _brought_up_to_date(folder: Path) -> Iterator[Database]:
    """A copy of its rows in the tables of this version: an older backup is as good as a new one."""
    with tempfile.TemporaryDirectory() as beside:
        file = Path(beside) / ROWS
        shutil.copy(folder / ROWS, file)
        upgrade(_url(file))
        with closing(Database.open(_url(file))) as kept:
            yield kept


def _copy(source: Connection, target: Connection) -> None:
    for table in Base.metadata.sorted_tables:
        rows = source.execute(select(table).execution_options(yield_per=ROWS_AT_ONCE))
        for part in rows.mappings().partitions():
            target.execute(insert(table), [dict(row) for row in part])


def _named(db: Database) -> list[str]:
    with db.read() as session:
        return sorted({sha256 for column in NAMING for sha256 in session.scalars(select(column))})


def _copy_files(names: Sequence[str], source: Store, target: Store) -> int:
    missing = 0
    for sha256 in names:
        if _has(target, sha256):
            continue
        try:
            with source.open(sha256) as file, target.begin() as writer:
                while piece := file.read(PIECE_BYTES):
                    writer.write(piece)
                writer.seal(sha256)
                writer.commit()
        except NotFound:
            missing += 1
            print(f"missing: {sha256}", file=sys.stderr)
    return missing


def _has(store: Store, sha256: str) -> bool:
    try:
        store.open(sha256).close()
    except NotFound:
        return False
    return True


def _files_of(folder: Path) -> Store:
    return LocalStore(folder / FILES)


def _url(file: Path) -> str:
    return f"sqlite:///{file}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services.backup", description="save or load all that there is")
    parser.add_argument("what", choices=("save", "load"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", action="store_true", help="only the database: the bucket has a copy of its own")
    options = parser.parse_args(arguments)
    logs.set_up("backup")
    try:
        settings = Settings.from_environ(os.environ)
        store = None if options.rows else open_store(settings)
        if options.what == "save":
            with closing(Database.open(settings.database_url)) as db:
                missing = save(db, store, options.folder)
        else:
            missing = load(options.folder, settings, store)
    except PurlError as error:
        print(f"purl: {error}", file=sys.stderr)
        return 1
    except DBAPIError as error:
        print(f"purl: {unusable(error)}", file=sys.stderr)
        return 1
    print(f"{options.folder}: {'all is there' if not missing else f'{missing} files are missing'}")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
