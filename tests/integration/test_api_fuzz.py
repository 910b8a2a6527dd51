"""Thousands of requests that the document allows or nearly allows, each on what the ones before it left.

`make test` sends 1,000, the same ones each time; `make fuzz` sends 20,000 others. In this process, without sockets: the
contract over real HTTP is tested beside this. What no answer leads to is asked apart, workers' own routes above all.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import checks as conformance
from schemathesis.specs.openapi import checks as openapi
from sqlalchemy import delete

from api.main import create_app
from purlkit.results import CHECKPOINT, CheckReport
from services import attempts, checks, jobs, keys
from services.artifacts import LocalStore
from services.database import Database
from services.launch import Handle
from services.settings import Settings
from services.tables import Base
from services.testing import FakeLauncher, FakeWorker, a_spec, an_episode, database_in, settings_in

CASES = int(os.environ.get("FUZZ_CASES", "1000"))
STEPS = 20  # requests that build on each other

# What must have been reached by so many requests. With fewer, chance alone may leave it out.
REACHED = [
    *((1000, "GET /jobs/{job_id}" + part, 200) for part in ("", "/events", "/episodes", "/artifacts")),
    *((1000, "POST /jobs/{job_id}/" + move, 202) for move in ("cancel", "pause", "retry")),
    *((20_000, "GET /jobs/{job_id}" + part, 200) for part in ("/layers", "/checkpoint", "/artifacts/{name}")),
    (20_000, "POST /jobs", 202),
    (20_000, "POST /jobs/{job_id}/resume", 202),
    (20_000, "DELETE /jobs/{job_id}", 204),
]

DATA = b"the pruned network"

CHOSEN: dict[str, Any] = {
    "derandomize": "FUZZ_CASES" not in os.environ,
    "database": None,
    "phases": [Phase.generate],
    "suppress_health_check": list(HealthCheck),
}

CHECKS = [
    conformance.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.use_after_free,
]


KEY = keys.new_key()
WITH_THE_KEY = {"Authorization": f"Bearer {KEY}"}


@dataclass
class Answering(FakeLauncher):
    """Checkers that answer before anybody looks."""

    db: Database | None = None

    def launch(
        self,
        env: Mapping[str, str],
        *,
        module: str,
        name: str,
        log_path: Path,
        record: Callable[[Handle], object] = lambda _: None,
    ) -> Handle:
        assert self.db is not None
        with self.db.write() as session:
            checks.record(session, env["PURL_CHECK"], CheckReport(runnable=True))
        return super().launch(env, module=module, name=name, log_path=log_path, record=record)


@dataclass(frozen=True)
class Fuzzed:
    """A service in this process, and its document."""

    db: Database
    settings: Settings
    store: LocalStore
    schema: Any

    def wipe(self) -> None:
        with self.db.write() as session:
            for table in reversed(Base.metadata.sorted_tables):
                session.execute(delete(table))
            keys.adopt(session, KEY, name="the fuzzer's")

    def attempt(self) -> FakeWorker:
        """Of a new job."""
        with self.db.write() as session:
            jobs.submit(session, a_spec())
            claim = attempts.claim(session, self.settings)
        assert claim is not None
        return FakeWorker(self.db, claim)

    def some_jobs(self) -> list[str]:
        """An ended one with all that it may have, one that runs, one that waits."""
        with self.store.begin() as writer:
            writer.write(DATA)
            writer.commit()
        done, running = self.attempt(), self.attempt()
        done.say(an_episode(0))
        done.succeed(DATA)
        running.beat()
        with self.db.write() as session:
            waiting = jobs.submit(session, a_spec()).job.id
        return [done.claim.job_id, running.claim.job_id, waiting]


@pytest.fixture
def fuzzed(tmp_path: Path) -> Iterator[Fuzzed]:
    # Open to others, because the fuzzer has a name of its own for the service.
    chosen = settings_in(tmp_path, PURL_HOST="0.0.0.0", PURL_PUBLIC_URL="http://127.0.0.1:1", PURL_MAX_RUNNING="10000")
    with closing(database_in(tmp_path)) as db:
        store = LocalStore(tmp_path / "artifacts")
        app = create_app(db, chosen, store, Answering(db=db))
        yield Fuzzed(db, chosen, store, schemathesis.openapi.from_asgi("/openapi.json", app))


@pytest.mark.filterwarnings("default")  # what the fuzzer itself warns of is its own affair
def test_no_request_breaks_the_service_or_is_answered_against_the_document(fuzzed: Fuzzed) -> None:
    sent: Counter[tuple[str, int]] = Counter()

    class Machine(fuzzed.schema.as_state_machine()):  # type: ignore[misc]
        def setup(self) -> None:
            """Each scenario begins with the same few jobs: what is sent must not hang on those before."""
            super().setup()
            fuzzed.wipe()
            self.known, self.turns = fuzzed.some_jobs(), 0

        def before_call(self, case: Any) -> None:
            """The fuzzer makes most ids up, which leads to a 404: every other one is of a job that is there."""
            super().before_call(case)
            case.headers = {**(case.headers or {}), **WITH_THE_KEY}
            if "job_id" in (case.path_parameters or {}):
                self.turns += 1
                if self.turns % 2:
                    there = {"job_id": self.known[self.turns // 2 % len(self.known)], "name": CHECKPOINT, "number": 1}
                    case.path_parameters |= {name: there[name] for name in case.path_parameters}

        def validate_response(self, response: Any, case: Any, **_: Any) -> None:
            sent[case.operation.label, response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

    # Not every step is a request, and some scenarios end early.
    Machine.run(settings=settings(**CHOSEN, max_examples=CASES * 13 // 10 // STEPS, stateful_step_count=STEPS))

    tell(sent)
    assert sent.total() >= CASES * 0.8
    for enough, label, status in REACHED:
        assert enough > CASES or sent[label, status], f"{status} of {label} was never reached"


@pytest.mark.filterwarnings("default")
def test_nor_does_one_that_no_answer_leads_to(fuzzed: Fuzzed) -> None:
    """With a token that holds, where there is one to hold: without it all of them are the same 401."""
    sent: Counter[tuple[str, int]] = Counter()
    fuzzed.wipe()
    alone = [
        operation
        for operation in (found.ok() for found in fuzzed.schema.get_all_operations())
        if not operation.path.startswith(("/jobs", "/recipes"))
    ]

    for operation in alone:

        @given(case=operation.as_strategy())
        @settings(**CHOSEN, max_examples=CASES // 200)
        def ask(case: Any) -> None:
            case.headers = {**(case.headers or {}), **WITH_THE_KEY}
            if "attempt_id" in case.path_parameters:
                mine = fuzzed.attempt().claim
                case.path_parameters["attempt_id"], token = mine.attempt_id, mine.token
                case.headers["Authorization"] = f"Bearer {token}"
            if "check_id" in case.path_parameters:
                with fuzzed.db.write() as session:
                    case.path_parameters["check_id"], token = checks.create(session, a_spec())
                case.headers["Authorization"] = f"Bearer {token}"
            response = case.call()
            sent[case.operation.label, response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        ask()

    tell(sent)
    assert {label for label, _ in sent} == {operation.label for operation in alone}
    assert not any(status == 401 for _, status in sent)


@pytest.mark.filterwarnings("default")
def test_without_a_key_none_gets_past_the_door(fuzzed: Fuzzed) -> None:
    fuzzed.wipe()
    sent: Counter[tuple[str, int]] = Counter()
    for operation in (found.ok() for found in fuzzed.schema.get_all_operations()):

        @given(case=operation.as_strategy())
        @settings(**CHOSEN, max_examples=CASES // 500)
        def ask(case: Any) -> None:
            response = case.call()
            sent[case.operation.label, response.status_code] += 1
            case.validate_response(response, checks=CHECKS)

        ask()

    tell(sent)
    assert {label for label, status in sent if status != 401} == {"GET /livez", "GET /readyz"}


def tell(sent: Counter[tuple[str, int]]) -> None:
    print(*(f"{count:5} {status} {label}" for (label, status), count in sorted(sent.items())), sep="\n")
