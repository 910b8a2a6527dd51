"""What a client can look up before it asks for anything."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args

import pytest

from purlkit.results import CheckAnswer, Sight
from purlkit.spec import JobSpec, Search
from purlkit.zoo import catalog
from services.launch import Handle
from tests.integration.over_http import LEAST, Service, assert_problem, reports, serving
from tests.waiting import wait_until


def test_models_with_their_arguments(service: Service) -> None:
    models = {model["name"]: model for model in service.http.get("/models").json()["data"]}

    assert set(models) == set(catalog.MODELS)
    assert len(service.http.get("/models", params={"provider": "torchvision"}).json()["data"]) == 80
    assert models["digits-resnet"]["dataset"] == "digits"
    assert models["digits-resnet"]["options"]["width"] | {"about": ""} == {
        "default": 16,
        "low": 1,
        "high": 512,
        "about": "",
    }


def test_a_data_set_is_available_when_its_files_are_here(service: Service) -> None:
    def cifar10() -> tuple[bool, str | None]:
        (found,) = (one for one in service.http.get("/datasets").json()["data"] if one["name"] == "cifar10")
        return found["available"], found["reason"]

    before = cifar10()
    (service.settings.datasets_dir / "cifar-10-batches-py").mkdir(parents=True)
    after = cifar10()
    shutil.rmtree(service.settings.datasets_dir)

    assert before == (False, catalog.DATASETS["cifar10"].layout)
    assert "cifar-10-batches-py with data_batch_1" in catalog.DATASETS["cifar10"].layout
    assert after == (True, None)


def test_a_data_set_that_comes_in_a_package_is_always_available(service: Service) -> None:
    (digits,) = (one for one in service.http.get("/datasets").json()["data"] if one["name"] == "digits")

    assert (digits["available"], digits["reason"], digits["shape"], digits["classes"]) == (True, None, [1, 8, 8], 10)


def test_a_data_set_that_may_be_fetched_is_available(tmp_path: Path) -> None:
    with serving(tmp_path, PURL_DOWNLOAD="1") as service:
        data = {one["name"]: one for one in service.http.get("/datasets").json()["data"]}
        service.http.post("/jobs", params={"dry_run": "true"}, json=LEAST)

        assert data["cifar100"]["available"] is True
        assert data["cifar100"]["reason"] == "the first job that uses it fetches it"
        assert data["imagenet"]["available"] is False
        assert [launch.env["PURL_DOWNLOAD"] for launch in service.launcher.launches] == ["1"]


IN_S3 = {"PURL_DATASETS_DIR": "s3://data/sets"}


def seen_by(service: Service) -> dict[str, tuple[bool, str | None]]:
    return {one["name"]: (one["available"], one["reason"]) for one in service.http.get("/datasets").json()["data"]}


def test_where_the_service_can_not_look_itself_a_worker_is_asked(tmp_path: Path) -> None:
    sights = tuple(
        Sight(name=name, reason="imagenet/val is missing" if name == "imagenet" else None)
        for name in catalog.DATASETS
        if name != "har"
    )
    with serving(tmp_path, **IN_S3) as service:
        service.launcher.checker = reports(CheckAnswer(runnable=True, datasets=sights))

        first, second = seen_by(service), seen_by(service)

        assert len(service.launcher.launches) == 1, "what it said is remembered for a while"
        assert service.launcher.launches[0].env["PURL_DATASETS_DIR"] == "s3://data/sets"
        assert first == second
        assert first["imagenet"] == (False, "imagenet/val is missing")
        assert first["image-folder"] == (True, None)
        assert first["har"] == (False, "the workers don't know it: install its package on every node")


def test_a_dry_run_is_a_look_as_well(tmp_path: Path) -> None:
    with serving(tmp_path, **IN_S3) as service:
        service.launcher.checker = reports(CheckAnswer(runnable=True, datasets=(Sight(name="digits"),)))
        told = service.http.post("/jobs", params={"dry_run": "true"}, json=LEAST).json()

        assert seen_by(service)["digits"] == (True, None)

        assert len(service.launcher.launches) == 1
        assert "datasets" not in told


def test_workers_that_can_not_be_asked_are_the_reason(tmp_path: Path) -> None:
    with serving(tmp_path, **IN_S3) as service:
        service.launcher.why = "Ray says FAILED"

        seen = seen_by(service)

    assert seen["cifar10"] == (False, "the workers could not be asked: Ray says FAILED")
    assert seen["digits"] == (True, None)


def test_workers_that_do_not_answer_are_waited_for_once_by_all_who_ask_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(tmp_path, **IN_S3, PURL_CHECK_SECONDS="0.3") as service, ThreadPoolExecutor(4) as callers:
        service.launcher.hangs = True
        launch, lock = service.launcher.launch, service.parts.looking.lock

        def launch_when_all_have_come(*args: Any, **kwargs: Any) -> Handle:
            wait_until("the others wait for the first", lambda: len(lock._waiters or ()) == 3)
            return launch(*args, **kwargs)

        with monkeypatch.context() as first:
            first.setattr(service.launcher, "launch", launch_when_all_have_come)
            told = list(callers.map(lambda _: seen_by(service), range(4)))
        assert len(service.launcher.launches) == 1
        seen_by(service)

        assert len(service.launcher.launches) == 2, "who comes later asks anew"
    assert {seen["cifar10"][0] for seen in told} == {False}
    assert "the check took longer than 0.3 s" in str(told[-1]["cifar10"][1])


def test_timms_names_come_when_asked_for(service: Service) -> None:
    names = [model["name"] for model in service.http.get("/models", params={"provider": "timm"}).json()["data"]]

    assert "timm/resnet18" in names
    assert all(name.startswith("timm/") for name in names)
    assert service.http.get("/models", params={"provider": "nobody"}).status_code == 422
    assert service.http.get("/models", params={"provider": "plugin"}).json()["data"] == []


def test_the_algorithms_are_those_that_a_spec_may_name(service: Service) -> None:
    algorithms = service.http.get("/algorithms").json()["data"]

    def named(role: str) -> set[str]:
        return {one["name"] for one in algorithms if one["role"] == role}

    assert named("search") == set(get_args(Search.model_fields["algorithm"].annotation))
    (member, _) = get_args(JobSpec.model_fields["baselines"].annotation)
    assert named("baseline") == set(get_args(member))


def test_a_service_that_works_says_so(service: Service) -> None:
    assert service.http.get("/livez").json() == {"status": "ok"}
    assert service.http.get("/readyz").json() == {"status": "ok"}


@pytest.mark.parametrize("broken", ["database", "store"])
def test_a_service_that_can_not_work_lives_but_is_not_ready(tmp_path: Path, broken: str) -> None:
    with serving(tmp_path) as service:
        if broken == "database":
            with service.db.engine.begin() as connection:
                connection.exec_driver_sql("DELETE FROM alembic_version")
        else:
            shutil.rmtree(service.settings.artifacts)

        problem = assert_problem(service.http.get("/readyz"), 503, "not_ready")

        assert broken in problem["detail"]
        assert service.http.get("/livez").status_code == 200


def test_the_document_describes_every_route_and_the_least_job(service: Service) -> None:
    document = service.http.get("/openapi.json").json()

    body = document["paths"]["/jobs"]["post"]["requestBody"]["content"]["application/json"]
    assert body["example"] == LEAST
    assert body["schema"] == {"$ref": "#/components/schemas/JobSpec"}
    assert document["components"]["schemas"]["JobSpec"]["additionalProperties"] is False
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["tags"], (method, path)
            assert operation["summary"], (method, path)
            refusals = {status: answer for status, answer in operation["responses"].items() if status >= "4"}
            assert all("application/problem+json" in answer["content"] for answer in refusals.values()), (method, path)
            assert "default" in refusals


def test_every_reference_of_the_document_leads_somewhere(service: Service) -> None:
    document = service.http.get("/openapi.json").json()
    schemas = document["components"]["schemas"]

    def references(node: object) -> set[str]:
        if isinstance(node, dict):
            own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
            return own.union(*(references(inner) for inner in node.values()))
        return set().union(*(references(inner) for inner in node)) if isinstance(node, list) else set()

    assert {reference.removeprefix("#/components/schemas/") for reference in references(document)} == set(schemas)


def test_recipes_can_be_looked_up_and_posted(service: Service) -> None:
    listed = {one["name"]: one for one in service.http.get("/recipes").json()["data"]}
    name = "global-mp-resnet32-cifar-90"

    body = service.http.get(f"/recipes/{name}/spec")
    posted = service.http.post("/jobs", content=body.content, headers={"Content-Type": "application/json"})

    assert listed[name]["published"][0]["accuracy"] == 92.67
    assert body.json() == listed[name]["spec"]
    assert posted.status_code == 202
    assert posted.json()["spec"]["fine_tune"]["epochs"] == 300
    assert_problem(service.http.get("/recipes/nothing/spec"), 404, "not_found")
