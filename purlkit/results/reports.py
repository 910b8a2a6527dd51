"""Why a job can't run or did not: what `checking` found, and the error of a failed one."""

from __future__ import annotations

from pydantic import Field

from purlkit.results.outcome import Layer
from purlkit.results.said import Said

# A worker that never reached the service leaves with this code: nobody else can hear of it.
UNREACHABLE_EXIT = 4


class ErrorReport(Said):
    """Why a job failed."""

    code: str = Field(max_length=100)
    message: str = Field(max_length=10_000)
    at: str | None = Field(None, max_length=500, description="JSON pointer into the spec")
    where: str | None = Field(None, max_length=1000, description="the place in the code: equal places are equal faults")
    retryable: bool = Field(False, description="whether another attempt may fare better")


class PhaseCost(Said):
    """What a phase will cost, by a simple estimate: see purlkit/estimate.py."""

    phase: str
    images: int = Field(ge=0, description="training images, all runners together")
    device_hours: float = Field(ge=0, description="by the speed of one thread of the machine that checked")


class Sight(Said):
    """Whether a worker sees the files of a data set."""

    name: str = Field(max_length=200)
    reason: str | None = Field(None, max_length=10_000, description="why not; none where they are all there")


class CheckReport(Said):
    """What `checking` found: all that can be known of a spec before any training."""

    runnable: bool
    reasons: tuple[ErrorReport, ...] = Field((), strict=False)
    layers: tuple[Layer, ...] = Field((), strict=False)
    prunable_weights: int | None = None
    sparsity_range: tuple[float, float] | None = Field(None, strict=False)
    steps: int | None = Field(None, description="environment steps of the search")
    costs: tuple[PhaseCost, ...] = Field((), strict=False, description="phase by phase; none without the data")
    memory_bytes: int | None = Field(None, description="a runner's weights, data and cache of steps, roughly")


class CheckAnswer(CheckReport):
    """What a checker says: its report, and beside the question what the catalog wants to know."""

    datasets: tuple[Sight, ...] = Field((), strict=False)
