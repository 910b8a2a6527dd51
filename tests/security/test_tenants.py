"""One tenant never sees, moves or counts another's: by every route, by every query of a route, and by walking."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator

import pytest
from fastapi.routing import APIRoute

from services.testing import an_episode
from tests.integration.over_http import assert_problem
from tests.security.doors import Doors, Someone, a_weights_file, guarded
from tests.statements import asked


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Doors]:
    with guarded(tmp_path_factory.mktemp("tenants")) as made:
        yield made


@pytest.fixture(scope="module")
def alice(doors: Doors) -> Someone:
    return doors.someone("alice")


@pytest.fixture(scope="module")
def bob(doors: Doors) -> Someone:
    return doors.someone("bob")


@pytest.fixture(scope="module")
def done(doors: Doors, alice: Someone) -> str:
    """A job of alice's that has left all that a job leaves."""
    job = alice.submit(name="alice's secret", labels={"team": "secret"})
    worker = doors.service.claim()
    worker.beat()
    worker.say(an_episode(0))
    worker.stage("report.html", b"<p>secret")
    worker.succeed(b"alice's network")
    return job


def test_every_route_answers_404_for_anothers_job(doors: Doors, bob: Someone, done: str) -> None:
    walked = [
        (method, route.path)
        for route in doors.service.routes
        if isinstance(route, APIRoute) and "{job_id}" in route.path
        for method in sorted(route.methods)
    ]
    assert len(walked) > 20
    for method, path in walked:
        at = path.replace("{job_id}", done).replace("{name}", "pruned.safetensors").replace("{number}", "1")

        answer = bob.http.request(method, at)

        assert answer.status_code == 404, f"{method} {path}: {answer.status_code}"
        assert "secret" not in answer.text


def test_anothers_sweep_is_none(alice: Someone, bob: Someone) -> None:
    spec = {"base": {"model": {"name": "digits-resnet"}}, "grid": {"targets.sparsity": [0.5, 0.9]}}
    made = alice.http.post("/sweeps", json=spec)
    assert made.status_code == 202, made.text
    at = made.headers["location"]

    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/pause"), ("POST", "/resume")):
        assert_problem(bob.http.request(method, at + path), 404, "not_found")
    assert bob.http.get("/sweeps").json()["data"] == []
    assert len(alice.http.get("/sweeps").json()["data"]) == 1
    assert alice.http.get(at).status_code == 200


def test_a_stranger_can_not_tell_anothers_id_from_one_that_never_was(bob: Someone, done: str) -> None:
    never = "job_" + "0" * 26

    assert bob.http.get(f"/jobs/{done}").json() == bob.http.get(f"/jobs/{never}").json()


def test_no_list_and_no_page_shows_anothers(alice: Someone, bob: Someone, done: str) -> None:
    for path in ("/jobs", "/jobs?label=team:secret", "/", "/?search=secret", "/ui/cluster", f"/ui/compare?job={done}"):
        for method in ("GET", "HEAD"):
            answer = bob.http.request(method, path)
            assert "secret" not in answer.text.replace("secret</", "").replace('value="secret"', ""), path
            assert done not in answer.text.replace(f"job={done}", ""), path
    assert alice.http.get("/jobs").json()["data"]
    assert bob.http.get("/jobs").json()["data"] == []


def test_what_was_read_for_one_is_not_recalled_for_another(alice: Someone, bob: Someone, done: str) -> None:
    """The same question within the moment for which an answer is kept."""
    for _ in range(5):
        assert alice.http.get(f"/jobs/{done}").status_code == 200
        assert_problem(bob.http.get(f"/jobs/{done}"), 404, "not_found")
        assert bob.http.get("/jobs").json()["data"] == []


def test_an_idempotency_key_is_its_callers_own(alice: Someone, bob: Someone) -> None:
    said = {"Idempotency-Key": "the-same-word"}
    body = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}

    first = alice.http.post("/jobs", json=body, headers=said)
    other = bob.http.post("/jobs", json={**body, "seed": 7}, headers=said)

    assert (first.status_code, other.status_code) == (202, 202)
    assert first.json()["id"] != other.json()["id"]
    assert alice.http.post("/jobs", json=body, headers=said).json()["id"] == first.json()["id"]


def test_weights_are_known_to_those_who_have_sent_them(alice: Someone, bob: Someone) -> None:
    file = a_weights_file(fill=1)
    sha256 = alice.upload(file)
    spec = {"model": {"name": "digits-resnet", "weights": {"sha256": sha256}}, "targets": {"sparsity": 0.9}}

    assert sha256 in alice.http.get("/weights").text
    assert sha256 not in bob.http.get("/weights").text
    assert_problem(bob.http.post("/jobs", json=spec), 422, "missing_weights")
    assert bob.upload(file) == sha256
    assert bob.http.post("/jobs", json=spec).status_code == 202
    assert alice.http.post("/jobs", json=spec).status_code == 202


