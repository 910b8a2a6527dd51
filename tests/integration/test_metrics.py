"""What Prometheus gets of the API and of the dispatcher, and that it is true."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import closing, suppress

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from purlkit.results import Outcome, Phase, Progress
from services import metrics
from services.database import Database
from services.dispatcher import Dispatcher
from services.gauges import Gauges
from services.telling import LONGEST_PASS_SECONDS, Pulse, telling
from services.testing import FakeLauncher, an_episode, settings_in
from tests.bench import Bench
from tests.integration.over_http import Service
from tests.waiting import DEADLINE_SECONDS

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    return found.get((name, tuple(sorted(labels.items()))), 0.0)


class Counted:
    """How far the process's own counters moved since this was made: they are never set back."""

    def __init__(self) -> None:
        self._before = samples(metrics.render().decode())

    def __call__(self, name: str, **labels: str) -> float:
        return value(samples(metrics.render().decode()), name, **labels) - value(self._before, name, **labels)


@pytest.fixture
def counted() -> Counted:
    return Counted()


def gauges(bench: Bench) -> Samples:
    return samples(metrics.render(Gauges(bench.db).registry).decode())


def test_the_queue_is_told_by_states_depth_and_age(bench: Bench) -> None:
    bench.submit()
    waiting = bench.job(bench.submit())
    worker = bench.claim()
    worker.beat()
    with bench.db.write() as session:
        session.merge(waiting).not_before -= 90_000
    bench.announce()

    told = gauges(bench)

    assert value(told, "purl_database_up") == 1
    assert value(told, "purl_jobs", state="queued") == 1
    assert value(told, "purl_jobs", state="running") == 1
    assert value(told, "purl_jobs", state="failed") == 0
    assert value(told, "purl_queue_depth") == 1
    assert 90 <= value(told, "purl_queue_oldest_seconds") < 150
    assert value(told, "purl_attempts_live", state="running") == 1
    assert value(told, "purl_dispatchers") == 1


def test_a_job_that_waits_for_its_next_try_is_not_overdue(bench: Bench) -> None:
    worker = bench.running()
    bench.rescue(worker)

    told = gauges(bench)

    assert value(told, "purl_jobs", state="queued") == 1
    assert value(told, "purl_queue_depth") == 0


def test_what_runs_is_told_by_what_it_reserves_and_by_its_silence(bench: Bench) -> None:
    worker = bench.running(resources={"env_runners": 2, "gpus_per_runner": 0.5})
    worker.save("state", b"12345")
    bench.age(worker, 40)

    told = gauges(bench)

    assert value(told, "purl_reserved", resource="gpus") == 1
    assert value(told, "purl_job_reserved_gpus", job_id=worker.claim.job_id) == 1
    assert 40 <= value(told, "purl_heartbeat_oldest_seconds") < 100
    assert value(told, "purl_stored_bytes") == 5


def test_what_a_job_took_of_gpus_is_told_while_it_runs_and_of_those_that_said_it(bench: Bench) -> None:
    worker, silent = bench.running(), bench.running()
    worker.beat(progress=Progress(fraction=0.5, phase=Phase.SEARCH, gpu_memory_bytes=2**30))

    told = gauges(bench)

    assert value(told, "purl_job_gpu_memory_bytes", job_id=worker.claim.job_id) == 2**30
    assert ("purl_job_gpu_memory_bytes", (("job_id", silent.claim.job_id),)) not in told
    bench.rescue(worker)
    assert not [name for name, _ in gauges(bench) if name == "purl_job_gpu_memory_bytes"]


def test_an_answer_is_read_once_for_all_who_ask_within_seconds(bench: Bench) -> None:
    asked = Gauges(bench.db, fresh_seconds=60)
    metrics.render(asked.registry)
    bench.submit()

    assert value(samples(metrics.render(asked.registry).decode()), "purl_queue_depth") == 0


def test_a_database_that_is_away_leaves_no_old_numbers() -> None:
    nowhere = "postgresql+psycopg://nobody@127.0.0.1:9/none"
    with closing(Database.open(nowhere)) as away:
        told = samples(metrics.render(Gauges(away).registry).decode())

    assert value(told, "purl_database_up") == 0
    assert "purl_queue_depth" not in {name for name, _ in told}


def test_ends_are_counted_with_their_causes(bench: Bench, counted: Counted) -> None:
    bench.running().succeed()
    bench.running().fail(code="made_up_by_a_worker")
    lost, silent = bench.running(), bench.running()
    bench.age(silent, 3600)
    bench.rescue(lost)
    bench.rescue(silent)

    assert counted("purl_jobs_ended_total", state="succeeded") == 1
    assert counted("purl_jobs_ended_total", state="failed") == 1
    assert counted("purl_attempts_ended_total", state="succeeded", cause="none") == 1
    assert counted("purl_attempts_ended_total", state="failed", cause="error") == 1
    assert counted("purl_attempts_ended_total", state="lost", cause="lost") == 1
    assert counted("purl_attempts_ended_total", state="lost", cause="lease") == 1


