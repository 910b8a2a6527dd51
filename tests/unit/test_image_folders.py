"""Images in folders: ImageNet's layout and the operator's own, in files that Pillow writes here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import purlkit
from purlkit import spec
from purlkit.errors import MissingData
from purlkit.training.data import ALL, Images, Share, Splits, batches, subset
from purlkit.training.evaluate import accuracy
from purlkit.training.files import AHEAD, MEAN, STD, ImageFiles, kept_in_memory
from purlkit.training.loop import train
from purlkit.zoo import datasets, folders, models
from tests.waiting import wait_until

COLOURS = {"n01": (200, 30, 30), "n02": (30, 200, 30), "n03": (30, 30, 200)}


def write_images(folder: Path, *, train: int = 12, val: int = 2) -> None:
    """A colour for each class, darker from image to image, so that every image can be told from every other."""
    for part, n in (("train", train), ("val", val)):
        for name, colour in COLOURS.items():
            (folder / part / name).mkdir(parents=True)
            for number in range(n):
                shade = tuple(max(0, channel - 4 * number - (2 if part == "val" else 0)) for channel in colour)
                image = Image.new("RGB", (40 + number, 30), shade)
                image.save(folder / part / name / f"{name}_{number}.{'JPEG' if part == 'train' else 'png'}")
    (folder / "train" / "n01" / "notes.txt").write_text("no image")


@pytest.fixture
def splits(tmp_path: Path) -> Splits:
    write_images(tmp_path / "imagenet")
    return folders.imagenet(tmp_path, size=16, classes=3)


def raw(images: Images) -> torch.Tensor:
    """The first pixel of each, as it was in the file."""
    return ((images.x * STD + MEAN) * 255).round()[:, :, 0, 0]


def test_imagenets_layout(splits: Splits) -> None:
    seen = splits.test[:]

    assert splits.sizes == {"train": 30, "reward": 3, "select": 3, "test": 6}
    assert splits.train.shape == seen.shape == (3, 16, 16)
    assert seen.y.tolist() == [0, 0, 1, 1, 2, 2], "folders in alphabetical order, as torchvision numbers them"
    assert raw(seen)[0].tolist() == [198, 28, 28]


def test_the_splits_share_no_file(splits: Splits) -> None:
    files = [f"{part.root}/{path}" for part in parts(splits) for path in part.paths]

    assert len(set(files)) == len(files) == 42
    assert all(str(part.root).endswith(name) for part, name in zip(parts(splits), ["train"] * 3 + ["val"], strict=True))


def parts(splits: Splits) -> list[ImageFiles]:
    found = [splits.train, splits.reward, splits.select, splits.test]
    assert all(isinstance(part, ImageFiles) for part in found)
    return found  # type: ignore[return-value]


def test_only_the_searchs_parts_are_brought_into_memory(splits: Splits) -> None:
    assert sum(part.nbytes for part in parts(splits)) == 0

    searched = splits.with_reward_images(2)

    assert isinstance(searched.reward, Images)
    assert len(searched.reward) == 2
    assert isinstance(splits.with_reward_images(None).reward, Images)
    assert isinstance(subset(splits.train, 5, seed=0), Images)
    assert isinstance(searched.train, ImageFiles)


def test_a_pass_reads_every_file_once_and_a_seed_repeats_it(splits: Splits) -> None:
    def a_pass(seed: int) -> list[Images]:
        return list(batches(splits.train, 8, torch.Generator().manual_seed(seed)))

    once, again, other = a_pass(0), a_pass(0), a_pass(1)

    assert [len(batch) for batch in once] == [8, 8, 7, 7]
    seen = sorted(tuple(pixel) for batch in once for pixel in raw(batch).tolist())
    assert seen == sorted(tuple(pixel) for pixel in raw(splits.train[:]).tolist())
    assert all(torch.equal(a.x, b.x) and torch.equal(a.y, b.y) for a, b in zip(once, again, strict=True))
    assert [batch.y.tolist() for batch in once] != [batch.y.tolist() for batch in other]


def test_training_sees_parts_and_mirrors_and_measuring_the_centre(tmp_path: Path) -> None:
    gradient = Image.linear_gradient("L").rotate(90).convert("RGB")  # dark on one side, bright on the other
    gradient.save(tmp_path / "a.png")
    files = ImageFiles(tmp_path, ["a.png"] * 40, torch.zeros(40, dtype=torch.long), 8)

    (batch,) = batches(files, 40, torch.Generator().manual_seed(0))
    slopes = raw_slopes(batch)
    (centre,) = raw_slopes(files[:1])

    assert 8 < int((slopes * centre > 0).sum()) < 32, "about half are mirrored"
    assert len({round(float(slope), 1) for slope in slopes.abs()}) > 20, "of many sizes"
    assert float(slopes.abs().max()) < 255
    assert abs(float(centre)) == pytest.approx(255 * 0.875 * 7 / 8, rel=0.02), "224 of 256 pixels, between mid-points"


def raw_slopes(images: Images) -> torch.Tensor:
    """Of the red channel, from the first column to the last."""
    levels = ((images.x * STD + MEAN) * 255)[:, 0].mean(1)
    return levels[:, -1] - levels[:, 0]


def test_evaluation_takes_them_as_they_come(splits: Splits) -> None:
    class Reddest(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x * STD + MEAN).mean((2, 3))

    assert accuracy(Reddest(), splits.test) == 1.0


def test_a_search_and_a_training_run_on_files(splits: Splits) -> None:
    network = models.build(spec.Model(name="digits-resnet", kwargs={"width": 4}), shape=(3, 16, 16), classes=3, seed=0)
    settings = spec.Search(episodes=1, greedy_episodes=1, retrain=spec.Retrain(images=9))

    found = purlkit.search(network, splits, sparsity=0.5, settings=settings)
    found.apply(network)
    train(network, splits.train, spec.Training(epochs=15, batch_size=10), seed=0, mask=found.mask)

    assert found.mask.sparsity == pytest.approx(0.5, abs=1e-3)
    assert accuracy(network, splits.test) > 0.8


@pytest.mark.parametrize("share", [ALL, Share(0, 2), Share(1, 2)])
def test_files_that_are_decoded_once_and_kept_give_the_same_bits(splits: Splits, share: Share) -> None:
    read = [batch.x for batch in batches(splits.train, 8, torch.Generator().manual_seed(0), share=share, skip=1)]
    measured = splits.select[:].x

    kept = kept_in_memory(splits, bytes_of(splits))
    for part in parts(splits)[:3]:
        for path in part.paths:
            (part.root / path).unlink()

    again = [batch.x for batch in batches(kept.train, 8, torch.Generator().manual_seed(0), share=share, skip=1)]
    assert len(again) == 3
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again, read, strict=True))
    assert torch.equal(kept.select[:].x, measured)
    assert kept.train.nbytes + kept.reward.nbytes + kept.select.nbytes == bytes_of(kept) > 0
    assert kept.test is splits.test


def bytes_of(splits: Splits) -> int:
    """Of all pixels but the test split's."""
    return sum(3 * (40 + int(Path(path).stem.split("_")[1])) * 30 for part in parts(splits)[:3] for path in part.paths)


