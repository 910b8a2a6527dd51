"""What pruning and fine-tuning do to the weights: histograms that can be laid over each other, mean and bimodality."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from purlkit.pruning.masks import Mask
from purlkit.results.weights import BINS, LayerWeights, Spread, WeightsReport


def weights_report(
    method: str, mask: Mask, *, dense: Mapping[str, Tensor], before: Mapping[str, Tensor], after: Mapping[str, Tensor]
) -> WeightsReport:
    """Every layer of the mask, by three state dicts: the dense network, the one that was cut, the fine-tuned one.

    The dense one and the one that was cut are the same, unless earlier stages cut and trained it too.
    """
    layers = []
    for name, keep in mask.keep.items():
        keep = keep.cpu()
        times = (
            dense[f"{name}.weight"].flatten().double(),
            before[f"{name}.weight"][keep].double(),
            after[f"{name}.weight"][keep].double(),
        )
        # The same distance on both sides, so that the gap that pruning leaves is in the middle.
        reach = max((float(weights.abs().max()) for weights in times if len(weights)), default=0.0) or 1.0
        dense_, pruned, fine_tuned = (_spread(weights, reach) for weights in times)
        layers.append(
            LayerWeights(name=name, low=-reach, high=reach, dense=dense_, pruned=pruned, fine_tuned=fine_tuned)
        )
    return WeightsReport(method=method, layers=tuple(layers))


def _spread(weights: Tensor, reach: float) -> Spread:
    return Spread(
        weights=len(weights),
        counts=tuple(int(count) for count in torch.histc(weights, BINS, -reach, reach)),
        mean=float(weights.mean()) if len(weights) else None,
        bimodality=bimodality(weights),
    )


def bimodality(values: Tensor) -> float | None:
    """Sarle's coefficient with both moments corrected for the size of the sample; None where it has none.

    5/9 for evenly spread values, 1/3 for a normal distribution, up to 1 for two heaps of single values.

    >>> round(bimodality(torch.tensor([-1.0, 1.0]).repeat(1000)), 2)
    1.0
    """
    n = len(values)
    if n < 4 or values.min() == values.max():
        return None
    deviations = values.double() - values.double().mean()
    variance, third, fourth = (float(deviations.pow(power).mean()) for power in (2, 3, 4))
    skewness = third / (variance * math.sqrt(variance)) * math.sqrt(n * (n - 1)) / (n - 2)
    kurtosis = ((n + 1) * (fourth / variance**2 - 3) + 6) * (n - 1) / ((n - 2) * (n - 3))
    return (skewness * skewness + 1) / (kurtosis + 3 * (n - 1) ** 2 / ((n - 2) * (n - 3)))
