"""`purl doctor` finds what is planted, and names the remedy.

It asks a process of the service for the settings, which starts for a second: what that process finds is looked at here
in this one, but for a sound machine, a name that it does not know and a fault.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from typer.testing import CliRunner

from purlkit.cli import app, doctor
from purlkit.cli.doctor import Finding
from services import selfcheck
from services.database import upgrade
from services.testing import settings_in
from tests.integration.over_http import Service

ROOT = Path(__file__).parent.parent.parent


def settings_of(folder: Path, **environ: str) -> dict[str, str]:
    base = {name: value for name, value in os.environ.items() if not name.startswith("PURL_")}
    return {**base, "PURL_DATA_DIR": str(folder), "PURL_PORT": "0", **environ}


def told(folder: Path, **environ: str) -> list[Finding]:
    """What the doctor says of the service's settings."""
    return list(doctor.settings(settings_of(folder, **environ), ROOT))


def planted(folder: Path, **environ: str) -> list[Finding]:
    """What the process that the doctor asks would find of them."""
    _known, *findings = selfcheck.examine(settings_of(folder, **environ))
    return [Finding(**finding) for finding in findings]  # type: ignore[arg-type]


def the_fault(findings: list[Finding]) -> Finding:
    [fault] = [finding for finding in findings if finding.state != "well"]
    assert fault.remedy
    return fault


def test_a_sound_machine_has_no_fault(tmp_path: Path) -> None:
    assert [finding for finding in told(tmp_path) if finding.state != "well"] == []
    assert [finding for finding in doctor.versions(ROOT) if finding.state == "fault"] == []
    assert not list(tmp_path.iterdir()), "looking changes nothing"


def test_a_misspelt_setting(tmp_path: Path) -> None:
    fault = the_fault(told(tmp_path, PURL_DATABSE_URL="x"))

    assert (fault.about, fault.remedy) == ("PURL_DATABSE_URL", "did you mean PURL_DATABASE_URL?")


def test_a_bad_value(tmp_path: Path) -> None:
    fault = the_fault(told(tmp_path, PURL_PORT="99999"))

    assert "PURL_PORT" in fault.said
    assert "65535" in fault.remedy


def test_a_data_folder_that_can_not_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    findings = planted(tmp_path / "file" / "data")

    assert "data folder" in {finding.about for finding in findings if finding.state == "fault"}


def test_a_disk_with_too_little_room(tmp_path: Path) -> None:
    assert "nothing new is taken in" in the_fault(planted(tmp_path, PURL_MIN_FREE_BYTES=str(2**55))).said


def test_a_database_that_does_not_answer(tmp_path: Path) -> None:
    fault = the_fault(planted(tmp_path, PURL_DATABASE_URL="postgresql://nobody@127.0.0.1:1/nothing"))

    assert fault.about == "database"
    assert "PURL_DATABASE_URL" in fault.said


def test_a_database_without_tables(tmp_path: Path) -> None:
    (tmp_path / "purl.db").touch()

    assert the_fault(planted(tmp_path)).remedy == "python -m services migrate"


def test_a_database_of_a_newer_version(tmp_path: Path) -> None:
    import sqlite3

    upgrade(settings_in(tmp_path).database_url)
    with sqlite3.connect(tmp_path / "purl.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    assert "newer" in the_fault(planted(tmp_path)).said


def test_a_store_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")

    fault = the_fault(planted(tmp_path))

    assert fault.about == "store"
    assert "PURL_ARTIFACTS" in fault.said


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    fault = the_fault(planted(tmp_path, PURL_RAY_ADDRESS="http://127.0.0.1:1", RAY_AUTH_TOKEN="a token"))

    assert fault.about == "Ray"
    assert "PURL_RAY_ADDRESS" in fault.remedy


def test_a_cluster_without_its_token(tmp_path: Path) -> None:
    fault = the_fault(planted(tmp_path, PURL_RAY_ADDRESS="http://127.0.0.1:1", RAY_AUTH_MODE="", RAY_AUTH_TOKEN=""))

    assert fault.about == "Ray"
    assert "RAY_AUTH_TOKEN" in fault.remedy


def test_an_address_of_a_cluster_at_which_something_else_answers(tmp_path: Path, another_server: str) -> None:
    fault = the_fault(planted(tmp_path, PURL_RAY_ADDRESS=another_server, RAY_AUTH_MODE="disabled"))

    assert "no Ray dashboard" in fault.said


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        fault = the_fault(planted(tmp_path, PURL_PORT=str(other.getsockname()[1])))

    assert fault.about == "port"
    assert "PURL_PORT" in fault.remedy


def test_versions_that_do_not_belong_together(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text("torch==1.0\ntorchvision==0.1\nray==2.0\n")

    faults = [finding for finding in doctor.versions(tmp_path) if finding.state == "fault"]

    assert [fault.about for fault in faults] == ["torch", "torchvision", "ray"]


def test_a_torch_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").touch()  # it would take two seconds to load what is well
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    assert "nms does not exist" in the_fault(list(doctor.torch_and_gpu())).said


def test_an_address_where_nobody_answers() -> None:
    assert "nobody answers" in the_fault(list(doctor.service({"PURL_URL": "http://127.0.0.1:1"}))).said


@pytest.fixture
def another_server() -> Iterator[str]:
    class Teapot(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(418)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Teapot)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_address_where_somebody_else_answers(another_server: str) -> None:
    fault = the_fault(list(doctor.service({"PURL_URL": another_server})))

    assert "418" in fault.said
    assert fault.remedy == "is this a PuRL service?"


def test_the_service_itself_is_found(service: Service) -> None:
    [finding] = doctor.service({"PURL_URL": service.url})

    assert finding.state == "well"


def test_the_command_says_all_and_its_exit_code_that_there_is_a_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # not a checkout: there are no settings to examine
    monkeypatch.setenv("PURL_URL", "http://127.0.0.1:1")

    ill = CliRunner().invoke(app.purl(), ["doctor"])

    assert ill.exit_code == 3
    assert "! service: http://127.0.0.1:1" in ill.output