def test_one_byte_too_many_and_all_are_read_as_they_are_needed(splits: Splits) -> None:
    assert kept_in_memory(splits, bytes_of(splits) - 1) is splits
    assert kept_in_memory(splits, 0) is splits


def test_of_too_many_files_only_some_are_looked_at(splits: Splits) -> None:
    train = splits.train
    assert isinstance(train, ImageFiles)
    for path in train.paths[3:]:
        (train.root / path).unlink()

    assert kept_in_memory(splits, 2 * 3 * 30 * 60) is splits


def test_a_part_of_what_is_kept_is_that_part(splits: Splits) -> None:
    kept = kept_in_memory(splits, 10**9).train
    assert isinstance(kept, ImageFiles)

    assert torch.equal(kept.part(torch.tensor([5, 2]))[:].x, splits.train[torch.tensor([5, 2])].x)


def test_several_workers_read_their_shares_of_the_batches_that_one_would_have(splits: Splits) -> None:
    def a_pass(share: Share) -> list[Images]:
        return list(batches(splits.train, 8, torch.Generator().manual_seed(0), share=share))

    alone, first, second = a_pass(ALL), a_pass(Share(0, 2)), a_pass(Share(1, 2))

    for whole, one, other in zip(alone, first, second, strict=True):
        assert torch.equal(torch.cat([one.x, other.x]), whole.x)
        assert torch.equal(torch.cat([one.y, other.y]), whole.y)


def test_the_next_batches_are_read_while_one_is_trained_on_and_no_more_than_those(
    splits: Splits, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    real = ImageFiles._read

    def noted(self: ImageFiles, index: torch.Tensor, *rest: Any) -> Images:
        begun.append(len(index))
        return real(self, index, *rest)

    monkeypatch.setattr(ImageFiles, "_read", noted)
    coming = iter(batches(splits.train, 5, torch.Generator().manual_seed(0)))

    next(coming)
    wait_until("two more are being read", lambda: len(begun) == 1 + AHEAD)
    next(coming)
    wait_until("one more is being read", lambda: len(begun) == 2 + AHEAD)
    assert len(begun) < 6, "the last ones are not asked for yet"
    assert sum(len(batch) for batch in coming) == 30 - 2 * 5
    assert len(begun) == 6


def test_an_image_folder_of_the_operators_own(tmp_path: Path) -> None:
    write_images(tmp_path / "image-folder" / "flowers")
    kwargs = {"folder": "flowers", "classes": 3, "size": 32}

    splits = datasets.load(spec.Dataset(name="image-folder", kwargs=kwargs), tmp_path)

    assert splits.sizes == {"train": 30, "reward": 3, "select": 3, "test": 6}
    assert splits.test[:1].x.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("name", "layout"), [("imagenet", "imagenet/train and imagenet/val"), ("image-folder", "<folder>/train")]
)
def test_what_is_missing_is_named_with_the_layout(name: str, layout: str, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match=layout) as refused:
        datasets.load(spec.Dataset(name=name), tmp_path)

    assert refused.value.at == "/dataset/name"


