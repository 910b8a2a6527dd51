"""Settings come from the environment, and a bad one is refused by name with its remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.errors import BadSetting
from services.settings import S3Location, Settings


def test_an_empty_environment_gives_the_embedded_service() -> None:
    settings = Settings.from_environ({})

    assert settings.data_dir == Path.cwd() / "data"
    assert settings.database_url == f"sqlite:///{settings.data_dir}/purl.db"
    assert settings.artifacts == settings.data_dir / "artifacts"
    assert settings.datasets_dir == settings.data_dir / "datasets"
    assert (settings.host, settings.port, settings.public_url) == ("127.0.0.1", 8000, None)


def test_each_variable_sets_its_field(tmp_path: Path) -> None:
    settings = Settings.from_environ(
        {
            "PURL_DATA_DIR": str(tmp_path),
            "PURL_PORT": "0",
            "PURL_PUBLIC_URL": "http://10.0.0.1:8000/",
            "PURL_LEASE_SECONDS": "2.5",
            "PURL_HEARTBEAT_SECONDS": "0.5",
            "PURL_MAX_RUNNING": "3",
            "PURL_DOWNLOAD": "1",
            "HOME": "/of/no/interest",
        }
    )

    assert settings.database_url == f"sqlite:///{tmp_path}/purl.db"
    assert settings.public_url == "http://10.0.0.1:8000"
    assert (settings.port, settings.lease_seconds, settings.max_running) == (0, 2.5, 3)
    assert settings.download


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_environ({"PURL_PORT": "", "PURL_RAY_ADDRESS": " "}) == Settings.from_environ({})


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("PURL_DOWNLOAD", "yes", "use 1 or 0"),
        ("PURL_PORT", "65536", "from 0 to 65535"),
        ("PURL_PORT", "eight", "from 0 to 65535"),
        ("PURL_PORT", "²", "from 0 to 65535"),
        ("PURL_MAX_RUNNING", "0", "from 1"),
        ("PURL_LEASE_SECONDS", "nan", "above 0"),
        ("PURL_LEASE_SECONDS", "inf", "above 0"),
        ("PURL_DRAIN_SECONDS", "-1", "above 0"),
        ("PURL_DATABASE_URL", "mysql://host/name", "sqlite:///"),
        ("PURL_DATABASE_URL", "sqlite://", "sqlite:///"),
        ("PURL_DATABASE_URL", "sqlite:///:memory:", "use a file"),
        ("PURL_DATABASE_URL", "sqlite://host/file.db", "use a file"),
        ("PURL_DATABASE_URL", "no url at all", "sqlite:///"),
        ("PURL_DATABASE_URL", "postgresql+asyncpg://host/name", "postgresql://"),
        ("PURL_DATABASE_URL", "postgresql://host:many/name", "postgresql://"),
        ("PURL_CPUS", "-1", "from 0"),
        ("PURL_GPUS", "nan", "from 0"),
        ("PURL_IDEMPOTENCY_HOURS", "23.9", "from 24 to 87600"),
        ("PURL_ARTIFACTS", "gs://bucket", "s3://bucket/prefix"),
        ("PURL_ARTIFACTS", "s3://", "s3://bucket/prefix"),
        ("PURL_KEEP_DAYS", "-1", "above 0"),
        ("PURL_RAY_CODE", "git", "upload or image"),
        ("PURL_RAY_ADDRESS", "ray://head:10001", "http://head:8265"),
        ("PURL_PUBLIC_URL", "10.0.0.1:8000", "http://"),
        ("PURL_PUBLIC_URL", "ftp://10.0.0.1", "http://"),
        ("PURL_PUBLIC_URL", "http://", "http://"),
        ("PURL_PUBLIC_URL", "http://10.0.0.1:port", "http://"),
        ("PURL_PUBLIC_URL", "http://10.0.0.1:99999", "http://"),
        ("PURL_PUBLIC_URL", "http://[::1", "http://"),
        ("PURL_PUBLIC_URL", "http://host/?a=b", "without user, query and fragment"),
        ("PURL_PUBLIC_URL", "http://me:secret@host", "without user, query and fragment"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_and_remedy(variable: str, value: str, remedy: str) -> None:
    with pytest.raises(BadSetting) as refusal:
        Settings.from_environ({variable: value})

    assert refusal.value.variable == variable
    assert variable in str(refusal.value)
    assert remedy in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("given", ["postgresql://purl:pw@db/purl", "postgres://purl:pw@db/purl"])
def test_postgresql_is_spoken_to_through_psycopg_whatever_its_url_is_called(given: str) -> None:
    settings = Settings.from_environ({"PURL_DATABASE_URL": given})

    assert settings.database_url == "postgresql+psycopg://purl:pw@db/purl"


def test_what_is_not_limited_is_not_counted() -> None:
    assert (Settings.from_environ({}).cpus, Settings.from_environ({}).gpus) == (None, None)
    assert Settings.from_environ({"PURL_CPUS": "1.5", "PURL_GPUS": "0"}).cpus == 1.5


def test_a_lease_must_outlast_three_heartbeats() -> None:
    with pytest.raises(BadSetting, match="at most a third of PURL_LEASE_SECONDS"):
        Settings.from_environ({"PURL_LEASE_SECONDS": "20", "PURL_HEARTBEAT_SECONDS": "10"})


def test_a_cluster_elsewhere_needs_an_address_to_call_back() -> None:
    with pytest.raises(BadSetting, match="PURL_PUBLIC_URL"):
        Settings.from_environ({"PURL_RAY_ADDRESS": "http://head:8265"})

    for rest in ({"PURL_RAY_ADDRESS": "http://127.0.0.1:8265"}, {"PURL_RAY_ADDRESS": "head:6379"}):
        assert Settings.from_environ(rest).public_url is None
    both = {"PURL_RAY_ADDRESS": "http://head:8265", "PURL_PUBLIC_URL": "http://10.0.0.1:8000"}
    assert Settings.from_environ(both).ray_address == "http://head:8265"


def test_artifacts_may_be_a_folder_or_a_bucket() -> None:
    assert Settings.from_environ({"PURL_ARTIFACTS": "/srv/purl"}).artifacts == Path("/srv/purl")
    assert Settings.from_environ({"PURL_ARTIFACTS": "s3://bucket/some/prefix/"}).artifacts == S3Location(
        "bucket", "some/prefix"
    )
    assert Settings.from_environ({"PURL_ARTIFACTS": "s3://bucket"}).artifacts == S3Location("bucket", "")
