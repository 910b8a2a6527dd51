"""MobileNet-V1, which torchvision has not."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from purlkit.zoo.catalog import Shape

# Channels after the stem and after each pair of convolutions; a pair that doubles them halves the image, and so does
# the stem. Table 1 of Howard et al. 2017, whose last pair is given stride 2 on a 7×7 map that stays 7×7: stride 1.
_WIDTHS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


class MobileNetV1(nn.Module):
    """13 pairs of a depthwise 3×3 and a 1×1 convolution: 28 prunable layers with the stem and the classifier."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        layers = [_conv(channels, _WIDTHS[0], 3, stride=2)]
        for pair, (inputs, outputs) in enumerate(pairwise(_WIDTHS)):
            # The first pair doubles the channels and keeps the resolution.
            stride = 2 if outputs > inputs and pair > 0 else 1
            layers += [_conv(inputs, inputs, 3, stride=stride, groups=inputs), _conv(inputs, outputs, 1)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(_WIDTHS[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(x).mean((2, 3)))
        return logits


def _conv(inputs: int, outputs: int, side: int, *, stride: int = 1, groups: int = 1) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, side, stride, side // 2, groups=groups, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def mobilenet_v1(*, shape: Shape = (3, 224, 224), classes: int = 1000) -> nn.Module:
    return MobileNetV1(shape[0], classes)
