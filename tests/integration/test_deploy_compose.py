"""docker-compose.yml: valid by its schema, closed to others, and full of settings that the program knows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from services import secret_files
from services.settings import Settings
from tests import compose

ROOT = compose.ROOT
DEPLOY = ROOT / "deploy"
KNOWN = {f"PURL_{name.upper()}" for name in Settings.__dataclass_fields__}


def test_the_compose_file_is_valid_by_the_specification() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(compose.FILE)]

    said = subprocess.run(command, capture_output=True, text=True)

    assert said.returncode == 0, said.stdout + said.stderr


def test_nothing_but_the_proxy_is_published() -> None:
    assert [name for name, service in compose.services().items() if "ports" in service] == ["proxy"]
    assert compose.services()["proxy"]["ports"] == ["127.0.0.1:8000:8000"]


def test_every_secret_lies_in_a_file_that_the_script_makes(tmp_path: Path) -> None:
    subprocess.run([DEPLOY / "secrets.sh", tmp_path], check=True, capture_output=True)
    made = {path.name: path.read_text() for path in tmp_path.iterdir()}
    declared = compose.read()["secrets"]
    used = {name for service in compose.services().values() for name in service.get("secrets", [])}

    assert set(made) == set(declared) == used
    assert [secret["file"] for secret in declared.values()] == [f"./deploy/secrets/{name}" for name in declared]
    assert len(set(made.values())) == len(made)
    assert all(value and not value.endswith("\n") for value in made.values())
    assert made["postgres-password"] in made["database-url"]
    keys = json.loads(made["s3-config.json"])["identities"][0]["credentials"]
    assert keys == [{"accessKey": made["s3-access-key"], "secretKey": made["s3-secret-key"]}]


def test_the_script_leaves_secrets_alone_that_are_there(tmp_path: Path) -> None:
    for _ in range(2):
        subprocess.run([DEPLOY / "secrets.sh", tmp_path], check=True, capture_output=True)
        before = {path.name: path.read_text() for path in tmp_path.iterdir()}
        (tmp_path / "ray-token").write_text("mine")

    assert (tmp_path / "ray-token").read_text() == "mine"
    assert before["ray-token"] == "mine"


def test_the_cluster_is_given_neither_database_nor_store() -> None:
    for name, service in compose.services().items():
        if name.startswith("ray-"):
            assert service["secrets"] == ["ray-token"]
            assert service["networks"] == ["cluster"]


def test_every_image_of_others_is_pinned_and_every_service_is_looked_after() -> None:
    for name, service in compose.services().items():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+", service["image"]), name
            assert service["healthcheck"]["test"][0] == "CMD", name
        assert service["restart"] == ("no" if name in ("migrate", "key", "bucket") else "unless-stopped")


def test_every_file_that_compose_mounts_exists() -> None:
    mounted = {volume.split(":")[0] for service in compose.services().values() for volume in service.get("volumes", [])}

    assert [path for path in mounted if path.startswith("./") and not (ROOT / path).exists()] == []


def mounted(service: str) -> dict[str, Path]:
    """What of this repository lies where in its container."""
    pairs = (volume.split(":")[:2] for volume in compose.services()[service]["volumes"])
    return {inside: ROOT / outside for outside, inside in pairs if outside.startswith("./")}


def provisioned(kind: str) -> dict[str, Any]:
    """Grafana reads every file of these two folders, and no others."""
    (path,) = (mounted("grafana")["/etc/grafana/provisioning"] / kind).iterdir()
    (told,) = [value for value in yaml.safe_load(path.read_text()).values() if isinstance(value, list)]
    (only,) = told
    found: dict[str, Any] = only
    return found


def test_grafanas_board_lies_where_it_looks_for_boards() -> None:
    looked_in = Path(provisioned("dashboards")["options"]["path"])

    boards = [inside for inside in mounted("grafana") if looked_in in Path(inside).parents]

    assert boards == ["/var/lib/grafana/dashboards/purl.json"]


def test_grafanas_board_asks_the_one_source_and_that_is_prometheus() -> None:
    board = json.loads((DEPLOY / "grafana/purl.json").read_text())
    source = provisioned("datasources")
    asking = [panel for panel in board["panels"] if panel["type"] != "row"]
    prometheus = compose.services()["prometheus"]

    assert {panel["datasource"]["uid"] for panel in asking} == {source["uid"]}
    assert {panel["datasource"]["type"] for panel in asking} == {source["type"]} == {"prometheus"}
    assert source["url"] == "http://prometheus:9090"
    assert "127.0.0.1:9090" in prometheus["healthcheck"]["test"][-1]
    assert set(prometheus["networks"]) & set(compose.services()["grafana"]["networks"]) == {"watch"}


def test_grafana_is_behind_the_proxy_at_the_path_that_it_takes_for_its_own() -> None:
    grafana = compose.services()["grafana"]
    (handled,) = re.findall(
        r"handle (/\w+)\* \{\s+reverse_proxy grafana:3000\s", (DEPLOY / "proxy/Caddyfile").read_text()
    )

    assert handled == "/grafana"
    assert grafana["environment"]["GF_SERVER_ROOT_URL"].endswith(f"{handled}/")
    assert grafana["environment"]["GF_SERVER_SERVE_FROM_SUB_PATH"] == "true"
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{grafana['secrets'][0]}"
    assert f":3000{handled}/" in grafana["healthcheck"]["test"][-1]


def environs() -> Iterator[tuple[str, Mapping[str, str]]]:
    for name, service in compose.services().items():
        if isinstance(service.get("environment"), dict):
            yield f"compose: {name}", {key: str(value) for key, value in service["environment"].items()}
    lines = (DEPLOY / "kubernetes/base/settings.env").read_text().splitlines()
    yield "kubernetes", dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize(("where", "environ"), [*environs()], ids=lambda value: value if isinstance(value, str) else "")
def test_every_setting_is_one_of_the_programs_and_has_a_good_value(
    where: str, environ: Mapping[str, str], tmp_path: Path
) -> None:
    ours = {name for name in environ if name.startswith("PURL_")}
    (tmp_path / "url").write_text("postgresql://purl:secret@postgres/purl")
    given = {**environ, "PURL_DATA_DIR": str(tmp_path)}
    if "PURL_DATABASE_URL_FILE" in environ:
        given["PURL_DATABASE_URL_FILE"] = str(tmp_path / "url")

    assert {name.removesuffix("_FILE") for name in ours} <= KNOWN, where
    assert Settings.from_environ(given)
    files = {name.removesuffix("_FILE") for name in environ if name.startswith("AWS_") and name.endswith("_FILE")}
    assert files <= set(secret_files.S3_KEYS)
