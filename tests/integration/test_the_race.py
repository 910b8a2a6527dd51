"""Races on a real Ray, in jobs whose searches are over: what they choose, how they go on, what they refuse to ship."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from pyarrow import parquet
from safetensors.torch import load

from purlkit import Mask, baselines, checkpoint, prunable_layers
from purlkit.errors import CannotExport
from purlkit.results import Episode, Finish, Outcome
from purlkit.spec import FineTune, JobSpec, Race, Training
from purlkit.training.data import Images
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from purlkit.verdict import Paired
from purlkit.zoo import datasets, models
from tests.local_job import LocalLink, local_job
from workers import cluster, files, outcome, pipeline, run
from workers.calls import Interrupted
from workers.found import Found
from workers.holding import hold
from workers.pulse import Pulse
from workers.race import Track, race
from workers.tuning import Entrant

SPEC = JobSpec.model_validate(
    {
        "model": {"name": "mlp", "kwargs": {"hidden": 32}},
        "targets": {"sparsity": [0.5, 0.8, 0.9], "accuracy": 0.8},
        "search": {"episodes": 4, "retrain": {"images": 200}},
        "baselines": ["global", "lamp", "random"],
        "fine_tune": {"epochs": 3},
        "race": {"budget": 30_000, "seeds": 2},
        "resources": {"cpus_per_runner": 1},
    }
).resolve()
SPLITS = datasets.load(SPEC.data, Path())


@pytest.fixture(scope="module", autouse=True)
def one_cluster() -> Iterator[None]:
    """One Ray for all jobs of this file."""
    with cluster.connected(""), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.cluster, "connected", lambda *_, **__: contextlib.nullcontext())
        yield


def a_walk(index: int, *actions: int, reward: float = -1.0, kind: Any = "search") -> Episode:
    return Episode(
        index=index,
        kind=kind,
        actions=actions,
        rewards=(reward,) * 3,
        accuracies=(0.5,) * 3,
        sparsities=(0.1, 0.2, 0.3),
        seconds=1.0,
        runner=1,
        weights_version=0,
    )


def trained(spec: JobSpec, images: Images, training: Training) -> dict[str, torch.Tensor]:
    model = models.build_for(spec)
    train(model, images, training, seed=0)
    return checkpoint.tensors_of(model)


def network(spec: JobSpec, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    model = models.build_for(spec)
    checkpoint.load_into(model, tensors)
    return model


@pytest.fixture(scope="module")
def searched() -> dict[str, bytes]:
    """What an attempt has saved when all its searches are over: two policies that differ."""
    walks = [a_walk(0, 3, 4, 1, reward=-0.1), *(a_walk(i, 1, 1, 1) for i in range(1, 4))]
    found = Found(walks, [a_walk(0, 2, 3, 0, kind="greedy")], seconds=2.0, images=2000).to_bytes()
    dense = checkpoint.to_bytes(trained(SPEC, SPLITS.train, Training(epochs=5)), metadata={})
    return {"dense": dense, "found": found, "found-p1": found, "found-p2": found}


@pytest.fixture
def no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a network that torch can't write as ONNX: that takes as long as the rest, for a test of something else."""

    def refused(*_: Any) -> None:
        raise CannotExport("not here")

    monkeypatch.setattr(files, "write_onnx", refused)


def done(spec: JobSpec, folder: Path, saved: dict[str, bytes]) -> tuple[Finish, LocalLink]:
    job, link = local_job(spec, folder, saved)
    return run._run(job), link


