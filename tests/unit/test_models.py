"""Networks by name: each is what its paper describes, and each can be built for what a spec may ask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from purlkit import spec
from purlkit.checkpoint import fingerprint
from purlkit.errors import UnknownName
from purlkit.pruning.layers import prunable_layers
from purlkit.training.evaluate import mode
from purlkit.zoo import catalog, models

# They look at values while they are built, so the meta device won't do.
NEED_VALUES = "regnet_"
GREY = (1, 28, 28)


def on_meta(name: str, *, shape: catalog.Shape = (3, 32, 32), classes: int = 10, **kwargs: Any) -> nn.Module:
    return models.build(spec.Model(name=name, kwargs=kwargs), shape=shape, classes=classes, seed=0, device="meta")


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


OURS = sorted(name for name, entry in catalog.MODELS.items() if entry.provider == "purlkit")
TORCHVISIONS = sorted(name for name, entry in catalog.MODELS.items() if entry.provider == "torchvision")


def test_every_name_of_the_design_is_there() -> None:
    """The names that recipes, reports and users write."""
    named = {
        *("digits-resnet", "resnet20-cifar", "resnet32-cifar", "resnet56-cifar", "resnet50-cifar"),
        *("wrn-22-8", "wrn-28-8", "wrn-28-10", "mobilenet_v1", "mobilenet_v2-cifar", "fastgrnn", "lenet5", "mlp"),
        *("resnet50", "mobilenet_v2", "efficientnet_b2"),
    }

    assert named <= set(catalog.MODELS)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(("shape", "classes"), [((1, 8, 8), 10), ((3, 32, 32), 100), ((9, 1, 128), 2)])
def test_ours_follow_the_data(name: str, shape: catalog.Shape, classes: int) -> None:
    network = on_meta(name, shape=shape, classes=classes)

    assert network(torch.zeros(2, *shape, device="meta")).shape == (2, classes)


def assert_it_follows_the_classes(name: str) -> None:
    network = on_meta(name, shape=(3, 224, 224), classes=7)

    with mode(network, training=True):  # where some would answer with more than one tensor
        assert network(torch.zeros(2, 3, 224, 224, device="meta")).shape == (2, 7)


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b2", "efficientnet_v2_s", "googlenet"),
        *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet50"),
        *("shufflenet_v2_x0_5", "squeezenet1_0", "swin_t", "swin_v2_t", "vgg11_bn", "vit_b_32"),
    ],
)
def test_torchvisions_follow_the_classes(name: str) -> None:
    """One of each family."""
    assert_it_follows_the_classes(name)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in TORCHVISIONS if not name.startswith(NEED_VALUES)])
def test_all_of_torchvisions_follow_the_classes(name: str) -> None:
    assert_it_follows_the_classes(name)


def answers(name: str, size: int) -> bool:
    """Whether the network builds, without values, for images of that size, and answers with so many classes."""
    try:
        network = on_meta(name, shape=(3, size, size), classes=7).eval()
        return bool(network(torch.zeros(1, 3, size, size, device="meta")).shape == (1, 7))
    except (RuntimeError, AssertionError):
        return False


# Made for images of one size, which is not 224×224, and of multiples of it at best.
OF_ANOTHER_SIZE = ("crossvit_", "halonet", "halo2botnet", "lamhalobotnet", "eca_halonext", "sehalonet", "bat_resnext")


@pytest.mark.long
def test_all_of_timms_follow_the_classes() -> None:
    """1,364 of timm 1.0.31, all but 19 of them at 224×224; about five minutes."""
    import timm

    other = {name: timm.models.get_pretrained_cfg(name.removeprefix("timm/")) for name in catalog.timm()}

    refuse = [name for name in catalog.timm() if not answers(name, 224)]

    assert all(name.removeprefix("timm/").startswith(OF_ANOTHER_SIZE) for name in refuse), refuse
    assert [name for name in refuse if not answers(name, other[name].input_size[1])] == []


def test_a_network_of_one_size_is_built_for_that_size() -> None:
    assert not answers("timm/halonet26t", 224)
    assert answers("timm/halonet26t", 256)


def test_a_weight_of_five_dimensions_is_left_in_its_layout() -> None:
    """torch's own `to(memory_format=…)` refuses it: these networks could not be built."""
    network = models.build(spec.Model(name="timm/lambda_resnet26t"), shape=(3, 64, 64), classes=7, seed=0)

    assert {tensor.dim() for tensor in network.parameters()} >= {4, 5}
    for tensor in network.parameters():
        if tensor.dim() == 4:
            assert tensor.is_contiguous(memory_format=torch.channels_last)
    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in TORCHVISIONS if name.startswith(NEED_VALUES)])
