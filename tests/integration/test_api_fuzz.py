"""Thousands of requests that the document allows or nearly allows, each on what the ones before it left.

`make test` sends 2,000, the same ones each time; `make fuzz` sends 20,000 others. In this process, without sockets: the
contract over real HTTP is tested beside this.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import checks as conformance
from schemathesis.specs.openapi import checks as openapi
from sqlalchemy import delete

from api.main import create_app
from purlkit.results import CheckReport
from services import checks, keys
from services.artifacts import LocalStore
from services.database import Database
from services.launch import Handle
from services.tables import Base
from services.testing import FakeLauncher, database_in, settings_in

CASES = int(os.environ.get("FUZZ_CASES", "2000"))
STEPS = 20  # requests that build on each other

CHECKS = [
    conformance.not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.use_after_free,
]


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


@pytest.mark.filterwarnings("default")  # what the fuzzer itself warns of is its own affair
@pytest.mark.parametrize("key", [keys.new_key(), None], ids=["with a key", "without"])
def test_no_request_breaks_the_service_or_is_answered_against_the_document(tmp_path: Path, key: str | None) -> None:
    cases = CASES if key else CASES // 5
    # Open to others, because the fuzzer has a name of its own for the service.
    chosen = settings_in(tmp_path, PURL_HOST="0.0.0.0", PURL_PUBLIC_URL="http://127.0.0.1:1")
    sent: Counter[tuple[str, int]] = Counter()
    with closing(database_in(tmp_path)) as db:
        app = create_app(db, replace(chosen), LocalStore(chosen.artifacts), Answering(db=db))
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)

        class Machine(schema.as_state_machine()):  # type: ignore[misc]
            def setup(self) -> None:
                """Each scenario begins with an empty service: what is sent must not hang on those before."""
                super().setup()
                with db.write() as session:
                    for table in reversed(Base.metadata.sorted_tables):
                        session.execute(delete(table))
                    if key:
                        keys.adopt(session, key, name="the fuzzer's")

            def before_call(self, case: Any) -> None:
                if key:
                    case.headers = {**(case.headers or {}), "Authorization": f"Bearer {key}"}

            def validate_response(self, response: Any, case: Any, **_: Any) -> None:
                sent[case.operation.label, response.status_code] += 1
                case.validate_response(response, checks=CHECKS)

        Machine.run(
            settings=settings(
                max_examples=cases // STEPS,
                stateful_step_count=STEPS,
                derandomize="FUZZ_CASES" not in os.environ,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
        )

    print(*(f"{count:5} {status} {label}" for (label, status), count in sorted(sent.items())), sep="\n")
    assert sent.total() >= cases * 0.8
    if key is None:
        open_to_all = {"GET /livez", "GET /readyz"}
        assert {label for (label, status) in sent if status < 400} <= open_to_all
        return
    for reached in (("POST /jobs", 202), ("GET /jobs/{job_id}", 200), ("POST /jobs/{job_id}/cancel", 202)):
        assert sent[reached], f"{reached} was never reached"
