"""The gzipped checkpoint and the ONNX file: small, exact, and hostile ones are refused before they cost anything."""

from __future__ import annotations

import copy
import gzip
import importlib
import json
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision.models
from torch import Tensor, nn

from purlkit import checkpoint
from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.checkpoint.onnx_file import verify_onnx, write_onnx
from purlkit.errors import BadWeightsFile, CannotExport, VerificationFailed, WeightsDontFit
from purlkit.pruning.layers import prunable_layers
from tests.unit.networks import digits_net, some_images


def pruned(model: nn.Module, sparsity: float = 0.9) -> nn.Module:
    layers = prunable_layers(model)
    global_magnitude(layers, sparsity).apply(layers)
    return model


def content_of(model: nn.Module) -> bytes:
    return checkpoint.to_bytes(checkpoint.tensors_of(model), metadata={"format": "purl-1"})


def write_gz(folder: Path, packed: bytes) -> Path:
    path = folder / "net.safetensors.gz"
    path.write_bytes(packed)
    return path


@pytest.mark.parametrize("build", [digits_net, torchvision.models.resnet18], ids=["digits", "resnet18"])
def test_at_90_percent_sparsity_gzip_leaves_less_than_a_sixth(build: Callable[[], nn.Module], tmp_path: Path) -> None:
    model, path = build(), tmp_path / "net.safetensors.gz"
    dense = len(content_of(model))

    checkpoint.write_compressed(path, content_of(pruned(model)))

    assert path.stat().st_size <= 0.16 * dense


def test_a_gzipped_checkpoint_loads_and_equal_weights_make_equal_files(tmp_path: Path) -> None:
    model, other = pruned(digits_net(seed=1)), digits_net(seed=2)
    first, second = tmp_path / "first.safetensors.gz", tmp_path / "second.safetensors.gz"
    for path in (first, second):
        checkpoint.write_compressed(path, content_of(model))

    metadata = checkpoint.load(first, other)

    assert metadata == {"format": "purl-1"}
    assert checkpoint.fingerprint(other) == checkpoint.fingerprint(model)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes()[4:8] == bytes(4)  # no time in it
    assert gzip.decompress(first.read_bytes()) == content_of(model)  # any gzip reads it


SMALL = content_of(nn.Linear(4, 4))


def padded(packed: bytes, size: int) -> bytes:
    """The same gzip member made this long by a file name in its header."""
    header, rest = bytearray(packed[:10]), packed[10:]
    header[3] |= 8
    return bytes(header) + b"n" * (size - len(packed) - 1) + b"\0" + rest


@pytest.mark.parametrize(
    ("packed", "said"),
    [
        (b"", "too short"),
        (SMALL, "another kind"),
        (gzip.compress(b""), "too short"),
        (gzip.compress(SMALL)[:-1], "cut off"),
        (gzip.compress(SMALL[:-1]), "can be read"),
        (gzip.compress(SMALL)[:-8] + b"\0" * 8, "damaged"),  # a wrong checksum
        (gzip.compress(SMALL + b"!"), "more in it"),
        (gzip.compress(SMALL) + b"!", "follows"),
        (gzip.compress(SMALL) + gzip.compress(b"more"), "follows"),
        # The member fills the first 2**16 bytes that are read (its name as padding), so what follows is in the next.
        (padded(gzip.compress(SMALL), 2**16) + b"!", "follows"),
        (gzip.compress((2**40).to_bytes(8, "little") + SMALL), "header is longer"),
        (gzip.compress(b"\x80\x04" + b"pickle" * 9), "header"),
    ],
    ids=[
        "empty",
        "plain",
        "nothing",
        "cut",
        "short",
        "checksum",
        "longer",
        "trailing",
        "members",
        "next",
        "header",
        "pickle",
    ],
)
def test_a_hostile_gzip_is_refused(packed: bytes, said: str, tmp_path: Path) -> None:
    model = nn.Linear(4, 4)
    before = checkpoint.fingerprint(model)

    with pytest.raises(BadWeightsFile, match=said):
        checkpoint.load(write_gz(tmp_path, packed), model)

    assert checkpoint.fingerprint(model) == before


def bomb(header: object) -> bytes:
    raw = json.dumps(header).encode()
    return gzip.compress(len(raw).to_bytes(8, "little") + raw + b"\0" * 2**27, 1)


@pytest.mark.parametrize(
    ("header", "error"),
    [
        ({"weight": {"dtype": "F32", "shape": [2**25], "data_offsets": [0, 2**27]}}, WeightsDontFit),
        ({"weight": {"dtype": "F32", "shape": [2**45], "data_offsets": [0, 2**47]}}, WeightsDontFit),
        (
            {
                "weight": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]},
                "bias": {"dtype": "F32", "shape": [4], "data_offsets": [64, 80]},
            },
            BadWeightsFile,
        ),
    ],
    ids=["a large tensor", "one of 128 TiB", "much behind the tensors"],
)
def test_a_bomb_costs_no_memory(header: object, error: type[Exception], tmp_path: Path) -> None:
    path, model = write_gz(tmp_path, bomb(header)), nn.Linear(4, 4)
    assert path.stat().st_size < 2**20

    tracemalloc.start()
    try:
        with pytest.raises(error):
            checkpoint.load(path, model)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_gzipped_file_that_fits_costs_a_few_times_the_models_weights(tmp_path: Path) -> None:
    model = nn.Linear(1024, 1024, bias=False)
    path = write_gz(tmp_path, gzip.compress(content_of(model), 1))

    tracemalloc.start()
    try:
        checkpoint.load(path, model)
        assert tracemalloc.get_traced_memory()[1] < 4 * model.weight.nbytes
    finally:
        tracemalloc.stop()


