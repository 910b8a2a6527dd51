"""The dashboard's pages as a server gives them: what they say, and what nobody's words can make of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import update

from purlkit import published
from services.launch.protocol import Capacity, Node
from services.tables import Job
from tests.dashboard_scene import HOSTILE, Scene, populate
from tests.integration.over_http import Service, assert_problem, serving


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Scene]]:
    with serving(tmp_path_factory.mktemp("dashboard"), PURL_MAX_RUNNING="10") as service:
        service.empty()
        yield service, populate(service)


def addresses(scene: Scene) -> list[str]:
    return [
        "/",
        "/ui/new",
        f"/ui/jobs/{scene.succeeded}",
        f"/ui/jobs/{scene.failed}",
        f"/ui/jobs/{scene.running}",
        f"/ui/jobs/{scene.queued}",
        f"/ui/jobs/{scene.succeeded}/weights",
        f"/ui/compare?job={scene.succeeded}&job={scene.failed}",
        "/ui/cluster",
    ]


class Elements(HTMLParser):
    """What a browser would make of a page, as far as scripts and styles are concerned."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inline: list[str] = []
        self.loaded: list[str] = []
        self.ids: list[str] = []
        self._script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._script = tag in ("script", "style")
        for name, value in attrs:
            if name.startswith("on") or name == "style" or (value or "").strip().startswith("javascript:"):
                self.inline.append(f"{tag} {name}")
            if name == "src" or (name == "href" and tag == "link"):
                self.loaded.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.inline.append(data)
        self._script = False


def test_no_page_has_anything_inline_or_from_elsewhere(shown: tuple[Service, Scene]) -> None:
    service, scene = shown

    for address in addresses(scene):
        answer = service.http.get(address)

        assert answer.status_code == 200, answer.text
        found = Elements(answer.text)
        assert found.inline == [], address
        assert {at for at in found.loaded if not at.startswith("/ui/static/")} == set()
        assert len(found.ids) == len(set(found.ids)), address
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_what_callers_wrote_is_text(shown: tuple[Service, Scene]) -> None:
    service, scene = shown

    for address in ("/", f"/ui/jobs/{scene.failed}", f"/ui/compare?job={scene.succeeded}&job={scene.failed}"):
        html = service.http.get(address).text

        assert HOSTILE not in html
        assert "&lt;script&gt;document.title" in html
    for field in ("search", "model"):
        assert HOSTILE not in service.http.get("/", params={field: HOSTILE}).text
    assert HOSTILE not in service.http.get("/", params={"label": f"a:{HOSTILE}"}).text


def listed(service: Service, **asked: str) -> set[str]:
    return set(re.findall(r'href="/ui/jobs/(job_\w+)"', service.http.get("/", params=asked).text))


def test_the_list_is_filtered_and_searched(shown: tuple[Service, Scene]) -> None:
    service, scene = shown

    assert listed(service, state="failed") == {scene.failed}
    assert listed(service, search="AT NINETY") == {scene.succeeded}
    assert listed(service, search=scene.paused[:20]) == {scene.paused}
    assert listed(service, search="%") == set(), "a wildcard of SQL"
    assert listed(service, label="team: vision", model="digits-resnet") == {scene.succeeded}
    assert len(listed(service)) == 6
    assert_problem(service.http.get("/", params={"label": "team"}), 422, "invalid_parameter")
    assert_problem(service.http.get("/", params={"state": "ended"}), 422, "invalid_parameter")
    assert_problem(service.http.get("/", params={"search": "\0"}), 422, "invalid_parameter")


def test_a_page_that_is_as_it_was_is_not_sent_again(shown: tuple[Service, Scene]) -> None:
    service, scene = shown
    for address in (f"/ui/jobs/{scene.succeeded}", "/ui/static/style.css"):
        first = service.http.get(address)

        again = service.http.get(address, headers={"If-None-Match": first.headers["etag"]})

        assert (again.status_code, again.content) == (304, b"")


