"""A secret in a file counts as if it were in the variable."""

from __future__ import annotations

from pathlib import Path

import pytest

from services import secret_files
from services.errors import BadSetting
from services.settings import Settings


@pytest.fixture
def url_file(tmp_path: Path) -> Path:
    path = tmp_path / "url"
    path.write_text("postgresql://purl:pw@db/purl\n")
    return path


def test_a_setting_may_lie_in_a_file(url_file: Path) -> None:
    settings = Settings.from_environ({"PURL_DATABASE_URL_FILE": str(url_file)})

    assert settings.database_url == "postgresql+psycopg://purl:pw@db/purl"


def test_what_is_given_twice_is_refused_by_name(url_file: Path) -> None:
    with pytest.raises(BadSetting, match=r"PURL_DATABASE_URL .*keep one of the two"):
        Settings.from_environ({"PURL_DATABASE_URL_FILE": str(url_file), "PURL_DATABASE_URL": "sqlite:///other.db"})


def test_a_file_that_can_t_be_read_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="PURL_DATABASE_URL_FILE") as refusal:
        Settings.from_environ({"PURL_DATABASE_URL_FILE": str(tmp_path / "none")})

    assert "No such file" in str(refusal.value)


def test_a_bad_value_in_a_file_is_not_repeated(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("mysql://me:secret@host/name")

    with pytest.raises(BadSetting) as refusal:
        Settings.from_environ({"PURL_DATABASE_URL_FILE": str(tmp_path / "url")})

    assert "secret" not in str(refusal.value)


def test_the_keys_to_s3_may_lie_in_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("the key\n")
    environ = {"AWS_ACCESS_KEY_ID": "in the environment", "AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "secret")}

    assert secret_files.s3_keys(environ) == {"secret_access_key": "the key"}
