"""The rows of the contract that attempts and checkers ask for. `test_api_contract` plays them."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from purlkit.results import CheckReport, Finish, Outcome, WorkerEvent
from tests.integration.contract import DATA, Seen, row, working
from tests.integration.over_http import Service, a_success
from tests.integration.test_api_dry_run import RUNNABLE, ask
from tests.integration.test_api_weights import a_file


@row("GET /attempts/{attempt_id}")
def _(service: Service) -> Seen:
    path, worker = working(service, seed=7)
    answer = worker.call("GET")
    told = answer.json()
    return answer, (f"/jobs/{told['job_id']}", told["spec"]["seed"], told["number"]), (path, 7, 1)


@row("POST /attempts/{attempt_id}/heartbeat")
def _(service: Service) -> Seen:
    path, worker = working(service)
    service.http.post(f"{path}/pause")
    answer = worker.beat()
    return answer, answer.json()["command"], "pause"


@row("POST /attempts/{attempt_id}/events")
def _(service: Service) -> Seen:
    path, worker = working(service)
    note = WorkerEvent(type="note", data={"text": "once"})
    answer = worker.say(note)
    worker.say(note, first_seq=0)
    said = service.http.get(f"{path}/events").json()["data"]
    return answer, [event["type"] for event in said].count("note"), 1


@row("PUT /attempts/{attempt_id}/saved/{name}")
def _(service: Service) -> Seen:
    _, worker = working(service)
    answer = worker.save("search", b"work")
    again = worker.save("search", b"work")
    return answer, (answer.json()["bytes"], again.status_code), (4, 200)


@row("GET /attempts/{attempt_id}/saved/{name}")
def _(service: Service) -> Seen:
    _, worker = working(service)
    worker.save("search", b"work")
    answer = worker.call("GET", worker.call("GET").json()["saved"]["search"]["href"])
    return answer, answer.content, b"work"


@row("GET /attempts/{attempt_id}/weights")
def _(service: Service) -> Seen:
    sha256 = service.upload(a_file()).json()["sha256"]
    _, worker = working(service, model={"name": "digits-resnet", "weights": {"sha256": sha256}})
    answer = worker.call("GET", "/weights")
    return answer, answer.content, a_file()


@row("PUT /attempts/{attempt_id}/artifacts/{name}")
def _(service: Service) -> Seen:
    _, worker = working(service)
    answer = worker.stage("policy.json", b"{}")
    codes = (worker.stage("policy.json", b"{}").status_code, worker.stage("policy.json", b"[]").status_code)
    return answer, codes, (200, 409)


@row("POST /attempts/{attempt_id}/log")
def _(service: Service) -> Seen:
    _, worker = working(service)
    answer = worker.call("POST", "/log", params={"start": 0}, content=b"one\n")
    return answer, answer.json(), {"bytes": 4}


@row("POST /attempts/{attempt_id}/finish")
def _(service: Service) -> Seen:
    path, worker = working(service)
    worker.stage("pruned.safetensors", DATA)
    answer = worker.finish(a_success(DATA))
    late = worker.finish(Finish(outcome=Outcome.DRAINED))
    seen = (answer.json()["job_state"], worker.finish(a_success(DATA)).status_code, late.json()["code"])
    return (
        answer,
        (*seen, service.http.get(path).json()["state"]),
        ("succeeded", 200, "attempt_superseded", "succeeded"),
    )


def _check(route: str, look: Callable[[httpx.Client, str], httpx.Response], expected: Callable[[str], object]) -> None:
    """What a checker of a dry run is told, and tells."""

    def play(service: Service) -> Seen:
        sha256, told = service.upload(a_file()).json()["sha256"], list[httpx.Response]()

        def checker(http: httpx.Client, path: str) -> None:
            told.append(look(http, path))
            http.post(f"{path}/report", json=RUNNABLE.model_dump(mode="json"))

        service.launcher.checker = checker
        ran = ask(service, model={"name": "digits-resnet", "weights": {"sha256": sha256}})
        (answer,) = told
        return answer, (ran.status_code, answer.content and _said(answer)), (200, expected(sha256))

    row(route)(play)


def _said(answer: httpx.Response) -> object:
    return answer.json()["spec"]["model"]["weights"] if "json" in answer.headers["content-type"] else answer.content


def _report(http: httpx.Client, path: str) -> httpx.Response:
    return http.post(f"{path}/report", json=CheckReport.model_dump(RUNNABLE, mode="json"))


_check("GET /checks/{check_id}", lambda http, path: http.get(path), lambda sha256: {"sha256": sha256})
_check("GET /checks/{check_id}/weights", lambda http, path: http.get(f"{path}/weights"), lambda _: a_file())
_check("POST /checks/{check_id}/report", _report, lambda _: b"")
