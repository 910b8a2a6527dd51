"""Data sets load from their real formats into four splits that share no image."""

from __future__ import annotations

import fcntl
import hashlib
import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torchvision.datasets import CIFAR10, CIFAR100

from purlkit import spec
from purlkit.errors import MissingData
from purlkit.training.augment import crop_and_mirror
from purlkit.training.data import Images, Splits, subset
from purlkit.zoo import datasets
from purlkit.zoo.fetching import alone
from tests.one_file_server import served


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


def test_digits_come_in_scikit_learns_order_from_its_file_or_from_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    from_the_file = datasets._scikit_learns_digits()
    monkeypatch.setattr(datasets, "find_spec", lambda _: None)
    from_itself = datasets._scikit_learns_digits()

    assert torch.equal(from_the_file[0].squeeze(1), torch.as_tensor(load_digits().images))
    assert all(torch.equal(one, other) for one, other in zip(from_the_file, from_itself, strict=True))


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


def pickled(content: dict[str, object]) -> bytes:
    """As the published files are: protocol 2, by a numpy of their time."""
    return pickle.dumps(content, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def batch(n: int, classes: int, seed: int) -> dict[str, object]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n).tolist()
    data = random.integers(0, 256, (n, 3072), dtype=np.uint8)
    return {"labels" if classes == 10 else "fine_labels": labels, "data": data}


def write(folder: Path, name: str, content: bytes) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return [name, hashlib.md5(content).hexdigest()]


def write_cifar10(root: Path) -> type[CIFAR10]:
    """Real batch files, of 4 images each, and torchvision's reader told to expect their checksums."""
    folder = root / "cifar-10-batches-py"
    names = [f"data_batch_{number}" for number in range(1, 6)]
    train = [write(folder, name, pickled(batch(4, 10, seed))) for seed, name in enumerate(names)]
    meta = write(folder, "batches.meta", pickled({"label_names": [f"class {index}" for index in range(10)]}))
    expected = {
        "train_list": train,
        "test_list": [write(folder, "test_batch", pickled(batch(4, 10, 9)))],
        "meta": {"filename": meta[0], "key": "label_names", "md5": meta[1]},
    }
    return type("SmallCIFAR10", (CIFAR10,), expected)


def write_cifar100(root: Path) -> type[CIFAR10]:
    folder = root / "cifar-100-python"
    meta = write(folder, "meta", pickled({"fine_label_names": [f"class {index}" for index in range(100)]}))
    expected = {
        "train_list": [write(folder, "train", pickled(batch(200, 100, 0)))],
        "test_list": [write(folder, "test", pickled(batch(20, 100, 1)))],
        "meta": {"filename": meta[0], "key": "fine_label_names", "md5": meta[1]},
    }
    return type("SmallCIFAR100", (CIFAR100,), expected)


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


def test_cifar100_in_its_real_format(tmp_path: Path) -> None:
    splits = datasets.cifar(tmp_path, "cifar100", write_cifar100(tmp_path), held_out=50)

    assert splits.sizes == {"train": 100, "reward": 50, "select": 50, "test": 20}
    assert {int(y) for part in parts(splits) for y in part.y} <= set(range(100))
    assert len(splits.train.y.unique()) > 20, "the fine classes, not the 20 coarse ones"


class Bomb:
    """What a pickle can hold: a call that is made when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_pickle_that_was_swapped_is_never_opened(tmp_path: Path) -> None:
    reader, mark = write_cifar10(tmp_path), tmp_path / "the code has run"
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(Bomb(mark)))

    with pytest.raises(MissingData, match="missing or damaged"):
        datasets.cifar(tmp_path, "cifar10", reader, held_out=5)

    assert not mark.exists()
    pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes()).close()
    assert mark.exists(), "it would have run"


def test_only_training_crops_and_mirrors(tmp_path: Path) -> None:
    splits = datasets.cifar(tmp_path, "cifar10", write_cifar10(tmp_path), held_out=5)

    assert splits.train.augment is crop_and_mirror
    assert subset(splits.train, 5, seed=0).augment is None
    assert [part.augment for part in parts(splits)[1:]] == [None, None, None]


def archived(folder: Path, name: str) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        archive.add(folder / name, name)
    return content.getvalue()


def test_what_is_missing_is_fetched_where_that_is_allowed(tmp_path: Path) -> None:
    reader = write_cifar10(tmp_path / "published")
    content = archived(tmp_path / "published", "cifar-10-batches-py")
    reader.tgz_md5 = hashlib.md5(content).hexdigest()

    with served(reader.filename, content) as reader.url:
        with pytest.raises(MissingData, match="PURL_DOWNLOAD=1"):
            datasets.cifar(tmp_path / "root", "cifar10", reader, held_out=5)
        splits = datasets.cifar(tmp_path / "root", "cifar10", reader, held_out=5, download=True)

    assert splits.sizes == {"train": 10, "reward": 5, "select": 5, "test": 4}


def test_what_can_not_be_fetched_is_missing_with_its_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served("nothing", b"") as url:
        monkeypatch.setattr(CIFAR10, "url", url.replace("nothing", "absent"))
        with pytest.raises(MissingData, match=r"can't be fetched.*cifar-10-batches-py"):
            datasets.load(spec.Dataset(name="cifar10"), tmp_path / "new", download=True)


def test_what_needs_no_files_is_not_told_to_fetch_any(tmp_path: Path) -> None:
    splits = datasets.load(spec.Dataset(name="digits"), tmp_path / "none", download=True)

    assert splits.sizes["train"] == 1000
    assert not (tmp_path / "none").exists()


def test_of_cifar_5000_images_are_held_out_twice() -> None:
    assert datasets.CIFAR_HELD_OUT == 5000


def test_one_process_fetches_at_a_time(tmp_path: Path) -> None:
    with (
        alone(tmp_path),
        (tmp_path / ".download.lock").open("w") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
