"""What a hurried user gives purlkit.prune, search and load: each is refused by name, with the remedy, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import purlkit
from purlkit import checkpoint
from purlkit.checkpoint import fingerprint
from purlkit.errors import InvalidSpec, PurlError, ShapeMismatch
from purlkit.spec import SHARES, Search, Training
from purlkit.training.data import Images, Splits

X = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
IMAGES = Images(X, Y)
QUICK = Training(epochs=1)


def net(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).to(**changes)


def frozen() -> nn.Module:
    return net().requires_grad_(False)


def weightless() -> nn.Module:
    layer = nn.Linear(1, 3)
    layer.weight = nn.Parameter(torch.empty(3, 0))
    return layer


class Named(nn.Module):
    """Answers with its scores under a name, as some libraries' networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = net()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": self.network(x)}


SPARSITIES = ["0.5", None, [0.5], torch.tensor(0.5), 50, -1, float("nan"), True, 10**400]
MODELS = ["resnet50", None, nn.Linear, net().state_dict(), net(device="meta"), nn.ReLU(), weightless()]
DATA: list[tuple[Any, str]] = [
    (None, "give"),
    ("cifar10", "no pair of tensors"),
    (X, "no pair of tensors"),
    ((X.numpy(), Y.numpy()), "no pair of tensors"),
    ((X, Y, Y), "no pair of tensors"),
    ((X, Y[:5]), "60 images and 5 classes"),
    ((X[:1], Y[:1]), "at least 2"),
    ((X, Y.float()), "whole numbers"),
    ((X, Y > 1), "whole numbers"),
    ((X, torch.eye(3)[Y]), "whole numbers"),
    ((X, Y + 1), "from 0 to 2"),
    ((X, Y - 1), "from 0 to 2"),
    ((X * float("nan"), Y), "not finite"),
    ((X[..., :3], Y), "of the shape"),
    ((X.byte(), Y), "type of numbers"),
    ((X.double(), Y), "type of numbers"),
    ((X.to("meta"), Y), "without values"),
    ((X.to_sparse(), Y), "sparse"),
    (Splits(IMAGES, IMAGES[:0], IMAGES, IMAGES), "the reward split of data has no image"),
    (Splits(IMAGES[:0], IMAGES, IMAGES, IMAGES), "the train split of data has no image"),
    (Splits(IMAGES, IMAGES, (X, Y), IMAGES), "the select split of data is no row"),  # type: ignore[arg-type]
    (Splits(IMAGES, Images(X, Y.float()), IMAGES, IMAGES), "the reward split of data is no row"),
]
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *(("lamp", {"floor": floor}) for floor in (-1, 1.5, "1", None)),
    *(("global-mt", {"minimum_threshold": threshold}) for threshold in (-0.1, 1.1, "a", float("nan"))),
    *(("gmp", {"training": training}) for training in ("x", {"epochs": 1}, None, Search())),
    *(("random", {"retrain": retrain}) for retrain in ("x", QUICK)),
    *((method, {"episodes": episodes}) for method in ("random", "amc") for episodes in (0, -1, 1.5, "3")),
    *(("random", {"seed": seed}) for seed in (None, 1.5, "a")),
    *(("random", {"alphas": alphas}) for alphas in ([], [1, 0.5], [-1, 0], "abc")),
    ("random", {"criterion": "x"}),
    *((method, {"seed": seed}) for method in ("random", "gmp", "amc") for seed in (-1, 2**31)),
    *(("lamp", {name: 1}) for name in ("flor", "seed", "layers", "minimum_threshold")),
    *(("random", {name: 1}) for name in ("score", "training")),
    ("amc", {"alphas": [0.0, 1.0]}),
]
SETTINGS: list[dict[str, Any]] = [
    *({"episodes": episodes} for episodes in (0, "3")),
    *({"seed": seed} for seed in (None, 1.5, -1, 2**31)),
    {"on_episode": 3},
    *({"settings": settings} for settings in ("x", {"episodes": 3})),
    *({"accuracy_target": target} for target in ("0.9", 90, -1)),
    *({"cache_bytes": size} for size in ("1", -1)),
]


@pytest.mark.parametrize("sparsity", SPARSITIES, ids=str)
def test_a_sparsity_that_is_none(sparsity: Any) -> None:
    model = net()
    for method in ("lamp", "random"):
        with pytest.raises(PurlError, match=r"sparsity .*: (give one|ask for a value) from 0"):
            purlkit.prune(model, (X, Y), sparsity, method)
    with pytest.raises(PurlError, match="sparsity"):
        purlkit.search(model, (X, Y), sparsity=sparsity)
    assert fingerprint(model) == fingerprint(net())


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_a_model_that_can_not_be_pruned(model: Any) -> None:
    for call in (
        lambda: purlkit.prune(model, sparsity=0.5),
        lambda: purlkit.prune(model, (X, Y), 0.5, "gmp"),
        lambda: purlkit.search(model, (X, Y), sparsity=0.5),
    ):
        with pytest.raises(InvalidSpec, match=r"no network|no values|nothing to prune") as refused:
            call()
        assert refused.value.at == "/model"


