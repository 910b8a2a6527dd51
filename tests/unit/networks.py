"""Small networks for the tests: layers of given weights, and hypothesis strategies for any."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies
from torch import Tensor, nn

from purlkit import spec
from purlkit.pruning.layers import PrunableLayer
from purlkit.training.data import Images
from purlkit.zoo import models


def layers_of(*weights: Tensor | Sequence[float]) -> list[PrunableLayer]:
    """Layers named a, b, c, … with exactly these weights."""
    return [
        PrunableLayer(name, "linear", nn.Parameter(torch.as_tensor(weight, dtype=torch.float32).clone()))
        for name, weight in zip("abcdefgh", weights, strict=False)
    ]


def digits_net(width: int = 16, seed: int = 0) -> nn.Module:
    model = spec.Model(name="digits-resnet", kwargs={"width": width})
    return models.build(model, shape=(1, 8, 8), classes=10, seed=seed)


def some_images(n: int, shape: tuple[int, ...] = (1, 8, 8), classes: int = 10, seed: int = 0) -> Images:
    generator = torch.Generator().manual_seed(seed)
    return Images(torch.randn(n, *shape, generator=generator), torch.randint(classes, (n,), generator=generator))


# Halves in a small range: many equal magnitudes and many zeros, which is where exact counts go wrong.
_COARSE = strategies.integers(-6, 6).map(lambda value: value / 2)
_FINE = strategies.floats(-4, 4, width=32)


@strategies.composite
def networks(draw: strategies.DrawFn) -> list[PrunableLayer]:
    """One to four layers of one to twelve weights with ties and zeros, not all of them zero."""
    values = draw(strategies.sampled_from([_COARSE, _FINE]))
    weight = strategies.lists(values, min_size=1, max_size=12)
    weights = draw(strategies.lists(weight, min_size=1, max_size=4).filter(lambda net: any(any(w) for w in net)))
    return layers_of(*weights)


@strategies.composite
def distinct_networks(draw: strategies.DrawFn) -> list[PrunableLayer]:
    """Two to four layers in which no two weights have the same magnitude and none is zero."""
    sizes = draw(strategies.lists(strategies.integers(2, 12), min_size=2, max_size=4))
    magnitudes = draw(strategies.permutations(range(1, sum(sizes) + 1)))
    signs = draw(strategies.lists(strategies.sampled_from([-1, 1]), min_size=sum(sizes), max_size=sum(sizes)))
    values = [sign * magnitude / 7 for sign, magnitude in zip(signs, magnitudes, strict=True)]
    return layers_of(*torch.tensor(values).split(sizes))
