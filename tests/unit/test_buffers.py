"""Images that are pickled with their buffers beside them: the same values in the same layout, and the same memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from purlkit.training.augment import crop_and_mirror
from purlkit.training.data import Images
from purlkit.training.files import ImageFiles
from purlkit.zoo.procedural import Enlarged

Kind = TypeVar("Kind", Images, ImageFiles)

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "plain": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "channels last of one channel": lambda x: x[:, :1].contiguous(memory_format=torch.channels_last),
    "a part of another": lambda x: x[3:7],
    "turned round": lambda x: x.transpose(0, 1),
    "with holes": lambda x: x[:, ::2],
    "one for all": lambda x: x[:1].expand(5, -1, -1, -1),
    "of nothing": lambda x: x[:0],
    "in bfloat16": lambda x: x.bfloat16(),
}


def handed_over(images: Kind) -> tuple[Kind, list[pickle.PickleBuffer]]:
    buffers: list[pickle.PickleBuffer] = []
    content = pickle.dumps(images, protocol=5, buffer_callback=buffers.append)
    assert len(content) < 2000, "what is large is beside it"
    copy: Kind = pickle.loads(content, buffers=[memoryview(buffer).toreadonly() for buffer in buffers])
    return copy, buffers


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_and_layout_are_the_same(layout: str) -> None:
    x = LAYOUTS[layout](torch.randn(10, 4, 6, 6))
    images = Images(x, torch.arange(len(x)), crop_and_mirror)

    copy, _ = handed_over(images)

    assert torch.equal(copy.x, x)
    assert torch.equal(copy.y, images.y)
    assert copy.x.dtype is x.dtype
    assert copy.augment is crop_and_mirror
    if layout not in {"with holes", "one for all", "of nothing"}:
        assert copy.x.stride() == x.stride()


def test_nothing_is_copied_on_either_side() -> None:
    images = Images(torch.zeros(4, 3, 8, 8).contiguous(memory_format=torch.channels_last), torch.arange(4))

    copy, _ = handed_over(images)
    images.x[2, 1] = 7.0

    assert torch.equal(copy.x, images.x)


def test_files_that_are_kept_are_handed_over_as_they_are(tmp_path: Path) -> None:
    Image.linear_gradient("L").save(tmp_path / "a.png")
    files = ImageFiles(tmp_path, ["a.png"] * 9, torch.arange(9), size=8)
    kept = files.kept(np.full((9, 2), 256))

    copy, (content, *_) = handed_over(kept)

    assert content.raw().nbytes == kept.nbytes == 9 * 3 * 256 * 256
    assert torch.equal(copy[:].x, files[:].x)


def test_what_holds_images_is_handed_over_too() -> None:
    enlarged = Enlarged(Images(torch.rand(3, 1, 4, 4), torch.arange(3)), (16, 16))

    copy: Enlarged = pickle.loads(pickle.dumps(enlarged))

    assert torch.equal(copy[:].x, enlarged[:].x)
