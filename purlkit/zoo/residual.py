"""Residual networks for 32×32 images: He et al.'s thin ones, and Zagoruyko and Komodakis' wide ones."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from purlkit.zoo.catalog import Shape


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut without weights: every second pixel, and zeros for channels that are new.

    Option A of "Deep residual learning" (2015), which its CIFAR nets use.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.added = stride, outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        if self.added:
            below = self.added // 2
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, below, self.added - below))
        return functional.relu(inner + x)


class CifarResNet(nn.Module):
    """A 3×3 convolution, then three stages of 16, 32 and 64 channels, each of (depth - 2) / 6 blocks."""

    def __init__(self, channels: int, classes: int, depth: int) -> None:
        super().__init__()
        blocks, widths = (depth - 2) // 6, (16, 16, 32, 64)
        self.conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    BasicBlock(before, width, 1 if before == width else 2),
                    *(BasicBlock(width, width, 1) for _ in range(blocks - 1)),
                )
                for before, width in pairwise(widths)
            )
        )
        self.classifier = nn.Linear(widths[-1], classes)
        _he(self)

    def forward(self, x: Tensor) -> Tensor:
        features = self.stages(functional.relu(self.norm(self.conv(x))))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


class WideBlock(nn.Module):
    """Normalised and cut off before each convolution; where the width changes the shortcut is a 1×1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if inputs != outputs else None

    def forward(self, x: Tensor) -> Tensor:
        ready = functional.relu(self.norm1(x))
        inner = self.conv2(functional.relu(self.norm2(self.conv1(ready))))
        beside = x if self.shortcut is None else self.shortcut(ready)
        both: Tensor = beside + inner
        return both


class WideResNet(nn.Module):
    """WRN-depth-widen: three stages of (depth - 4) / 6 blocks, `widen` times as wide as 16, 32 and 64 channels."""

    def __init__(self, channels: int, classes: int, depth: int, widen: int) -> None:
        super().__init__()
        blocks, widths = (depth - 4) // 6, (16, 16 * widen, 32 * widen, 64 * widen)
        self.conv = nn.Conv2d(channels, widths[0], 3, 1, 1, bias=False)
        self.stages = nn.Sequential(
            *(
                nn.Sequential(
                    WideBlock(before, width, 1 if stage == 0 else 2),
                    *(WideBlock(width, width, 1) for _ in range(blocks - 1)),
                )
                for stage, (before, width) in enumerate(pairwise(widths))
            )
        )
        self.norm = nn.BatchNorm2d(widths[-1])
        self.classifier = nn.Linear(widths[-1], classes)
        _he(self)

    def forward(self, x: Tensor) -> Tensor:
        features = functional.relu(self.norm(self.stages(self.conv(x))))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def resnet_cifar(*, shape: Shape = (3, 32, 32), classes: int = 10, depth: int) -> nn.Module:
    return CifarResNet(shape[0], classes, depth)


def wide_resnet(*, shape: Shape = (3, 32, 32), classes: int = 10, depth: int, widen: int) -> nn.Module:
    return WideResNet(shape[0], classes, depth, widen)


def _he(network: nn.Module) -> None:
    """He initialisation of the convolutions: torch's own is too small for networks of this depth."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
