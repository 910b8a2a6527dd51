"""The papers' numbers: all rows of the three tables, each with its run as a recipe."""

from __future__ import annotations

from collections import Counter

from purlkit.published import COLUMNS, NOT_SAID, PRUNABLE, PUBLISHED, find
from purlkit.recipes import recipes
from purlkit.zoo import catalog


def test_every_row_is_there() -> None:
    counts = Counter((row.source, row.model, row.method) for row in PUBLISHED)

    assert counts == {
        ("PuRL", "resnet50-cifar", "purl"): 7,
        ("PuRL", "resnet50", "purl"): 4,
        ("PuRL", "resnet50", "amc"): 1,
        ("PuRL", "resnet50", "gmp"): 1,
        ("PuRL", "wrn-28-10", "uniform"): 1,
        ("PuRL", "wrn-28-10", "purl"): 1,
        ("PuRL", "mobilenet_v2", "amc"): 1,
        ("PuRL", "mobilenet_v2", "purl"): 1,
        ("PuRL", "efficientnet_b2", "uniform"): 1,
        ("PuRL", "efficientnet_b2", "purl"): 1,
        ("Global MP", "resnet50", "global"): 4,
        ("Global MP", "resnet50", "global-gradual"): 4,
        ("Global MP", "mobilenet_v1", "global"): 2,
        ("Global MP", "mobilenet_v1", "global-mt"): 1,
        ("Global MP", "wrn-28-8", "global"): 3,
        ("Global MP", "resnet32-cifar", "global"): 2,
        ("Global MP", "mobilenet_v2-cifar", "global"): 1,
        ("Global MP", "mobilenet_v2-cifar", "global-mt"): 1,
        ("Global MP", "wrn-22-8", "global"): 1,
        ("Global MP", "fastgrnn", "columns"): 3,
    }


def test_rows_are_found_by_model_data_and_method() -> None:
    [row] = find(model="mobilenet_v1", data="imagenet", method="global-mt")

    assert (row.sparsity, row.dense_accuracy, row.accuracy, row.flops_pruned) == (90.0, 71.95, 63.94, 72.9)
    assert [row.accuracy for row in find(model="wrn-28-8")] == [96.30, 96.16, 95.68]
    assert find(model="resnet50", data="cifar10") == ()
    assert find() == PUBLISHED


def test_the_naive_method_beats_purl_at_80_percent_on_imagenet() -> None:
    """The reason for the race, by the papers' own numbers."""
    best = max(row.accuracy for row in find(model="resnet50", method="purl"))
    [naive] = [row for row in find(model="resnet50", method="global") if row.sparsity == 80]

    assert (best, naive.accuracy) == (75.37, 76.84)


def test_every_sparsity_says_of_what() -> None:
    assert {row.denominator for row in PUBLISHED if row.sparsity is not None} == {PRUNABLE}
    assert {row.denominator for row in PUBLISHED if row.sparsity is None} == {COLUMNS, NOT_SAID}


def test_names_are_those_of_the_catalog_and_the_recipes() -> None:
    for row in PUBLISHED:
        catalog.model(row.model)
        catalog.dataset(row.data)
    assert {row.recipe for row in PUBLISHED} == set(recipes())
