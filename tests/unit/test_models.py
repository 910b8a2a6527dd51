"""The networks of the catalog."""

from __future__ import annotations

import pytest
import torch

from purlkit import spec
from purlkit.checkpoint import fingerprint
from purlkit.errors import UnknownName
from purlkit.pruning.layers import prunable_layers
from purlkit.zoo import catalog, models


@pytest.mark.parametrize("name", sorted(catalog.MODELS))
@pytest.mark.parametrize("dataset", sorted(catalog.DATASETS))
def test_every_model_takes_every_data_set(name: str, dataset: str) -> None:
    job = spec.JobSpec(
        model=spec.Model(name=name), dataset=spec.Dataset(name=dataset), targets=spec.Targets(sparsity=0.5)
    )
    entry = catalog.dataset(dataset)

    network = models.build_for(job)

    assert network(torch.zeros(2, *entry.shape)).shape == (2, entry.classes)


def test_options_reach_the_builder() -> None:
    network = models.build(spec.Model(name="mlp", kwargs={"hidden": 7}), shape=(1, 2, 3), classes=4, seed=0)

    assert [tuple(layer.weight.shape) for layer in prunable_layers(network)] == [(7, 6), (7, 7), (4, 7)]


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
