"""API keys: who may call, for whom and what for. A key is shown once, when it is made; what is kept opens nothing."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import ip_address

from sqlalchemy import exists, or_, select, update
from sqlalchemy.orm import Session

from services.database import Database, clock
from services.errors import BadSetting, InvalidKey, NotFound
from services.ids import digest, opens
from services.key_table import ApiKey
from services.settings import Settings
from services.tenants import DEFAULT, SHAPE

# What a key may be for: to look, to change something, to see how the whole service does.
SCOPES = ("read", "submit", "admin")

# `purl_`, what the key is spoken of by, and 256 random bits.
_SHAPE = re.compile(r"(purl_[a-z0-9]{12})_[A-Za-z0-9_-]{43}")
_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"

DAY_MS = 86_400_000
# Between two notes of when a key was last used.
USED_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Caller:
    """On whose behalf a request is made, and what it may be for."""

    tenant: str
    scopes: frozenset[str]
    prefix: str | None  # of the key; none where the service is open
    used_at: int | None = None  # as the row had it
    expires_at: int | None = None


OPEN = (
    "open: whoever uses this machine may do everything; python -m services keys create --name you makes the first key"
)

# While there are no keys, on an address that only this machine reaches.
ANYBODY = Caller(tenant=DEFAULT, scopes=frozenset(SCOPES), prefix=None)


def create(
    session: Session,
    *,
    name: str,
    tenant: str = DEFAULT,
    scopes: Collection[str] = ("read", "submit"),
    days: float | None = None,
    key: str | None = None,
) -> tuple[str, ApiKey]:
    """The key itself, which is never seen again, and its row. `key` is one that somebody else has made at random."""
    if SHAPE.fullmatch(tenant) is None:
        raise InvalidKey(
            "a tenant's name has small letters, digits and hyphens, 63 at most", remedy="choose such a one"
        )
    if not scopes or not set(scopes) <= set(SCOPES):
        raise InvalidKey("there are no such scopes", remedy=f"choose from {', '.join(SCOPES)}")
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise InvalidKey("a key's name has 1 to 100 printable characters", remedy="say what uses the key")
    key = key or new_key()
    now = clock(session)
    row = ApiKey(
        prefix=prefix_of(key),
        tenant=tenant,
        name=name,
        scopes=" ".join(one for one in SCOPES if one in scopes),
        key_sha256=digest(key),
        created_at=now,
        expires_at=None if days is None else now + round(days * DAY_MS),
    )
    session.add(row)
    session.flush()
    return key, row


def new_key() -> str:
    prefix = "".join(secrets.choice(_ALPHABET) for _ in range(12))
    return f"purl_{prefix}_{secrets.token_urlsafe(32)}"


def prefix_of(key: str) -> str:
    found = _SHAPE.fullmatch(key)
    if found is None:
        raise InvalidKey("this is no key of ours", remedy="a key is purl_, 12 letters and digits, _ and 43 characters")
    return found[1]


def adopt(session: Session, key: str, *, name: str, tenant: str = DEFAULT, scopes: Collection[str] = SCOPES) -> bool:
    """Makes a key work that a file holds, as whoever sets up a service makes secrets. False if it works already."""
    known = session.get(ApiKey, prefix_of(key))
    if known is None:
        create(session, name=name, tenant=tenant, scopes=scopes, key=key)
    elif not opens(key, known.key_sha256) or known.revoked_at is not None:
        raise InvalidKey("another key has this prefix, or this one was revoked", remedy="make a new one")
    return known is None


def find(session: Session, key: str) -> Caller | None:
    """Whom this key makes its bearer, if it still works."""
    shape = _SHAPE.fullmatch(key)
    row = session.get(ApiKey, shape[1], populate_existing=True) if shape else None
    if row is None or not opens(key, row.key_sha256) or not _works(row, clock(session)):
        return None
    return Caller(
        tenant=row.tenant,
        scopes=frozenset(row.scopes.split()),
        prefix=row.prefix,
        used_at=row.last_used_at,
        expires_at=row.expires_at,
    )


def _works(row: ApiKey, now: int) -> bool:
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)


def used(session: Session, prefix: str) -> None:
    """Noted once a minute at most, whoever asks how often."""
    now = clock(session)
    seldom = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at <= now - USED_MS)
    session.execute(update(ApiKey).where(ApiKey.prefix == prefix, seldom).values(last_used_at=now))


def working(session: Session, prefixes: Collection[str]) -> set[str]:
    """Those of them that still open something."""
    rows = session.scalars(select(ApiKey).where(ApiKey.prefix.in_(prefixes)))
    now = clock(session)
    return {row.prefix for row in rows if _works(row, now)}


def revoke(session: Session, prefix: str, *, in_hours: float = 0.0) -> ApiKey:
    """At once, or when the programs that have it got their new one."""
    row = _row(session, prefix)
    now = clock(session)
    if in_hours:
        ends = now + round(in_hours * 3_600_000)
        row.expires_at = ends if row.expires_at is None else min(ends, row.expires_at)
    else:
        row.revoked_at = row.revoked_at or now
    return row


def rotate(session: Session, prefix: str, *, keep_hours: float = 24.0) -> tuple[str, ApiKey]:
    """A new key for the same, and an end for the old one. It lasts as long as the old one was to last."""
    old = _row(session, prefix)
    now = clock(session)
    if not _works(old, now):
        raise InvalidKey("the key has expired or was revoked", remedy="make a new one: keys create")
    days = None if old.expires_at is None else (old.expires_at - old.created_at) / DAY_MS
    made = create(session, name=old.name, tenant=old.tenant, scopes=old.scopes.split(), days=days)
    revoke(session, prefix, in_hours=keep_hours)
    return made


def listed(session: Session) -> Iterable[ApiKey]:
    return session.scalars(select(ApiKey).order_by(ApiKey.tenant, ApiKey.created_at, ApiKey.prefix)).all()


def any_made(session: Session) -> bool:
    """Whether there ever was a key: who has revoked the last one does not want an open door."""
    return bool(session.scalar(select(exists().select_from(ApiKey))))


def any_working(session: Session) -> bool:
    now = clock(session)
    lasting = or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)
    return bool(session.scalar(select(exists().where(ApiKey.revoked_at.is_(None), lasting))))


def is_open(db: Database, settings: Settings) -> bool:
    """Whether callers need no key now. BadSetting where that would open the service to other machines."""
    with db.read() as session:
        made = any_made(session)
        usable = made and any_working(session)
    if not is_loopback(settings.host) and not usable:
        raise BadSetting(
            "PURL_HOST",
            "is an address that other machines reach, and there is no API key that works",
            remedy="python -m services keys create --name me, or listen on 127.0.0.1",
        )
    return not made


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _row(session: Session, prefix: str) -> ApiKey:
    row = session.get(ApiKey, prefix, with_for_update=True)
    if row is None:
        raise NotFound("key")
    return row
