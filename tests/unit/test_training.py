"""The one training loop, and that a mask holds through it."""

from __future__ import annotations

import math
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from purlkit.checkpoint import fingerprint
from purlkit.errors import Diverged
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.spec import Training
from purlkit.training.data import Images
from purlkit.training.evaluate import accuracy, correct
from purlkit.training.loop import cosine, train
from purlkit.zoo.datasets import digits
from tests.unit.networks import digits_net, some_images


def half_mask(model: nn.Module, seed: int = 0) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask(
        {layer.name: torch.rand(layer.weight.shape, generator=generator) < 0.5 for layer in prunable_layers(model)}
    )


def two_weights(*weights: float) -> tuple[nn.Linear, Images]:
    """One image x = 1 of class 0 and a layer of two weights: equal ones give the gradient (-1/2, 1/2)."""
    model = nn.Linear(1, 2, bias=False)
    model.weight = nn.Parameter(torch.tensor(weights).view(2, 1))
    return model, Images(torch.ones(1, 1), torch.zeros(1, dtype=torch.long))


def test_one_step_is_nesterov_sgd() -> None:
    model, images = two_weights(0.0, 0.0)

    train(model, images, Training(epochs=1, learning_rate=0.1, momentum=0.9, weight_decay=0.0), seed=0)

    # The first Nesterov step is rate * (1 + momentum) * gradient = 0.1 * 1.9 * 0.5.
    assert model.weight.flatten().tolist() == pytest.approx([0.095, -0.095])


def test_weight_decay_adds_to_the_gradient() -> None:
    model, images = two_weights(1.0, 1.0)

    train(model, images, Training(epochs=1, learning_rate=0.1, momentum=0.0, weight_decay=0.1), seed=0)

    # gradient -0.5 + 0.1 * 1 and 0.5 + 0.1 * 1
    assert model.weight.flatten().tolist() == pytest.approx([1.04, 0.94])


def test_label_smoothing_spreads_a_part_of_the_target() -> None:
    model, images = two_weights(0.0, 0.0)

    train(model, images, Training(epochs=1, learning_rate=0.1, momentum=0, weight_decay=0, label_smoothing=0.2), seed=0)

    # Targets 0.9 and 0.1 instead of 1 and 0: the gradient is 0.5 - 0.9 and 0.5 - 0.1.
    assert model.weight.flatten().tolist() == pytest.approx([0.04, -0.04])


def test_products_in_bfloat16_have_8_bits_and_the_weights_all_of_theirs() -> None:
    """Of 257 and 256 bfloat16 makes 256 twice: the gradient is that of equal answers, (-1/2, 1/2)."""
    rounded, images = two_weights(257.0, 256.0)
    exact, _ = two_weights(257.0, 256.0)
    training = Training(epochs=1, learning_rate=0.25, momentum=0.0, weight_decay=0.0)

    train(rounded, images, training.model_copy(update={"precision": "bfloat16"}), seed=0)
    train(exact, images, training, seed=0)

    assert rounded.weight.flatten().tolist() == [257.125, 255.875]  # which bfloat16 itself does not have
    step = 0.25 * (1 - 1 / (1 + math.exp(-1)))  # answers one apart
    assert exact.weight.flatten().tolist() == pytest.approx([257 + step, 256 - step], rel=1e-7)


def test_each_step_in_bfloat16_sees_the_weights_as_the_one_before_left_them() -> None:
    model, images = two_weights(0.0, 0.0)

    train(model, images, Training(epochs=2, learning_rate=4, momentum=0, weight_decay=0, precision="bfloat16"), seed=0)

    # The first step leaves (2, -2), exact in bfloat16; the second has half the rate.
    second = 2 / (1 + math.exp(4))
    assert model.weight.flatten().tolist() == pytest.approx([2 + second, -2 - second], rel=1e-3)


