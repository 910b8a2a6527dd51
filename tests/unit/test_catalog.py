"""The names that a spec may use: those of the packages, those of plugins, and what their arguments may be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from purlkit import spec
from purlkit.checkpoint import fingerprint
from purlkit.errors import InvalidSpec, MissingPackage, UnknownName
from purlkit.seeds import derive
from purlkit.zoo import catalog, models, names


def job(**body: object) -> spec.JobSpec:
    return spec.JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.5}, **body}).resolve()


def test_torchvisions_names_are_its_own() -> None:
    known = [name for name, entry in catalog.MODELS.items() if entry.provider == "torchvision"]

    assert known == names.torchvision_names(), "write them again: python -m purlkit.zoo.names"


def test_timms_names_are_its_own() -> None:
    known = [name.removeprefix("timm/") for name in catalog.timm()]

    assert known == names.timm_names(), "write them again: python -m purlkit.zoo.names"


@pytest.mark.parametrize("name", ["timm/resnet18", "timm/vit_tiny_patch16_224", "timm/mobilenetv3_small_050"])
def test_a_network_of_timm_follows_the_data(name: str) -> None:
    network = models.build(spec.Model(name=name), shape=(3, 64, 64), classes=7, seed=0)

    assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


def test_without_timm_its_names_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "purlkit.zoo.from_timm", raising=False)

    with pytest.raises(MissingPackage, match=r"purlkit\[timm\]"):
        models.build(spec.Model(name="timm/resnet18"), shape=(3, 64, 64), classes=7, seed=0)


def test_another_module_that_is_missing_is_a_fault_and_no_advice_to_install_timm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = catalog.ModelEntry(name="odd", builder="no_such_module:build", dataset="digits", about="", package="timm")
    monkeypatch.setitem(catalog.MODELS, "odd", entry)

    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        models.build(spec.Model(name="odd"), shape=(1, 8, 8), classes=10, seed=0)


def test_the_jobs_seed_gives_the_first_weights_a_seed_of_their_own() -> None:
    """Not the job's own number, which the order of the images and much else would share."""
    asked = job(seed=5)
    by_hand = models.build(asked.model, shape=(1, 8, 8), classes=10, seed=derive(5, "initial"))

    assert fingerprint(models.build_for(asked)) == fingerprint(by_hand)


def test_an_unknown_name_of_timm_is_refused() -> None:
    with pytest.raises(UnknownName):
        job(model={"name": "timm/nothing"})


def test_what_kwargs_say_of_the_images_reaches_the_network() -> None:
    asked = job(dataset={"name": "procedural", "kwargs": {"shape": [2, 5, 7], "classes": 3}})

    network = models.build_for(asked, device="meta")

    assert asked.data.kwargs["shape"] == (2, 5, 7)
    assert network(torch.zeros(1, 2, 5, 7, device="meta")).shape == (1, 3)


def test_a_row_is_the_same_job_as_a_list_and_as_a_tuple() -> None:
    asked = job(dataset={"name": "procedural", "kwargs": {"shape": [2, 5, 7]}})
    again = job(dataset={"name": "procedural", "kwargs": {"shape": (2, 5, 7)}})
    stored = spec.JobSpec.model_validate(asked.model_dump(mode="json"))

    assert asked == again == stored
    assert asked.fingerprint == again.fingerprint == stored.fingerprint


@pytest.mark.parametrize(
    ("kwargs", "at", "remedy"),
    [
        ({"shape": [3, 32]}, "/dataset/kwargs/shape", "3 whole numbers from 1 to 4096"),
        ({"shape": [3, 32, 0]}, "/dataset/kwargs/shape", "3 whole numbers from 1 to 4096"),
        ({"shape": [3, 32, 5000]}, "/dataset/kwargs/shape", "3 whole numbers from 1 to 4096"),
        ({"shape": 32}, "/dataset/kwargs/shape", "3 whole numbers from 1 to 4096"),
        ({"classes": 1}, "/dataset/kwargs/classes", "a whole number from 2 to 100000"),
        ({"classes": [10]}, "/dataset/kwargs/classes", "a whole number from 2 to 100000"),
        ({"classes": True}, "/dataset/kwargs/classes", "a whole number from 2 to 100000"),
        ({"colours": 3}, "/dataset/kwargs/colours", "classes, images, seed, shape"),
    ],
)
def test_arguments_out_of_range_are_refused_with_the_range(kwargs: dict[str, object], at: str, remedy: str) -> None:
    with pytest.raises(InvalidSpec, match=remedy) as refused:
        job(dataset={"name": "procedural", "kwargs": kwargs})

    assert refused.value.at == at


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("procedural", {"shape": [1, 4096, 1]}),
        ("procedural", {"classes": 2, "images": 40}),
        ("procedural", {"classes": 100_000, "images": 1_000_000, "seed": 2**31 - 1}),
        ("image-folder", {"folder": "x", "size": 16}),
        ("image-folder", {"folder": "x" * 100, "size": 1024}),
    ],
)
def test_the_ends_of_a_range_belong_to_it(name: str, kwargs: dict[str, object]) -> None:
    said = job(dataset={"name": name, "kwargs": kwargs}).data.kwargs

    assert {key: list(value) if isinstance(value, tuple) else value for key, value in said.items()} == kwargs