def test_what_is_not_there_is_a_page_that_says_so(shown: tuple[Service, Scene]) -> None:
    service, scene = shown

    for address in (
        "/ui/jobs/job_nothing",
        f"/ui/jobs/{scene.running}/weights",
        "/ui/compare",
        f"/ui/compare?job={scene.failed}",
        f"/ui/compare?job={scene.failed}&job=job_nothing",
        "/ui/compare?" + "&".join(f"job=job_{n}" for n in range(6)),
    ):
        answer = service.http.get(address)
        assert answer.status_code == 404
        assert "<h1>" in answer.text
    assert_problem(service.http.get("/ui/static/..%2Fpages.py"), 404, "not_found")


def test_the_moves_offered_are_those_that_are_legal(shown: tuple[Service, Scene]) -> None:
    service, scene = shown

    def offered(job_id: str) -> list[str]:
        return re.findall(r'data-post="/jobs/\w+/(\w+)"', service.http.get(f"/ui/jobs/{job_id}").text)

    assert offered(scene.queued) == ["pause", "cancel"]
    assert offered(scene.running) == ["pause", "cancel"]
    assert offered(scene.paused) == ["resume", "cancel"]
    assert offered(scene.succeeded) == ["retry"]


def test_every_setting_of_the_form_is_one_of_the_spec(shown: tuple[Service, Scene]) -> None:
    service, _ = shown
    pointers = set(re.findall(r'data-pointer="([^"]+)"', service.http.get("/ui/new").text))
    body = service.job(service.submit()["id"])["spec"]
    service.http.post(f"/jobs/{service.http.get('/jobs').json()['data'][0]['id']}/cancel")

    for pointer in pointers - {"/targets/accuracy", "/targets/max_drop"}:
        at = body
        for part in pointer.strip("/").split("/"):
            assert part in at, pointer
            at = at[part]
    assert len(pointers) > 20


def test_what_another_version_stored_breaks_no_page(service: Service) -> None:
    job_id, other = service.submit()["id"], service.submit()["id"]
    service.claim().beat()
    with service.db.write() as session:
        strange = {"model": "a word", "targets": ["0.9"], "of": {"the": "future"}}
        session.execute(update(Job).where(Job.id == job_id).values(spec=strange, progress={"so": "far"}))

    for address in ("/", f"/ui/jobs/{job_id}", f"/ui/compare?job={job_id}&job={other}", "/ui/cluster"):
        assert service.http.get(address).status_code == 200, address


def test_the_nodes_of_a_cluster_are_listed_and_one_that_is_silent_says_so(tmp_path: Path) -> None:
    with serving(tmp_path, PURL_RAY_ADDRESS="http://127.0.0.1:8265") as service:
        silent = service.http.get("/ui/cluster").text
        nodes = tuple(Node(name=f"10.0.0.{n}", cpus=16, gpus=2, memory=64e9) for n in (1, 2))
        service.launcher.has = Capacity(cpus=32, gpus=4, nodes=nodes)
        told = service.http.get("/ui/cluster").text

    assert "is its head running?" in silent
    row = r'<th scope="row">(10[.\d]+)</th><td class="number">16</td><td class="number">2</td>'
    assert re.findall(row, told) == ["10.0.0.1", "10.0.0.2"]
    assert "64 GB" in told


def test_the_papers_numbers_stand_beside_the_jobs_own(service: Service) -> None:
    spec = {"model": {"name": "resnet50-cifar"}, "targets": {"sparsity": 0.9}}
    known = published.find(model="resnet50-cifar", data="cifar10")
    assert known

    job_id = service.submit(**spec)["id"]
    service.claim().succeed()
    page = service.http.get(f"/ui/jobs/{job_id}").text

    assert f"{known[0].accuracy:g} %</title>" in page
    assert "published" in page