def test_a_list_of_weights_has_those_that_one_has_sent_oneself(alice: Someone, bob: Someone) -> None:
    sha256 = alice.upload(a_weights_file(fill=3))

    assert sha256 in {one["sha256"] for one in alice.http.get("/weights").json()["data"]}
    assert sha256 not in {one["sha256"] for one in bob.http.get("/weights").json()["data"]}


def test_sending_what_another_has_sent_looks_like_sending_something_new(alice: Someone, bob: Someone) -> None:
    file, kind = a_weights_file(fill=2), {"Content-Type": "application/octet-stream"}

    assert alice.http.post("/weights", content=file, headers=kind).status_code == 201
    assert bob.http.post("/weights", content=file, headers=kind).status_code == 201
    assert bob.http.post("/weights", content=file, headers=kind).status_code == 200


def test_every_query_of_every_route_asks_for_the_tenant(doors: Doors, alice: Someone, done: str) -> None:
    paths = [
        route.path.replace("{job_id}", done).replace("{name}", "pruned.safetensors").replace("{number}", "1")
        for route in doors.service.routes
        if isinstance(route, APIRoute)
        and "GET" in route.methods
        and not route.path.startswith(("/attempts", "/checks"))
    ]
    with asked(doors.service.db) as statements:
        for path in paths:
            alice.http.get(path)
        alice.http.post(f"/jobs/{done}/retry")
        alice.submit()

    looked = {said.sql for said in statements if said.sql.lstrip().startswith(("SELECT", "UPDATE", "DELETE"))}
    about = re.compile(
        r"(?:FROM|JOIN|UPDATE) (jobs|attempts|events|episodes|artifacts|saved_work|weights|log_chunks|checks)\b"
    )
    about_somebody = {said for said in looked if about.search(said)}
    assert len(about_somebody) > 15
    for said in about_somebody:
        scoped = "tenant = ?" in said
        # How long the line is, what is taken, and whether the service is full: scheduling, outlook and quotas.
        of_the_line = ("priority" in said or "OFFSET" in said) and "spec" not in said
        # What the unit of work writes goes to a row that the session has read.
        of_a_row = said.startswith("UPDATE") and re.search(r"WHERE \w+\.id = \? AND \w+\.version = \?", said)
        assert scoped or of_the_line or of_a_row, said


def walk(people: list[Someone], steps: int, seed: int) -> int:
    """Everybody does whatever may be done with any id that was ever seen; returns how often another's was tried."""
    chance = random.Random(seed)
    owners: dict[str, str] = {}
    foreign = 0

    def make(who: Someone) -> None:
        if sum(owner == who.tenant for owner in owners.values()) < 30:
            owners[who.submit(name=f"of {who.tenant}")] = who.tenant

    def look(who: Someone) -> None:
        names = {job["name"] for job in who.http.get("/jobs?limit=100").json()["data"]}
        assert names <= {f"of {who.tenant}"}

    tails: list[tuple[str, str]] = [
        ("GET", ""),
        ("GET", "/events"),
        ("GET", "/episodes"),
        ("GET", "/artifacts"),
        ("GET", "/checkpoint"),
        ("GET", "/attempts/1/log"),
        ("POST", "/pause"),
        ("POST", "/resume"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("DELETE", ""),
    ]

    def touch(who: Someone) -> None:
        nonlocal foreign
        if not owners:
            return
        job = chance.choice(list(owners))
        method, tail = chance.choice(tails)
        answer = who.http.request(method, f"/jobs/{job}{tail}")
        if owners[job] != who.tenant:
            foreign += 1
            assert answer.status_code == 404, (method, tail, answer.text)
            return
        assert answer.status_code < 500
        if method == "DELETE" and answer.status_code == 204:
            del owners[job]
        if tail == "/retry" and answer.status_code == 202:
            owners[answer.json()["id"]] = who.tenant

    deeds: list[Callable[[Someone], None]] = [make, look, touch, touch, touch, touch, touch, touch]
    for _ in range(steps):
        chance.choice(deeds)(chance.choice(people))
    # What others tried has changed nothing: all that is there is its owner's, and is still there.
    for who in people:
        for job in [job for job, owner in owners.items() if owner == who.tenant]:
            assert who.http.get(f"/jobs/{job}").status_code == 200
    return foreign


def test_two_tenants_walk_about_and_never_meet(doors: Doors) -> None:
    people = [doors.someone("carol"), doors.someone("dave")]

    assert walk(people, steps=300, seed=1) > 50


@pytest.mark.long
def test_two_tenants_walk_about_for_5000_steps(doors: Doors) -> None:
    people = [doors.someone("erin"), doors.someone("frank")]

    assert walk(people, steps=5000, seed=2) > 1000
