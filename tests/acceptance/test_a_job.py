"""A job from POST /jobs to a verified checkpoint, with real Ray and RLlib, and what goes wrong with jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

import purlkit
from purlkit import Mask, prunable_layers
from purlkit.checkpoint import fingerprint
from purlkit.checkpoint.onnx_file import verify_onnx
from purlkit.results import CHECKPOINT, COMPRESSED, ONNX, POLICY, RESULT, WEIGHTS, WeightsReport, of_target
from purlkit.spec import Dataset, Training
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.zoo import catalog, datasets, small
from tests.acceptance.running import JOB_SECONDS, PATIENT, SMALL_JOB, RunningService, serving
from tests.waiting import wait_until

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    yield from serving(tmp_path_factory.mktemp("jobs") / "data", **PATIENT)


@pytest.fixture(scope="module")
def mine() -> torch.nn.Module:
    """A network of the client's own, which the service never trained."""
    model = the_model()
    train(model, datasets.load(Dataset(name="digits"), Path()).train, Training(epochs=5), seed=0)
    return model


@pytest.fixture(scope="module")
def watched(service: RunningService, mine: torch.nn.Module) -> tuple[dict[str, Any], bytes]:
    """The client's own network at two targets, each with a short search and a race of every method; and what its log
    said early on. One runner plays: the demo's test and others have two."""
    binary = {"Content-Type": "application/octet-stream"}
    uploaded = service.http.post("/weights", content=save(mine.state_dict()), headers=binary).json()
    search = {**SMALL_JOB["search"], "episodes": 4, "warm_start": True}
    changes = {
        "model": {**SMALL_JOB["model"], "weights": {"sha256": uploaded["sha256"]}},
        "targets": {"sparsity": [0.5, 0.8]},
        "search": search,
        "baselines": sorted(catalog.BASELINES),
        "resources": {"env_runners": 1},
    }
    job_id = service.submit({**SMALL_JOB, **changes})

    def said() -> bytes | None:
        log = service.http.get(f"/jobs/{job_id}/attempts/1/log")
        return log.content if b"phase: dense" in log.content else None

    early = wait_until("its log can be read", said, seconds=JOB_SECONDS)
    assert service.job(job_id)["state"] == "running"
    return service.ended(job_id), early


@pytest.fixture(scope="module")
def done(watched: tuple[dict[str, Any], bytes]) -> dict[str, Any]:
    return watched[0]


def test_a_log_that_is_read_early_is_how_the_whole_one_begins(
    service: RunningService, watched: tuple[dict[str, Any], bytes]
) -> None:
    job, early = watched
    whole = service.http.get(job["attempts"][0]["log"]).content

    assert whole.startswith(early)
    assert b"phase: publish" not in early
    assert b"phase: publish" in whole


def the_model() -> torch.nn.Module:
    return small.mlp(hidden=32)


def test_the_job_succeeds_with_a_result_that_adds_up(done: dict[str, Any]) -> None:
    assert done["state"] == "succeeded", done["error"]
    result = done["result"]
    assert [point["target"] for point in result["points"]] == [0.5, 0.8]
    assert result["met_up_to"] == 0.8  # no accuracy was asked for
    assert result["sparsity"] == pytest.approx(0.8, abs=0.001)
    assert {c["method"] for c in result["candidates"]} == {"purl", *catalog.BASELINES}
    assert all(c["sparsity"] == pytest.approx(c["target"], abs=0.001) for c in result["candidates"])
    assert " ships" in result["verdict"]
    assert result["verdict"] == result["points"][-1]["verdict"]
    assert done["error"] is None
    assert [attempt["state"] for attempt in done["attempts"]] == ["succeeded"]
    assert done["progress"]["fraction"] == 1


def test_the_checkpoint_is_what_the_result_says(service: RunningService, done: dict[str, Any]) -> None:
    told = done["result"]["checkpoint"]
    answer = service.http.get(told["href"])

    assert hashlib.sha256(answer.content).hexdigest() == told["sha256"]
    assert answer.headers["etag"] == f'"{told["sha256"]}"'
    model = the_model()
    model.load_state_dict(load(answer.content))
    mask = Mask.from_weights(prunable_layers(model))
    assert mask.sparsity == done["result"]["sparsity"]
    assert mask.total == done["result"]["prunable_weights"] == 64 * 32 + 32 * 32 + 32 * 10
    test = datasets.load(Dataset(name="digits"), Path()).test
    assert accuracy(model, test) == done["result"]["accuracy"]["fine_tuned"]


def test_the_other_files_hold_the_same_network(service: RunningService, done: dict[str, Any], tmp_path: Path) -> None:
    listed = service.http.get(done["links"]["artifacts"]).json()["data"]
    names = {artifact["name"] for artifact in listed}
    of = {kind: of_target(kind, 0.8, targets=2) for kind in (CHECKPOINT, COMPRESSED, ONNX, WEIGHTS, POLICY)}
    assert names >= {*of.values(), RESULT}
    for kind in (CHECKPOINT, COMPRESSED, ONNX):
        (tmp_path / kind).write_bytes(service.http.get(f"{done['links']['artifacts']}/{of[kind]}").content)
    plain, packed = the_model(), the_model()

    purlkit.load(tmp_path / CHECKPOINT, plain)
    purlkit.load(tmp_path / COMPRESSED, packed)

    assert fingerprint(plain) == fingerprint(packed)
    verify_onnx(tmp_path / ONNX, plain, datasets.load(Dataset(name="digits"), Path()).test.x)
    spread = WeightsReport.model_validate_json(service.http.get(f"{done['links']['artifacts']}/{of[WEIGHTS]}").content)
    assert spread.method == done["result"]["winner"]["method"]
    assert sum(layer.pruned.weights for layer in spread.layers) == Mask.from_weights(prunable_layers(plain)).kept


