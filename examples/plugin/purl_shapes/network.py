"""A builder takes the images' shape, the number of classes and its own options, and returns a module."""

from __future__ import annotations

from torch import nn


def shapes_net(*, shape: tuple[int, int, int], classes: int, width: int = 8) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(shape[0], width, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 2 * width, classes),
    )
