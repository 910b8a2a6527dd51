"""What a hurried user gives purlkit.prune, search and load: each is refused by name, with the remedy, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import purlkit
from purlkit.checkpoint import fingerprint
from purlkit.errors import InvalidSpec, PurlError
from purlkit.spec import Search, Training

X = torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
QUICK = Training(epochs=1)


def net(**changes: Any) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).to(**changes)


def frozen() -> nn.Module:
    return net().requires_grad_(False)


class Named(nn.Module):
    """Answers with its scores under a name, as some libraries' networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.network = net()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"scores": self.network(x)}


SPARSITIES = ["0.5", None, [0.5], torch.tensor(0.5), 50, -1, float("nan"), True]
MODELS = ["resnet50", None, nn.Linear, net().state_dict(), net(device="meta"), nn.ReLU()]
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
]
SETTINGS: list[dict[str, Any]] = [
    *({"episodes": episodes} for episodes in (0, "3")),
    *({"seed": seed} for seed in (None, 1.5)),
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


def test_an_answer_that_is_no_row_of_scores() -> None:
    with pytest.raises(PurlError, match=r"answers with a tensor \(images, classes\)"):
        purlkit.search(Named(), (X, Y), sparsity=0.5)


def test_asking_moves_neither_generator_nor_mode() -> None:
    model, generator = net().train(), torch.get_rng_state()

    with pytest.raises(PurlError):
        purlkit.prune(model, (X, Y + 1), 0.5, "gmp")

    assert model.training
    assert torch.equal(torch.get_rng_state(), generator)


@pytest.mark.parametrize("path", [None, 3, "/nowhere/net.safetensors", Path(__file__).parent])
def test_a_path_without_a_file(path: Any) -> None:
    with pytest.raises(PurlError, match="no such file"):
        purlkit.load(path, net())


def test_weights_go_into_networks() -> None:
    with pytest.raises(InvalidSpec, match="no network"):
        purlkit.load("net.safetensors", net().state_dict())
