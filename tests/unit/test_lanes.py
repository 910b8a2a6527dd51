"""Networks trained side by side become what purlkit's own loop makes of each by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.lane_net import LaneNet
from benchmarks.lanes import Lanes, Order
from purlkit import baselines
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import FineTune, Training
from purlkit.training.data import Images
from purlkit.training.evaluate import accuracy, cross_entropy
from purlkit.training.loop import train
from purlkit.zoo.small import DigitsResNet

BLOCKS = {"10 layers": 1, "22 layers": 3}


@pytest.fixture(autouse=True)
def _in_double_precision() -> Iterator[None]:
    """So that another order of summation can be told from another sum."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def network(blocks: int, seed: int) -> DigitsResNet:
    torch.manual_seed(seed)
    return DigitsResNet(1, 10, width=4, blocks=blocks)


def images(n: int, side: int, seed: int) -> Images:
    drawn = torch.Generator().manual_seed(seed)
    y = torch.randint(10, (n,), generator=drawn)
    x = torch.randn(10, 1, side, side, generator=drawn)[y] + 0.3 * torch.randn(n, 1, side, side, generator=drawn)
    return Images(x, y)


@pytest.mark.parametrize("blocks", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("side", [8, 4])
def test_each_lane_ends_where_its_network_would_have_ended_alone(blocks: int, side: int) -> None:
    # Batches of 19 and 18 images, another network, mask, seed and number of epochs in each lane.
    data = [images(37, side, seed) for seed in range(3)]
    trainings = [
        Training(epochs=2, batch_size=20),
        FineTune(epochs=3, batch_size=20),
        FineTune(epochs=1, batch_size=20),
    ]
    alone = [network(blocks, seed) for seed in range(3)]
    masks = [
        Mask.dense(prunable_layers(alone[0])),
        baselines.method("lamp")(prunable_layers(alone[1]), 0.8),
        baselines.method("uniform")(prunable_layers(alone[2]), 0.5),
    ]
    lanes = Lanes(network(blocks, 9), (1, side, side), lanes=4, batch=20, steps=6, images=200, device="cpu")
    net = LaneNet(network(blocks, 9))
    places = [lanes.store(each.x, each.y) for each in data]
    for lane, (model, mask, training) in enumerate(zip(alone, masks, trainings, strict=True)):
        start = lanes.start_of(model.state_dict())
        lanes.begin(lane, start, net.kept(mask.keep), Order.of(places[lane], 37, training, seed=lane))

    for steps, ended in [(2, 2), (2, 0), (2, 1)]:
        lanes.advance(4, steps)
        train(alone[ended], data[ended], trainings[ended], seed=ended, mask=masks[ended])
        [measured] = lanes.measure([ended], [places[ended]], 37)

        trained, expected = lanes.state(ended), alone[ended].state_dict()
        for name, tensor in trained.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-7, atol=1e-9)
        assert Mask.from_weights(layers_with(trained, blocks)) == masks[ended]
        assert measured.loss == pytest.approx(cross_entropy(alone[ended], data[ended]), rel=1e-7)
        assert measured.accuracy == pytest.approx(accuracy(alone[ended], data[ended]), abs=1e-9)


def layers_with(state: dict[str, torch.Tensor], blocks: int) -> list[PrunableLayer]:
    model = network(blocks, 9)
    model.load_state_dict(state, strict=False)
    return prunable_layers(model)


def test_lanes_are_measured_each_on_images_of_its_own() -> None:
    models, data = [network(1, seed) for seed in range(2)], [images(30, 8, seed) for seed in range(2)]
    lanes = Lanes(models[0], (1, 8, 8), lanes=2, batch=10, steps=1, images=100, device="cpu")
    places = [lanes.store(each.x, each.y) for each in data]
    net = LaneNet(models[0])
    for lane, model in enumerate(models):
        order = Order.of(places[0], 10, FineTune(epochs=1, batch_size=10), seed=0)
        lanes.begin(lane, lanes.start_of(model.state_dict()), net.kept({}), order)

    measured = lanes.measure([1, 0], [places[0], places[1]], 30)

    expected = [cross_entropy(models[1], data[0]), cross_entropy(models[0], data[1])]
    assert [each.loss for each in measured] == pytest.approx(expected, rel=1e-7)


def test_an_idle_lane_stays_as_it_is() -> None:
    model = network(1, 0)
    lanes = Lanes(model, (1, 8, 8), lanes=2, batch=10, steps=2, images=50, device="cpu")
    first = lanes.store(images(20, 8, 0).x, images(20, 8, 0).y)
    order = Order.of(first, 20, FineTune(epochs=1, batch_size=10), seed=0)
    lanes.begin(0, lanes.start_of(model.state_dict()), LaneNet(model).kept({}), order)
    lanes.advance(1, 2)
    ended = lanes.state(0)["conv.weight"].clone()

    lanes.advance(2, 3)

    assert torch.equal(lanes.state(0)["conv.weight"], ended)


def test_what_the_lanes_do_not_do_is_refused() -> None:
    with pytest.raises(ValueError, match="default optimiser"):
        Order.of(0, 10, Training(optimizer="adam"), seed=0)
    lanes = Lanes(network(1, 0), (1, 8, 8), lanes=1, batch=10, steps=1, images=5, device="cpu")
    with pytest.raises(ValueError, match="holds 5 images"):
        lanes.store(torch.zeros(6, 1, 8, 8), torch.zeros(6, dtype=torch.long))
