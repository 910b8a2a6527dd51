"""A data root in a real S3 service: what is read from it, what is kept of it, and what is said where it can't be."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import obstore
import pytest
import torch
from obstore.store import MemoryStore, S3Store

from purlkit import spec
from purlkit.check import check
from purlkit.errors import DataUnreachable, MissingData, PurlError
from purlkit.storage import bucket as in_s3
from purlkit.storage.places import at_hand, place
from purlkit.storage.sight import sights
from purlkit.training.data import Splits, batches
from purlkit.training.files import kept_in_memory
from purlkit.zoo import catalog, datasets, folders
from tests.faults import FaultProxy, fault_proxy
from tests.s3 import SECRET, S3Server
from tests.unit.test_image_folders import write_images

FLOWERS = spec.Dataset(name="image-folder", kwargs={"folder": "flowers", "classes": 3, "size": 16})


class Data:
    """A data root below a prefix of a bucket, and the same files in a folder."""

    def __init__(self, s3: S3Server, bucket: str, folder: Path) -> None:
        self.url = f"s3://{bucket}/some/where"
        self.folder = folder
        self._store = S3Store(bucket, prefix="some/where", **s3.options())

    def send(self) -> None:
        for file in self.folder.rglob("*"):
            if file.is_file():
                self.put(str(file.relative_to(self.folder)), file.read_bytes())

    def put(self, path: str, content: bytes) -> None:
        obstore.put(self._store, path, content)

    def remove(self, path: str) -> None:
        obstore.delete(self._store, path)


@pytest.fixture(autouse=True)
def worker(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process has a worker's environment, and a cache that is empty."""
    for name, value in s3.environ().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PURL_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(in_s3, "PAUSE_SECONDS", 0.05)