@pytest.fixture(scope="module")
def curve(searched: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> tuple[Finish, LocalLink]:
    """The job with three sparsities, undisturbed."""
    finish, link = done(SPEC, tmp_path_factory.mktemp("curve"), searched)
    assert finish.outcome is Outcome.SUCCEEDED, finish.error
    return finish, link


def test_three_sparsities_give_three_verified_checkpoints_and_a_front(curve: tuple[Finish, LocalLink]) -> None:
    finish, link = curve
    result = finish.result
    assert result is not None

    assert [point.target for point in result.points] == [0.5, 0.8, 0.9]
    for point in result.points:
        model = models.build_for(SPEC)
        model.load_state_dict(load(link.artifacts[point.checkpoint.name]))
        assert Mask.from_weights(prunable_layers(model)).sparsity == point.sparsity
        assert point.sparsity == pytest.approx(point.target, abs=0.001)
        assert accuracy(model, SPLITS.test) == point.accuracy.fine_tuned
        assert checkpoint.sha256(link.artifacts[point.checkpoint.name]) == point.checkpoint.sha256
        assert point.targets_met == (point.accuracy.fine_tuned >= 0.8)
    best = max(result.points, key=lambda point: point.accuracy.fine_tuned)
    assert best.target in result.front.sparsity
    assert 0.9 in result.front.sparsity
    met = [point.target for point in result.points if point.targets_met]
    assert result.met_up_to == met[-1]
    assert result.checkpoint.name == f"pruned-{met[-1]}.safetensors"


def test_the_files_of_a_job(curve: tuple[Finish, LocalLink]) -> None:
    finish, link = curve

    each = {
        f"{name}-{target}.{rest}"
        for target in SPEC.points
        for name, rest in (
            ("pruned", "safetensors"),
            ("pruned", "safetensors.gz"),
            ("pruned", "onnx"),
            ("policy", "json"),
            ("weights", "json"),
        )
    }
    assert set(finish.artifacts) == set(link.artifacts) == {*each, "episodes.parquet", "result.json", "report.html"}
    rows = parquet.read_table(io.BytesIO(link.artifacts["episodes.parquet"])).to_pylist()
    assert [(row["kind"], row["index"], row["point"]) for row in rows][:6] == [
        *(("search", index, 0) for index in range(4)),
        ("greedy", 0, 0),
        ("search", 4, 1),
    ]
    policy = json.loads(link.artifacts["policy-0.8.json"])
    assert set(policy["alphas"]) == {"purl-mean", "purl-best", "random"}
    assert [layer["sparsity"] for layer in policy["layers"]["lamp"]]


def test_the_report_of_a_whole_job_is_one_small_file_that_tells_all_of_it(curve: tuple[Finish, LocalLink]) -> None:
    finish, link = curve
    html = link.artifacts["report.html"].decode()
    assert finish.result is not None

    said = unescape(html)
    assert said.index(finish.result.verdict) < said.index("<h2>")
    for point in finish.result.points:
        assert point.verdict in said
        assert point.checkpoint.sha256 in said
    for candidate in finish.result.candidates:
        assert candidate.mask_sha256 in said
    for fact in (SPEC.fingerprint, finish.result.dense_sha256, "test 297", "search.retrain.images", "torch"):
        assert fact in said
    assert said.count('<details name="weights"') == 3  # layers, of the headline's network
    assert all(f"{stage}: " in said for stage in ("dense", "pruned", "fine-tuned"))
    assert len(html.encode()) < 200_000
    assert re.findall(r"<script|src=|href|url\(|@import", html) == []


def test_every_candidate_is_at_its_target_and_stopped_at_a_rung(curve: tuple[Finish, LocalLink]) -> None:
    finish, link = curve
    assert finish.result is not None
    candidates = [candidate for candidate in finish.result.candidates if candidate.target == 0.8]

    assert [(c.method, c.variant) for c in candidates] == [
        ("purl", "mean"),
        ("purl", "best"),
        ("global", None),
        ("lamp", None),
        ("random", None),
    ]
    assert all(c.sparsity == pytest.approx(0.8, abs=0.001) for c in candidates)
    # Rungs after 1 and 3 epochs. Three climb the second; of those at least two are fine-tuned with another seed.
    assert sorted((c.epochs, c.seeds) for c in candidates)[:2] == [(1, 1), (1, 1)]
    assert sorted((c.epochs, c.seeds) for c in candidates)[3:] == [(3, 2), (3, 2)]
    for c in candidates:
        assert c.images_seen == {"purl": 2000, "random": 4 * 200}.get(c.method, 0) + c.epochs * c.seeds * 1000
    rungs = [data for type, data in link.events if type == "rung" and data["target"] == 0.8]
    assert [(rung["epochs"], rung["seeds"], len(rung["candidates"])) for rung in rungs[:2]] == [(1, 1, 5), (3, 1, 3)]
    assert rungs[2]["seeds"] == 2


@pytest.mark.usefixtures("no_onnx")
def test_a_job_killed_in_mid_race_goes_on_from_its_saved_rungs_to_the_same_bits(
    curve: tuple[Finish, LocalLink], searched: dict[str, bytes], tmp_path: Path
) -> None:
    job, link = local_job(SPEC, tmp_path / "killed", searched)

    def after_the_seventh_run(_: str) -> None:
        if len([name for name in link.newly_saved if name.startswith("run-")]) == 7:
            link.interrupted = Interrupted("pause")

    link.on_save = after_the_seventh_run
    assert run._run(job).outcome is Outcome.PAUSED

    finish, again = done(SPEC, tmp_path / "resumed", link.saved)

    assert finish.outcome is Outcome.SUCCEEDED, finish.error
    assert finish.result is not None
    assert curve[0].result is not None
    assert told(finish.result.candidates) == told(curve[0].result.candidates)
    for point in SPEC.points:
        name = f"pruned-{point}.safetensors"
        assert again.artifacts[name] == curve[1].artifacts[name]
    assert all(again.saved[name] != link.saved[name] for name in set(again.newly_saved) & set(link.newly_saved))


def told(candidates: Any) -> list[Any]:
    return [
        (c.method, c.variant, c.target, c.mask_sha256, c.epochs, c.seeds, c.select_accuracy, c.accuracy, c.images_seen)
        for c in candidates
    ]


@pytest.mark.parametrize("place", [-1, 3000], ids=["a-bit-of-a-weight", "more-of-it"])
def test_a_corrupted_written_file_fails_the_job(
    curve: tuple[Finish, LocalLink], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    def write(path: Path, content: bytes) -> None:
        spoilt = bytearray(content)
        spoilt[place] ^= 1
        path.write_bytes(bytes(spoilt))

    monkeypatch.setattr(outcome, "write", write)

    finish, link = done(SPEC, tmp_path, curve[1].saved)

    assert finish.outcome is Outcome.FAILED
    assert finish.result is None
    assert link.artifacts == {}
    assert finish.error is not None
    assert (finish.error.code, finish.error.retryable) == ("verification_failed", False)


def cut(method: str, spec: JobSpec, tensors: dict[str, torch.Tensor]) -> Mask:
    mask: Mask = baselines.method(method)(prunable_layers(network(spec, tensors)), spec.target)
    return mask


@pytest.mark.usefixtures("no_onnx")
def test_a_planted_candidate_that_is_worse_on_test_ships_for_nobody_looks_at_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its network knows the reward images, and has learnt by heart a wrong class for each test image."""
    body = SPEC.model_dump() | {"model": {"name": "mlp", "kwargs": {"hidden": 256}}, "targets": {"sparsity": 0.05}}
    body |= {"baselines": ["lamp"], "fine_tune": {"epochs": 1, "learning_rate": 1e-4}}
    spec = JobSpec.model_validate(body)
    wrong = Images(SPLITS.test.x, (SPLITS.test.y + 1) % 10)
    parts = SPLITS.train[:300], SPLITS.reward, wrong, wrong
    by_heart = Training(epochs=60, weight_decay=0)
    planted = trained(spec, Images(torch.cat([p.x for p in parts]), torch.cat([p.y for p in parts])), by_heart)
    honest = trained(spec, SPLITS.train[:100], Training(epochs=2))
    entrant = Entrant("purl", "mean", cut("lamp", spec, planted), images=1000, tensors=planted)
    monkeypatch.setattr(pipeline.candidates, "mean_policy", lambda *_: entrant)
    monkeypatch.setattr(pipeline.candidates, "best_episode", lambda *_: None)
    saved = {"dense": checkpoint.to_bytes(honest, metadata={}), "found": Found([], [], 0.0, 0).to_bytes()}

    finish, _ = done(spec, tmp_path, saved)

    assert finish.result is not None, finish.error
    search, lamp = finish.result.candidates
    assert accuracy(network(spec, planted), SPLITS.reward) > accuracy(network(spec, honest), SPLITS.reward)
    assert search.accuracy < lamp.accuracy
    assert finish.result.winner.method == "purl"
    assert "which is the other order" in finish.result.verdict


@pytest.mark.usefixtures("no_onnx")
def test_a_candidate_that_diverges_loses_and_the_result_says_why(
    searched: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPEC.at(0.8).model_copy(update={"baselines": ("lamp",), "fine_tune": FineTune(epochs=1)})
    dense = checkpoint.from_bytes(searched["dense"])[0]
    huge = {name: tensor * 1e6 if name.endswith("weight") else tensor for name, tensor in dense.items()}
    entrant = Entrant("purl", "mean", cut("lamp", spec, dense), images=1000, tensors=huge)
    monkeypatch.setattr(pipeline.candidates, "mean_policy", lambda *_: entrant)
    monkeypatch.setattr(pipeline.candidates, "best_episode", lambda *_: None)

    finish, _ = done(spec, tmp_path, searched)

    assert finish.result is not None, finish.error
    lost, lamp = finish.result.candidates
    assert lost.diverged == "the training diverged in epoch 1 of 1: lower its learning_rate"
    assert (lost.epochs, lost.select_accuracy, lost.images_seen) == (0, lost.accuracy_pruned, 2000)
    assert (lamp.epochs, lamp.diverged, finish.result.winner.method) == (1, None, "lamp")
    assert finish.result.verdict.endswith("Lost, for the fine-tuning diverged: PuRL's mean policy.")


@pytest.mark.usefixtures("no_onnx")
def test_a_target_of_multiply_adds_is_met_by_all_and_counted_from_the_file(
    searched: dict[str, bytes], tmp_path: Path
) -> None:
    body = SPEC.model_dump() | {"targets": {"flops": 0.6}, "baselines": ["lamp", "random"], "fine_tune": {"epochs": 1}}

    finish, link = done(JobSpec.model_validate(body), tmp_path, searched)

    assert finish.result is not None, finish.error
    [point] = finish.result.points
    assert (point.goal, point.target, point.targets_met) == ("flops", 0.6, True), point.reason
    model = network(SPEC, load(link.artifacts[point.checkpoint.name]))
    # Each weight of linear layers is used once, so here the share of weights is that of multiply-adds.
    assert Mask.from_weights(prunable_layers(model)).sparsity == pytest.approx(0.6, abs=0.001)
    costs = [candidate.cost.flops_pruned for candidate in finish.result.candidates if candidate.cost]
    assert costs == [pytest.approx(0.6, abs=0.001)] * 4
    assert "with 60.0 % of the multiply-adds removed" in finish.result.verdict


def a_track(spec: JobSpec, dense: dict[str, torch.Tensor], saved: dict[str, bytes]) -> Track:
    pulse = Pulse(already=0).actor
    return Track(spec, ray.put(dense), hold(SPLITS, spec), pulse, {}.get, saved.__setitem__, lambda: None)


def test_equal_masks_are_fine_tuned_once_and_the_cheaper_ships(searched: dict[str, bytes]) -> None:
    dense, saved = checkpoint.from_bytes(searched["dense"])[0], {}
    mask = cut("lamp", SPEC.at(0.8), dense)
    entrants = [Entrant("purl", "mean", mask, images=5000), Entrant("lamp", None, mask)]

    over = race(a_track(SPEC.at(0.8), dense, saved), entrants, images=1000, on_rung=lambda *_: None)

    assert list(saved) == ["run-purl-mean-0"]
    assert [placed.entrant.method for placed in over.placed] == ["purl", "lamp"]
    assert over.placed[0].runs is over.placed[1].runs
    assert over.choice.winner.method == "lamp"
    assert over.choice.lead == Paired(0.0, 0.0, 0.0)


def test_the_control_trains_the_naive_method_for_as_long_as_the_search_took(
    searched: dict[str, bytes],
) -> None:
    spec = SPEC.at(0.8).model_copy(update={"race": Race(matched=True, budget=0)})
    dense, saved = checkpoint.from_bytes(searched["dense"])[0], {}
    entrants = [
        Entrant("purl", "mean", cut("uniform", spec, dense), images=2000),
        Entrant("lamp", None, cut("lamp", spec, dense)),
    ]

    over = race(a_track(spec, dense, saved), entrants, images=1000, on_rung=lambda *_: None)

    assert [(rung.epochs, rung.field) for rung in over.plan.rungs] == [(1, 2)]
    assert over.control is not None
    assert (over.control.naive.entrant.method, over.control.naive.epochs) == ("lamp", 2 + 3)
    assert (over.control.search.entrant.method, over.control.search.epochs) == ("purl", 3)
    assert over.final.epochs == 3
    assert {"full-purl-mean-0", "matched-lamp-0", f"full-{over.final.entrant.name}-0"} <= set(saved)