def test_all_that_need_values_follow_the_classes(name: str) -> None:
    network = models.build(spec.Model(name=name), shape=(3, 32, 32), classes=7, seed=0).to("meta")

    assert network(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 7)


def test_those_that_need_values_are_built_with_them() -> None:
    network = models.build(spec.Model(name="regnet_y_400mf"), shape=(3, 32, 32), classes=7, seed=0)

    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        # He et al. 2015, table 6: 0.27 M, 0.46 M, 0.85 M
        ("resnet20-cifar", (3, 32, 32), 10, 269_722),
        ("resnet32-cifar", (3, 32, 32), 10, 464_154),
        ("resnet56-cifar", (3, 32, 32), 10, 853_018),
        # ResNet-50 of 1,000 classes has 25,557,032 (torchvision's table): 990 classes of 2,049 less, and in the stem
        # 9 weights for each of 3·64 pairs of channels instead of 49
        ("resnet50-cifar", (3, 32, 32), 10, 25_557_032 - 990 * 2049 - 40 * 192),
        # Zagoruyko and Komodakis 2016, tables 4 and 5: 17.2 M and 36.5 M
        ("wrn-22-8", (3, 32, 32), 10, 17_158_106),
        ("wrn-28-10", (3, 32, 32), 10, 36_479_194),
        # in no table of theirs; by hand below
        ("wrn-28-8", (3, 32, 32), 10, 23_354_842),
        # Howard et al. 2017, table 8: 4.2 M
        ("mobilenet_v1", (3, 224, 224), 1000, 4_231_976),
        # MobileNet-V2 of 1,000 classes has 3,504,872 (torchvision's table): 990 classes of 1,281 less
        ("mobilenet_v2-cifar", (3, 32, 32), 10, 3_504_872 - 990 * 1281),
        # 6·26 and 16·151 in convolutions, 120·401, 84·121, 10·85 in linears; with C3 thinned the paper has 60,000
        ("lenet5", GREY, 10, 156 + 2416 + 48_120 + 10_164 + 850),
        ("mlp", (1, 8, 8), 10, 64 * 65 + 64 * 65 + 10 * 65),
        # torchvision's table, which agrees with the papers'
        ("resnet50", (3, 224, 224), 1000, 25_557_032),
        ("mobilenet_v2", (3, 224, 224), 1000, 3_504_872),
        ("efficientnet_b2", (3, 224, 224), 1000, 9_109_994),
    ],
)
def test_parameters_are_the_papers(name: str, shape: catalog.Shape, classes: int, count: int) -> None:
    assert parameters(on_meta(name, shape=shape, classes=classes)) == count


def thin(depth: int) -> int:
    """ResNet for CIFAR: 9·in·out weights of each convolution, 2 for each channel normalised, no shortcut's."""
    blocks, total, before = (depth - 2) // 6, 3 * 16 * 9 + 2 * 16, 16
    for width in (16, 32, 64):
        total += 9 * before * width + (2 * blocks - 1) * 9 * width * width + 2 * blocks * 2 * width
        before = width
    return total + 65 * 10


def wide(depth: int, widen: int) -> int:
    """WRN: the same, with a 1×1 shortcut where the width changes and norms before the convolutions."""
    blocks, total, before = (depth - 4) // 6, 3 * 16 * 9, 16
    for width in (16 * widen, 32 * widen, 64 * widen):
        total += 9 * before * width + (2 * blocks - 1) * 9 * width * width + before * width
        total += 2 * before + (2 * blocks - 1) * 2 * width
        before = width
    return total + 2 * before + (before + 1) * 10


