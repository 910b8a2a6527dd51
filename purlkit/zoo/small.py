"""Networks for small images, quick enough for tests and demos on a CPU."""

from __future__ import annotations

from collections import OrderedDict
from itertools import chain

from torch import Tensor, nn
from torch.nn import functional

from purlkit.zoo.catalog import Shape


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
    """Three stages of rising width, of one block each: 10 prunable layers; of three each: 22."""

    def __init__(self, channels: int, classes: int, width: int, blocks: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        widths = width, 2 * width, 4 * width
        first = (Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
        stages = ([block, *(Block(w, w, 1) for _ in range(blocks - 1))] for block, w in zip(first, widths, strict=True))
        self.body = nn.Sequential(*chain.from_iterable(stages))
        self.classifier = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.body(functional.relu(self.norm(self.conv(x))))
        logits: Tensor = self.classifier(features.mean((2, 3)))
        return logits


def digits_resnet(*, shape: Shape = (1, 8, 8), classes: int = 10, width: int = 16, blocks: int = 1) -> nn.Module:
    return DigitsResNet(shape[0], classes, width, blocks)


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


class Pad(nn.Module):
    """A border of zeros around images that are smaller than 32×32, as LeNet-5's authors put around theirs."""

    def forward(self, x: Tensor) -> Tensor:
        missing = [max(0, 32 - side) for side in x.shape[2:]]
        (top, bottom), (left, right) = ((n // 2, n - n // 2) for n in missing)
        return functional.pad(x, (left, right, top, bottom))


def lenet5(*, shape: Shape = (1, 28, 28), classes: int = 10) -> nn.Module:
    """LeCun et al. 1998, in the form that is common today.

    The second convolution sees all six maps, not the paper's hand-made choice of them, pooling has no weights and the
    last layer is linear: 61,706 parameters on grey 32×32 images, where the paper counts 60,000.
    """
    height, width = ((max(32, side) - 4) // 2 for side in shape[1:])
    pixels = ((height - 4) // 2) * ((width - 4) // 2)
    layers: dict[str, nn.Module] = {
        "pad": Pad(),
        "conv1": nn.Conv2d(shape[0], 6, 5),
        "tanh1": nn.Tanh(),
        "pool1": nn.AvgPool2d(2),
        "conv2": nn.Conv2d(6, 16, 5),
        "tanh2": nn.Tanh(),
        "pool2": nn.AvgPool2d(2),
        "flatten": nn.Flatten(),
        "linear1": nn.Linear(16 * pixels, 120),
        "tanh3": nn.Tanh(),
        "linear2": nn.Linear(120, 84),
        "tanh4": nn.Tanh(),
        "classifier": nn.Linear(84, classes),
    }
    return nn.Sequential(OrderedDict(layers))