@pytest.mark.parametrize(("data", "told"), DATA, ids=[str(number) for number in range(len(DATA))])
def test_data_that_do_not_go_with_the_model(data: Any, told: str) -> None:
    for method in ("random", "gmp"):
        with pytest.raises(PurlError, match=told):
            purlkit.prune(net(), data, 0.5, method)
    with pytest.raises(PurlError, match=told):
        purlkit.search(net(), data, sparsity=0.5)


def test_classes_may_be_whole_numbers_of_any_size() -> None:
    results = [purlkit.prune(net(), (X, Y.to(kind)), 0.5, "gmp", training=QUICK) for kind in (torch.int64, torch.uint8)]

    assert results[0] == results[1]


@pytest.mark.parametrize(("method", "option"), OPTIONS, ids=str)
def test_an_option_that_is_not_what_it_may_be(method: str, option: dict[str, Any]) -> None:
    [name] = option

    with pytest.raises(InvalidSpec, match=name) as refused:
        purlkit.prune(net(), (X, Y), 0.5, method, **option)

    assert refused.value.at == f"/{name}"


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_a_setting_of_the_search_that_is_not_what_it_may_be(setting: dict[str, Any]) -> None:
    [name] = setting

    with pytest.raises(InvalidSpec, match=name) as refused:
        purlkit.search(net(), (X, Y), sparsity=0.5, **setting)

    assert refused.value.at == f"/{name}"


def test_a_method_that_is_none() -> None:
    for method in (None, ["lamp"], len, "LAMP"):
        with pytest.raises(PurlError, match="use one of amc"):
            purlkit.prune(net(), method=method)


def test_a_frozen_network_is_pruned_and_can_not_be_trained() -> None:
    assert purlkit.prune(frozen(), sparsity=0.5).sparsity == 0.5
    for method in ("gmp", "random"):
        with pytest.raises(InvalidSpec, match=r"frozen.*requires_grad_"):
            purlkit.prune(frozen(), (X, Y), 0.5, method)
    with pytest.raises(InvalidSpec, match=r"frozen.*requires_grad_"):
        purlkit.search(frozen(), (X, Y), sparsity=0.5)


class Choosing(Named):
    """Answers with the class alone."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return self.network(x).argmax(1, keepdim=True)


class Failing(Named):
    """Fails in a way of its own."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": {"known": x}["unknown"]}


@pytest.mark.parametrize("model", [Named(), Choosing()])
def test_an_answer_that_is_no_row_of_scores(model: nn.Module) -> None:
    with pytest.raises(PurlError, match=r"answers with a tensor \(images, classes\)"):
        purlkit.search(model, (X, Y), sparsity=0.5)


def test_whatever_a_network_makes_of_the_images_is_told_as_that() -> None:
    with pytest.raises(ShapeMismatch, match="can't take the images") as refused:
        purlkit.search(Failing(), (X, Y), sparsity=0.5)

    assert isinstance(refused.value.__cause__, KeyError)


def test_images_that_a_graph_hangs_on_are_taken_as_they_are() -> None:
    drawn, plain = X.clone().requires_grad_(), X

    masks = [purlkit.search(net(), (x * 2, Y), sparsity=0.5, episodes=1).mask for x in (drawn, plain)]

    assert masks[0] == masks[1]


def test_an_option_that_is_refused_says_which_there_are() -> None:
    with pytest.raises(InvalidSpec, match=r"use those of floor, minimum_threshold$"):
        purlkit.prune(net(), method="global-mt", treshold=0.1)
    with pytest.raises(InvalidSpec, match=r"use those of alphas, criterion, episodes, floor, retrain, seed$"):
        purlkit.prune(net(), (X, Y), method="random", score=len)


def test_random_alphas_are_those_of_the_criterion() -> None:
    with pytest.raises(InvalidSpec, match="shares of a layer"):
        purlkit.prune(net(), (X, Y), 0.5, "random", criterion="magnitude_target", alphas=[0.0, 2.0])
    random = {"criterion": "magnitude_target", "episodes": 2, "retrain": None}

    left_out = purlkit.prune(net(), (X, Y), 0.5, "random", **random)

    assert left_out == purlkit.prune(net(), (X, Y), 0.5, "random", alphas=iter(SHARES), **random)


def test_asking_moves_neither_generator_nor_mode() -> None:
    model, generator = net().train(), torch.get_rng_state()

    with pytest.raises(PurlError):
        purlkit.prune(model, (X, Y + 1), 0.5, "gmp")

    assert model.training
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("path", [None, 3, "/nowhere/net.safetensors", "x" * 5000, Path(__file__).parent])
def test_a_path_without_a_file(path: Any) -> None:
    with pytest.raises(PurlError, match="no such file"):
        purlkit.load(path, net())


def test_weights_go_into_networks() -> None:
    with pytest.raises(InvalidSpec, match="no network"):
        purlkit.load("net.safetensors", net().state_dict())


class Scaled(nn.Linear):
    """Keeps more than tensors, as quantised layers do."""

    def get_extra_state(self) -> object:
        return {"scale": 1}

    def set_extra_state(self, state: object) -> None: ...


def test_a_state_of_more_than_tensors_has_no_file(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    checkpoint.write(path, nn.Linear(2, 2), metadata={})

    for call in (
        lambda: purlkit.load(path, Scaled(2, 2)),
        lambda: checkpoint.write(path, Scaled(2, 2), metadata={}),
    ):
        with pytest.raises(InvalidSpec, match="more than tensors"):
            call()