def test_what_was_trained_in_bfloat16_is_measured_in_float32() -> None:
    model, images = two_weights(256.0, 257.0)
    second = Images(images.x, torch.ones(1, dtype=torch.long))

    train(model, second, Training(epochs=1, learning_rate=1e-9, weight_decay=0, precision="bfloat16"), seed=0)

    assert accuracy(model, second) == 1.0  # the tie that bfloat16 sees would go to the first class


def test_bfloat16_keeps_the_mask_and_gives_the_same_bits_again() -> None:
    def trained(precision: str) -> tuple[nn.Module, Mask]:
        model = digits_net(width=4)
        mask = half_mask(model)
        training = Training.model_validate({"epochs": 2, "batch_size": 20, "precision": precision})
        train(model, some_images(60), training, seed=0, mask=mask)
        return model, mask

    (once, mask), (again, _), (exact, _) = (trained(each) for each in ("bfloat16", "bfloat16", "float32"))

    assert all(not layer.weight[~mask.keep[layer.name]].any() for layer in prunable_layers(once))
    assert fingerprint(once) == fingerprint(again) != fingerprint(exact)
    assert all(parameter.dtype is torch.float32 for parameter in once.parameters())


def test_one_step_of_adam() -> None:
    model, images = two_weights(0.0, 0.0)

    train(model, images, Training(epochs=1, learning_rate=0.1, optimizer="adam", weight_decay=0.0), seed=0)

    # Whatever the size of a gradient, Adam's first step is the rate against its sign.
    assert model.weight.flatten().tolist() == pytest.approx([0.1, -0.1])


def test_adam_leaves_what_is_removed_at_zero() -> None:
    model = digits_net(width=4)
    mask = half_mask(model)

    train(model, some_images(60), Training(epochs=2, batch_size=20, optimizer="adam"), seed=0, mask=mask)

    assert all(not layer.weight[~mask.keep[layer.name]].any() for layer in prunable_layers(model))
    assert mask & Mask.from_weights(prunable_layers(model)) == mask


def test_the_rate_follows_a_cosine_over_all_steps() -> None:
    assert [cosine(0.1, step, 4) for step in range(4)] == pytest.approx(
        [0.1, 0.1 * (1 + math.sqrt(0.5)) / 2, 0.05, 0.1 * (1 - math.sqrt(0.5)) / 2]
    )


def test_the_second_of_two_steps_is_half_as_long() -> None:
    model, images = two_weights(0.0, 0.0)

    train(model, images, Training(epochs=2, learning_rate=0.1, momentum=0.0, weight_decay=0.0), seed=0)

    second = 0.05 * (1 - 1 / (1 + math.exp(-0.1)))  # the first left (0.05, -0.05)
    assert model.weight.flatten().tolist() == pytest.approx([0.05 + second, -0.05 - second])


def test_a_mask_holds_after_every_step() -> None:
    model = digits_net(width=4)
    mask, layers, steps = half_mask(model), prunable_layers(model), 0
    before = [layer.weight.detach().clone() for layer in layers]

    def nothing_came_back() -> None:
        nonlocal steps
        steps += 1
        for layer in layers:
            assert not layer.weight[~mask.keep[layer.name]].any()

    train(model, some_images(60), Training(epochs=2, batch_size=20), seed=0, mask=mask, on_batch=nothing_came_back)

    assert steps == 6
    for layer, was in zip(layers, before, strict=True):
        kept = mask.keep[layer.name]
        assert not torch.equal(layer.weight[kept], was[kept])  # and what is kept was trained


@settings(max_examples=20)
@given(
    momentum=st.sampled_from([0.0, 0.5, 0.99]),
    weight_decay=st.sampled_from([0.0, 0.1, 1.0]),
    rate=st.sampled_from([1e-3, 0.1, 100.0]),
    seed=st.integers(0, 1000),
)
def test_no_setting_revives_a_weight(momentum: float, weight_decay: float, rate: float, seed: int) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    mask = half_mask(model, seed)
    training = Training(epochs=3, batch_size=10, learning_rate=rate, momentum=momentum, weight_decay=weight_decay)

    with suppress(Diverged):
        train(model, some_images(30, seed=seed), training, seed=seed, mask=mask)

    for layer in prunable_layers(model):
        assert not layer.weight[~mask.keep[layer.name]].any()


