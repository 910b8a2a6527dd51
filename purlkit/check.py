"""What can be known of a job before any training. Every reason against it is collected, none is raised."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from purlkit.baselines.global_magnitude import minimum_weights
from purlkit.checkpoint import load_into, read, refuse_unfit
from purlkit.errors import InvalidSpec, MissingWeights, NotEnoughResources, PurlError, ShapeMismatch
from purlkit.estimate import operations, phase_costs, seconds_per_image
from purlkit.pruning.cost import derived_layers, weight_uses
from purlkit.pruning.flops import check_reachable
from purlkit.pruning.layers import describe, layers_to_prune, prunable_layers
from purlkit.pruning.ranking import sparsity_range, weights_to_keep
from purlkit.results import CheckReport, ErrorReport
from purlkit.spec import JobSpec, Uploaded
from purlkit.training.data import Images, Splits
from purlkit.training.evaluate import mode
from purlkit.training.together import refuse_odd_norms
from purlkit.zoo import catalog, datasets, models, pretrained

# Dense snapshot, gradients and momentum stand beside the weights while a runner retrains.
_COPIES_OF_WEIGHTS = 4


def check(
    spec: JobSpec,
    *,
    data_root: str | Path,
    weights: Path | None,
    download: bool = False,
    patient: bool = True,
    costed: bool = True,
) -> CheckReport:
    """Builds the model, reads data and weights, and compares them with what the spec asks for.

    `weights` is the file of the upload that the spec names. Layers and range are told also when data or weights are
    missing. `download` lets it fetch what is missing and public. `patient`: a store that is silent is asked again.
    `costed`: the report says what the job costs, which takes some steps of training; an attempt does not ask.
    """
    reasons: list[PurlError] = []
    try:
        spec = spec.resolve()
        model = _build(spec)
        _prunable(spec, model)
        _shareable(spec, model)
        counted = operations(model, _an_image(spec, model))
    except PurlError as error:
        return CheckReport(runnable=False, reasons=(_report(error),))

    reasons += _reasons_against_weights(spec, model, weights, data_root, download=download)
    layers = prunable_layers(model)
    try:
        if spec.goal == "flops":
            check_reachable(layers, weight_uses(model, _an_image(spec, model)), spec.target)
        for stage in spec.sparsities if spec.goal == "sparsity" else ():
            weights_to_keep(layers, stage)
        if "global-mt" in spec.baselines and spec.goal == "sparsity":
            for point in spec.points:
                minimum_weights(layers, point, spec.minimum_threshold)
    except PurlError as error:
        reasons.append(error)
    splits = None
    try:
        splits = datasets.load(spec.data, data_root, download=download, patient=patient)
        splits.require(reward_images=spec.search.reward_images, subset=spec.search.retrain.images)
        splits.require(batch_norm=spec.fine_tune.batch_norm_images or 0)
        for training in spec.trainings.values():
            splits.require_for_each(spec.resources.fine_tune_workers, training.batch_size)
    except PurlError as error:
        reasons.append(error)
    memory = _memory(spec, model, splits)
    if memory > (here := _memory_here()):
        remedy = f"ask for a smaller model or fewer images; this machine has {here} bytes"
        reasons.append(NotEnoughResources(f"a runner would need {memory} bytes of memory", at="/model", remedy=remedy))

    search = spec.search
    costs = []
    if costed and not reasons and splits is not None:
        rate = seconds_per_image(lambda: models.build_for(spec), _shape(spec), counted)
        costs = phase_costs(spec, layers=len(layers), splits=splits.sizes, seconds_per_image=rate)
    return CheckReport(
        runnable=not reasons,
        reasons=tuple(_report(error) for error in reasons),
        layers=describe(layers),
        prunable_weights=sum(layer.weight.numel() for layer in layers),
        sparsity_range=sparsity_range(layers),
        steps=(search.episodes + search.greedy_episodes) * len(layers) * len(spec.sparsities),
        costs=tuple(costs),
        memory_bytes=memory,
    )


def _build(spec: JobSpec) -> nn.Module:
    """The spec's model for its data's shape; raises ShapeMismatch if they don't go together.

    On the meta device, where weights have shapes and no values: a dry run of any network takes no memory. Some
    builders look at values, and those are given them.
    """
    try:
        return _tried(spec, "meta")
    except ShapeMismatch:
        return _tried(spec, "cpu")


def _tried(spec: JobSpec, device: str) -> nn.Module:
    entry, kwargs = catalog.dataset(spec.data.name), spec.data.kwargs
    try:
        model = models.build_for(spec, device=device)
        with mode(model, training=False), torch.inference_mode():
            answer = model(torch.zeros(1, *_shape(spec), device=device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise _mismatch() from error
    if answer.shape != (1, entry.classes_with(kwargs)):
        raise _mismatch()
    return model


def _prunable(spec: JobSpec, model: nn.Module) -> None:
    """Raises InvalidSpec unless there is something to prune and zeros in its weights are zeros where it multiplies."""
    layers_to_prune(model)
    if derived := derived_layers(model, _an_image(spec, model)):
        raise InvalidSpec(
            f"{derived[0]} does not multiply by its weight as it is, so zeros in it would not count",
            at="/model",
            remedy="choose a model without weight standardisation",
        )


def _shape(spec: JobSpec) -> catalog.Shape:
    return catalog.dataset(spec.data.name).shape_with(spec.data.kwargs)


def _an_image(spec: JobSpec, model: nn.Module) -> Tensor:
    return torch.zeros(1, *_shape(spec), device=next(model.parameters()).device)


def _shareable(spec: JobSpec, model: nn.Module) -> None:
    if spec.resources.fine_tune_workers > 1:
        refuse_odd_norms(model)


def _mismatch() -> ShapeMismatch:
    return ShapeMismatch(
        "the model can't take the data set's images",
        at="/model",
        remedy="choose a model made for this data set, or the model's own size where the data's kwargs have one",
    )


def _reasons_against_weights(
    spec: JobSpec, model: nn.Module, file: Path | None, data_root: str | Path, *, download: bool
) -> list[PurlError]:
    try:
        if isinstance(spec.model.weights, Uploaded):
            if file is None:
                raise MissingWeights("these weights are not here", at="/model/weights", remedy="upload them again")
            load_into(model, read(file, lambda header: refuse_unfit(model, header))[0])
        elif spec.model.weights == "pretrained":
            pretrained.load(model, spec.model, data_root, download=download)
    except PurlError as error:
        return [error]
    return []


def _memory(spec: JobSpec, model: nn.Module, splits: Splits | None) -> int:
    weights = sum(int(tensor.nbytes) for tensor in model.state_dict().values())
    image = 4 * torch.Size(_shape(spec)).numel()
    search = spec.search
    snapshots = search.episodes * len(prunable_layers(model)) * weights  # if no step were ever repeated
    held = _COPIES_OF_WEIGHTS * weights + min(spec.resources.cache_bytes, snapshots)
    if splits is None:
        return held + image * search.retrain.images
    parts = (splits.train, splits.reward, splits.select, splits.test)
    # The search's two parts are brought into memory where they are not in it yet.
    fetched = 0 if isinstance(splits.reward, Images) else search.reward_images or len(splits.reward)
    images = image * (search.retrain.images + fetched)
    return held + sum(part.nbytes for part in parts) + images


def _memory_here() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _report(error: PurlError) -> ErrorReport:
    return ErrorReport(code=error.code, message=str(error), at=error.at)
