"""However many jobs there are, no question of the API looks at more of them than it answers with."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from api import recall
from services import listing, scheduling
from services.ids import new_id
from services.listing import Filter
from services.paging import encode
from services.states import JobState
from services.tables import Job
from services.tenants import DEFAULT
from services.testing import settings_in
from tests.integration.over_http import LEAST, Service, serving
from tests.statements import asked


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One job of each kind, and the planner told what the tables look like."""
    with (
        serving(tmp_path_factory.mktemp("busy"), PURL_MAX_RUNNING="10") as service,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(recall, "KEPT_SECONDS", 0.0)  # what is recalled asks nothing
        for _ in range(3):
            service.submit(labels={"team": "vision"})
        service.claim().succeed()
        service.claim().beat()
        service.http.post("/sweeps", json={"base": LEAST, "grid": {"seed": [0, 1]}})
        with service.db.engine.begin() as connection:
            connection.exec_driver_sql("ANALYZE")
            # As if there were a million of each: with three rows a scan would be the right choice.
            connection.exec_driver_sql("UPDATE sqlite_stat1 SET stat = '1000000' || substr(stat, instr(stat, ' '))")
        service.db.engine.dispose()
        yield service


def plans(service: Service, work: Callable[[], object]) -> dict[str, str]:
    """Every SELECT that this makes, with the steps of its plan."""
    with asked(service.db) as statements:
        work()
    questions = dict(statement for statement in statements if statement.is_select)
    with service.db.engine.connect() as connection:
        return {
            statement: "\n".join(
                row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
            )
            for statement, parameters in questions.items()
        }


def asking(service: Service, requests: list[tuple[str, str]]) -> Callable[[], None]:
    def ask() -> None:
        for method, path in requests:
            body = LEAST if (method, path) == ("POST", "/jobs") else None
            response = service.http.request(method, path, json=body)
            assert response.status_code < 300, response.text

    return ask


def paths(service: Service) -> list[tuple[str, str]]:
    jobs = {job["state"]: job for job in service.http.get("/jobs").json()["data"]}
    done, queued = jobs["succeeded"], jobs["queued"]
    lists = ["", "?state=queued", "?model=mlp", "?label=team:vision", "?label=team:vision&label=a:b&state=failed"]
    (sweep,) = service.http.get("/sweeps").json()["data"]
    lists += [f"?sweep={sweep['id']}", "?created_after=2026-01-01T00:00:00Z&created_before=2100-01-01T00:00:00Z"]
    below = ["", "/events", "/episodes", "/artifacts", "/layers", "/checkpoint", "/attempts/1/log"]
    return [
        *(("GET", f"/jobs{query}") for query in lists),
        *(("GET", f"/jobs/{done['id']}{path}") for path in below),
        ("GET", f"/jobs/{queued['id']}"),
        ("POST", "/jobs"),
        ("GET", "/sweeps"),
        ("GET", f"/weights?after={encode('0' * 64)}"),
        ("GET", f"/sweeps/{sweep['id']}"),
        ("POST", f"/sweeps/{sweep['id']}/pause"),
        ("POST", f"/jobs/{done['id']}/retry"),
        ("POST", f"/jobs/{queued['id']}/pause"),
        ("POST", f"/jobs/{queued['id']}/resume"),
    ]


def test_every_query_has_its_index(busy: Service) -> None:
    found = plans(busy, asking(busy, paths(busy)))

    assert len(found) > 15
    for statement, plan in found.items():
        for step in plan.splitlines():
            # A list without a filter is read in the order of the primary key and stops at the end of the page.
            in_order = "USING INDEX sqlite_autoindex_" in step and "LIMIT" in statement
            # Dispatchers there are only a handful of, and whether there is any key is known at the first.
            small = (
                "SCAN CONSTANT ROW" in step
                or "SCAN dispatchers" in step
                or step == "SCAN api_keys"
                or "SCAN (subquery" in step
                or "SCAN anon_" in step
                or in_order
            )
            assert not step.startswith("SCAN") or small, f"{statement}\n{plan}"


def test_the_next_job_is_found_in_the_order_of_the_line(busy: Service) -> None:
    """However many wait: none is sorted, and those behind the first are not looked at."""
    found = plans(busy, busy.claim)

    (line,) = (plan for said, plan in found.items() if "ORDER BY jobs.priority DESC" in said)
    assert "USING INDEX ix_jobs_queue" in line
    assert "TEMP B-TREE" not in line, line


@pytest.mark.parametrize("tenant_running", ["", "3"], ids=["no limit", "of each tenant"])
def test_the_queue_is_counted_in_its_index_alone(busy: Service, tenant_running: str) -> None:
    """However many wait, none of their rows is read: neither for a place in the line nor to see whether it is full."""
    with busy.db.write() as session:
        told = settings_in(busy.settings.data_dir, PURL_TENANT_RUNNING=tenant_running)
        scheduling.announce(session, told, "dsp_1", "here")
    queued = busy.http.get("/jobs?state=queued").json()["data"][0]

    found = plans(busy, asking(busy, [("GET", f"/jobs/{queued['id']}"), ("POST", "/jobs")]))

    counting = {
        said: plan for said, plan in found.items() if "FROM jobs" in said and ("count(" in said or "OFFSET" in said)
    }
    assert len(counting) == 2, found
    for plan in counting.values():
        looks = [step for step in plan.splitlines() if "jobs" in step]
        assert looks
        assert all("USING COVERING INDEX ix_jobs_" in step for step in looks), plan


@pytest.mark.parametrize(
    "chosen",
    [
        Filter(),
        Filter(state=JobState.QUEUED),
        Filter(model="mlp"),
        Filter(sweep="swp_1"),
        Filter(labels=(("a", "b"),)),
        Filter(created_before=1),
    ],
    ids=["all", "state", "model", "sweep", "label", "time"],
)
def test_a_list_is_read_in_its_own_order(busy: Service, chosen: Filter) -> None:
    """Nothing is sorted, also behind the first page: the first rows are ready as soon as they are found."""
    # As services.tenants has it in every session of a caller.
    query = listing.query(chosen, limit=20, after=encode(new_id("job"))).where(Job.tenant == DEFAULT)
    statement = str(query.compile(busy.db.engine, compile_kwargs={"literal_binds": True}))

    with busy.db.engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}")]

    assert not any("TEMP B-TREE" in step for step in plan), plan
    assert not any(step.startswith("SCAN") for step in plan), plan
