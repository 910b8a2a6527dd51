"""The server's own commands: `python -m services` serves; migrate, bucket, clean, check and keys are what they say."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError

from purlkit.errors import PurlError
from services import key_commands, keys, logs, secret_files, selfcheck, supervisor
from services.artifacts import bucket, open_store
from services.cleaning import clean
from services.database import Database, check_schema, unusable, upgrade
from services.settings import S3Location, Settings


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m services", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("check", "keys", *COMMANDS), default="serve")
    arguments = sys.argv[1:] if arguments is None else arguments
    # These have arguments of their own.
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    parsed = parser.parse_args(arguments)
    command = parsed.command
    if parsed.rest and command != "keys":
        parser.error(f"unrecognized arguments: {' '.join(parsed.rest)}")
    logs.set_up("supervisor")
    if command == "check":
        return check()
    try:
        settings = Settings.from_environ()
        if command == "keys":
            return key_commands.main(parsed.rest, settings)
        return COMMANDS[command](settings)
    except PurlError as error:
        print(f"purl: {error}", file=sys.stderr)
    except DBAPIError as error:
        print(f"purl: {unusable(error)}", file=sys.stderr)
    return 1


def check() -> int:
    """Every finding a line of JSON; 1 if there is a fault among them."""
    found = list(selfcheck.examine())
    for finding in found:
        print(json.dumps(finding))
    return int(any(finding.get("state") == "fault" for finding in found))


def serve(settings: Settings) -> int:
    with supervisor.sole_use_of(settings.data_dir) as lock_fd:
        _prepare_database(settings.database_url)
        with closing(Database.open(settings.database_url)) as db:
            if keys.is_open(db, settings):
                print(keys.OPEN, flush=True)
        return supervisor.serve(settings, os.environ, lock_fd)


def migrate(settings: Settings) -> int:
    with supervisor.sole_use_of(settings.data_dir):
        upgrade(settings.database_url)
    print("the database is up to date")
    return 0


def make_bucket(settings: Settings) -> int:
    """A folder needs no bucket: that is no mistake of whoever runs the same steps everywhere."""
    if isinstance(settings.artifacts, S3Location):
        made = bucket.make(settings.artifacts, **secret_files.s3_keys(os.environ))
        print(f"the bucket {settings.artifacts.bucket} {'is made' if made else 'is there'}")
    return 0


def clean_now(settings: Settings) -> int:
    """Beside a running service or without one; what is younger than the grace stays in any case."""
    with closing(Database.open(settings.database_url)) as db:
        check_schema(db)
        print(f"cleaned: {clean(db, open_store(settings), settings)}")
    return 0


COMMANDS = {"serve": serve, "migrate": migrate, "bucket": make_bucket, "clean": clean_now}


def _prepare_database(url: str) -> None:
    """A new file gets its tables. One that holds somebody's jobs is changed only by `migrate`, at a chosen moment."""
    with closing(Database.open(url)) as db:
        if db.engine.dialect.name == "sqlite" and not inspect(db.engine).get_table_names():
            upgrade(url)
        check_schema(db)


if __name__ == "__main__":
    sys.exit(main())
