"""Every error a user can meet. The message says what is wrong and the remedy; the code is stable.

`at` is a JSON pointer into the spec where one field is to blame. Messages never echo the caller's input.
"""

from __future__ import annotations

import decimal
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class PurlError(Exception):
    """Base of all: a stable `code`, a readable message, and perhaps the field to blame."""

    code = "error"
    retryable = False  # whether another attempt may fare better
    where: str | None = None  # the place in the code, where it is not the one that raises this

    def __init__(self, message: str, *, at: str | None = None, remedy: str | None = None) -> None:
        super().__init__(f"{message}: {remedy}" if remedy else message)
        self.at = at

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors come from other processes, by pickle: an exception's own way would hand the message to `__init__`."""
        return _as_it_was, (type(self), self.args, self.__dict__)


class InvalidSpec(PurlError):
    """The spec contradicts itself or asks for what does not exist."""

    code = "invalid_spec"


class UnknownName(InvalidSpec):
    """A model or data set that is not in the catalog."""

    code = "unknown_name"

    def __init__(self, *, kind: str, known: Sequence[str], at: str) -> None:
        super().__init__(f"there is no such {kind}", at=at, remedy=f"use one of {', '.join(known)}")


class UnreachableSparsity(PurlError):
    """No policy can reach the target on this network."""

    code = "unreachable_sparsity"

    def __init__(self, *, asked: float, low: float, high: float) -> None:
        super().__init__(
            f"sparsity {asked:g} can't be reached on this network",
            at="/targets/sparsity",
            remedy=f"ask for a value from {_short(low, up=True)} to {_short(high)}",
        )


class UnreachableFlops(PurlError):
    """No mask of this network removes that share of its multiply-adds."""

    code = "unreachable_flops"

    def __init__(self, *, asked: float, low: float, high: float) -> None:
        super().__init__(
            f"{asked:g} of the multiply-adds can't be removed from this network",
            at="/targets/flops",
            remedy=f"ask for a value from {_short(low, up=True)} to {_short(high)}",
        )


class CollapsedLayer(PurlError):
    """A method left a layer without weights, and was told not to keep any there."""

    code = "collapsed_layer"

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__(
            f"nothing would be left of {', '.join(layers)}",
            at="/targets/sparsity",
            remedy="ask for a lower sparsity, or keep the largest weight of every layer with floor=1",
        )


class ThresholdTooHigh(PurlError):
    """What every layer must keep is more than the target leaves."""

    code = "threshold_too_high"

    def __init__(self, *, highest: float, sparsity: float) -> None:
        super().__init__(
            "the minimum threshold keeps more weights than the target sparsity leaves",
            at="/minimum_threshold",
            remedy=f"ask for a threshold of at most {_short(highest)}, or for a sparsity of at most {_short(sparsity)}",
        )


class MissingData(PurlError):
    """The data set's files are not where the workers look."""

    code = "missing_data"


class DataUnreachable(PurlError):
    """The store of the data sets does not answer, or breaks off, for too long."""

    code = "data_unreachable"
    retryable = True


class CacheUnusable(PurlError):
    """A node's cache for the data sets is set wrongly, or can't be written."""

    code = "cache_unusable"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the node's cache for data sets can't be used ({why})",
            at="/dataset",
            remedy="look at PURL_DATASETS_CACHE and PURL_DATASETS_CACHE_BYTES where the workers run",
        )


class CacheTooSmall(PurlError):
    """A node's cache has no room for a file of the data set beside those that are in use."""

    code = "cache_too_small"

    def __init__(self, *, needed: int, most: int) -> None:
        super().__init__(
            f"a file of {needed} bytes finds no room in the node's cache of {most}",
            at="/dataset",
            remedy="raise PURL_DATASETS_CACHE_BYTES where the workers run",
        )


class MissingPackage(PurlError):
    """What the model is built with is an optional part that is not installed."""

    code = "missing_package"


