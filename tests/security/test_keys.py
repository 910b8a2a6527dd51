"""API keys as they are made, kept, found and ended. What a server makes of them is in test_callers."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import update

from services import __main__ as services_main
from services import keys
from services.database import Database
from services.errors import BadSetting, InvalidKey
from services.key_table import ApiKey
from services.keys import Caller
from services.testing import settings_in


@pytest.fixture
def db(sqlite_url: str) -> Iterator[Database]:
    with closing(Database.open(sqlite_url)) as db:
        yield db


def made(db: Database, **chosen: object) -> str:
    with db.write() as session:
        return keys.create(session, name="a test", **chosen)[0]  # type: ignore[arg-type]


def found(db: Database, key: str) -> Caller | None:
    with db.read() as session:
        return keys.find(session, key)


def row_of(db: Database, key: str) -> ApiKey:
    with db.read() as session:
        return session.get_one(ApiKey, keys.prefix_of(key))


def test_a_key_has_a_prefix_and_256_random_bits(db: Database) -> None:
    several = {made(db) for _ in range(20)}

    assert len(several) == 20
    for key in several:
        secret = key.removeprefix(keys.prefix_of(key) + "_")
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}", secret)  # 43 characters of 6 bits: 32 bytes


def test_only_its_digest_is_stored(db: Database, tmp_path: Path, sqlite_url: str) -> None:
    key = made(db)
    db.close()

    secret = key.removeprefix(keys.prefix_of(key)).encode()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not any(secret in path.read_bytes() for path in files)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as raw:
        assert raw.execute("SELECT length(key_sha256) FROM api_keys").fetchall() == [(64,)]


def test_a_key_is_its_tenants_and_for_its_scopes(db: Database) -> None:
    key = made(db, tenant="vision", scopes=["read"])

    caller = found(db, key)

    assert caller is not None
    assert (caller.tenant, caller.scopes) == ("vision", {"read"})


def test_what_is_nearly_a_key_opens_nothing(db: Database) -> None:
    key = made(db)

    other_end = key[:-1] + ("A" if key[-1] != "A" else "B")
    for wrong in (other_end, key[:-1], key + "A", keys.prefix_of(key), "", "purl_", key.upper(), f" {key}", "\0" + key):
        assert found(db, wrong) is None, wrong


def test_a_key_is_compared_in_constant_time(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []
    monkeypatch.setattr("services.ids.hmac.compare_digest", lambda a, b: bool(compared.append((a, b))) or a == b)

    assert found(db, made(db)) is not None

    assert len(compared) == 1


def test_a_key_expires(db: Database) -> None:
    key = made(db, days=1)
    assert found(db, key) is not None

    with db.write() as session:
        session.execute(update(ApiKey).values(expires_at=ApiKey.created_at))

    assert found(db, key) is None


def test_a_rotated_key_has_a_successor_and_an_end(db: Database) -> None:
    old = made(db, tenant="vision", scopes=["submit"], days=30)

    with db.write() as session:
        new, _ = keys.rotate(session, keys.prefix_of(old), keep_hours=2)

    first, second = row_of(db, old), row_of(db, new)
    assert (second.tenant, second.scopes, second.name) == (first.tenant, first.scopes, first.name)
    assert found(db, old) is not None
    assert found(db, new) is not None
    assert first.expires_at is not None
    assert 0 < first.expires_at - second.created_at < 2 * 3_600_000 + 60_000
    with db.write() as session:
        keys.revoke(session, keys.prefix_of(old))
    with pytest.raises(InvalidKey), db.write() as session:
        keys.rotate(session, keys.prefix_of(old))


def test_its_last_use_is_noted_once_a_minute_at_most(db: Database) -> None:
    key = made(db)

    def use() -> int | None:
        with db.write() as session:
            keys.used(session, keys.prefix_of(key))
        return row_of(db, key).last_used_at

    first = use()
    assert first is not None
    assert use() == first
    with db.write() as session:
        session.execute(update(ApiKey).values(last_used_at=first - 60_001))
    again = use()
    assert again is not None
    assert again > first - 60_001


@pytest.mark.parametrize(
    "chosen",
    [{"tenant": "../vision"}, {"tenant": ""}, {"scopes": ["root"]}, {"scopes": []}, {"key": "hunter2"}],
)
def test_what_no_key_can_be_made_of(db: Database, chosen: dict[str, object]) -> None:
    with pytest.raises(InvalidKey):
        made(db, **chosen)


class TestWhereItMayBeOpen:
    def test_on_this_machine_while_there_are_no_keys(self, db: Database, tmp_path: Path) -> None:
        for host in ("127.0.0.1", "::1", "localhost", "127.8.9.10"):
            assert keys.is_open(db, settings_in(tmp_path, PURL_HOST=host))

    def test_never_again_once_there_was_a_key(self, db: Database, tmp_path: Path) -> None:
        key = made(db)
        with db.write() as session:
            keys.revoke(session, keys.prefix_of(key))

        assert not keys.is_open(db, settings_in(tmp_path))

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "purl.example"])
    def test_never_where_other_machines_reach_it(self, db: Database, tmp_path: Path, host: str) -> None:
        settings = settings_in(tmp_path, PURL_HOST=host)

        with pytest.raises(BadSetting, match="PURL_HOST is an address that other machines reach"):
            keys.is_open(db, settings)

        key = made(db)
        assert not keys.is_open(db, settings)
        with db.write() as session:
            keys.revoke(session, keys.prefix_of(key))
        with pytest.raises(BadSetting):
            keys.is_open(db, settings)


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def _here(self, tmp_path: Path, sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PURL_DATA_DIR", str(tmp_path))
        monkeypatch.setenv("PURL_DATABASE_URL", sqlite_url)

    def test_makes_lists_rotates_and_revokes(self, db: Database, capsys: pytest.CaptureFixture[str]) -> None:
        assert services_main.main(["keys", "create", "--name", "ci", "--tenant", "vision", "--scopes", "submit"]) == 0
        key = capsys.readouterr().out.strip()
        caller = found(db, key)
        assert caller is not None
        assert (caller.tenant, caller.scopes) == ("vision", {"submit"})

        assert services_main.main(["keys", "rotate", keys.prefix_of(key)]) == 0
        newer = capsys.readouterr().out.strip()
        assert found(db, newer) is not None

        assert services_main.main(["keys", "revoke", keys.prefix_of(key)]) == 0
        assert found(db, key) is None

        capsys.readouterr()
        assert services_main.main(["keys", "list"]) == 0
        told = capsys.readouterr().out
        assert keys.prefix_of(key) in told
        assert "revoked=" in told
        assert key not in told
        assert newer not in told

    def test_takes_a_key_from_a_file_and_never_from_its_arguments(
        self, db: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key = keys.new_key()
        (tmp_path / "key").write_text(key + "\n")

        assert services_main.main(["keys", "adopt", str(tmp_path / "key")]) == 0
        assert services_main.main(["keys", "adopt", str(tmp_path / "key")]) == 0

        assert found(db, key) is not None
        assert key not in "".join(capsys.readouterr())
        with pytest.raises(SystemExit):
            services_main.main(["keys", "create", "--name", "x", "--key", key])

    def test_says_what_is_wrong(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert services_main.main(["keys", "revoke", "purl_nobody"]) == 1
        assert "there is no such key" in capsys.readouterr().err