def test_another_number_of_classes_is_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "image-folder" / "images")

    with pytest.raises(MissingData, match="train has 3 folders, and 10 classes are expected"):
        datasets.load(spec.Dataset(name="image-folder"), tmp_path)


def test_parts_with_different_classes_are_refused(tmp_path: Path) -> None:
    write_images(tmp_path / "imagenet")
    (tmp_path / "imagenet" / "val" / "n02").rename(tmp_path / "imagenet" / "val" / "n04")

    with pytest.raises(MissingData, match="different classes"):
        folders.imagenet(tmp_path, classes=3)


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 no more", b"GIF89a", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"])
def test_a_broken_image_is_named(splits: Splits, content: bytes) -> None:
    test = splits.test
    assert isinstance(test, ImageFiles)
    (test.root / test.paths[4]).write_bytes(content)

    with pytest.raises(MissingData, match=r"the image n03/n03_0\.png can't be read"):
        test[:]
    with pytest.raises(MissingData, match="n03_0"):
        list(batches(test, 2, torch.Generator()))


def test_an_image_that_claims_to_be_huge_is_not_decoded(tmp_path: Path) -> None:
    """Its header alone says 9,000 × 9,000."""
    Image.new("1", (9000, 9000)).save(tmp_path / "a.png")

    with pytest.raises(MissingData, match=r"a\.png"):
        ImageFiles(tmp_path, ["a.png"], torch.zeros(1), 8)[:]


def test_of_many_images_no_more_are_held_out_than_are_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (folders.REWARD, folders.SELECT) == (1000, 5000)
    monkeypatch.setattr(folders, "REWARD", 1)
    monkeypatch.setattr(folders, "SELECT", 2)
    write_images(tmp_path / "imagenet")  # 36, of which a tenth are 3

    assert folders.imagenet(tmp_path, classes=3).sizes == {"train": 33, "reward": 1, "select": 2, "test": 6}


@pytest.mark.parametrize(("train", "val", "enough"), [(4, 1, True), (3, 1, False), (4, 0, False)])
def test_ten_images_to_train_on_and_one_to_report_are_the_least(
    train: int, val: int, enough: bool, tmp_path: Path
) -> None:
    write_images(tmp_path / "imagenet", train=train, val=val)
    if not enough:
        with pytest.raises(MissingData, match="at least 10 in train and one in val"):
            folders.imagenet(tmp_path, classes=3)
        return
    for name in ("n01", "n02"):  # exactly ten, and one
        (tmp_path / "imagenet" / "train" / name / f"{name}_0.JPEG").unlink()
        (tmp_path / "imagenet" / "val" / name / f"{name}_0.png").unlink()
    assert folders.imagenet(tmp_path, classes=3).sizes == {"train": 8, "reward": 1, "select": 1, "test": 1}


@pytest.mark.parametrize("part", ["train", "val"])
def test_both_parts_must_be_there(part: str, tmp_path: Path) -> None:
    write_images(tmp_path / "imagenet")
    (tmp_path / "imagenet" / part).rename(tmp_path / "imagenet" / "other")

    with pytest.raises(MissingData, match="imagenet/train and imagenet/val"):
        folders.imagenet(tmp_path, classes=3)


def test_hidden_folders_and_files_beside_the_classes_are_none(tmp_path: Path) -> None:
    write_images(tmp_path / "imagenet")
    (tmp_path / "imagenet" / "train" / ".cache").mkdir()
    (tmp_path / "imagenet" / "val" / "README").write_text("of no class")

    assert folders.imagenet(tmp_path, classes=3).sizes["test"] == 6


def test_every_kind_of_image_counts_however_its_name_is_written(tmp_path: Path) -> None:
    names = ["a.jpeg", "b.JPG", "c.png", "d.Bmp", "e.ppm", "f.webp", "g.gif", "h.txt", "jpeg"]
    for name in names:
        (tmp_path / name).touch()

    assert folders._images(tmp_path) == names[:6]
