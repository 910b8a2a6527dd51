"""The entries of networks: our own, torchvision's by its own names, and timm's where that is installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from purlkit.zoo.catalog.entries import ModelEntry, Option

TIMM = "timm/"

_OURS = (
    ModelEntry(
        name="digits-resnet",
        builder="purlkit.zoo.small:digits_resnet",
        dataset="digits",
        about="a residual net for 8×8 grey images: 10 prunable layers, 77 k weights at width 16",
        options={
            "width": Option(default=16, low=1, high=512, about="channels of the first stage"),
            "blocks": Option(default=1, low=1, high=100, about="residual blocks in each of three stages; 3: 22 layers"),
        },
    ),
    ModelEntry(
        name="mlp",
        builder="purlkit.zoo.small:mlp",
        dataset="digits",
        about="two hidden layers",
        options={"hidden": Option(default=64, low=1, high=65_536, about="width of both hidden layers")},
    ),
    ModelEntry(
        name="lenet5",
        builder="purlkit.zoo.small:lenet5",
        dataset="digits",
        about="LeNet-5 with a full second convolution: 61,706 parameters on grey 32×32; smaller images are padded",
    ),
    *(
        ModelEntry(
            name=f"resnet{depth}-cifar",
            builder="purlkit.zoo.residual:resnet_cifar",
            dataset="cifar10",
            about=f"the CIFAR form of ResNet with {depth} layers, 16 to 64 channels, {millions} M parameters",
            fixed={"depth": depth},
        )
        for depth, millions in ((20, 0.27), (32, 0.46), (56, 0.85))
    ),
    ModelEntry(
        name="resnet50-cifar",
        builder="purlkit.zoo.adapted:resnet50_cifar",
        dataset="cifar10",
        about="ResNet-50 with a 3×3 stem that keeps the resolution: 54 prunable layers, 23.5 M parameters",
    ),
    *(
        ModelEntry(
            name=f"wrn-{depth}-{widen}",
            builder="purlkit.zoo.residual:wide_resnet",
            dataset=dataset,
            about=f"wide residual net of {depth} layers, {widen} times as wide: {millions} M parameters",
            fixed={"depth": depth, "widen": widen},
        )
        for depth, widen, millions, dataset in (
            (22, 8, 17.2, "cifar10"),
            (28, 8, 23.4, "cifar10"),
            (28, 10, 36.5, "cifar100"),
        )
    ),
    ModelEntry(
        name="mobilenet_v1",
        builder="purlkit.zoo.mobile:mobilenet_v1",
        dataset="imagenet",
        about="13 pairs of depthwise and 1×1 convolutions: 4.2 M parameters",
    ),
    ModelEntry(
        name="mobilenet_v2-cifar",
        builder="purlkit.zoo.adapted:mobilenet_v2_cifar",
        dataset="cifar10",
        about="torchvision's MobileNet-V2 with two strides less, for small images: 2.2 M parameters",
    ),
    ModelEntry(
        name="fastgrnn",
        builder="purlkit.zoo.recurrent:fastgrnn",
        dataset="har2",
        about="a gated recurrent net with two low-rank matrices; it reads an image as one step per pixel",
        options={
            "hidden": Option(default=80, low=1, high=4096, about="width of the state"),
            "rW": Option(default=9, low=0, high=4096, about="rank of the input's matrix; 0: full, not factored"),
            "rU": Option(default=80, low=0, high=4096, about="rank of the state's matrix; 0: full, not factored"),
        },
    ),
)


def _names(provider: str) -> tuple[str, ...]:
    """As `python -m purlkit.zoo.names` has written them."""
    return tuple(Path(__file__).with_name(f"{provider}.txt").read_text().split())


@cache
def own_and_torchvision() -> dict[str, ModelEntry]:
    torchvision = (
        ModelEntry(
            name=name,
            builder="purlkit.zoo.adapted:from_torchvision",
            dataset="imagenet",
            about=f"torchvision's {name}",
            fixed={"name": name},
            pretrained=True,
            provider="torchvision",
        )
        for name in _names("torchvision")
    )
    return {entry.name: entry for entry in (*_OURS, *torchvision)}


@cache
def timm() -> dict[str, ModelEntry]:
    """A thousand names more: kept apart, for most readers want none of them."""
    return {
        TIMM + name: ModelEntry(
            name=TIMM + name,
            builder="purlkit.zoo.from_timm:build",
            dataset="imagenet",
            about=f"timm's {name}",
            fixed={"name": name},
            provider="timm",
            package="timm",
        )
        for name in _names("timm")
    }
