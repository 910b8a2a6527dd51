"""A Ray cluster with a token and TLS: who has neither of the two, or only one, runs nothing on it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.certificates import Authority
from tests.ray_head import TOKEN, RayHead, ray_head

pytestmark = pytest.mark.long  # Ray takes its time, to start and to give up

# Who finds no way in tries on for minutes. As long as another took who has one, and so much more, is enough to see it.
MORE_SECONDS = 20.0

DRIVER = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
print("the answer is", ray.get(ray.remote(lambda: 6 * 7).remote()))
"""


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return Authority.new(tmp_path_factory.mktemp("ours") / "tls").certify("127.0.0.1", this_node())


@pytest.fixture(scope="module")
def anothers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return Authority.new(tmp_path_factory.mktemp("anothers") / "tls").certify("127.0.0.1", this_node())


def this_node() -> str:
    """The address that Ray gives to 127.0.0.1."""
    import ray.util

    return ray.util.get_node_ip_address()


@pytest.fixture(scope="module")
def head(ours: dict[str, str]) -> Iterator[RayHead]:
    with ray_head(**ours) as head:
        yield head


def drive(head: RayHead, **environ: str) -> subprocess.Popen[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, head.gcs],
        env={**plain, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_who_has_the_token_and_a_certificate_runs_tasks_and_nobody_else(
    head: RayHead, ours: dict[str, str], anothers: dict[str, str]
) -> None:
    drivers = {
        "with both": drive(head, **ours),
        "without a certificate": drive(head),
        "with another authority's": drive(head, **{**anothers, "RAY_TLS_CA_CERT": ours["RAY_TLS_CA_CERT"]}),
        "with a wrong token": drive(head, **ours, RAY_AUTH_TOKEN="0" * 64),
        "without a token": drive(head, **ours, RAY_AUTH_MODE="disabled"),
    }

    said = {"with both": drivers["with both"].communicate(timeout=300)[0]}
    until = time.monotonic() + MORE_SECONDS
    for who, driver in drivers.items():
        if who not in said:
            said[who] = what_it_says(driver, until)

    assert {who for who, words in said.items() if "the answer is 42" in words} == {"with both"}, said


def what_it_says(driver: subprocess.Popen[str], until: float) -> str:
    try:
        return driver.communicate(timeout=max(0.0, until - time.monotonic()))[0]
    except subprocess.TimeoutExpired:
        driver.kill()
        return driver.communicate()[0]


def test_the_dashboard_speaks_no_tls_and_asks_for_the_token(head: RayHead) -> None:
    """As docs/security.md says: Ray's TLS is of its own calls, not of the port for Ray Jobs."""
    with head.http as http:
        assert head.address.startswith("http://")
        assert http.get("/api/jobs/").status_code == 200
        assert http.get("/api/jobs/", headers={"Authorization": "Bearer " + "0" * 64}).status_code == 403
        del http.headers["Authorization"]
        assert http.get("/api/jobs/").status_code == 401
