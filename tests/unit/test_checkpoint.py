"""Checkpoints: what is written comes back, equal weights make equal files, and a stranger's file is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from purlkit import checkpoint
from purlkit.baselines.global_magnitude import global_magnitude
from purlkit.errors import BadWeightsFile, WeightsDontFit
from purlkit.pruning.layers import prunable_layers
from tests.unit.networks import digits_net

METADATA = {letter: letter * 3 for letter in "hgfedcba"}


def test_a_round_trip_brings_back_weights_and_metadata(tmp_path: Path) -> None:
    model, path = digits_net(width=4, seed=1), tmp_path / "model.safetensors"
    checkpoint.write(path, model, metadata=METADATA)
    other = digits_net(width=4, seed=2)

    metadata = checkpoint.load(path, other)

    assert metadata == METADATA
    assert checkpoint.fingerprint(other) == checkpoint.fingerprint(model)


def test_any_reader_of_safetensors_can_load_it_into_the_plain_model(tmp_path: Path) -> None:
    model, path = digits_net(width=4, seed=1), tmp_path / "model.safetensors"
    checkpoint.write(path, model, metadata=METADATA)
    plain = digits_net(width=4, seed=2)

    plain.load_state_dict(safetensors.torch.load_file(path))

    assert checkpoint.fingerprint(plain) == checkpoint.fingerprint(model)


def test_bytes_and_file_read_alike(tmp_path: Path) -> None:
    model, path = digits_net(width=2), tmp_path / "model.safetensors"
    checkpoint.write(path, model, metadata=METADATA)

    tensors, metadata = checkpoint.from_bytes(path.read_bytes())

    assert metadata == METADATA == checkpoint.read(path)[1]
    assert tensors.keys() == model.state_dict().keys() == checkpoint.read(path)[0].keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in checkpoint.read(path)[0].items())


def test_equal_weights_and_metadata_make_equal_bytes() -> None:
    model = digits_net(width=2)

    files = {
        checkpoint.to_bytes(checkpoint.tensors_of(model), metadata=metadata)
        for metadata in (METADATA, dict(reversed(METADATA.items())))
        for _ in range(5)  # safetensors' own writer orders metadata anew each time
    }

    assert len(files) == 1


def test_the_header_is_what_the_format_asks_for() -> None:
    content = checkpoint.to_bytes({"w": torch.ones(3)}, metadata={"größe": "ü"})
    length = int.from_bytes(content[:8], "little")

    assert length % 8 == 0
    assert json.loads(content[8 : 8 + length]) == {
        "__metadata__": {"größe": "ü"},
        "w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
    }
    assert checkpoint.from_bytes(content)[1] == {"größe": "ü"}


def test_tied_weights_stand_under_both_names() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight

    tensors, _ = checkpoint.from_bytes(checkpoint.to_bytes(checkpoint.tensors_of(model), metadata={}))

    assert torch.equal(tensors["0.weight"], tensors["1.weight"])
    checkpoint.load_into(model, tensors)
    assert model[1].weight is model[0].weight


def test_the_memory_layout_does_not_show() -> None:
    model = digits_net(width=4)
    plain = digits_net(width=4).to(memory_format=torch.contiguous_format)

    assert checkpoint.fingerprint(model) == checkpoint.fingerprint(plain)
    assert checkpoint.to_bytes(checkpoint.tensors_of(model), metadata={}) == checkpoint.to_bytes(
        checkpoint.tensors_of(plain), metadata={}
    )


def test_the_copies_are_the_callers_own() -> None:
    model = digits_net(width=2)
    tensors = checkpoint.tensors_of(model)
    before = checkpoint.fingerprint(model)

    for tensor in tensors.values():
        tensor.zero_()

    assert checkpoint.fingerprint(model) == before


def test_the_fingerprint_is_the_same_in_every_run() -> None:
    model = nn.Linear(2, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        model.bias.zero_()

    assert checkpoint.fingerprint(model) == "1f02556eedb0708670cac81b4913f89b1762b3a6fcf5a815ec7467fda9759cc0"


def test_recount_counts_the_zeros_of_a_file() -> None:
    model = digits_net(width=4)
    layers = prunable_layers(model)
    mask = global_magnitude(layers, 0.9)
    mask.apply(layers)

    tensors, _ = checkpoint.from_bytes(checkpoint.to_bytes(checkpoint.tensors_of(model), metadata={}))

    assert checkpoint.recount(tensors, [layer.name for layer in layers]) == (mask.kept, mask.total)


def tensors(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"weight": torch.ones(2, 3), "bias": torch.zeros(2), **changes}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"weight": torch.ones(2, 3)}, "missing: bias"),
        (tensors(extra=torch.ones(1)), "unexpected: extra"),
        (tensors(weight=torch.ones(3, 2)), r"weight is float32\[3, 2\] and not float32\[2, 3\]"),
        (tensors(weight=torch.ones(2, 3, dtype=torch.int64)), r"weight is int64\[2, 3\] and not float32\[2, 3\]"),
        (tensors(bias=torch.tensor([0.0, float("nan")])), "not finite: bias"),
        (tensors(bias=torch.tensor([0.0, float("inf")])), "not finite: bias"),
        (tensors(bias=torch.tensor([0.0, 1e300], dtype=torch.float64)), "not finite: bias"),
        (tensors(**{"<b>\n": torch.ones(1)}), "unexpected: (an odd name)"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_the_model_stays(given: dict[str, torch.Tensor], said: str) -> None:
    model = nn.Linear(3, 2)
    before = checkpoint.fingerprint(model)

    with pytest.raises(WeightsDontFit, match=said.replace("(", r"\(").replace(")", r"\)")) as caught:
        checkpoint.load_into(model, given)

    assert caught.value.at == "/model/weights"
    assert checkpoint.fingerprint(model) == before


def test_a_long_list_of_differences_is_cut_short() -> None:
    many = {f"layer{number}.weight": torch.ones(1) for number in range(20)}

    with pytest.raises(WeightsDontFit, match=r"layer0.* and 15 more"):
        checkpoint.load_into(nn.Linear(3, 2), tensors(**many))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted(dtype: torch.dtype) -> None:
    model = nn.Linear(3, 2)

    checkpoint.load_into(model, tensors(weight=torch.full((2, 3), 0.5, dtype=dtype)))

    assert model.weight.dtype is torch.float32
    assert model.weight.tolist() == [[0.5] * 3] * 2


def file_of(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


HOSTILE = {
    "empty": b"",
    "a pickle": b"\x80\x02cos\nsystem\nq\x00.",
    "a header longer than the file": file_of(b"{}", length=2**62),
    "not JSON": file_of(b"{{{"),
    "not an object": file_of([]),
    "offsets beyond the end": file_of({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 99]}}, b"\0" * 8),
    "a shape that overflows": file_of(
        {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 8]}}, b"\0" * 8
    ),
    "tensors that overlap": file_of(
        {name: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for name in "ab"}, b"\0" * 8
    ),
    "an unknown type": file_of({"a": {"dtype": "X9", "shape": [2], "data_offsets": [0, 8]}}, b"\0" * 8),
    "a type that torch has not": file_of(
        {"a": {"dtype": "F6_E2M3", "shape": [16], "data_offsets": [0, 12]}}, b"\0" * 12
    ),
    "metadata that is not text": file_of({"__metadata__": {"a": 1}}),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(content)

    with pytest.raises(BadWeightsFile, match="not a safetensors file that we accept"):
        checkpoint.read(path)
    with pytest.raises(BadWeightsFile, match="no safetensors file"):
        checkpoint.from_bytes(content)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadWeightsFile):
        checkpoint.read(tmp_path / "nothing")
