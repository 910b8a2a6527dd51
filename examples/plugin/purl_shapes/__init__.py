"""What the service may name. No torch here: the API reads this module, and knows none."""

from __future__ import annotations

from purlkit.zoo.catalog import DatasetEntry, ModelEntry, Option

MODELS = [
    ModelEntry(
        name="shapes-net",
        builder="purl_shapes.network:shapes_net",
        dataset="shapes",
        about="two convolutions and a linear layer",
        options={"width": Option(default=8, low=1, high=256, about="channels of the first convolution")},
    )
]

DATASETS = [
    DatasetEntry(
        name="shapes",
        loader="purl_shapes.images:shapes",
        shape=(1, 12, 12),
        classes=2,
        about="bright squares and crosses on noise",
        options={"images": Option(default=1200, low=10, high=100_000, about="to train on")},
    )
]
