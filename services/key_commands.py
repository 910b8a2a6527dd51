"""`python -m services keys …`: make, list, revoke and rotate API keys. None is ever read from the command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session

from services import keys
from services.database import Database, check_schema
from services.errors import InvalidKey
from services.key_table import ApiKey
from services.settings import Settings
from services.tenants import DEFAULT


def main(arguments: Sequence[str], settings: Settings) -> int:
    chosen = _parser().parse_args(arguments)
    with closing(Database.open(settings.database_url)) as db:
        check_schema(db)
        with db.write() as session:
            chosen.run(session, chosen)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services keys", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="create|list|revoke|rotate|adopt")

    make = commands.add_parser("create", help="make a key; it is shown once, on standard output")
    make.add_argument("--name", required=True, help="what uses it")
    make.add_argument("--tenant", default=DEFAULT, help="whose jobs and weights it sees and makes [%(default)s]")
    make.add_argument("--scopes", default="read,submit", help="of read, submit, admin [%(default)s]")
    make.add_argument("--days", type=_amount, help="how long it works [until it is revoked]")
    make.set_defaults(run=_create)

    commands.add_parser("list", help="every key there was, by its prefix").set_defaults(run=_list)

    end = commands.add_parser("revoke", help="end a key, within 5 s")
    end.add_argument("prefix")
    end.set_defaults(run=_revoke)

    turn = commands.add_parser("rotate", help="make a new key for the same, and end the old one a little later")
    turn.add_argument("prefix")
    turn.add_argument("--keep-hours", type=_amount, default=24.0, help="how long the old one still works [%(default)g]")
    turn.set_defaults(run=_rotate)

    take = commands.add_parser("adopt", help="make the key in a file work, which deploy/secrets.sh has made")
    take.add_argument("file", help="its path; - is standard input")
    take.add_argument("--name", default="the first key")
    take.set_defaults(run=_adopt)
    return parser


def _create(session: Session, chosen: argparse.Namespace) -> None:
    scopes = [word for word in chosen.scopes.replace(",", " ").split() if word]
    _show(*keys.create(session, name=chosen.name, tenant=chosen.tenant, scopes=scopes, days=chosen.days))


def _rotate(session: Session, chosen: argparse.Namespace) -> None:
    _show(*keys.rotate(session, chosen.prefix, keep_hours=chosen.keep_hours))


def _show(key: str, row: ApiKey) -> None:
    """The key alone on standard output, so that it can go into a file."""
    print(f"a key of {row.tenant} for: {row.scopes}. Keep it: it is shown this once.", file=sys.stderr)
    print(key)


def _list(session: Session, _: argparse.Namespace) -> None:
    for row in keys.listed(session):
        told = [row.prefix, f"tenant={row.tenant}", f"scopes={row.scopes.replace(' ', ',')}", f"name={row.name!r}"]
        told += [
            f"{says}={_day(at)}"
            for says, at in (
                ("created", row.created_at),
                ("expires", row.expires_at),
                ("used", row.last_used_at),
                ("revoked", row.revoked_at),
            )
            if at is not None
        ]
        print(*told)


def _revoke(session: Session, chosen: argparse.Namespace) -> None:
    keys.revoke(session, chosen.prefix)
    print(f"{chosen.prefix} opens nothing any more")


def _adopt(session: Session, chosen: argparse.Namespace) -> None:
    try:
        held = (sys.stdin.read() if chosen.file == "-" else Path(chosen.file).read_text()).strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise InvalidKey("the file can't be read", remedy="name a file that this account may read") from problem
    fresh = keys.adopt(session, held, name=chosen.name)
    print(f"{keys.prefix_of(held)} {'works now' if fresh else 'works already'}")


def _amount(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 36_500:
        raise argparse.ArgumentTypeError("use a number from 0 to 36500")
    return value


def _day(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="minutes").removesuffix("+00:00") + "Z"
