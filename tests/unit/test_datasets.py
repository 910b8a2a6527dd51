"""Data sets load from their real formats into four splits that share no image."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10

from purlkit import spec
from purlkit.errors import MissingData
from purlkit.training.data import Images, Splits
from purlkit.zoo import datasets


def parts(splits: Splits) -> list[Images]:
    return [splits.train, splits.reward, splits.select, splits.test]


def test_digits_are_split_into_four(tmp_path: Path) -> None:
    splits = datasets.load(spec.Dataset(name="digits"), tmp_path)

    assert splits.sizes == {"train": 1000, "reward": 250, "select": 250, "test": 297}
    assert all(part.x.shape[1:] == (1, 8, 8) and part.x.dtype == torch.float32 for part in parts(splits))
    assert all(set(part.y.tolist()) == set(range(10)) for part in parts(splits))


def test_the_splits_of_digits_are_disjoint_and_cover_the_data(tmp_path: Path) -> None:
    splits = datasets.digits(tmp_path)
    x, y = torch.cat([part.x for part in parts(splits)]), torch.cat([part.y for part in parts(splits)])
    levels = ((x - x.min()) / (x.max() - x.min()) * 16).round().int()  # back to the grey levels 0 to 16

    ours = sorted((*image.flatten().tolist(), label) for image, label in zip(levels, y.tolist(), strict=True))

    raw = load_digits()
    assert ours == sorted(
        (*image, label) for image, label in zip(raw.data.astype(int).tolist(), raw.target, strict=True)
    )


def test_digits_are_normalised_by_the_training_split(tmp_path: Path) -> None:
    splits = datasets.digits(tmp_path)

    assert float(splits.train.x.mean()) == pytest.approx(0, abs=1e-5)
    assert float(splits.train.x.std()) == pytest.approx(1, abs=1e-5)
    assert float(splits.test.x.mean()) != pytest.approx(0, abs=1e-5)


def test_digits_are_the_same_every_time(tmp_path: Path) -> None:
    generator = torch.get_rng_state()
    once, again = datasets.digits(tmp_path), datasets.digits(tmp_path)

    assert all(torch.equal(a.x, b.x) for a, b in zip(parts(once), parts(again), strict=True))
    assert torch.equal(torch.get_rng_state(), generator)


def write_cifar10(root: Path) -> type[CIFAR10]:
    """Real batch files, of 4 images each, and torchvision's reader told to expect their checksums."""
    folder, random = root / "cifar-10-batches-py", np.random.default_rng(0)
    folder.mkdir()

    def write(name: str, content: dict[str, object]) -> list[str]:
        data = pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    def batch(name: str) -> list[str]:
        data = random.integers(0, 256, (4, 3072), dtype=np.uint8)
        labels = random.integers(0, 10, 4).tolist()
        files = [f"{name}_{index}.png" for index in range(4)]
        return write(name, {"batch_label": name, "labels": labels, "data": data, "filenames": files})

    name, checksum = write("batches.meta", {"label_names": [f"class {index}" for index in range(10)]})
    expected = {
        "train_list": [batch(f"data_batch_{number}") for number in range(1, 6)],
        "test_list": [batch("test_batch")],
        "meta": {"filename": name, "key": "label_names", "md5": checksum},
    }
    return type("SmallCIFAR10", (CIFAR10,), expected)


def test_cifar10_in_its_real_format(tmp_path: Path) -> None:
    reader = write_cifar10(tmp_path)

    splits = datasets.cifar(tmp_path, "cifar10", reader, held_out=5)

    assert splits.sizes == {"train": 10, "reward": 5, "select": 5, "test": 4}
    assert all(part.x.shape[1:] == (3, 32, 32) for part in parts(splits))
    assert splits.train.x.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert splits.train.x.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_cifar10_keeps_images_and_labels_together_and_the_official_test_apart(tmp_path: Path) -> None:
    reader = write_cifar10(tmp_path)
    train, test = reader(str(tmp_path), train=True), reader(str(tmp_path), train=False)

    splits = datasets.cifar(tmp_path, "cifar10", reader, held_out=5)

    raw = torch.as_tensor(test.data).permute(0, 3, 1, 2).float()
    scale = splits.test.x.std((0, 2, 3), keepdim=True) / raw.std((0, 2, 3), keepdim=True)
    shift = (splits.test.x - raw * scale).mean((0, 2, 3), keepdim=True)

    def pairs(images: Images) -> list[tuple[bytes, int]]:
        pixels = ((images.x - shift) / scale).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        return [(image.tobytes(), label) for image, label in zip(pixels, images.y.tolist(), strict=True)]

    def official(data: CIFAR10) -> list[tuple[bytes, int]]:
        return [(image.tobytes(), label) for image, label in zip(data.data, data.targets, strict=True)]

    assert pairs(splits.test) == official(test)
    assert sorted(pairs(splits.train) + pairs(splits.reward) + pairs(splits.select)) == sorted(official(train))


def test_missing_files_are_named_with_the_layout_and_the_source(tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=r"cifar-10-batches-py.*data_batch_1.*cs\.toronto\.edu") as caught:
        datasets.load(spec.Dataset(name="cifar10"), tmp_path)

    assert caught.value.at == "/dataset/name"


def test_damaged_files_are_not_read(tmp_path: Path) -> None:
    reader = write_cifar10(tmp_path)
    with (tmp_path / "cifar-10-batches-py" / "data_batch_3").open("ab") as file:
        file.write(b"!")

    with pytest.raises(MissingData, match="missing or damaged"):
        datasets.cifar(tmp_path, "cifar10", reader, held_out=5)
