"""timm's networks: names that begin with `timm/`, where the extra purlkit[timm] is installed."""

from __future__ import annotations

from typing import Any

import timm
from torch import nn

from purlkit.zoo.catalog import Shape


def build(*, shape: Shape = (3, 224, 224), classes: int = 1000, name: str) -> nn.Module:
    """For these images and classes, with fresh weights: nothing is ever fetched."""
    channels, height, width = shape
    options: dict[str, Any] = {"pretrained": False, "num_classes": classes, "in_chans": channels}
    try:
        # What is cut into patches is made for one size of image; a convolutional network knows of no such argument.
        network: nn.Module = timm.create_model(name, img_size=(height, width), **options)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        network = timm.create_model(name, **options)
    return network
