"""Published weights from the operator's files."""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torchvision import models as published

from purlkit import spec
from purlkit.errors import MissingWeights, WeightsDontFit
from purlkit.zoo import catalog, models, pretrained
from tests.one_file_server import served


def saved(content: object) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def named(content: bytes) -> str:
    return f"net-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def put(root: Path, content: bytes) -> str:
    """The address of a file that lies under the data root."""
    (root / "weights").mkdir()
    (root / "weights" / named(content)).write_bytes(content)
    return f"https://download.pytorch.org/models/{named(content)}"


WEIGHTS = OrderedDict({"fc.weight": torch.arange(6.0).view(2, 3)})


def test_every_network_of_torchvision_has_a_published_file_with_a_hash() -> None:
    urls = [pretrained.url_of(str(entry.fixed["name"])) for entry in catalog.MODELS.values() if entry.pretrained]

    assert len(urls) == 80
    assert all(url.startswith("https://download.pytorch.org/models/") for url in urls)
    assert all(len(bytes.fromhex(Path(url).stem.rpartition("-")[2])) in (4, 5) for url in urls)
    assert pretrained.url_of("resnet50").endswith("resnet50-0676ba61.pth"), "76.13 %, which the papers pruned"


def test_a_file_under_the_data_root_is_read(tmp_path: Path) -> None:
    url = put(tmp_path, saved(WEIGHTS))

    tensors = pretrained.tensors_of(pretrained.find(url, tmp_path, download=False))

    assert torch.equal(tensors["fc.weight"], WEIGHTS["fc.weight"])


def test_what_is_missing_is_named_with_its_path_and_its_source(tmp_path: Path) -> None:
    with pytest.raises(MissingWeights, match=r"weights/resnet18-f37072fd\.pth.*https://.*PURL_DOWNLOAD=1") as refused:
        pretrained.load(torch.nn.Identity(), spec.Model(name="resnet18"), tmp_path)

    assert refused.value.at == "/model/weights"


def test_it_is_fetched_where_that_is_allowed(tmp_path: Path) -> None:
    content = saved(WEIGHTS)
    with served(named(content), content) as url:
        path = pretrained.find(url, tmp_path, download=True)

    assert path == tmp_path / "weights" / named(content)
    assert pretrained.tensors_of(path).keys() == WEIGHTS.keys()


def test_what_can_not_be_fetched_leaves_nothing_behind(tmp_path: Path) -> None:
    with (
        served("other.pth", b"") as url,
        pytest.raises(MissingWeights, match=r"can't be fetched: put http.* by hand"),
    ):
        pretrained.find(url.replace("other", "net-00000000"), tmp_path, download=True)

    assert list((tmp_path / "weights").iterdir()) == []


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.mark.parametrize("kind", ["changed", "bomb", "bare bomb", "cut", "no pickle", "a list"])
def test_a_hostile_or_damaged_file_is_refused_and_runs_nothing(kind: str, tmp_path: Path) -> None:
    mark = tmp_path / "the code has run"
    content = {
        "changed": saved(WEIGHTS),
        "bomb": saved(OrderedDict({"fc.weight": Bomb(mark)})),
        "bare bomb": pickle.dumps(Bomb(mark), protocol=2),
        "cut": saved(WEIGHTS)[:-40],
        "no pickle": b"weights",
        "a list": saved([1, 2]),
    }[kind]
    path = pretrained.find(put(tmp_path, content), tmp_path, download=False)
    if kind == "changed":
        path.write_bytes(content + b"!")

    with pytest.raises(MissingWeights, match="not what its name says"):
        pretrained.tensors_of(path)

    assert not mark.exists()


def as_published(name: str) -> OrderedDict[str, Tensor]:
    """Ones, under the names and with the versions of torchvision's own network."""
    options = {"init_weights": True} if name == "googlenet" else {}
    with torch.device("meta"):
        tensors: OrderedDict[str, Tensor] = published.get_model(name, weights=None, **options).state_dict()
    for key, tensor in tensors.items():
        tensors[key] = torch.ones(tensor.shape, dtype=tensor.dtype)
    return tensors


def of_2017(tensors: OrderedDict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """A DenseNet's names of that time, without the counters that came later."""
    old = OrderedDict(
        (re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", name), tensor)
        for name, tensor in tensors.items()
        if not name.endswith("num_batches_tracked")
    )
    assert len(old.keys() - tensors.keys()) > 100
    return old


@pytest.mark.parametrize(
    ("name", "device"), [("googlenet", "meta"), ("mnasnet0_5", "meta"), ("mnasnet0_5", "cpu"), ("densenet121", "meta")]
)
def test_files_of_all_ages_fit(name: str, device: str, tmp_path: Path) -> None:
    """GoogLeNet has classifiers that we leave away, MNASNet asks for its version, DenseNet's names are old."""
    tensors = as_published(name)
    content = saved(of_2017(tensors) if name == "densenet121" else tensors)
    path = pretrained.find(put(tmp_path, content), tmp_path, download=False)
    network = models.build(spec.Model(name=name), shape=(3, 224, 224), classes=1000, seed=0, device=device)

    pretrained.fit(network, pretrained.tensors_of(path))

    assert all(bool((parameter == 1).all()) for parameter in network.parameters())


def test_weights_of_another_network_do_not_fit() -> None:
    network = models.build(spec.Model(name="resnet18"), shape=(3, 224, 224), classes=1000, seed=0, device="meta")

    with pytest.raises(WeightsDontFit, match="published weights"):
        pretrained.fit(network, as_published("squeezenet1_1"))
