"""Every route of the contract once over real HTTP, on both databases: that it answers, and with what it promises."""

from __future__ import annotations

import hashlib
import re

import pytest

from purlkit.results import CHECKPOINT, LOG, REPORT
from tests.integration import contract_of_sweeps, contract_of_workers  # noqa: F401, note their rows down
from tests.integration.contract import DATA, ROWS, SHA256, Seen, ended, queued, row, working
from tests.integration.over_http import LEAST, Service, a_success
from tests.integration.test_api_dry_run import RUNNABLE, answers, ask
from tests.integration.test_api_weights import a_file


@row("POST /jobs")
def _(service: Service) -> Seen:
    answer = service.http.post("/jobs", json=LEAST, headers={"Idempotency-Key": "once"})
    again = service.http.post("/jobs", json=LEAST, headers={"Idempotency-Key": "once"})
    job = answer.json()
    seen = (job["state"], answer.headers["location"], again.json()["id"], again.headers["idempotent-replayed"])
    return answer, seen, ("queued", f"/jobs/{job['id']}", job["id"], "true")


@row("POST /jobs?dry_run=true")
def _(service: Service) -> Seen:
    answers(service, RUNNABLE)
    answer = ask(service)
    return answer, (answer.json()["runnable"], service.http.get("/jobs").json()["data"]), (True, [])


@row("GET /jobs")
def _(service: Service) -> Seen:
    paths = [queued(service) for _ in range(3)]
    first = service.http.get("/jobs", params={"limit": 2, "state": "queued"})
    second = service.http.get("/jobs", params={"limit": 2, "state": "queued", "after": first.json()["next"]})
    pages = [first.json(), second.json()]
    seen = [([job["links"]["self"] for job in page["data"]], page["has_more"]) for page in pages]
    return first, seen, [(paths[:0:-1], True), (paths[:1], False)]


@row("GET /jobs/{job_id}")
def _(service: Service) -> Seen:
    path = ended(service)
    answer = service.http.get(path)
    unchanged = service.http.get(path, headers={"If-None-Match": answer.headers["etag"]})
    job = answer.json()
    return (
        answer,
        (job["state"], job["result"]["checkpoint"]["sha256"], unchanged.status_code),
        ("succeeded", SHA256, 304),
    )


@row("DELETE /jobs/{job_id}")
def _(service: Service) -> Seen:
    path = ended(service)
    answer = service.http.delete(path)
    return answer, (service.http.get(path).status_code, service.files()), (404, [])


@row("POST /jobs/{job_id}/retry")
def _(service: Service) -> Seen:
    path = ended(service)
    answer = service.http.post(f"{path}/retry")
    return answer, (answer.json()["state"], f"/jobs/{answer.json()['parent']}"), ("queued", path)


@row("POST /jobs/{job_id}/cancel")
def _(service: Service) -> Seen:
    path, _ = working(service)
    answer = service.http.post(f"{path}/cancel")
    return answer, (answer.json()["state"], answer.json()["requested"]), ("running", "cancel")


@row("POST /jobs/{job_id}/pause")
def _(service: Service) -> Seen:
    answer = service.http.post(f"{queued(service)}/pause")
    return answer, (answer.json()["state"], answer.json()["requested"]), ("paused", None)


@row("POST /jobs/{job_id}/resume")
def _(service: Service) -> Seen:
    path = queued(service)
    service.http.post(f"{path}/pause")
    answer = service.http.post(f"{path}/resume")
    return answer, answer.json()["state"], "queued"


@row("GET /jobs/{job_id}/events")
def _(service: Service) -> Seen:
    path = ended(service)
    page = service.http.get(f"{path}/events", params={"after": 1})
    headers = {"Accept": "text/event-stream", "Last-Event-ID": "1"}
    stream = service.http.get(f"{path}/events", headers=headers)  # which ends, as the job has
    seqs = [event["seq"] for event in page.json()["data"]]
    told = re.findall(r"^id: (\d+)$", stream.text, re.MULTILINE)
    return page, (seqs, [int(seq) for seq in told]), (list(range(2, seqs[-1] + 1)), seqs)


@row("GET /jobs/{job_id}/episodes")
def _(service: Service) -> Seen:
    answer = service.http.get(f"{ended(service)}/episodes")
    return answer, [(one["index"], one["attempt"]) for one in answer.json()["data"]], [(0, 1)]


@row("GET /jobs/{job_id}/layers")
def _(service: Service) -> Seen:
    answer = service.http.get(f"{ended(service)}/layers")
    return answer, [one["winner"] for one in answer.json()["data"]].count(True), 1


@row("GET /jobs/{job_id}/artifacts")
def _(service: Service) -> Seen:
    answer = service.http.get(f"{ended(service)}/artifacts")
    files = {one["name"]: one["sha256"] for one in answer.json()["data"]}
    return answer, (sorted(files), files["pruned.safetensors"]), ([LOG, "pruned.safetensors"], SHA256)


