"""The network as an ONNX file, for runtimes without torch. Written and checked here; a stranger's is never read."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from purlkit.errors import CannotExport, VerificationFailed
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.training.evaluate import mode

INPUT, OUTPUT = "images", "logits"
NEEDED = ("onnx", "onnxscript", "onnxruntime")
# Another runtime sums in another order; this share of the largest answer is allowed for it.
TOLERANCE = 1e-4

log = logging.getLogger("purl.onnx")


def write_onnx(path: Path, model: nn.Module, images: Tensor) -> None:
    """Writes the model for batches of any size; `images` are a few examples. CannotExport where torch can't say it.

    The graph is left as it was traced: folding batch norm into a convolution would make its weights others than those
    of the checkpoint. Runtimes fold when they load.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotExport(f"{', '.join(missing)} are not installed", remedy="install purlkit[onnx]")
    model = copy.deepcopy(model).to("cpu")
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with mode(model, training=False):
            program = torch.onnx.export(
                model,
                (_two(images),),
                None,
                dynamo=True,
                optimize=False,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
        assert program is not None
        shape = program.model.graph.inputs[0].shape
        if shape is None or shape.is_static(0):
            raise ValueError("the model's own code fixes the size of a batch, for example by len(x)")
        for node in program.model.graph:
            node.metadata_props.clear()  # where each step stands in the source, with this machine's paths
        program.save(path, external_data=False)
    except Exception as error:  # whatever torch, onnxscript or protobuf make of a stranger's model
        log.info("no ONNX file", exc_info=error)
        raise CannotExport(
            f"torch can't write this model as ONNX ({type(error).__name__})", remedy="use the safetensors file"
        ) from error
    finally:
        quiet.setLevel(level)


def verify_onnx(path: Path, model: nn.Module, images: Tensor) -> None:
    """The file's weights are the model's, zero for zero, and onnxruntime answers as torch does, for any batch."""
    runtime: Any = importlib.import_module("onnxruntime")
    model = copy.deepcopy(model).to("cpu")
    _compare_weights(path, model)
    try:
        session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds have no common one
        raise VerificationFailed("onnxruntime can't read the ONNX file") from error
    images = images.to("cpu")
    with mode(model, training=False), torch.inference_mode():
        for batch in (images, images[:1]):
            expected = model(batch)
            given = torch.from_numpy(session.run([OUTPUT], {INPUT: batch.contiguous().numpy()})[0])
            if given.shape != expected.shape:
                raise VerificationFailed("the ONNX file's answers have another shape than torch's")
            apart = float((given - expected).abs().max())
            if not apart <= TOLERANCE * max(1.0, float(expected.abs().max())):
                raise VerificationFailed(f"the ONNX file's answers are {apart:.3g} away from torch's")


def _compare_weights(path: Path, model: nn.Module) -> None:
    onnx: Any = importlib.import_module("onnx")
    try:
        # We write none with weights in other files, and a file may not choose what is read here.
        held = {tensor.name: tensor for tensor in onnx.load(path, load_external_data=False).graph.initializer}
    except Exception as error:  # protobuf's, and whatever onnx makes of it
        raise VerificationFailed("the ONNX file can't be read") from error
    if any(tensor.data_location for tensor in held.values()):
        raise VerificationFailed("the ONNX file has its weights outside of it")
    for layer in prunable_layers(model):
        name = next((name for name in _names(model, layer) if name in held), None)
        if name is None:  # a layer that answers don't depend on, as an auxiliary head
            continue
        weight = torch.from_numpy(onnx.numpy_helper.to_array(held[name]).copy())
        if not torch.equal(weight, layer.weight.detach()):
            raise VerificationFailed(f"the ONNX file holds other weights for {layer.name}")


def _names(model: nn.Module, layer: PrunableLayer) -> list[str]:
    """All that a shared weight is called."""
    return [name for name, parameter in model.named_parameters(remove_duplicate=False) if parameter is layer.weight]


def _two(images: Tensor) -> Tensor:
    """A batch of one would be taken for a size that never changes."""
    return images[:2].to("cpu") if len(images) > 1 else images.to("cpu").repeat(2, *[1] * (images.dim() - 1))