def test_residual_nets_by_hand() -> None:
    assert [thin(depth) for depth in (20, 32, 56)] == [269_722, 464_154, 853_018]
    assert [wide(22, 8), wide(28, 8), wide(28, 10)] == [17_158_106, 23_354_842, 36_479_194]


def test_fastgrnn_by_hand() -> None:
    """Kusupati et al. 2018 give FastGRNN-LSQ on HAR-2 (full matrices, hidden 80) 29 KB: 7,444 numbers of 4 bytes."""
    full = parameters(on_meta("fastgrnn", shape=(9, 1, 128), classes=2, rW=0, rU=0))
    factored = on_meta("fastgrnn", shape=(9, 1, 128), classes=2, rW=8, rU=7)

    assert full == 9 * 80 + 80 * 80 + 2 * 80 + 2 + 2 * 81
    assert round(4 * full / 1024) == 29
    assert parameters(factored) == 8 * (9 + 80) + 7 * (80 + 80) + 2 * 80 + 2 + 2 * 81
    assert [layer.name for layer in prunable_layers(factored)] == [
        *("W.reduce", "W.expand", "U.reduce", "U.expand", "classifier")
    ]


def test_fastgrnn_reads_in_order() -> None:
    """h ← z·h + (ζ(1 - z) + ν)·h̃, worked out for a state of one number."""
    network = models.build(
        spec.Model(name="fastgrnn", kwargs={"hidden": 1, "rW": 0, "rU": 0}), shape=(1, 1, 2), classes=1, seed=0
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(0)
        network.W.weight.fill_(1)
        network.classifier.weight.fill_(1)

    # U and the biases are zero, ζ = ν = ½: so h ← σ(x)·h + (½(1 - σ(x)) + ½)·tanh(x).
    state = 0.0
    for x in (2.0, -1.0):
        gate = 1 / (1 + 2.718281828459045**-x)
        state = gate * state + (0.5 * (1 - gate) + 0.5) * float(torch.tensor(x).tanh())
    assert network(torch.tensor([[[[2.0, -1.0]]]])).item() == pytest.approx(state, abs=1e-6)
    assert network(torch.tensor([[[[-1.0, 2.0]]]])).item() != pytest.approx(state, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "layers"), [("resnet50", 54), ("resnet50-cifar", 54), ("efficientnet_b2", 116), ("mobilenet_v1", 28)]
)
def test_the_layers_that_the_papers_count(name: str, layers: int) -> None:
    assert len(prunable_layers(on_meta(name))) == layers


def test_small_images_keep_their_resolution_in_cifar_form() -> None:
    def pixels(name: str, module: str) -> int:
        network, seen = on_meta(name), []
        network.get_submodule(module).register_forward_hook(lambda *call: seen.append(call[2].shape[-1]))
        network(torch.zeros(2, 3, 32, 32, device="meta"))
        return int(seen[0])

    assert (pixels("resnet50", "layer4"), pixels("resnet50-cifar", "layer4")) == (1, 4)
    assert (pixels("mobilenet_v2", "features"), pixels("mobilenet_v2-cifar", "features")) == (1, 4)


def test_options_reach_the_builder() -> None:
    network = models.build(spec.Model(name="mlp", kwargs={"hidden": 7}), shape=(1, 2, 3), classes=4, seed=0)

    assert [tuple(layer.weight.shape) for layer in prunable_layers(network)] == [(7, 6), (7, 7), (4, 7)]


def test_a_trillion_parameters_take_no_memory_on_meta() -> None:
    network = on_meta("mlp", shape=(3, 4096, 4096), hidden=65_536)

    assert parameters(network) > 10**12


def test_the_seed_alone_decides_the_weights() -> None:
    def built(seed: int) -> str:
        model = spec.Model(name="digits-resnet", kwargs={"width": 2})
        return fingerprint(models.build(model, shape=(1, 8, 8), classes=10, seed=seed))

    once, generator = built(1), torch.get_rng_state()

    assert built(2) != once
    assert torch.equal(torch.get_rng_state(), generator)
    torch.rand(5)
    assert built(1) == once


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UnknownName, match="digits-resnet"):
        models.build(spec.Model(name="resnet-9000"), shape=(1, 8, 8), classes=10, seed=0)