def test_what_it_costs_is_told_of_every_candidate(done: dict[str, Any]) -> None:
    result = done["result"]

    assert result["flops"]["speed_up"] == pytest.approx(5.0, rel=0.01)  # each weight of linear layers is used once
    assert result["flops"] in [candidate["cost"] for candidate in result["candidates"]]
    assert result["accuracy"]["fine_tuned"] <= result["top5_accuracy"] <= 1


def test_each_target_has_a_checkpoint_and_the_headline_is_the_highest(
    service: RunningService, done: dict[str, Any]
) -> None:
    for point in done["result"]["points"]:
        model = the_model()
        answer = service.http.get(point["checkpoint"]["href"])
        assert hashlib.sha256(answer.content).hexdigest() == point["checkpoint"]["sha256"]
        model.load_state_dict(load(answer.content))
        assert Mask.from_weights(prunable_layers(model)).sparsity == point["sparsity"]
    assert done["result"]["checkpoint"]["sha256"] == done["result"]["points"][-1]["checkpoint"]["sha256"]
    missing = service.http.get(f"/jobs/{done['id']}/checkpoint", params={"sparsity": 0.6})
    assert missing.status_code == 404
    assert missing.json()["detail"].endswith("ask for one of 0.5, 0.8")


def test_its_report_says_every_verdict_and_where_it_comes_from(service: RunningService, done: dict[str, Any]) -> None:
    page = service.http.get(done["links"]["report"])

    assert page.headers["content-type"].startswith("text/html")
    said = unescape(page.text)
    assert [point["verdict"] in said for point in done["result"]["points"]] == [True] * 2
    assert done["id"] in said
    assert done["result"]["checkpoint"]["sha256"] in said
    assert said.count("exploring") == 2  # in both pictures of the search


def test_every_episode_is_on_record_once(service: RunningService, done: dict[str, Any]) -> None:
    episodes = service.episodes(done["id"])

    assert [episode["index"] for episode in episodes] == list(range(8))
    assert {episode["runner"] for episode in episodes} == {1}
    assert all(len(episode["actions"]) == 3 for episode in episodes)
    assert [episode["point"] for episode in episodes] == [0] * 4 + [1] * 4
    assert len(service.episodes(done["id"], kind="greedy")) == 2 * 2


def test_uploaded_weights_are_pruned_instead_of_trained_ones(done: dict[str, Any], mine: torch.nn.Module) -> None:
    test = datasets.load(Dataset(name="digits"), Path()).test

    assert done["result"]["accuracy"]["dense"] == accuracy(mine, test)


def test_a_driver_that_raises_fails_the_job_with_code_message_and_log(service: RunningService) -> None:
    search = {**SMALL_JOB["search"], "lookahead": 64}
    job = service.ended(service.submit({**SMALL_JOB, "search": search, "resources": {"env_runners": 64}}))

    assert job["state"] == "failed"
    assert job["result"] is None
    assert job["error"]["code"] == "not_enough_resources"
    assert "runners of this size, not 64" in job["error"]["message"]
    log = service.http.get(f"/jobs/{job['id']}/artifacts/attempt.log")
    assert "NotEnoughResources" in log.text


def test_what_only_torch_can_know_fails_the_first_phase(service: RunningService) -> None:
    job = service.ended(service.submit({**SMALL_JOB, "dataset": {"name": "cifar10"}}))

    assert job["state"] == "failed"
    assert job["phase"] == "checking"
    assert job["error"]["code"] == "missing_data"


class TestDryRun:
    def ask(self, service: RunningService, **changes: Any) -> dict[str, Any]:
        body = {**SMALL_JOB, **changes}
        answer = service.http.post("/jobs", params={"dry_run": "true"}, json=body, timeout=JOB_SECONDS)
        assert answer.status_code == 200, answer.text
        report: dict[str, Any] = answer.json()
        return report

    # Its layers are counted in tests/unit/test_layers.py too; here a dry run of the other is enough.
    @pytest.mark.parametrize(
        ("name", "layers"), [("resnet50", 54), pytest.param("efficientnet_b2", 116, marks=pytest.mark.long)]
    )
    def test_it_tells_layers_and_steps_and_makes_no_job(self, service: RunningService, name: str, layers: int) -> None:
        before = service.http.get("/jobs").json()
        # Small images: some steps of training are part of it, and take seconds at the usual 224.
        images = {"name": "procedural", "kwargs": {"shape": [3, 64, 64], "classes": 1000}}

        report = self.ask(service, model={"name": name}, dataset=images)

        assert report["runnable"] is True, report["reasons"]
        assert len(report["layers"]) == layers
        assert report["prunable_weights"] == sum(layer["weights"] for layer in report["layers"]) > 7_000_000
        assert report["steps"] == (12 + 2) * layers
        assert service.http.get("/jobs").json() == before

    def test_every_reason_against_it_is_told_with_layers_and_range(self, service: RunningService) -> None:
        """No policy can reach the target, and the data are not here."""
        report = self.ask(service, targets={"sparsity": 0.99999}, dataset={"name": "cifar10"})

        assert report["runnable"] is False
        unreachable, missing = report["reasons"]
        assert (unreachable["code"], unreachable["at"]) == ("unreachable_sparsity", "/targets/sparsity")
        assert (missing["code"], missing["at"]) == ("missing_data", "/dataset/name")
        assert len(report["layers"]) == 3
        low, high = report["sparsity_range"]
        assert low == 0
        assert high == pytest.approx(1 - 3 / (3 * 32 * 32 * 32 + 32 * 32 + 32 * 10))
