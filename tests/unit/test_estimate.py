"""What a job will cost: the images by counting, the hours by a measured rate."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from purlkit import estimate
from purlkit.estimate import operations, phase_costs, seconds_per_image
from purlkit.spec import JobSpec
from tests.unit.networks import digits_net

SPLITS = {"train": 1000, "reward": 250, "select": 250, "test": 297}


def costs(**changes: Any) -> dict[str, Any]:
    spec = JobSpec.model_validate({"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}, **changes})
    return {cost.phase: cost for cost in phase_costs(spec, layers=10, splits=SPLITS, seconds_per_image=3.6)}


def test_the_images_of_the_least_job() -> None:
    images = {phase: cost.images for phase, cost in costs().items()}

    assert images == {
        "dense": 30 * 1000,
        "search": 60 * 10 * 1000,  # 55 and 5 walks over 10 layers
        "policy": 55 * 1000,  # random policies
        "race": 20 * 1000,  # a race of 10 epochs, and the winner's 10
        "verify": 0,
    }


def test_of_the_reward_split_only_the_images_that_are_asked_for_are_measured() -> None:
    few = costs(search={"reward_images": 50})

    assert few["search"].device_hours == pytest.approx(600 + 600 * 50 / 3 / 1000)
    assert few["policy"].device_hours == pytest.approx(55 + 55 * 50 / 3 / 1000)
    assert few["dense"].device_hours == pytest.approx(30 + (50 + 250) / 3 / 1000)


def test_the_hours_are_the_images_times_the_rate_and_a_third_of_it_for_those_that_are_only_measured() -> None:
    # 3.6 s an image is a thousandth of an hour.
    assert costs()["search"].device_hours == pytest.approx(600 + 600 * 250 / 3 / 1000)
    # 7 candidates before their first epoch, at the rungs of 7 and of 3; 20 epochs are trained.
    assert costs()["race"].device_hours == pytest.approx(20 + (7 + 7 + 3 + 1) * 250 / 3 / 1000)
    assert costs()["verify"].device_hours == pytest.approx(2 * (1 + 7 + 3) * 297 / 3 / 1000)


def test_more_seeds_of_the_finalists_are_measured_too() -> None:
    # Three finalists at the end of rungs of 7, 3 and 3, twice more from their beginning.
    more = costs(race={"budget": 84_000})

    assert more["race"].device_hours == pytest.approx(94 + (7 + 7 + 3 + 3 + 2 * 6 + 1) * 250 / 3 / 1000)
    assert more["verify"].device_hours == pytest.approx(2 * (1 + 7 + 6 + 3) * 297 / 3 / 1000)


def test_each_target_has_a_search_and_a_race() -> None:
    one, three = costs(), costs(targets={"sparsity": [0.5, 0.8, 0.9]})

    assert three["dense"] == one["dense"]
    assert [three[phase].images for phase in ("search", "policy", "race")] == [
        3 * one[phase].images for phase in ("search", "policy", "race")
    ]


def test_stages_search_often_and_race_once() -> None:
    one, staged = costs(), costs(stages=[0.5, 0.9])

    assert staged["search"].images == 2 * one["search"].images + 10_000
    assert staged["race"] == one["race"]


def test_a_stage_with_epochs_of_its_own_trains_so_long() -> None:
    same, own = costs(stages=[0.5, 0.8, 0.9]), costs(stages=[0.5, 0.8, 0.9], stage_epochs=[3, 4])

    assert same["search"].images - own["search"].images == (20 - 7) * 1000
    assert own["race"] == same["race"]


def test_uploaded_weights_and_no_random_search_cost_nothing() -> None:
    images = costs(model={"name": "digits-resnet", "weights": {"sha256": "0" * 64}}, baselines=["lamp"])

    assert (images["dense"].images, images["policy"].images) == (0, 0)


def test_the_control_costs_as_much_as_the_search() -> None:
    more = costs(race={"matched": True})["race"].images - costs()["race"].images

    assert more == 600_000 + 2 * 10_000


def test_operations_by_hand() -> None:
    # 2·9 for each of 4 outputs at 6·6 places, 2·144 for each of 5; and all of that without values too.
    for device in ("cpu", "meta"):
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).to(device)
        assert operations(model, torch.zeros(1, 1, 8, 8, device=device)) == 2 * 9 * 4 * 36 + 2 * 144 * 5


def test_the_rate_is_measured_on_one_thread() -> None:
    threads = torch.get_num_threads()

    assert 0 < seconds_per_image(lambda: digits_net(width=4), (1, 8, 8), operations=10**6) < 1
    assert torch.get_num_threads() == threads


def test_a_network_too_large_for_a_few_steps_is_reckoned_and_never_built(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, built = torch.get_num_threads(), []
    monkeypatch.setattr(estimate, "_products_per_second", lambda: 1e11)

    def build() -> nn.Module:
        built.append(True)
        return digits_net(width=4)

    # 3 times the way forward, 335e9 operations, at 100e9 in a second
    assert seconds_per_image(build, (3, 224, 224), operations=335 * 10**9) == pytest.approx(10.05)
    assert not built
    assert seconds_per_image(build, (1, 8, 8), operations=10**10) < 1
    assert built
    assert torch.get_num_threads() == threads


def test_the_machine_multiplies_at_some_rate() -> None:
    assert 1e8 < estimate._products_per_second() < 1e15
