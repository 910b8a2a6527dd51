"""A real Prometheus with our own files: it finds the series, and each alert fires on the fault that it is for."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from services.telling import Pulse, telling
from services.testing import settings_in
from tests.debian import program
from tests.integration.over_http import Service
from tests.prometheus import ask, prometheus
from tests.waiting import wait_until

FILES = Path(__file__).parent.parent.parent / "deploy/prometheus"


def promtool(*arguments: str) -> str:
    said = subprocess.run(
        [program("promtool", package="prometheus"), *arguments], cwd=FILES, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def test_the_configuration_is_one_that_prometheus_takes() -> None:
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", "prometheus.yml")


def test_each_alert_fires_on_its_fault_and_none_where_all_is_well() -> None:
    """The faults stand in alerts.test.yml, which a user's own promtool can run as well."""
    planted = {case["name"] for case in yaml.safe_load((FILES / "alerts.test.yml").read_text())["tests"]}
    (group,) = yaml.safe_load((FILES / "alerts.yml").read_text())["groups"]

    assert planted == {"all is well", *(rule["alert"] for rule in group["rules"])}
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


def test_prometheus_finds_what_api_and_dispatcher_tell(service: Service, tmp_path: Path) -> None:
    service.submit()
    settings = settings_in(service.settings.data_dir, PURL_METRICS_PORT="0")

    with telling(settings, service.db, Pulse()) as port:
        targets = {"purl-api": urlsplit(service.url).netloc, "purl-dispatcher": f"127.0.0.1:{port}"}
        config = configured(tmp_path, targets)
        with prometheus(tmp_path, config) as http:
            wait_until("both were asked", lambda: len(ask(http, "up == 1")) == len(targets))
            wait_until("the queue is known", lambda: ask(http, "max(purl_queue_depth) == 1"))
            # What is not answered within the second on a busy machine is unknown until the next.
            wait_until("the request is known of both", lambda: asked_of(http) == set(targets))
            rules = http.get("/api/v1/rules").json()["data"]["groups"][0]["rules"]

    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}
    assert len(rules) > 10


def asked_of(http: httpx.Client) -> set[str]:
    """Who knows of the submission: both, for one process plays them here."""
    requests = ask(http, 'purl_http_requests_total{route="/jobs", method="POST", status="202"}')
    return {one["metric"]["job"] for one in requests}


def configured(folder: Path, targets: dict[str, str]) -> Path:
    """Our own configuration, with addresses of this machine, asked every second."""
    config: dict[str, Any] = yaml.safe_load((FILES / "prometheus.yml").read_text())
    jobs = {job["job_name"] for job in config["scrape_configs"]}
    assert set(targets) <= jobs
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(FILES / name) for name in config["rule_files"]]
    config["scrape_configs"] = [
        {"job_name": name, "static_configs": [{"targets": [address]}]} for name, address in targets.items()
    ]
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path
