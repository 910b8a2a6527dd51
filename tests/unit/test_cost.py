"""Parameters and multiply-adds: layers counted by hand, whole networks by torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torchvision.models
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.errors import InvalidSpec
from purlkit.pruning.cost import cost, derived_layers, weight_uses
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from tests.unit.networks import digits_net


class Recurrent(nn.Module):
    """Calls two layers once for each of the sequence's steps, as FastGRNN does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(3, 5, bias=False)
        self.back = nn.Linear(5, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        state = torch.zeros(len(x), 5)
        for step in x.unbind(1):
            state = torch.tanh(self.inner(step) + self.back(state))
        return state


class Borrowing(nn.Module):
    """Reads a layer's weight instead of calling the layer, as torchvision's Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.lent = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, weight=self.lent.weight)


def tied() -> nn.Module:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    second.weight = first.weight
    return nn.Sequential(first, second)


@pytest.mark.parametrize(
    ("model", "shape", "uses"),
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)), (3, 10, 10), {"0": 100}),
        (nn.Sequential(nn.Conv2d(3, 8, 3, stride=2)), (3, 11, 11), {"0": 25}),  # (11 - 3) / 2 + 1 = 5
        (nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8)), (8, 6, 6), {"0": 36}),  # depthwise
        (nn.Sequential(nn.Conv2d(8, 4, 3, dilation=2, groups=2)), (8, 9, 9), {"0": 25}),  # 9 - (2 * 2 + 1) + 1 = 5
        (nn.Sequential(nn.Conv1d(2, 4, 5)), (2, 20), {"0": 16}),
        (nn.Sequential(nn.Conv3d(1, 2, 3)), (1, 3, 4, 5), {"0": 6}),  # 1 * 2 * 3
        (nn.Sequential(nn.Linear(6, 4)), (6,), {"0": 1}),
        (nn.Sequential(nn.Linear(6, 4)), (7, 6), {"0": 7}),  # a sequence of seven vectors
        (tied(), (4,), {"0": 2}),
        (Recurrent(), (9, 3), {"inner": 9, "back": 9}),
        (Borrowing(), (4,), {"lent": 1}),
    ],
    ids=[
        "padded",
        "strided",
        "depthwise",
        "dilated",
        "1d",
        "3d",
        "linear",
        "sequence",
        "tied",
        "recurrent",
        "borrowed",
    ],
)
def test_how_often_a_weight_is_used(model: nn.Module, shape: tuple[int, ...], uses: dict[str, int]) -> None:
    assert weight_uses(model, torch.zeros(1, *shape)) == uses


def test_the_last_projection_of_attention_counts() -> None:
    model = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    assert weight_uses(model, torch.zeros(1, 5, 8)) == {"self_attn.out_proj": 5, "linear1": 5, "linear2": 5}


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "efficientnet_b2", "resnext50_32x4d"])
def test_torchs_own_counter_agrees(name: str) -> None:
    model, image = getattr(torchvision.models, name)(weights=None).eval(), torch.zeros(1, 3, 96, 96)

    uses = weight_uses(model, image)

    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    ours = sum(layer.weight.numel() * uses[layer.name] for layer in prunable_layers(model))
    assert counter.get_total_flops() == 2 * ours  # it counts a multiply and an add as two


def test_counting_leaves_the_model_as_it_was() -> None:
    model = digits_net(width=2).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    weight_uses(model, torch.ones(1, 1, 8, 8))

    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_cost_by_hand() -> None:
    # 8 weights used 4 times each, and 12 used once; 2 biases and 4 numbers of the norm that nothing removes.
    model = nn.Sequential(
        nn.Conv2d(1, 2, 2, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2), nn.Linear(2, 2, bias=False)
    )
    layers = prunable_layers(model)
    keep = Mask.dense(layers).keep
    keep["0"].view(-1)[1:] = False  # 1 of 8 stays
    keep["3"].view(-1)[6:] = False  # 6 of 16 stay
    mask = Mask(keep)
    uses = weight_uses(model, torch.zeros(1, 1, 3, 3))

    told = cost(model, mask, uses)

    assert uses == {"0": 4, "3": 1, "4": 1}
    assert (told.parameters, told.parameters_kept) == (8 + 16 + 4 + 2 + 4, 1 + 6 + 4 + 2 + 4)
    assert (told.multiply_adds, told.multiply_adds_kept) == (8 * 4 + 16 + 4, 1 * 4 + 6 + 4)
    assert told.compression == 34 / 17
    assert told.compression_prunable == 28 / 11
    assert told.speed_up == 52 / 14
    assert told.flops_pruned == pytest.approx(1 - 14 / 52)
    table = [(row.multiply_adds, row.multiply_adds_kept) for row in mask.report(layers, uses=uses)]
    assert table == [(32, 4), (16, 6), (4, 4)]


def test_a_mask_that_removes_nothing_saves_nothing() -> None:
    model = digits_net(width=4)

    told = cost(model, Mask.dense(prunable_layers(model)), weight_uses(model, torch.zeros(1, 1, 8, 8)))

    assert (told.compression, told.speed_up, told.flops_pruned) == (1, 1, 0)


class Multiplying(nn.Module):
    """Multiplies by its weight in a way that nobody counts."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] * self.layer.weight).sum(2)


def test_where_no_product_is_counted_none_is_saved() -> None:
    model = Multiplying()
    mask = global_magnitude(prunable_layers(model), 0.5)

    told = cost(model, mask, weight_uses(model, torch.zeros(1, 4)))

    assert (told.multiply_adds, told.multiply_adds_kept) == (0, 0)
    assert (told.speed_up, told.flops_pruned, told.compression) == (1.0, 0.0, 2.0)


def test_a_network_of_which_nothing_is_left_has_no_ratio() -> None:
    model = nn.Sequential(nn.Linear(4, 2), nn.Linear(2, 2))
    dense = Mask.dense(prunable_layers(model))
    nothing = Mask({name: keep & False for name, keep in dense.keep.items()})
    first_alone = dense.narrow("1", nothing.keep["1"])

    for mask, uses in ((nothing, {"0": 1, "1": 1}), (first_alone, {"0": 0, "1": 1})):
        with pytest.raises(InvalidSpec, match="at least one weight of every layer"):
            cost(model, mask, uses)


def test_the_layers_add_up_to_the_network() -> None:
    model = digits_net(width=4)
    mask = global_magnitude(prunable_layers(model), 0.9)
    uses = weight_uses(model, torch.zeros(1, 1, 8, 8))

    told, table = cost(model, mask, uses), mask.report(prunable_layers(model), uses=uses)

    assert told.multiply_adds == sum(row.multiply_adds or 0 for row in table)
    assert told.multiply_adds_kept == sum(row.multiply_adds_kept or 0 for row in table)
    assert told.compression_prunable == pytest.approx(1 / (1 - mask.sparsity))


class Standardised(nn.Conv2d):
    """A convolution by its weight less the weight's mean, as in some of timm's networks."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight - self.weight.mean())


def test_a_layer_that_multiplies_by_other_numbers_than_its_weight_is_named() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), Standardised(2, 2, 3), nn.Flatten(), nn.Linear(8, 2))

    assert derived_layers(model, torch.zeros(1, 1, 6, 6)) == ["1"]
    assert not model[1]._forward_hooks  # the model is left as it was


def test_a_layer_that_is_not_called_is_not_taken_for_one() -> None:
    model = Borrowing()
    model.unused = nn.Linear(4, 2)

    assert derived_layers(model, torch.zeros(1, 4)) == []
