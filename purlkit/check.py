"""What can be known of a job before any training. Every reason against it is collected, none is raised."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from purlkit.baselines.global_magnitude import minimum_weights
from purlkit.checkpoint import load_into, read
from purlkit.errors import MissingWeights, PurlError, ShapeMismatch
from purlkit.pruning.layers import describe, prunable_layers
from purlkit.pruning.ranking import sparsity_range, weights_to_keep
from purlkit.results import CheckReport, ErrorReport
from purlkit.spec import JobSpec, Uploaded
from purlkit.training.data import Splits, subset
from purlkit.training.evaluate import mode
from purlkit.zoo import catalog, datasets, models

# Dense snapshot, gradients and momentum stand beside the weights while a runner retrains.
_COPIES_OF_WEIGHTS = 4


def check(spec: JobSpec, *, data_root: Path, weights: Path | None) -> CheckReport:
    """Builds the model, reads data and weights, and compares them with what the spec asks for.

    `weights` is the file of the upload that the spec names. Layers and range are told also when data or weights are
    missing.
    """
    reasons: list[PurlError] = []
    try:
        spec = spec.resolve()
        model = _build(spec)
    except PurlError as error:
        return CheckReport(runnable=False, reasons=(_report(error),))

    if isinstance(spec.model.weights, Uploaded):
        reasons += _reasons_against_weights(model, weights)
    layers = prunable_layers(model)
    try:
        for stage in spec.sparsities:
            weights_to_keep(layers, stage)
        if "global-mt" in spec.baselines:
            minimum_weights(layers, spec.targets.sparsity, spec.minimum_threshold)
    except PurlError as error:
        reasons.append(error)
    try:
        splits = datasets.load(spec.data, data_root).with_reward_images(spec.search.reward_images)
        subset(splits.train, spec.search.retrain.images, seed=0)
    except PurlError as error:
        reasons.append(error)
        splits = None

    search = spec.search
    return CheckReport(
        runnable=not reasons,
        reasons=tuple(_report(error) for error in reasons),
        layers=describe(layers),
        prunable_weights=sum(layer.weight.numel() for layer in layers),
        sparsity_range=sparsity_range(layers),
        steps=(search.episodes + search.greedy_episodes) * len(layers) * len(spec.sparsities),
        memory_bytes=_memory(spec, model, splits),
    )


def _build(spec: JobSpec) -> nn.Module:
    """The spec's model for its data's shape, with fresh weights; raises ShapeMismatch if they don't go together."""
    entry = catalog.dataset(spec.data.name)
    try:
        model = models.build_for(spec)
        with mode(model, training=False), torch.inference_mode():
            answer = model(torch.zeros(1, *entry.shape))
    except (RuntimeError, ValueError) as error:
        raise _mismatch() from error
    if answer.shape != (1, entry.classes):
        raise _mismatch()
    return model


def _mismatch() -> ShapeMismatch:
    return ShapeMismatch(
        "the model can't take the data set's images", at="/model", remedy="choose a model made for this data set"
    )


def _reasons_against_weights(model: nn.Module, file: Path | None) -> list[PurlError]:
    if file is None:
        return [MissingWeights("these weights are not here", at="/model/weights", remedy="upload them again")]
    try:
        load_into(model, read(file)[0])
    except PurlError as error:
        return [error]
    return []


def _memory(spec: JobSpec, model: nn.Module, splits: Splits | None) -> int:
    weights = sum(int(tensor.nbytes) for tensor in model.state_dict().values())
    channels, height, width = catalog.dataset(spec.data.name).shape
    images = sum(splits.sizes.values()) if splits else spec.search.retrain.images
    snapshots = spec.search.episodes * len(prunable_layers(model)) * weights  # if no step were ever repeated
    cached = min(spec.resources.cache_bytes, snapshots)
    return _COPIES_OF_WEIGHTS * weights + cached + 4 * channels * height * width * images


def _report(error: PurlError) -> ErrorReport:
    return ErrorReport(code=error.code, message=str(error), at=error.at)