class WeightsDontFit(PurlError):
    """The uploaded weights belong to another architecture, or are not finite."""

    code = "weights_dont_fit"


class MissingWeights(PurlError):
    """The spec names an upload that this service does not have."""

    code = "missing_weights"


class BadWeightsFile(PurlError):
    """The upload is not a safetensors file that we accept."""

    code = "bad_weights_file"


class ShapeMismatch(PurlError):
    """The model and the data set do not go together."""

    code = "shape_mismatch"


class NotEnoughData(PurlError):
    """The data set has fewer images than the spec's splits need."""

    code = "not_enough_data"


class NotEnoughResources(PurlError):
    """The cluster can never fit what the job asks for."""

    code = "not_enough_resources"


class NodesDidNotCome(PurlError):
    """The cluster may grow, was asked for a node, and has not brought one for too long."""

    code = "nodes_did_not_come"
    retryable = True

    def __init__(self, need: str, seconds: float) -> None:
        super().__init__(
            f"the cluster has not brought a node with {need} within {seconds:g} s",
            at="/resources",
            remedy="look at its autoscaler and your quota, at PURL_RAY_GROWS_TO, or raise PURL_GROW_SECONDS",
        )


class RayUnreachable(PurlError):
    """The Ray cluster does not answer, or Ray does not start, within its time."""

    code = "ray_unreachable"
    retryable = True


class SearchStuck(PurlError):
    """No runner of the search is healthy, or none has answered, for too long."""

    code = "search_stuck"
    retryable = True


class OutOfMemory(PurlError):
    """A runner does not fit into the GPU's memory, not even alone."""

    code = "out_of_memory"


class DiskFull(PurlError):
    """A worker's disk has no room left for what it writes."""

    code = "disk_full"
    retryable = True

    def __init__(self) -> None:
        super().__init__("the worker's disk is full", remedy="free space below its temporary folder and its data sets")


class Diverged(PurlError):
    """A training's loss is no longer a number."""

    code = "diverged"
    epoch = 0  # in which it did, counted from 1


class EnvironmentFailed(PurlError):
    """The environment raised in the same place again and again; `code` is that of its error where it is ours."""

    code = "environment_failed"

    def __init__(self, message: str, *, code: str = code, at: str | None = None, where: str | None = None) -> None:
        super().__init__(message, at=at)
        self.code = code
        self.where = where


class CodeMismatch(PurlError):
    """The cluster runs other code of purlkit and workers than the service has."""

    code = "code_mismatch"

    def __init__(self) -> None:
        super().__init__(
            "the cluster's purlkit and workers are not of the service's version",
            remedy="bring its image up to date, or let the service send the code with PURL_RAY_CODE=upload",
        )


class VerificationFailed(PurlError):
    """What was read back from the written checkpoint differs from what was measured before."""

    code = "verification_failed"


class CannotExport(PurlError):
    """The network can't be written in that format."""

    code = "cannot_export"


class Impossible(PurlError):
    """What `checking` found, under the code that it was found by."""

    def __init__(self, *, code: str, message: str, at: str | None) -> None:
        super().__init__(message, at=at)
        self.code = code


def _as_it_was(kind: type[PurlError], args: tuple[Any, ...], state: dict[str, Any]) -> PurlError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def place_of(error: BaseException) -> str:
    """The innermost frame of our own code: the same place again means the same fault."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if any(f"/{part}/" in frame.filename for part in ("workers", "purlkit"))]
    place = type(error).__name__
    for frame in (ours or frames)[-1:]:
        place += f" in {Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.name}"
    return place


def _short(number: float, *, up: bool = False) -> str:
    """Six digits, rounded to the side on which the remedy still works: a sixth digit may be dozens of weights."""
    rounding = decimal.ROUND_CEILING if up else decimal.ROUND_FLOOR
    return f"{float(decimal.Context(prec=6, rounding=rounding).create_decimal(repr(number))):.6g}"
