"""What keeps the service from starting is one line that names the setting and the remedy, never a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

import api.__main__ as api
import services.__main__ as services
from services import dispatcher, keys
from services.database import Database, upgrade
from tests import postgres

Refusal = Callable[..., str]

MAINS = {"services": lambda: services.main([]), "api": api.main, "dispatcher": lambda: dispatcher.main([])}


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """What is said instead of starting."""
    for name in [name for name in os.environ if name.startswith("PURL_")]:
        monkeypatch.delenv(name)

    def start(process: str = "services", **environ: str) -> str:
        for name, value in {"PURL_DATA_DIR": str(tmp_path), "PURL_PORT": "0", **environ}.items():
            monkeypatch.setenv(name, value)
        assert MAINS[process]() == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("purl: ")
        assert said.err.count("\n") == 1
        return said.err.removeprefix("purl: ")

    return start


@pytest.fixture
def in_the_way(tmp_path: Path) -> Path:
    """A file where a folder should be."""
    path = tmp_path / "file"
    path.write_text("not a database either\n" * 100)
    return path


@pytest.mark.parametrize("process", ["services", "api"])
def test_a_host_that_does_not_answer(refusal: Refusal, process: str) -> None:
    said = refusal(process, PURL_DATABASE_URL="postgresql://purl@127.0.0.1:1/purl")

    assert said.startswith("PURL_DATABASE_URL leads to no database that answers (")
    assert "refused" in said
    assert said.endswith("look at its host, name, user and password, or its file, and whether the server runs\n")


def test_a_wrong_password_is_named_and_not_repeated(refusal: Refusal, postgresql_url: str) -> None:
    wrong = make_url(postgresql_url).set(password="secret").render_as_string(hide_password=False)

    said = refusal(PURL_DATABASE_URL=wrong)

    assert said.startswith("PURL_DATABASE_URL")
    assert "password authentication failed" in said
    assert "secret" not in said


def test_a_database_that_does_not_exist(refusal: Refusal, postgresql_url: str) -> None:
    nowhere = make_url(postgresql_url).set(database="nowhere").render_as_string(hide_password=False)

    assert 'database "nowhere" does not exist' in refusal(PURL_DATABASE_URL=nowhere)


def test_a_missing_driver(refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    said = refusal(PURL_DATABASE_URL="postgresql://purl@127.0.0.1:1/purl")

    assert said == "PURL_DATABASE_URL needs the package psycopg: install it with: pip install 'psycopg[binary]'\n"


def test_a_file_that_is_no_database(refusal: Refusal, in_the_way: Path) -> None:
    said = refusal(PURL_DATABASE_URL=f"sqlite:///{in_the_way}")

    assert said.startswith("PURL_DATABASE_URL leads to no database that answers (file is not a database)")


@pytest.mark.parametrize("process", ["services", "api", "dispatcher"])
def test_tables_that_are_not_this_programs_are_left_to_migrate(
    refusal: Refusal, postgresql: postgres.Databases, process: str
) -> None:
    empty = postgresql.create(template="template0")

    says = [refusal(process, PURL_DATABASE_URL=empty, PURL_PUBLIC_URL="http://service")]
    upgrade(empty, revision="0001")
    says.append(refusal(process, PURL_DATABASE_URL=empty, PURL_PUBLIC_URL="http://service"))

    postgresql.drop(empty)
    assert says == ["the database is older than this program: run python -m services migrate\n"] * 2


@pytest.mark.parametrize(
    ("process", "variable", "value"),
    [
        ("services", "PURL_DATA_DIR", "{file}"),
        ("services", "PURL_DATA_DIR", "/proc/purl"),
        ("services", "PURL_DATABASE_URL", "sqlite:///{file}/purl.db"),
        ("api", "PURL_ARTIFACTS", "{file}/artifacts"),
        ("api", "PURL_ARTIFACTS", "/proc/purl"),
        ("dispatcher", "PURL_ARTIFACTS", "{file}"),
    ],
)
@pytest.mark.usefixtures("sqlite_url")
def test_a_folder_that_cannot_be_used(
    refusal: Refusal, in_the_way: Path, process: str, variable: str, value: str
) -> None:
    said = refusal(process, PURL_PUBLIC_URL="http://service", **{variable: value.format(file=in_the_way)})

    assert said.startswith(f"{variable} can't be used (")
    assert "that this account may write to" in said


def test_a_port_that_is_none(refusal: Refusal) -> None:
    assert refusal("api", PURL_PORT="many") == "PURL_PORT can't be used: use a whole number from 0 to 65535\n"


def test_an_address_of_another_machine(refusal: Refusal, sqlite_url: str) -> None:
    with closing(Database.open(sqlite_url)) as db, db.write() as session:
        keys.adopt(session, keys.new_key(), name="mine")  # without one no address but the loopback's is served

    said = refusal("api", PURL_HOST="192.0.2.1")

    assert said.startswith("PURL_HOST can't be had (")
    assert said.endswith("choose an address of this machine, or 0.0.0.0 for all of them\n")


@pytest.mark.parametrize("process", ["services", "api", "dispatcher"])
def test_an_address_that_no_worker_can_call(refusal: Refusal, process: str) -> None:
    said = refusal(process, PURL_PUBLIC_URL="service:8000")

    assert said == (
        "PURL_PUBLIC_URL can't be used: use an address like http://10.0.0.1:8000, without user, query and fragment\n"
    )
