"""What can be said of Ray Jobs without a cluster: the token that is asked for, and the code that goes along."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from purlkit import code
from services import checks
from services.errors import BadSetting
from services.launch import LocalLauncher, RayJobsLauncher, launcher_for
from services.launch.ray_jobs import packed, read_token
from services.testing import a_spec, settings_in
from tests.integration.over_http import serving
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent


def test_a_service_without_a_token_does_not_start(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, PURL_RAY_ADDRESS="http://127.0.0.1:8265")
    (tmp_path / "token").write_text("from a file\n")

    with pytest.raises(BadSetting, match="RAY_AUTH_TOKEN_PATH"):
        launcher_for(settings, {})
    with pytest.raises(BadSetting, match="RAY_AUTH_TOKEN_PATH can't be read"):
        launcher_for(settings, {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")})

    assert read_token({"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}) == "from a file"
    assert read_token({"RAY_AUTH_MODE": "disabled"}) is None
    launcher = launcher_for(settings, {"RAY_AUTH_TOKEN": "t"})
    assert isinstance(launcher, RayJobsLauncher)
    launcher.close()
    assert isinstance(launcher_for(replace(settings, ray_address="head:6379"), {}), LocalLauncher)


def test_the_same_files_make_the_same_package() -> None:
    sources = code.files()

    assert packed(sources) == packed(dict(sources))
    with zipfile.ZipFile(io.BytesIO(packed(sources))) as archive:
        assert archive.read("workers/run.py") == (ROOT / "workers/run.py").read_bytes()
        assert {name.split("/")[0] for name in archive.namelist()} == {"purlkit", "workers"}


def test_other_code_than_the_services_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path) as service:
        with service.db.write() as session:
            check_id, token = checks.create(session, a_spec())
        env = {"PURL_URL": service.url, "PURL_CHECK": check_id, "PURL_TOKEN": token, "PURL_CHECK_SECONDS": "60"}
        launcher = LocalLauncher()
        handle = launcher.launch(
            {**env, "PURL_CODE_SHA256": "0" * 64},
            module="workers.check",
            name=check_id,
            log_path=tmp_path / "check.log",
        )
        wait_until("it has ended", lambda: not launcher.alive(handle))
        launcher.end(handle)
        with service.db.read() as session:
            report = checks.report(session, check_id)

    assert report is not None
    assert [reason.code for reason in report.reasons] == ["code_mismatch"]