@pytest.mark.parametrize(("option", "value"), [("images", 39), ("images", 1_000_001), ("seed", -1), ("seed", 2**31)])
def test_what_is_just_beyond_does_not(option: str, value: int) -> None:
    with pytest.raises(InvalidSpec, match="a whole number from"):
        job(dataset={"name": "procedural", "kwargs": {option: value}})


def test_an_odd_argument_is_pointed_to_as_json_pointers_are_written() -> None:
    with pytest.raises(InvalidSpec) as refused:
        job(dataset={"name": "procedural", "kwargs": {"a/b~c": 1}})

    assert refused.value.at == "/dataset/kwargs/a~1b~0c"


def test_shape_and_classes_follow_from_the_spec_alone() -> None:
    procedural, folder, digits = (catalog.dataset(name) for name in ("procedural", "image-folder", "digits"))

    assert procedural.shape_with({}) == (3, 32, 32)
    assert procedural.shape_with({"shape": (1, 2, 5)}) == (1, 2, 5)
    assert folder.shape_with({"size": 64}) == (3, 64, 64)
    assert (digits.shape_with({}), digits.classes_with({})) == ((1, 8, 8), 10)
    assert (procedural.classes_with({}), procedural.classes_with({"classes": 7})) == (10, 7)


@pytest.mark.parametrize("folder", ["", "..", ".hidden", "a/b", "/etc", "-x", "a\0b", "x" * 101, 3])
def test_a_folder_can_not_lead_out_of_its_place(folder: object) -> None:
    with pytest.raises(InvalidSpec, match="letters, digits") as refused:
        job(dataset={"name": "image-folder", "kwargs": {"folder": folder}})

    assert refused.value.at == "/dataset/kwargs/folder"


def test_published_weights_are_those_of_torchvisions_networks_and_imagenets_classes() -> None:
    assert job(model={"name": "resnet50", "weights": "pretrained"}).data.name == "imagenet"
    for body, reason in (
        ({"model": {"name": "wrn-28-8", "weights": "pretrained"}}, "no published weights"),
        (
            {"model": {"name": "resnet50", "weights": "pretrained"}, "dataset": {"name": "cifar10"}},
            "ImageNet's classes",
        ),
    ):
        with pytest.raises(InvalidSpec, match=reason) as refused:
            job(**body)
        assert refused.value.at == "/model/weights"


PLUGIN = """
from purlkit.zoo.catalog import DatasetEntry, ModelEntry

def entry(name):
    return ModelEntry(name=name, builder="nowhere:build", dataset="digits", about="")

ONE = entry("alone")
TWO = [entry("first"), entry("mlp"), ModelEntry(name="alone", builder="later:build", dataset="digits", about="")]
DATA = DatasetEntry(name="theirs", loader="nowhere:load", shape=(1, 2, 2), classes=2, about="")
WRONG = "not an entry"
"""

POINTS = """
[purlkit.models]
absent = no_such_module:MODELS
two = theirs:TWO
one = theirs:ONE
wrong = theirs:WRONG
[purlkit.datasets]
data = theirs:DATA
"""

ASKED = """
import sys
from purlkit.zoo import catalog
print(sorted(catalog.all_models().keys() - catalog.MODELS.keys()))
alone = catalog.model("alone")
print(catalog.model("mlp").builder, alone.builder, alone.provider, catalog.dataset("theirs").shape)
print("torch" in sys.modules)
"""


def test_plugins_add_names_take_none_and_a_broken_one_harms_no_other(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(PLUGIN)
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(POINTS)
    path = os.pathsep.join([str(tmp_path), *sys.path])

    asked = subprocess.run(
        [sys.executable, "-c", ASKED], capture_output=True, text=True, check=True, env={"PYTHONPATH": path}
    )

    assert asked.stdout.splitlines() == [
        "['alone', 'first']",
        "purlkit.zoo.small:mlp nowhere:build plugin (1, 2, 2)",
        "False",
    ]
    assert "entry point absent of purlkit.models can't be used" in asked.stderr
    assert "entry point wrong of purlkit.models can't be used" in asked.stderr
