"""Top-1 and top-5 on answers that are given."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from purlkit.training.data import Images
from purlkit.training.evaluate import accuracy, correct, top5_accuracy

# Each row is one image's answer; nn.Identity hands it on.
ANSWERS = torch.tensor(
    [
        [9.0, 8.0, 7.0, 6.0, 5.0, 4.0],
        [9.0, 8.0, 7.0, 6.0, 5.0, 4.0],
        [9.0, 8.0, 7.0, 6.0, 5.0, 4.0],
        [9.0, float("nan"), 7.0, 6.0, 5.0, 4.0],
    ]
)
IMAGES = Images(ANSWERS, torch.tensor([0, 4, 5, 0]))


def test_the_class_must_be_among_the_first() -> None:
    model = nn.Identity()

    assert correct(model, IMAGES).tolist() == [True, False, False, False]
    assert correct(model, IMAGES, top=5).tolist() == [True, True, False, False]
    assert correct(model, IMAGES, batch=3, top=5).tolist() == [True, True, False, False]
    assert accuracy(model, IMAGES, top=5) == top5_accuracy(model, IMAGES) == 0.5


def test_of_equal_answers_the_first_class_is_the_one_named() -> None:
    tie = Images(torch.zeros(2, 3), torch.tensor([0, 1]))

    assert correct(nn.Identity(), tie).tolist() == [True, False]


@pytest.mark.parametrize("classes", [2, 5])
def test_top5_says_nothing_of_five_classes(classes: int) -> None:
    images = Images(torch.zeros(3, classes), torch.zeros(3, dtype=torch.long))

    assert top5_accuracy(nn.Identity(), images) is None