def test_episodes_and_their_steps_are_counted_once(bench: Bench, counted: Counted) -> None:
    worker = bench.running()
    worker.say(an_episode(0), an_episode(1))
    worker.say(an_episode(0), an_episode(1), first_seq=0)

    assert counted("purl_episodes_total", kind="search") == 2
    assert counted("purl_steps_total", kind="search") == 4


def test_what_was_taken_back_does_not_count(bench: Bench, counted: Counted) -> None:
    worker = bench.running()

    with suppress(KeyError), bench.db.write() as session:
        metrics.attempt_ended(session, worker.attempt)
        with session.begin_nested():
            session.flush()
        raise KeyError("something else in the transaction")

    assert counted("purl_attempts_ended_total", state="running", cause="none") == 0


def test_requests_are_counted_by_the_templates_of_their_routes(service: Service, counted: Counted) -> None:
    job = service.submit()
    service.http.get(f"/jobs/{job['id']}")
    service.http.get("/jobs/nothing-like-an-id")
    service.http.get("/one/address/of/many")
    service.http.request("PROPFIND", "/jobs")

    told = samples(service.http.get("/metrics").raise_for_status().text)

    assert counted("purl_http_requests_total", method="GET", route="/jobs/{job_id}", status="200") == 1
    assert counted("purl_http_requests_total", method="GET", route="/jobs/{job_id}", status="404") == 1
    assert counted("purl_http_requests_total", method="GET", route="none", status="404") == 1
    assert counted("purl_http_requests_total", method="other", route="/jobs", status="405") == 1
    assert counted("purl_http_request_seconds_count", method="POST", route="/jobs") == 1
    assert value(told, "purl_jobs", state="queued") == 1
    assert not [labels for _, labels in told if "one/address" in str(labels)]


def test_a_request_has_an_id_of_its_own_or_its_callers(service: Service) -> None:
    made = service.http.get("/livez").headers["x-request-id"]
    kept = service.http.get("/livez", headers={"X-Request-ID": "from-the-proxy.1"}).headers["x-request-id"]
    refused = service.http.get("/livez", headers={"X-Request-ID": 'no "such" id'}).headers["x-request-id"]

    assert made.startswith("req_")
    assert kept == "from-the-proxy.1"
    assert refused.startswith("req_")


def test_a_request_leaves_one_line_with_its_ids(
    service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from services import logs

    job = service.submit()
    lines: list[str] = []
    formatter = logs.JsonLines("api")
    monkeypatch.setattr(caplog.handler, "emit", lambda record: lines.append(formatter.format(record)))
    with caplog.at_level(logging.INFO, logger="purl.access"):
        service.http.get(f"/jobs/{job['id']}", headers={"X-Request-ID": "mine"})
        service.http.get("/livez")

    (line,) = [json.loads(line) for line in lines if "purl.access" in line]
    assert (line["request_id"], line["job_id"]) == ("mine", job["id"])
    assert (line["method"], line["route"], line["status"]) == ("GET", "/jobs/{job_id}", 200)


@pytest.fixture
def dispatcher(bench: Bench) -> Dispatcher:
    return Dispatcher(bench.db, bench.settings, FakeLauncher(), bench.store)


@pytest.fixture
def telling_url(bench: Bench, dispatcher: Dispatcher) -> Iterator[str]:
    settings = settings_in(bench.settings.data_dir, PURL_METRICS_PORT="0")
    with telling(settings, bench.db, dispatcher.pulse) as port:
        yield f"http://127.0.0.1:{port}"


def said_at(url: str) -> httpx.Response:
    return httpx.get(url, timeout=DEADLINE_SECONDS, trust_env=False)


def test_a_dispatcher_tells_of_its_passes(
    bench: Bench, dispatcher: Dispatcher, telling_url: str, counted: Counted
) -> None:
    bench.submit()
    with metrics.a_pass():
        dispatcher.tick()

    told = samples(said_at(f"{telling_url}/metrics").raise_for_status().text)

    assert counted("purl_dispatcher_pass_seconds_count") == 1
    assert value(told, "purl_attempts_live", state="launching") == 1
    assert value(told, "purl_dispatcher_last_pass_timestamp_seconds") > 0
    assert said_at(f"{telling_url}/jobs").status_code == 404


def test_a_dispatcher_whose_passes_hang_is_not_alive(dispatcher: Dispatcher, telling_url: str) -> None:
    assert said_at(f"{telling_url}/livez").status_code == 200

    dispatcher.pulse._at -= LONGEST_PASS_SECONDS

    assert said_at(f"{telling_url}/livez").status_code == 503


def test_without_a_port_a_dispatcher_keeps_to_itself(bench: Bench) -> None:
    with telling(bench.settings, bench.db, Pulse()) as port:
        assert port is None


def test_a_drained_attempt_is_one_of_its_own(bench: Bench, counted: Counted) -> None:
    bench.running().leave(Outcome.DRAINED)

    assert counted("purl_attempts_ended_total", state="drained", cause="drained") == 1
