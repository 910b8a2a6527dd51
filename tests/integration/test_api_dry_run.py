"""Dry runs over HTTP, with a checker that is played."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from purlkit.results import CheckReport, ErrorReport, Layer
from purlkit.spec import JobSpec
from tests.integration.over_http import LEAST, Service, assert_problem, dies, reports, serving
from tests.integration.test_api_weights import a_file
from tests.waiting import wait_until

RUNNABLE = CheckReport(
    runnable=True,
    layers=(Layer(name="conv", kind="Conv2d", shape=(16, 1, 3, 3), weights=144),),
    prunable_weights=144,
    sparsity_range=(0.0, 0.99),
    steps=60,
    memory_bytes=1_000_000,
)
OUT_OF_REACH = ErrorReport(code="unreachable_sparsity", message="ask for less", at="/targets/sparsity")
NO_FILES = ErrorReport(code="missing_data", message="put them there", at="/dataset/name")
CIFAR = {"dataset": {"name": "cifar10"}}


def ask(service: Service, **changes: Any) -> httpx.Response:
    return service.http.post("/jobs", params={"dry_run": "true"}, json={**LEAST, **changes})


def answers(service: Service, report: CheckReport) -> None:
    service.launcher.checker = reports(report)


def refusal(reason: ErrorReport) -> CheckReport:
    return RUNNABLE.model_copy(update={"runnable": False, "reasons": (reason,)})


def test_it_says_what_the_job_would_be_and_makes_none(service: Service) -> None:
    answers(service, RUNNABLE)

    response = ask(service)

    assert response.status_code == 200
    found = response.json()
    spec = JobSpec.model_validate(LEAST).resolve()
    assert (found["spec"], found["fingerprint"]) == (spec.model_dump(mode="json"), spec.fingerprint)
    assert found["layers"] == [{"name": "conv", "kind": "Conv2d", "shape": [16, 1, 3, 3], "weights": 144}]
    assert (found["runnable"], found["reasons"], found["sparsity_range"]) == (True, [], [0.0, 0.99])
    assert (found["prunable_weights"], found["steps"], found["memory_bytes"]) == (144, 60, 1_000_000)
    assert service.http.get("/jobs").json()["data"] == []


def test_the_checker_gets_a_token_and_no_secret_and_is_ended(service: Service) -> None:
    answers(service, RUNNABLE)

    ask(service)

    (launch,) = service.launcher.launches
    assert launch.module == "workers.check"
    assert launch.env["PURL_URL"] == service.url
    assert not any("DATABASE" in name for name in launch.env)
    assert service.launcher.ended == [launch.handle]


def test_a_spec_that_can_not_run_is_told_why(service: Service) -> None:
    answers(service, refusal(NO_FILES))

    response = ask(service, **CIFAR)

    assert response.status_code == 200
    assert response.json()["runnable"] is False
    assert [reason["code"] for reason in response.json()["reasons"]] == ["missing_data"]
    assert response.json()["layers"]


@pytest.mark.parametrize(
    ("report", "changes", "asked"),
    [
        (RUNNABLE, {}, 1),
        (refusal(OUT_OF_REACH), {}, 1),
        (refusal(OUT_OF_REACH), CIFAR, 1),
        (RUNNABLE, CIFAR, 2),
        (refusal(NO_FILES), CIFAR, 2),
        (refusal(NO_FILES), {}, 2),
    ],
    ids=[
        "nothing can be missing",
        "it can never run",
        "it can never run, wherever the files are",
        "its files may be gone by now",
        "its files may be there by now",
        "whatever was missing may be there by now",
    ],
)
def test_what_can_have_changed_is_asked_again(
    service: Service, report: CheckReport, changes: dict[str, Any], asked: int
) -> None:
    answers(service, report)

    first, second = ask(service, **changes), ask(service, **changes)

    assert first.json() == second.json()
    assert len(service.launcher.launches) == asked


def test_a_name_is_no_part_of_what_was_checked_and_the_target_is(service: Service) -> None:
    answers(service, RUNNABLE)

    ask(service)
    assert ask(service, name="another").json()["spec"]["name"] == "another"
    assert len(service.launcher.launches) == 1

    ask(service, targets={"sparsity": 0.8})
    assert len(service.launcher.launches) == 2


def test_the_checker_reads_the_uploaded_weights(service: Service) -> None:
    data = a_file()
    sha256 = service.upload(data).json()["sha256"]
    fetched: list[bytes] = []

    def check(http: httpx.Client, path: str) -> None:
        fetched.append(http.get(http.get(path).json()["weights_href"]).content)
        reports(RUNNABLE)(http, path)

    service.launcher.checker = check

    assert ask(service, model={"name": "mlp", "weights": {"sha256": sha256}}).status_code == 200
    assert fetched == [data]


def test_weights_that_were_never_uploaded_are_the_checkers_to_report(service: Service) -> None:
    """The layers are wanted all the same."""
    briefs: list[Any] = []

    def check(http: httpx.Client, path: str) -> None:
        briefs.append(http.get(path).json())
        assert http.get(f"{path}/weights").status_code == 404
        reports(refusal(ErrorReport(code="missing_weights", message="upload them")))(http, path)

    service.launcher.checker = check
    response = ask(service, model={"name": "mlp", "weights": {"sha256": "0" * 64}})

    assert response.json()["runnable"] is False
    assert briefs[0]["weights_href"] is None


def test_a_bad_spec_costs_no_process(service: Service) -> None:
    assert_problem(ask(service, model={"name": "unknown"}), 422, "unknown_name")
    assert_problem(ask(service, targets={"sparsity": 2}), 422, "invalid_body")

    assert service.launcher.launches == []


def test_a_checker_that_dies_is_a_fault_of_ours_whose_cause_stays_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def check(http: httpx.Client, path: str) -> None:
        service.launcher.launches[-1].log_path.parent.mkdir(exist_ok=True)
        service.launcher.launches[-1].log_path.write_text("ImportError: no torch of the secret kind")
        dies(http, path)

    service.launcher.checker = check

    response = ask(service)

    assert_problem(response, 500, "check_failed")
    assert "secret" not in response.text
    assert "ImportError: no torch of the secret kind" in caplog.text


def test_a_launcher_that_knows_why_a_checker_died_says_so(service: Service) -> None:
    service.launcher.why = "the cluster can't reach the service: set PURL_PUBLIC_URL"

    problem = assert_problem(ask(service), 500, "check_failed")

    assert "PURL_PUBLIC_URL" in problem["detail"]


@pytest.fixture
def impatient(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path, PURL_CHECK_SECONDS="0.3") as service:
        yield service


def test_a_checker_that_hangs_is_ended(impatient: Service) -> None:
    impatient.launcher.hangs = True

    assert_problem(ask(impatient), 504, "check_timeout")

    (launch,) = impatient.launcher.launches
    assert impatient.launcher.ended == [launch.handle]


def test_two_checks_at_once_and_no_more(service: Service) -> None:
    answered = threading.Event()

    def check(http: httpx.Client, path: str) -> None:
        answered.wait(60)
        reports(RUNNABLE)(http, path)

    service.launcher.checker = check
    with ThreadPoolExecutor() as pool:
        busy = [pool.submit(ask, service, seed=seed) for seed in (1, 2)]
        wait_until("both are being checked", lambda: len(service.launcher.launches) == 2)

        refused = ask(service, seed=3)
        job = service.http.post("/jobs", json=LEAST)
        answered.set()

        assert [dry_run.result().status_code for dry_run in busy] == [200, 200]
    assert_problem(refused, 429, "too_many_checks")
    assert int(refused.headers["retry-after"]) > 0
    assert job.status_code == 202, "a dry run holds up nobody else"
    assert ask(service, seed=3).status_code == 200


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/weights"), ("POST", "/report")])
def test_only_the_checks_own_token_opens_it(service: Service, method: str, path: str) -> None:
    answers(service, RUNNABLE)
    ask(service)
    env = service.launcher.launches[0].env
    service.submit()
    stranger = service.claim()
    body = RUNNABLE.model_dump(mode="json") if method == "POST" else None

    for token in ("wrong", stranger.token):
        headers = {"Authorization": f"Bearer {token}"}
        response = service.http.request(method, f"/checks/{env['PURL_CHECK']}{path}", headers=headers, json=body)
        assert_problem(response, 401, "unauthorized")
    # And it opens nothing else.
    assert_problem(stranger.call("GET", token=env["PURL_TOKEN"]), 401, "unauthorized")