def test_what_is_removed_is_zero_even_where_the_rest_is_not_a_number() -> None:
    model = digits_net(width=2)
    mask, images = half_mask(model), some_images(20)

    with pytest.raises(Diverged):
        train(model, Images(images.x * float("nan"), images.y), Training(epochs=1), seed=0, mask=mask)

    for layer in prunable_layers(model):
        assert layer.weight[mask.keep[layer.name]].isnan().all()
        assert not layer.weight[~mask.keep[layer.name]].any()


def test_the_seed_decides_everything_and_nothing_else_does() -> None:
    def trained(seed: int) -> str:
        torch.rand(seed + 1)  # the state of the global generator must not matter
        model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
        with torch.no_grad():
            model[2].weight.fill_(0.01)
            model[2].bias.fill_(0.0)
        train(model, some_images(40), Training(epochs=2, batch_size=10), seed=seed)
        return fingerprint(model)

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


def test_generators_and_modes_are_left_as_they_were() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.Dropout(0.5))
    model.eval()
    model[2].training = True
    generator = torch.get_rng_state()

    train(model, some_images(20), Training(epochs=1), seed=0)

    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in model] == [False, False, True]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_hook_that_raises_stops_it_and_leaves_no_trace() -> None:
    model, steps = digits_net(width=4), 0
    generator = torch.get_rng_state()

    def stop_at_the_second() -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise InterruptedError

    model.eval()
    with pytest.raises(InterruptedError):
        train(model, some_images(60), Training(epochs=5, batch_size=20), seed=0, on_batch=stop_at_the_second)

    assert steps == 2
    assert torch.equal(torch.get_rng_state(), generator)
    assert not model.training


def test_epochs_are_told() -> None:
    told: list[tuple[int, int]] = []

    train(
        digits_net(width=1),
        some_images(20),
        Training(epochs=3),
        seed=0,
        on_epoch=lambda done, of: told.append((done, of)),
    )

    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_frozen_parameter_and_one_that_is_not_used_stay() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    model[1].weight.requires_grad_(False)
    model.spare_weight = nn.Parameter(torch.ones(3))
    before = model[1].weight.clone()

    train(model, some_images(20), Training(epochs=1), seed=0, mask=Mask.dense(prunable_layers(model)))

    assert torch.equal(model[1].weight, before)
    assert torch.equal(model.spare_weight, torch.ones(3))


def test_it_learns_the_digits() -> None:
    splits, model = digits(Path()), digits_net(width=8)
    assert accuracy(model, splits.test) < 0.3

    train(model, splits.train, Training(epochs=6), seed=0)

    assert accuracy(model, splits.test) > 0.9


class Answers(nn.Module):
    """Answers with its input, which makes accuracy easy to count."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_correct_is_counted_for_each_image_and_what_is_not_finite_is_wrong() -> None:
    nan, inf = float("nan"), float("inf")
    images = Images(
        torch.tensor([[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [nan, nan], [inf, 0.0]]), torch.tensor([0, 1, 1, 0, 0])
    )

    assert correct(Answers(), images).tolist() == [True, True, False, False, False]
    assert correct(Answers(), images, batch=2).tolist() == [True, True, False, False, False]
    assert accuracy(Answers(), images) == 0.4


def test_measuring_changes_neither_mode_nor_statistics() -> None:
    model = digits_net(width=4)
    model.train()
    before = fingerprint(model)

    accuracy(model, some_images(30))

    assert model.training
    assert fingerprint(model) == before


def test_a_training_that_diverges_blames_the_field_that_it_is_told() -> None:
    images = some_images(20)
    broken = Images(images.x * float("nan"), images.y)

    with pytest.raises(Diverged, match="epoch 1 of 2: lower its learning_rate") as problem:
        train(digits_net(width=2), broken, Training(epochs=2), seed=0, at="/fine_tune")

    assert problem.value.at == "/fine_tune"
