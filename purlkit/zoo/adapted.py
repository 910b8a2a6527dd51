"""torchvision's classification networks, as they are and fitted to small images."""

from __future__ import annotations

from typing import Any

from torch import nn
from torchvision import models  # type: ignore[import-untyped]

from purlkit.zoo.catalog import Shape

# Without the classifiers at half depth, which would answer beside the last one in training; with the published
# weights' own scale of the input.
_INCEPTION: dict[str, Any] = {"aux_logits": False, "transform_input": True, "init_weights": True}
_OPTIONS: dict[str, dict[str, Any]] = {"googlenet": _INCEPTION, "inception_v3": _INCEPTION}


def from_torchvision(*, shape: Shape = (3, 224, 224), classes: int = 1000, name: str) -> nn.Module:
    """Any of its names, for so many classes; they take images of three channels."""
    options = dict(_OPTIONS.get(name, {}))
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    if name.startswith("maxvit"):
        options["input_size"] = shape[1:]
    network: nn.Module = models.get_model(name, weights=None, num_classes=classes, **options)
    return network


def resnet50_cifar(*, shape: Shape = (3, 32, 32), classes: int = 10) -> nn.Module:
    """The stem's 7×7 convolution and its pooling would leave 8×8 pixels of 32×32: a 3×3 convolution keeps them all."""
    network: nn.Module = models.resnet50(weights=None, num_classes=classes)
    network.conv1 = nn.Conv2d(shape[0], 64, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    return network


def mobilenet_v2_cifar(*, shape: Shape = (3, 32, 32), classes: int = 10) -> nn.Module:
    """Stem and second stage keep the resolution: 4×4 pixels are left of 32×32 at the end, where there would be one."""
    # expansion, channels, blocks, stride of each stage: Table 2 of Sandler et al. 2018, but for the second's stride
    stages = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
    network: nn.Module = models.mobilenet_v2(weights=None, num_classes=classes, inverted_residual_setting=stages)
    stem = nn.Conv2d(shape[0], 32, 3, 1, 1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out")
    network.features[0][0] = stem  # type: ignore[index, assignment]
    return network
