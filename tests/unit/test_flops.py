"""A target of multiply-adds: what it is counted of, and how every method is brought to it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from purlkit import Mask, baselines, prunable_layers
from purlkit.check import check
from purlkit.env import PruningEnv
from purlkit.errors import InvalidSpec, UnreachableFlops
from purlkit.pruning.cost import weight_uses
from purlkit.pruning.flops import FLOPS_TOLERANCE, cut_to_flops, flops_range, share_removed
from purlkit.rewards import capped
from purlkit.sentence import Comparison, TestNumbers, sentence
from purlkit.spec import JobSpec, Search
from purlkit.training.data import Images
from purlkit.verdict import Contender, choose
from workers.candidates import naive, policy_at
from workers.dense import Dense


def a_network() -> nn.Module:
    """A convolution of 36 weights, each used at 36 positions, and a linear layer of 288, each used once."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.Flatten(), nn.Linear(4 * 36, 2))


IMAGE = torch.zeros(1, 1, 8, 8)
USES = {"0": 36, "2": 1}
DENSE = 36 * 36 + 288  # multiply-adds: 1296 + 288


def a_mask(of_convolution: int, of_linear: int) -> Mask:
    """Which keeps so many weights."""
    return Mask({"0": torch.arange(36) < of_convolution, "2": torch.arange(288) < of_linear})


def test_the_share_that_is_gone_by_hand() -> None:
    assert weight_uses(a_network(), IMAGE) == USES
    assert share_removed(a_mask(36, 288), USES) == 0
    assert share_removed(a_mask(18, 288), USES) == (18 * 36) / DENSE  # 5.6 % of the weights, 41 % of the work
    assert share_removed(a_mask(36, 144), USES) == 144 / DENSE


def test_the_range_is_from_what_is_zero_to_one_weight_in_each_layer() -> None:
    layers = prunable_layers(a_network())

    assert flops_range(layers, USES) == (0, (35 * 36 + 287) / DENSE)
    with pytest.raises(UnreachableFlops, match=r"0\.999 of the multiply-adds can't be removed.* 0 to 0\.9766"):
        cut_to_flops(lambda _: a_mask(1, 1), lambda mask: mask, layers, USES, 0.999)


def spec_of(**targets: Any) -> JobSpec:
    return JobSpec.model_validate({"model": {"name": "digits-resnet"}, "targets": targets}).resolve()


def wide_network() -> nn.Module:
    """One whose convolution's weights are so many that a step of one weight is far below the tolerance."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 64, 3), nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(64 * 16, 10))


@pytest.mark.parametrize("name", sorted(set(baselines.FROM_WEIGHTS)))
def test_every_naive_method_is_cut_to_the_same_multiply_adds(name: str) -> None:
    layers = prunable_layers(wide_network())
    uses = weight_uses(wide_network(), IMAGE)

    entrant = naive(name, spec_of(flops=0.7), Dense(layers, {}, "", 0.9, uses))

    assert entrant.flops == share_removed(entrant.mask, uses)
    assert entrant.saved == pytest.approx(0.7, abs=FLOPS_TOLERANCE)


def test_a_policy_is_scaled_to_the_multiply_adds_and_keeps_its_order() -> None:
    layers = prunable_layers(wide_network())
    uses = weight_uses(wide_network(), IMAGE)

    policy = policy_at(spec_of(flops=0.7), layers, uses, [0.5, 1.0, 2.0], 0.7)

    assert share_removed(policy.mask, uses) == pytest.approx(0.7, abs=FLOPS_TOLERANCE)
    assert policy.alphas[1] == pytest.approx(2 * policy.alphas[0])
    assert policy.alphas[2] == pytest.approx(4 * policy.alphas[0])


def test_the_reward_speaks_of_the_multiply_adds() -> None:
    model = a_network()
    images = Images(torch.rand(20, 1, 8, 8), torch.arange(20) % 2)
    search = Search.model_validate({"retrain": {"images": 20}})
    env = PruningEnv(
        model,
        images,
        images,
        search=search,
        target_accuracy=0.5,
        target_sparsity=0.9,
        goal="flops",
        retrain_seed=0,
    )
    env.reset()

    _, reward, _, _, info = env.step(5)  # the convolution alone, at one standard deviation

    kept, _ = env.mask.per_layer["0"]
    assert 0 < kept < 36
    gone = (36 - kept) * 36 / DENSE
    assert reward == capped(info["accuracy"], gone, 0.5, 0.9, search.beta)
    assert env.walk.sparsities == ((36 - kept) / 324,)  # told is sparsity all the same


def test_a_spec_has_one_goal() -> None:
    spec = spec_of(flops=0.6)

    assert (spec.goal, spec.points, spec.target) == ("flops", (0.6,), 0.6)
    assert (spec_of(sparsity=0.6).goal, spec_of(sparsity=0.6).target) == ("sparsity", 0.6)
    assert spec.fingerprint != spec_of(sparsity=0.6).fingerprint
    assert spec.at(0.6) == spec
    for targets in ({}, {"sparsity": 0.5, "flops": 0.5}):
        with pytest.raises(ValidationError, match="give either sparsity or flops"):
            spec_of(**targets)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [0.3, 0.6]}, "stages are sparsities"),
        ({"minimum_threshold": 0.01}, r"leave it out with targets\.flops"),
    ],
)
def test_what_speaks_of_sparsity_does_not_go_with_it(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"flops": 0.6}, **changes})


def test_checking_knows_what_can_be_reached(tmp_path: Any) -> None:
    assert check(spec_of(flops=0.7), data_root=tmp_path, weights=None).runnable
    report = check(spec_of(flops=0.9999), data_root=tmp_path, weights=None)

    assert [(reason.code, reason.at) for reason in report.reasons] == [("unreachable_flops", "/targets/flops")]


def test_the_verdict_says_what_was_removed() -> None:
    finalists = [Contender("purl", "mean", 0.6, 9, [[True] * 9]), Contender("lamp", None, 0.6, 0, [[True] * 9])]

    told = sentence(
        choose(finalists, 0.6), Comparison(10, 10, 1, 9), saved=0.6, goal="flops", test=TestNumbers(0.9, 0.9)
    )

    assert told.startswith("LAMP ships with 60.0 % of the multiply-adds removed: no demonstrated gain of PuRL over it")


def test_a_network_whose_products_are_not_counted_has_no_share_of_them() -> None:
    """It reads the weight of its layer and multiplies in a way of its own."""
    layers = prunable_layers(a_network())

    with pytest.raises(InvalidSpec, match="no multiply-adds were counted") as refused:
        flops_range(layers, {"0": 0, "2": 0})

    assert refused.value.at == "/targets/flops"
