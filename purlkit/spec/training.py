"""The trainings of a job, by one loop: of the dense network, after each cut, and of what leaves."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from purlkit.spec.record import Rate, Record


class Training(Record):
    """One run of the training loop, with a cosine schedule. The default rates are for SGD: Adam wants smaller ones."""

    epochs: int = Field(30, ge=1, le=10_000, description="passes over the training images")
    learning_rate: Rate = Field(0.1, description="the rate at the first step; a cosine takes it to zero")
    batch_size: int = Field(100, ge=1, le=65_536, description="images per step")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="SGD with Nesterov momentum, or Adam")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum; with Adam its first beta")
    weight_decay: float = Field(5e-4, ge=0, le=1, description="L2 penalty on every parameter")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each target spread over all classes alike")
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the products in training: bfloat16 is torch's autocast, faster where the device has units for "
        "it; weights, and all that is measured, are float32 either way",
    )


class FineTune(Training):
    """The training that every candidate gets after pruning, the same for all."""

    epochs: int = Field(10, ge=1, le=10_000, description="passes over the training images")
    learning_rate: Rate = Field(0.02, description="the rate at the first step; a cosine takes it to zero")
    batch_norm_images: int | None = Field(
        None,
        ge=2,
        le=10_000_000,
        description="training images that batch norm's running statistics are measured anew with, after the mask is "
        "applied and before anything else; null: they stay the dense network's",
    )


class Retrain(Training):
    """What follows each cut in the search: the paper's one epoch on a fixed subset of 1,000 training images."""

    epochs: int = Field(1, ge=1, le=100, description="passes over the subset")
    learning_rate: Rate = Field(0.02, description="the rate at the first step; a cosine takes it to zero")
    images: int = Field(1000, ge=1, le=1_000_000, description="size of the fixed subset of the training split")
