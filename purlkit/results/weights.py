"""How a layer's weights are spread before pruning, after it, and after fine-tuning."""

from __future__ import annotations

from pydantic import Field

from purlkit.results.said import Said

# Bins of every histogram: a thousand layers make a record of about a megabyte.
BINS = 64


class Spread(Said):
    """The weights of one layer at one time; those that are removed are not among them."""

    weights: int = Field(ge=0, description="how many there are, zeros that nothing removed included")
    counts: tuple[int, ...] = Field(strict=False, description="weights in each bin", min_length=BINS, max_length=BINS)
    mean: float | None = Field(description="null where no weight is left")
    bimodality: float | None = Field(
        description="Sarle's coefficient, (skewness² + 1) / (excess kurtosis + 3 (n-1)² / ((n-2) (n-3))) of n weights, "
        "both corrected for n; above 5/9, that of evenly spread weights, there may be two modes. "
        "null for fewer than 4 weights or equal ones"
    )


class LayerWeights(Said):
    """Three histograms on one set of bins: evenly spaced from `low` to `high`, the last one closed."""

    name: str
    low: float
    high: float
    dense: Spread
    pruned: Spread
    fine_tuned: Spread


class WeightsReport(Said):
    """The weight analysis of PuRL's paper (its figure 2), of the network that ships."""

    method: str
    layers: tuple[LayerWeights, ...] = Field(strict=False)