@row("GET /jobs/{job_id}/artifacts/{name}")
def _(service: Service) -> Seen:
    answer = service.http.get(f"{ended(service)}/artifacts/pruned.safetensors")
    return answer, (answer.content, answer.headers["etag"]), (DATA, f'"{SHA256}"')


@row("GET /jobs/{job_id}/checkpoint")
def _(service: Service) -> Seen:
    path = f"{ended(service)}/checkpoint"
    answer = service.http.get(path)
    part = service.http.get(path, headers={"Range": "bytes=4-9", "If-Range": answer.headers["etag"]})
    promised = {"etag", "repr-digest", "content-disposition", "accept-ranges"}
    seen = (answer.content, promised - set(answer.headers), part.status_code, part.content)
    return answer, seen, (DATA, set(), 206, DATA[4:10])


@row("GET /jobs/{job_id}/report")
def _(service: Service) -> Seen:
    path, worker = working(service)
    assert worker.stage(CHECKPOINT, DATA).status_code == 200
    assert worker.stage(REPORT, b"<h1>It won</h1>", "text/html").status_code == 200
    finished = a_success(DATA).model_copy(update={"artifacts": (CHECKPOINT, REPORT)})
    assert worker.finish(finished).status_code == 200
    answer = service.http.get(f"{path}/report")
    return answer, (answer.text, answer.headers["content-type"]), ("<h1>It won</h1>", "text/html; charset=utf-8")


@row("GET /jobs/{job_id}/attempts/{number}/log")
def _(service: Service) -> Seen:
    path, worker = working(service)
    worker.call("POST", "/log", params={"start": 0}, content=b"one\ntwo\n")
    answer = service.http.get(f"{path}/attempts/1/log")
    more = service.http.get(f"{path}/attempts/1/log", headers={"Range": "bytes=4-"})
    return answer, (answer.content, more.content), (b"one\ntwo\n", b"two\n")


@row("POST /weights")
def _(service: Service) -> Seen:
    answer = service.upload(a_file())
    expected = {"sha256": hashlib.sha256(a_file()).hexdigest(), "bytes": len(a_file()), "tensors": 3}
    return answer, answer.json(), expected


@row("GET /weights")
def _(service: Service) -> Seen:
    uploaded = service.upload(a_file()).json()
    answer = service.http.get("/weights")
    return answer, [one["sha256"] for one in answer.json()["data"]], [uploaded["sha256"]]


def _catalog(route: str, name: str) -> None:
    def look(service: Service) -> Seen:
        answer = service.http.get(route)
        return answer, name in {one["name"] for one in answer.json()["data"]}, True

    row(f"GET {route}")(look)


_catalog("/models", "digits-resnet")
_catalog("/datasets", "digits")
_catalog("/algorithms", "purl")
_catalog("/recipes", "global-mp-resnet50-80")


@row("GET /recipes/{name}/spec")
def _(service: Service) -> Seen:
    answer = service.http.get("/recipes/global-mp-resnet50-80/spec")
    return answer, answer.json()["model"]["name"], "resnet50"


@row("GET /livez")
def _(service: Service) -> Seen:
    answer = service.http.get("/livez")
    return answer, answer.json(), {"status": "ok"}


@row("GET /readyz")
def _(service: Service) -> Seen:
    answer = service.http.get("/readyz")
    return answer, answer.json(), {"status": "ok"}


@row("GET /metrics")
def _(service: Service) -> Seen:
    queued(service)
    answer = service.http.get("/metrics")
    return answer, 'purl_jobs{state="queued"} 1.0' in answer.text, True


@row("GET /openapi.json")
def _(service: Service) -> Seen:
    answer = service.http.get("/openapi.json")
    return answer, answer.json()["info"]["title"], "PuRL"


@row("GET /docs")
def _(service: Service) -> Seen:
    answer = service.http.get("/docs")
    return answer, answer.headers["content-type"], "text/html; charset=utf-8"


@pytest.mark.parametrize("route", ROWS)
def test_it_answers_as_promised(service: Service, route: str) -> None:
    answer, seen, expected = ROWS[route](service)

    method, _, path = route.partition(" ")
    asked = re.sub(r"\\{[a-z_]+\\}", "[^/?]+", re.escape(path)).replace(r"\?", "[?]")
    assert answer.is_success, answer.text
    assert answer.request.method == method
    assert re.match(asked, answer.request.url.raw_path.decode()), answer.request.url
    assert seen == expected


def test_no_route_is_left_out(service: Service) -> None:
    """Who adds a route adds a row for it above."""
    paths = service.http.get("/openapi.json").json()["paths"]
    documented = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}

    assert documented - set(ROWS) == set()