@pytest.fixture(scope="module")
def flowers(s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Data:
    """For all tests that only read."""
    return send_flowers(Data(s3, s3.make_bucket("flowers"), tmp_path_factory.mktemp("flowers")))


@pytest.fixture
def own_flowers(s3: S3Server, bucket: str, tmp_path: Path) -> Data:
    return send_flowers(Data(s3, bucket, tmp_path / "data"))


def send_flowers(data: Data) -> Data:
    write_images(data.folder / "image-folder" / "flowers", train=4, val=1)
    data.send()
    return data


@pytest.fixture
def line(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """What lies between the workers and the store."""
    with fault_proxy(s3.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        yield proxy


def kept(tmp_path: Path) -> int:
    files = (file for file in (tmp_path / "cache").rglob("*") if file.is_file() and file.name not in ("lock", "bytes"))
    return sum(file.stat().st_size for file in files)


def same(a: Splits, b: Splits) -> bool:
    return all(
        torch.equal(x[:].x, y[:].x) and torch.equal(x[:].y, y[:].y)
        for x, y in zip((a.train, a.reward, a.select, a.test), (b.train, b.reward, b.select, b.test), strict=True)
    )


def test_an_image_folder_is_the_same_there_as_on_a_disk(flowers: Data, tmp_path: Path) -> None:
    there = datasets.load(FLOWERS, flowers.url)
    assert kept(tmp_path) == 0, "nothing is fetched before it is needed"

    assert same(there, datasets.load(FLOWERS, flowers.folder))


def test_a_second_look_asks_the_store_for_no_image(flowers: Data, line: FaultProxy) -> None:
    datasets.load(FLOWERS, flowers.url).test[:]
    asked = [request for request in line.requests if "/val/" in request and "list-type" not in request]
    line.requests.clear()

    datasets.load(FLOWERS, flowers.url).test[:]

    assert len(asked) == 3
    assert [request for request in line.requests if "list-type" not in request] == []


def test_who_gets_it_from_another_process_lists_nothing_anew_and_has_a_cache_and_keys_of_its_own(
    flowers: Data, line: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = pickle.dumps(datasets.load(FLOWERS, flowers.url))
    line.requests.clear()
    monkeypatch.setenv("PURL_DATASETS_CACHE", str(tmp_path / "of another node"))

    there: Splits = pickle.loads(held)

    assert same(there, datasets.load(FLOWERS, flowers.folder))
    assert [request for request in line.requests if "list-type" in request] == []
    assert kept(tmp_path) == 0
    assert SECRET.encode() not in held


def test_small_images_are_fetched_and_decoded_once(flowers: Data, line: FaultProxy) -> None:
    decoded = kept_in_memory(datasets.load(FLOWERS, flowers.url), 2**20)
    line.requests.clear()

    for part in (decoded.train, decoded.reward, decoded.select):
        part[:]

    assert line.requests == []


def test_a_folder_larger_than_the_cache_is_read_through_it(
    flowers: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = [file.stat().st_size for file in flowers.folder.rglob("*.JPEG")]
    room = 3 * max(sizes)
    assert sum(sizes) > room
    monkeypatch.setenv("PURL_DATASETS_CACHE_BYTES", str(room))
    monkeypatch.setattr("purlkit.training.files.MOST_READERS", 2)
    splits = datasets.load(FLOWERS, flowers.url)

    for seed in range(2):
        for _ in batches(splits.train, 2, torch.Generator().manual_seed(seed)):
            assert kept(tmp_path) <= room


def test_what_is_read_whole_is_at_hand_while_it_is(flowers: Data) -> None:
    """As CIFAR, HAR and published weights are: in a folder of links to what the cache has and nobody may remove."""
    names = ["image-folder/flowers/val", "image-folder/flowers/train/n01/n01_0.JPEG", "not/there"]

    with at_hand(place(flowers.url), names) as folder:
        here = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.*")}

    assert len(here) == 4
    assert all(content == (flowers.folder / name).read_bytes() for name, content in here.items())
    assert not folder.exists()


@pytest.mark.parametrize("fault", ["drop", "cut the answer", "503"])
def test_an_image_comes_whole_over_a_line_that_fails(fault: str, flowers: Data, line: FaultProxy) -> None:
    there = datasets.load(FLOWERS, flowers.url)
    line.plan("GET /val/", *[fault] * 2)  # type: ignore[list-item]

    seen = there.test[:]

    assert line.waiting == 0
    assert torch.equal(seen.x, datasets.load(FLOWERS, flowers.folder).test[:].x)


def test_a_store_that_stays_away_is_told_from_files_that_do(
    flowers: Data, line: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_s3, "PATIENCE_SECONDS", 0.2)
    there = datasets.load(FLOWERS, flowers.url)
    line.plan("GET /val/", *["503"] * 100)  # type: ignore[list-item]

    with pytest.raises(DataUnreachable, match="does not answer") as refused:
        there.test[:]

    assert refused.value.retryable


def test_what_changes_under_a_job_is_no_longer_its_data_and_the_next_one_has_it_anew(own_flowers: Data) -> None:
    path, other = "image-folder/flowers/val/n01/n01_0.png", "image-folder/flowers/val/n03/n03_0.png"
    before = datasets.load(FLOWERS, own_flowers.url)
    first = before.test[:]
    listed_before = datasets.load(FLOWERS, own_flowers.url)
    own_flowers.put(path, (own_flowers.folder / other).read_bytes())

    assert torch.equal(before.test[:].x, first.x), "what is in the cache is what was listed"
    after = datasets.load(FLOWERS, own_flowers.url).test[:]
    assert not torch.equal(after.x[0], first.x[0])
    assert torch.equal(after.x[0], after.x[2])

    shutil.rmtree(os.environ["PURL_DATASETS_CACHE"])
    with pytest.raises(MissingData, match="no longer what it was"):
        listed_before.test[:]
    own_flowers.remove(path)
    with pytest.raises(MissingData, match="gone or was changed"):
        listed_before.test[:]


BROKEN = {
    "no credentials": ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "have no credentials"),
    "others' credentials": ({"AWS_SECRET_ACCESS_KEY": "guessed"}, "refuses the workers"),
    "nobody there": ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, "does not answer"),
}


@pytest.mark.parametrize("broken", [*BROKEN, "no bucket"])
def test_why_the_workers_see_nothing_is_said(broken: str, flowers: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    environ, said = BROKEN.get(broken, ({}, "bucket of the data root does not exist"))
    for name, value in environ.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    # Where there are no keys a role is asked for; of a machine that has one this test knows nothing.
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    if broken in ("no credentials", "nobody there"):  # the others are answered, in seconds on a busy machine
        monkeypatch.setattr(in_s3, "REQUEST_SECONDS", 1.0)
    root = "s3://no-such-bucket/x" if broken == "no bucket" else flowers.url

    seen = {sight.name: sight.reason for sight in sights(root)}
    with pytest.raises(PurlError, match=said):
        datasets.load(FLOWERS, root, patient=False)

    assert seen["digits"] is None
    assert said in str(seen["image-folder"])
    assert seen["cifar10"] == seen["image-folder"]


def test_keys_that_may_list_and_not_read_are_the_reason(own_flowers: Data, line: FaultProxy) -> None:
    (entry,) = (each for each in catalog.DATASETS.values() if each.name == "cifar10")
    own_flowers.put(f"{entry.files[0]}/data_batch_1", b"?")
    line.plan("HEAD", *["403"] * 20)  # type: ignore[list-item]

    seen = {sight.name: str(sight.reason) for sight in sights(own_flowers.url)}

    assert "refuses the workers" in seen["har"], "nobody can know whether it is there"


def test_a_region_that_is_not_the_buckets_is_the_reason(flowers: Data, line: FaultProxy) -> None:
    line.always = "301"

    with pytest.raises(MissingData, match="set AWS_REGION"):
        datasets.load(FLOWERS, flowers.url)


def test_a_name_that_no_file_could_have_is_the_reason(s3: S3Server, own_flowers: Data) -> None:
    """Nothing that asking again for two minutes would change. Other programs make such names."""
    bucket = own_flowers.url.split("/")[2]
    s3.put_as_it_is(f"{bucket}/some/where/image-folder/flowers/train/n01//a.png", b"?")

    with pytest.raises(MissingData, match="has an empty part"):
        datasets.load(FLOWERS, own_flowers.url)


def test_workers_that_lack_the_package_say_so_and_see_all_the_rest(
    flowers: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)

    seen = {sight.name: sight.reason for sight in sights(flowers.url)}

    assert seen["digits"] is None
    assert "install purlkit[s3]" in str(seen["cifar10"])


def test_what_is_there_and_what_of_a_layout_is_missing(flowers: Data) -> None:
    flowers.put("imagenet/train/n01440764/a.JPEG", b"?")

    seen = {sight.name: sight.reason for sight in sights(flowers.url)}

    assert seen["image-folder"] is None
    assert seen["har"] == catalog.DATASETS["har"].layout
    assert str(seen["imagenet"]).startswith("imagenet/val is missing: the data root must hold imagenet/train and")


def test_a_dry_run_finds_what_is_missing(flowers: Data) -> None:
    job = spec.JobSpec(
        model=spec.Model(name="digits-resnet", kwargs={"width": 4}),
        dataset=spec.Dataset(name="image-folder", kwargs={**FLOWERS.kwargs, "folder": "trees"}),
        targets=spec.Targets(sparsity=0.5),
    )

    report = check(job, data_root=flowers.url, weights=None, patient=False)

    assert [reason.code for reason in report.reasons] == ["missing_data"]
    assert "image-folder/<folder>/train" in report.reasons[0].message
    assert report.layers


def test_a_listing_of_many_files_needs_little_more_than_what_is_kept_of_it() -> None:
    """ImageNet has 1.3 million: with all that S3 tells of each it took a gigabyte."""
    count, store = 5000, MemoryStore()
    for number in range(count):
        obstore.put(store, f"train/n{number // 500:08d}/n{number // 500:08d}_{number:06d}.JPEG", b"")
    source = in_s3.Source("memory", store, cache=None, patience=0)  # type: ignore[arg-type]

    tracemalloc.start()
    try:
        listed = source.entries("train")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert listed is not None
    assert len(listed) == 10
    assert most < 500 * count


def test_only_what_lies_directly_in_the_folder_of_a_class_counts(s3: S3Server, bucket: str, tmp_path: Path) -> None:
    data = Data(s3, bucket, tmp_path)
    for name in ("a/0.png", "a/1.png", "b/0.png", "a/deeper/0.png", "README"):
        data.put(f"image-folder/x/train/{name}", b"")
    source = in_s3.Source.of(data.url.split("/")[2], "some/where", cache=None, patience=0)  # type: ignore[arg-type]
    train = in_s3.BucketPlace(source) / "image-folder" / "x" / "train"

    assert folders._classes(train, 2) == ["a", "b"]
    assert folders._images(train / "a") == ["0.png", "1.png"]
