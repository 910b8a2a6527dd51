"""Running statistics measured anew, by numbers computed by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from purlkit.checkpoint import fingerprint
from purlkit.training.batchnorm import reestimate
from purlkit.training.data import Images
from tests.unit.networks import digits_net, some_images


def images_of(*values: float) -> Images:
    return Images(torch.tensor(values, dtype=torch.float32).view(-1, 1), torch.zeros(len(values), dtype=torch.long))


def a_norm(**options: bool) -> nn.BatchNorm1d:
    norm = nn.BatchNorm1d(1, **options)
    if norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.fill_(100.0)
        norm.running_var.fill_(100.0)
    return norm


def statistics(norm: nn.Module) -> tuple[float, float]:
    return norm.get_buffer("running_mean").item(), norm.get_buffer("running_var").item()


def test_one_batch_gives_its_mean_and_variance() -> None:
    norm = a_norm()

    reestimate(norm, images_of(1, 2, 3, 6))

    assert statistics(norm) == pytest.approx((3, (4 + 1 + 0 + 9) / 3))  # the variance is the unbiased one


def test_batches_count_alike_and_nothing_of_before_remains() -> None:
    norm = a_norm()

    reestimate(norm, images_of(0, 2, 10, 14), batch_size=2)

    assert statistics(norm) == pytest.approx(((1 + 12) / 2, (2 + 8) / 2))


def test_a_later_norm_sees_what_the_earlier_one_makes_of_the_batch() -> None:
    model = nn.Sequential(a_norm(), nn.Dropout(0.9), a_norm())

    reestimate(model, images_of(1, 2, 3, 6))

    # The first hands on mean 0 and (biased) variance 1; dropout is off; unbiased that is 4/3.
    assert statistics(model[2]) == pytest.approx((0, 4 / 3), abs=1e-4)


def test_only_statistics_change_and_every_mode_is_kept() -> None:
    model = digits_net(width=2).eval()
    weights = [parameter.clone() for parameter in model.parameters()]
    before = fingerprint(model)

    reestimate(model, some_images(30))

    assert fingerprint(model) != before
    assert all(torch.equal(now, was) for now, was in zip(model.parameters(), weights, strict=True))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.momentum == 0.1 and not norm.training for norm in norms)


@pytest.mark.parametrize("build", [lambda: nn.Linear(1, 2), lambda: a_norm(track_running_stats=False)])
def test_a_network_without_statistics_is_left_alone(build: Callable[[], nn.Module]) -> None:
    model = build()
    before = fingerprint(model)

    reestimate(model, images_of(1, 2))

    assert fingerprint(model) == before


def test_it_can_be_stopped_between_batches() -> None:
    norm = a_norm()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reestimate(norm, images_of(1, 2), on_batch=stop)

    assert norm.momentum == 0.1
