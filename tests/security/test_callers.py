"""Who gets in where: every route is walked with no key, a wrong one, a worker's token, and keys of every kind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pytest
from fastapi.routing import APIRoute
from sqlalchemy import update

from api.callers import Streams
from services.key_table import ApiKey
from tests.integration.over_http import HttpWorker, Service, assert_problem, serving
from tests.security.doors import Doors, Someone, guarded
from tests.waiting import DEADLINE_SECONDS

# Who asks here need not be anybody.
PUBLIC = {
    "/livez",
    "/readyz",
    "/openapi.json",
    "/docs",
    "/favicon.ico",
    "/ui/login",
    "/ui/logout",
    "/ui/static/{name}",
}


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with guarded(tmp_path_factory.mktemp("doors")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(doors: Doors) -> Someone:
    return doors.someone("alice")


@pytest.fixture(scope="module")
def job(alice: Someone) -> str:
    return alice.submit()


@pytest.fixture(scope="module")
def worker(doors: Doors, job: str) -> HttpWorker:  # noqa: ARG001, its job is what is claimed
    return doors.service.claim()


def routes(service: Service) -> list[tuple[str, str]]:
    """Every method of every address that the application has."""
    walked = [
        (method, route.path)
        for route in service.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods)
    ]
    assert len(walked) > 60
    # That one answers 401 itself.
    return [one for one in walked if one != ("POST", "/ui/login")]


def at(path: str, *, job: str, worker: HttpWorker) -> str:
    known = {
        "{job_id}": job,
        "{attempt_id}": worker.attempt_id,
        "{check_id}": "chk_00000000000000000000000000",
        "{name}": "log",
        "{sweep_id}": "swp_00000000000000000000000000",
        "{number}": "1",
    }
    for word, value in known.items():
        path = path.replace(word, value)
    return path


def is_workers(path: str) -> bool:
    return path.startswith(("/attempts", "/checks"))


def refused(answer: httpx.Response) -> bool:
    """With a problem, or by being shown to the login."""
    return answer.status_code == 401 or (answer.status_code == 303 and answer.headers.get("location") == "/ui/login")


def test_without_a_key_every_door_but_the_public_ones_is_shut(doors: Doors, job: str, worker: HttpWorker) -> None:
    stranger = doors.client()

    for method, path in routes(doors.service):
        answer = stranger.request(method, at(path, job=job, worker=worker))

        assert refused(answer) != (path in PUBLIC), f"{method} {path}: {answer.status_code}"


def test_a_wrong_key_opens_nothing(doors: Doors, alice: Someone, job: str, worker: HttpWorker) -> None:
    forger = doors.client(Authorization=f"Bearer {alice.prefix}_{'A' * 43}")

    for method, path in routes(doors.service):
        answer = forger.request(method, at(path, job=job, worker=worker))

        assert refused(answer) != (path in PUBLIC), f"{method} {path}: {answer.status_code}"


def test_a_workers_token_opens_its_own_attempt_and_nothing_else(doors: Doors, job: str, worker: HttpWorker) -> None:
    bearer = doors.client(Authorization=f"Bearer {worker.token}")

    for method, path in routes(doors.service):
        own = path.startswith("/attempts")
        if path not in PUBLIC and not own:
            answer = bearer.request(method, at(path, job=job, worker=worker))
            assert refused(answer), f"{method} {path}: {answer.status_code}"
    assert bearer.get(f"/attempts/{worker.attempt_id}").status_code == 200


def test_a_token_is_of_one_attempt_and_ends_with_it(doors: Doors, alice: Someone) -> None:
    alice.submit()
    first = doors.service.claim()
    alice.submit()
    second = doors.service.claim()

    assert_problem(first.call("GET", f"/attempts/{second.attempt_id}"), 401, "unauthorized")
    assert first.succeed().status_code == 200
    assert_problem(first.call("GET"), 409, "attempt_superseded")
    assert_problem(first.save("state", b"more"), 409, "attempt_superseded")


def test_an_api_key_opens_no_attempt(doors: Doors, worker: HttpWorker, job: str) -> None:
    """Not even one that is for everything."""
    everything = doors.someone("alice", "read", "submit", "admin")

    for method, path in routes(doors.service):
        if is_workers(path):
            answer = everything.http.request(method, at(path, job=job, worker=worker))
            assert refused(answer), f"{method} {path}: {answer.status_code}"


class TestScopes:
    def test_read_only_looks(self, doors: Doors, job: str) -> None:
        reader = doors.someone("alice", "read")

        assert reader.http.get(f"/jobs/{job}").status_code == 200
        for method, path in routes(doors.service):
            if method not in ("GET", "HEAD") and not is_workers(path) and path not in PUBLIC:
                answer = reader.http.request(method, path.replace("{job_id}", job))
                assert_problem(answer, 403, "forbidden")

    def test_submit_only_makes(self, doors: Doors) -> None:
        writer = doors.someone("alice", "submit")

        assert writer.submit()
        assert_problem(writer.http.get("/jobs"), 403, "forbidden")

    def test_admin_alone_sees_what_is_everybodys(self, doors: Doors, alice: Someone) -> None:
        assert_problem(alice.http.get("/metrics"), 403, "forbidden")
        assert doors.someone("ops", "read", "admin").http.get("/metrics").status_code == 200


class TestTheEndOfAKey:
    def test_revoked_it_is_refused_within_five_seconds(self, doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
        someone = doors.someone("alice")
        assert someone.http.get("/jobs").status_code == 200

        revoke(doors, someone)
        five_seconds_pass(monkeypatch)

        assert someone.http.get("/jobs").status_code == 401

    def test_its_stream_ends_within_five_seconds(self, doors: Doors) -> None:
        """By its looks at the keys, of which a machine that is busy with other tests may keep one waiting."""
        someone = doors.someone("alice")
        job = someone.submit()
        with someone.http.stream("GET", f"/jobs/{job}/events", headers={"Accept": "text/event-stream"}) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("event:")

            revoke(doors, someone)

            started = time.monotonic()
            for _ in lines:
                assert time.monotonic() - started < DEADLINE_SECONDS
        assert Streams.LOOK_SECONDS < 5 / 2

    def test_when_it_was_used_is_noted(self, doors: Doors) -> None:
        someone = doors.someone("alice")
        someone.http.get("/jobs")

        with doors.service.db.read() as session:
            assert session.get_one(ApiKey, someone.prefix).last_used_at is not None


def five_seconds_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is remembered of keys."""
    monkeypatch.setattr("api.callers.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 5))


def revoke(doors: Doors, someone: Someone) -> None:
    with doors.service.db.write() as session:
        session.execute(update(ApiKey).where(ApiKey.prefix == someone.prefix).values(revoked_at=1))


@pytest.fixture(scope="module")
def unlocked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(tmp_path_factory.mktemp("open"), PURL_MAX_RUNNING="10") as service:
        service.empty()
        yield service


class TestAnOpenService:
    def test_needs_no_key_and_says_so_on_the_dashboard(self, unlocked: Service) -> None:
        unlocked.submit()

        assert "Open: whoever uses this machine" in unlocked.http.get("/").text

    def test_refuses_a_token_all_the_same(self, unlocked: Service) -> None:
        unlocked.submit()
        token = unlocked.claim().token

        for path in ("/jobs", "/models", "/metrics"):
            answer = unlocked.http.get(path, headers={"Authorization": f"Bearer {token}"})
            assert_problem(answer, 401, "unauthorized")

    def test_obeys_no_other_sites_page(self, unlocked: Service) -> None:
        job = unlocked.submit()["id"]

        for said in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            assert_problem(unlocked.http.post(f"/jobs/{job}/cancel", headers=said), 403, "cross_site")
        assert unlocked.http.post(f"/jobs/{job}/cancel", headers={"Origin": unlocked.url}).status_code == 202

    def test_is_shut_by_the_first_key(self, unlocked: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        doors = Doors(unlocked)
        assert unlocked.http.get("/jobs").status_code == 200

        doors.someone("default")
        five_seconds_pass(monkeypatch)

        assert unlocked.http.get("/jobs").status_code == 401
        doors.close()


class TestTheDashboard:
    def test_shows_strangers_to_the_login(self, doors: Doors, job: str) -> None:
        stranger = doors.client()

        for page in ("/", f"/ui/jobs/{job}", "/ui/cluster"):
            assert stranger.get(page).headers["location"] == "/ui/login"
        assert stranger.get("/ui/login").status_code == 200
        assert stranger.get("/ui/static/style.css").status_code == 200

    def test_keeps_the_key_where_no_script_and_no_other_site_gets_it(self, doors: Doors, alice: Someone) -> None:
        browser = doors.client()

        entered = browser.post("/ui/login", data={"key": alice.key}, headers={"Origin": doors.service.url})

        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie
        assert browser.get("/").status_code == 200

    def test_over_https_the_cookie_stays_there(self, doors: Doors, alice: Someone) -> None:
        said = {"Origin": "https://purl.example", "Sec-Fetch-Site": "same-origin"}
        entered = doors.client().post("/ui/login", data={"key": alice.key}, headers=said)

        assert "Secure" in entered.headers["set-cookie"]

    def test_a_cookie_moves_nothing_for_another_site(self, doors: Doors, alice: Someone) -> None:
        job = alice.submit()
        browser = doors.client(Cookie=f"purl_key={alice.key}")

        for said in (
            {},
            {"Origin": "https://evil.example"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        ):
            assert_problem(browser.post(f"/jobs/{job}/cancel", headers=said), 403, "cross_site")
        ours = {"Origin": doors.service.url, "Sec-Fetch-Site": "same-origin"}
        assert browser.post(f"/jobs/{job}/cancel", headers=ours).status_code == 202

    def test_refuses_a_wrong_key_and_lets_go_of_a_right_one(self, doors: Doors, alice: Someone) -> None:
        browser = doors.client()

        wrong = browser.post("/ui/login", data={"key": alice.key[:-2]})
        assert wrong.status_code == 401
        assert "set-cookie" not in wrong.headers
        assert alice.key[:-2] not in wrong.text
        browser.post("/ui/login", data={"key": alice.key})
        browser.post("/ui/logout", headers={"Sec-Fetch-Site": "same-origin"})
        assert browser.get("/").status_code == 303