def test_a_plain_file_that_does_not_fit_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    checkpoint.write(path, nn.Linear(512, 2048), metadata={})

    tracemalloc.start()
    try:
        with pytest.raises(WeightsDontFit, match="bias is"):
            checkpoint.load(path, nn.Linear(4, 4))
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["net.onnx", "net.pt", "net.gz"])
def test_other_kinds_of_files_are_not_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(SMALL)

    with pytest.raises(BadWeightsFile, match=r"ends in \.safetensors"):
        checkpoint.load(tmp_path / name, nn.Linear(4, 4))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.back = nn.Linear(3, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 5)
        for step in x.unbind(1):
            state = torch.tanh(self.inner(step) + self.back(state))
        return state


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    """A pruned network and its ONNX file, which takes a second to write."""
    model, path = pruned(digits_net()), tmp_path_factory.mktemp("exported") / "net.onnx"
    write_onnx(path, model, some_images(2).x)
    return path, model


def test_the_onnx_file_answers_as_torch_does(exported: tuple[Path, nn.Module]) -> None:
    verify_onnx(*exported, some_images(9).x)


@pytest.mark.parametrize(("model", "shape"), [(Recurrent(), (6, 3)), (tied(), (4,))], ids=["recurrent", "tied"])
def test_so_does_that_of_an_odd_network(model: nn.Module, shape: tuple[int, ...], tmp_path: Path) -> None:
    path, images = tmp_path / "net.onnx", some_images(9, shape).x

    write_onnx(path, pruned(model, 0.5), images)

    verify_onnx(path, model, images)


def test_the_onnx_file_holds_every_zero_and_no_path_of_this_machine(exported: tuple[Path, nn.Module]) -> None:
    path, model = exported
    onnx: Any = importlib.import_module("onnx")

    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    zeros = {layer.name: int((held[f"{layer.name}.weight"] == 0).sum()) for layer in prunable_layers(model)}
    assert zeros == {layer.name: int((layer.weight == 0).sum()) for layer in prunable_layers(model)}
    assert sum(zeros.values()) == 69_365
    assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()


def test_an_onnx_file_of_another_network_is_found_out(exported: tuple[Path, nn.Module]) -> None:
    path, images = exported[0], some_images(3).x
    model = copy.deepcopy(exported[1])

    with torch.no_grad():
        model.get_parameter("conv.weight").mul_(2)
    with pytest.raises(VerificationFailed, match="other weights for conv"):
        verify_onnx(path, model, images)
    with torch.no_grad():
        model.get_parameter("conv.weight").div_(2)
        model.get_buffer("norm.running_mean").add_(1)
    with pytest.raises(VerificationFailed, match="away from torch's"):
        verify_onnx(path, model, images)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 99, b"\x80\x04pickle", SMALL], ids=["empty", "noise", "pickle", "other"]
)
def test_what_is_no_onnx_file_is_called_that(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)

    with pytest.raises(VerificationFailed, match=r"can't (read|be read)"):
        verify_onnx(path, nn.Linear(4, 4), torch.ones(2, 4))


def test_an_onnx_file_that_points_to_another_is_not_followed(tmp_path: Path) -> None:
    path, model = tmp_path / "net.onnx", nn.Linear(64, 64)
    onnx: Any = importlib.import_module("onnx")
    write_onnx(path, model, torch.ones(2, 64))

    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="elsewhere", size_threshold=0)

    with pytest.raises(VerificationFailed, match="outside of it"):
        verify_onnx(path, model, torch.ones(2, 64))


class Untraceable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else -x


class OneSize(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.zeros(len(x), 1)


@pytest.mark.parametrize("model", [Untraceable(), OneSize()])
def test_what_torch_can_not_export_is_said(model: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(CannotExport, match=r"use the safetensors file"):
        write_onnx(tmp_path / "net.onnx", model, torch.ones(2, 4))

    assert not (tmp_path / "net.onnx").exists()


@pytest.mark.parametrize("name", ["absent.safetensors", "absent.safetensors.gz", "folder.safetensors"])
def test_a_path_without_a_file_is_called_that(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()

    with pytest.raises(BadWeightsFile, match="no such file"):
        checkpoint.load(tmp_path / name, nn.Linear(2, 2))


def test_a_plain_file_too_is_judged_by_its_header_before_any_tensor(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(checkpoint.to_bytes({"weight": torch.ones(3)}, metadata={}))
    seen: list[str] = []

    def refuse(header: Mapping[str, object]) -> None:
        seen.extend(header)
        raise WeightsDontFit("not this one")

    with pytest.raises(WeightsDontFit, match="not this one"):
        checkpoint.read(path, refuse)

    assert seen == ["weight"]
