"""Everything that can be known before training is told at once, and nothing is raised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from purlkit import checkpoint
from purlkit.check import check
from purlkit.results import CheckReport
from purlkit.spec import JobSpec
from purlkit.zoo import catalog, models
from tests.unit.networks import digits_net


def checked(root: Path, weights: Path | None = None, **changes: Any) -> CheckReport:
    body = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}, **changes}
    return check(JobSpec.model_validate(body), data_root=root, weights=weights)


def reasons(report: CheckReport) -> list[tuple[str, str | None]]:
    assert not report.runnable
    return [(reason.code, reason.at) for reason in report.reasons]


def test_a_sound_spec_is_runnable(tmp_path: Path) -> None:
    report = checked(tmp_path)

    assert report.runnable
    assert report.reasons == ()
    assert (len(report.layers), report.prunable_weights) == (10, 77072)
    assert report.sparsity_range == pytest.approx((0, 77062 / 77072))
    assert report.steps == 600  # 55 search and 5 greedy episodes of 10 layers
    assert [cost.phase for cost in report.costs] == ["dense", "search", "policy", "race", "verify"]
    assert all(cost.device_hours > 0 for cost in report.costs)
    assert report.memory_bytes is not None
    assert 170_000_000 < report.memory_bytes < 180_000_000  # 550 snapshots of 0.3 MB, were no step ever repeated
    assert checked(tmp_path, resources={"cache_bytes": 0}).memory_bytes < 10_000_000


def test_what_it_costs_is_not_measured_for_an_attempt(tmp_path: Path) -> None:
    spec = JobSpec.model_validate({"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}})

    report = check(spec, data_root=tmp_path, weights=None, costed=False)

    assert report == checked(tmp_path).model_copy(update={"costs": ()})


def test_more_workers_than_a_batch_has_images(tmp_path: Path) -> None:
    """1,000 images in batches of at most 300 are four of 250."""
    batches = {"fine_tune": {"batch_size": 300}, "model": {"name": "mlp", "weights": {"train": {"batch_size": 300}}}}

    assert checked(tmp_path, resources={"fine_tune_workers": 250}, **batches).runnable
    report = checked(tmp_path, resources={"fine_tune_workers": 251}, **batches)

    assert set(reasons(report)) == {("not_enough_data", "/resources/fine_tune_workers")}
    assert "ask for at most 250" in report.reasons[0].message


def test_an_unknown_name_ends_it(tmp_path: Path) -> None:
    report = checked(tmp_path, model={"name": "nothing"})

    assert reasons(report) == [("unknown_name", "/model/name")]
    assert report.layers == ()


def test_a_target_out_of_reach_is_told_with_the_range(tmp_path: Path) -> None:
    report = checked(tmp_path, model={"name": "digits-resnet", "kwargs": {"width": 1}}, targets={"sparsity": 0.99})

    assert reasons(report) == [("unreachable_sparsity", "/targets/sparsity")]
    assert report.sparsity_range == (0.0, pytest.approx(337 / 347))
    assert report.reasons[0].message.endswith("from 0 to 0.971181")  # rounded down, or following it would fail again


@pytest.mark.parametrize(
    ("threshold", "told"), [(None, []), (0.01, []), (0.02, [("threshold_too_high", "/minimum_threshold")])]
)
def test_a_minimum_threshold_that_leaves_too_much(
    threshold: float | None, told: list[tuple[str, str]], tmp_path: Path
) -> None:
    # 0.02 of 77,072 weights is 1,541 in each of nine layers: more than the 7,707 that stay
    report = checked(tmp_path, baselines=["global-mt"], minimum_threshold=threshold)

    assert [(reason.code, reason.at) for reason in report.reasons] == told


def test_missing_data_still_gives_layers_and_range(tmp_path: Path) -> None:
    report = checked(tmp_path, dataset={"name": "cifar10"})

    assert reasons(report) == [("missing_data", "/dataset/name")]
    assert report.costs == ()
    assert report.layers[0].shape == (16, 3, 3, 3)  # three channels: built for the data set that is missing
    assert report.sparsity_range is not None


def test_a_subset_larger_than_the_training_split(tmp_path: Path) -> None:
    report = checked(tmp_path, search={"retrain": {"images": 1001}})

    assert reasons(report) == [("not_enough_data", "/search/retrain/images")]


def test_more_reward_images_than_there_are(tmp_path: Path) -> None:
    report = checked(tmp_path, search={"reward_images": 251})

    assert reasons(report) == [("not_enough_data", "/search/reward_images")]


def test_every_reason_is_told_at_once(tmp_path: Path) -> None:
    report = checked(
        tmp_path,
        model={"name": "mlp", "kwargs": {"hidden": 1}, "weights": {"sha256": "0" * 64}},
        dataset={"name": "cifar10"},
        targets={"sparsity": 0.9999},
    )

    assert [code for code, _ in reasons(report)] == ["missing_weights", "unreachable_sparsity", "missing_data"]


def uploaded(path: Path, model: nn.Module) -> dict[str, Any]:
    checkpoint.write(path, model, metadata={})
    return {"name": "digits-resnet", "kwargs": {"width": 4}, "weights": {"sha256": "0" * 64}}


def test_weights_that_fit(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    model = uploaded(path, digits_net(width=4))

    assert checked(tmp_path, path, model=model).runnable


def test_weights_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    report = checked(tmp_path, path, model=uploaded(path, digits_net(width=8)))

    assert reasons(report) == [("weights_dont_fit", "/model/weights")]
    assert len(report.layers) == 10


def test_weights_that_do_not_fit_are_refused_by_their_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, other = tmp_path / "weights", nn.Sequential(nn.Linear(64, 10), nn.Linear(64, 10).double())
    checkpoint.write(path, other, metadata={})
    spec_model = {"name": "mlp", "weights": {"sha256": "0" * 64}}

    def not_read(*_: object, **__: object) -> None:
        raise AssertionError("a tensor was read")

    monkeypatch.setattr(checkpoint.files, "views_of", not_read)
    report = checked(tmp_path, path, model=spec_model)

    assert reasons(report) == [("weights_dont_fit", "/model/weights")]
    message = report.reasons[0].message
    assert "missing: 3.bias, 3.weight, 5.bias, 5.weight; unexpected: 0.bias, 0.weight" in message
    assert "1.weight is float64[10, 64] and not float32[64, 64]" in message


def test_a_large_network_is_not_trained_to_reckon_its_hours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices, build = [], models.build_for

    def seen(job: JobSpec, *, device: str = "cpu") -> nn.Module:
        devices.append(device)
        return build(job, device=device)

    monkeypatch.setattr(models, "build_for", seen)
    report = checked(tmp_path, model={"name": "vgg11"}, dataset=IMAGENET_LIKE, resources={"cache_bytes": 0})

    assert report.runnable
    assert all(cost.device_hours > 0 for cost in report.costs)
    assert set(devices) == {"meta"}


def test_a_target_below_the_zeros_of_the_weights(tmp_path: Path) -> None:
    path, pruned = tmp_path / "weights", digits_net(width=4)
    with torch.no_grad():
        pruned.body[2].conv2.weight.zero_()
    report = checked(tmp_path, path, model=uploaded(path, pruned), targets={"sparsity": 0.1})

    assert reasons(report) == [("unreachable_sparsity", "/targets/sparsity")]
    assert report.sparsity_range is not None
    assert report.sparsity_range[0] == pytest.approx(2304 / report.prunable_weights)


def only_large(**_: object) -> nn.Module:
    return nn.Linear(999, 10)


def three_answers(*, shape: tuple[int, int, int], **_: object) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 3))


@pytest.mark.parametrize("builder", ["only_large", "three_answers"])
def test_a_network_that_can_not_take_the_images(builder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog.ModelEntry(name="odd", builder=f"{__name__}:{builder}", dataset="digits", about="")
    monkeypatch.setitem(catalog.MODELS, "odd", entry)

    assert reasons(checked(tmp_path, model={"name": "odd"})) == [("shape_mismatch", "/model")]


def without_layers(**_: object) -> nn.Module:
    return nn.Sequential(nn.AdaptiveMaxPool2d((1, 10)), nn.Flatten())


def with_weight_norm(**_: object) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.weight_norm(nn.Linear(64, 10)))


class Standardised(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.weight - self.weight.mean())


def with_standardised_weights(**_: object) -> nn.Module:
    return nn.Sequential(nn.Flatten(), Standardised(64, 10))


@pytest.mark.parametrize("builder", ["without_layers", "with_weight_norm", "with_standardised_weights"])
def test_a_network_that_can_not_be_pruned(builder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = catalog.ModelEntry(name="odd", builder=f"{__name__}:{builder}", dataset="digits", about="")
    monkeypatch.setitem(catalog.MODELS, "odd", entry)

    assert reasons(checked(tmp_path, model={"name": "odd"})) == [("invalid_spec", "/model")]


IMAGENET_LIKE = {"name": "procedural", "kwargs": {"shape": [3, 224, 224], "classes": 1000}}


def test_a_trillion_weights_are_counted_and_refused_without_being_made(tmp_path: Path) -> None:
    wide = {"name": "mlp", "kwargs": {"hidden": 65_536}}
    report = checked(tmp_path, model=wide, dataset={"name": "procedural", "kwargs": {"shape": [3, 4096, 4096]}})

    assert reasons(report) == [("not_enough_resources", "/model")]
    assert report.prunable_weights is not None
    assert report.prunable_weights > 10**12
    assert report.memory_bytes is not None
    assert report.memory_bytes > 16 * 10**12
    assert report.sparsity_range == (0.0, pytest.approx(1.0))


def test_an_upload_is_compared_with_a_network_that_was_never_made(tmp_path: Path) -> None:
    wide = {"name": "mlp", "kwargs": {"hidden": 65_536}, "weights": {"sha256": "0" * 64}}
    path = tmp_path / "weights"
    checkpoint.write(path, digits_net(width=4), metadata={})

    report = checked(tmp_path, path, model=wide, dataset={"name": "procedural", "kwargs": {"shape": [3, 4096, 4096]}})

    assert [code for code, _ in reasons(report)] == ["weights_dont_fit", "not_enough_resources"]


def test_missing_published_weights_are_told_with_the_layers(tmp_path: Path) -> None:
    report = checked(tmp_path, model={"name": "resnet18", "weights": "pretrained"}, dataset=IMAGENET_LIKE)

    assert reasons(report) == [("missing_weights", "/model/weights")]
    assert "resnet18-f37072fd.pth" in report.reasons[0].message
    assert len(report.layers) == 21


def test_images_that_are_enlarged_when_looked_at_count_as_far_as_the_search_holds_them(tmp_path: Path) -> None:
    report = checked(tmp_path, model={"name": "squeezenet1_1"}, dataset=IMAGENET_LIKE, resources={"cache_bytes": 0})

    assert report.runnable
    assert report.memory_bytes is not None
    # 1,000 images to retrain on and 333 to be rewarded by, of 602,112 bytes each
    assert report.memory_bytes // 602_112 == pytest.approx(1333 + 33 + 5, abs=6)


def test_a_network_that_needs_values_to_be_built_gets_them(tmp_path: Path) -> None:
    report = checked(
        tmp_path,
        model={"name": "regnet_y_400mf"},
        dataset={"name": "procedural", "kwargs": {"shape": [3, 64, 64]}},
    )

    assert report.runnable
    assert len(report.layers) > 50


def test_a_network_for_three_channels_does_not_fit_grey_images(tmp_path: Path) -> None:
    assert reasons(checked(tmp_path, model={"name": "resnet18"}, dataset={"name": "digits"})) == [
        ("shape_mismatch", "/model")
    ]
