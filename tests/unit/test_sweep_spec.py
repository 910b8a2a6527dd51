"""A sweep: which jobs its grid makes, and where in it the fault of one of them stands."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from purlkit.errors import InvalidSpec, UnknownName
from purlkit.spec import MOST_JOBS, JobSpec, SweepSpec

BASE: dict[str, Any] = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}


def sweep(grid: dict[str, Any], **more: Any) -> SweepSpec:
    return SweepSpec.model_validate({"base": BASE, "grid": grid, **more})


def test_every_combination_is_a_job_and_the_first_axis_changes_last() -> None:
    points = list(sweep({"search.reward": ["capped", "cubic"], "seed": [0, 1]}).points())

    specs = [JobSpec.model_validate(point.body) for point in points]
    assert [(spec.search.reward, spec.seed) for spec in specs] == [
        ("capped", 0),
        ("capped", 1),
        ("cubic", 0),
        ("cubic", 1),
    ]
    assert points[1].settings == {"search.reward": "capped", "seed": 1}
    assert BASE == {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}, "the base is left as it was"


def test_values_may_have_names_which_then_stand_for_them() -> None:
    grid = {"search": {"sparse rewards": {"dense": False}, "cubic": {"reward": "cubic"}}}

    points = list(sweep(grid, name="ablation").points())

    assert [point.settings for point in points] == [{"search": "sparse rewards"}, {"search": "cubic"}]
    assert [point.body["search"] for point in points] == list(grid["search"].values())
    assert [point.body["name"] for point in points] == ["ablation: search=sparse rewards", "ablation: search=cubic"]


def test_a_fault_is_blamed_on_its_place_in_the_sweep() -> None:
    point = list(sweep({"search": {"a/b": {"reward": "x"}}, "seed": [5, 7]}).points())[1]

    assert point.place("/search/reward") == "/grid/search/a~1b/reward"
    assert point.place("/seed") == "/grid/seed/1"
    assert point.place("/seeds") == "/base/seeds"
    assert point.place("/targets/sparsity") == "/base/targets/sparsity"
    with pytest.raises(UnknownName) as caught, point.blamed():
        raise UnknownName(kind="model", known=["mlp"], at="/model/name")
    assert caught.value.at == "/base/model/name"


def test_what_is_there_by_the_name_of_an_axis_alone_is_blamed_on_that() -> None:
    point = next(iter(sweep({"serch.reward": ["cubic"], "targets.reach": [1], "labels.a~b": [0]}).points()))

    assert point.place("/serch") == "/grid/serch.reward"
    assert point.place("/targets") == "/base/targets", "which the base has too"
    assert point.place("/targets/reach") == "/grid/targets.reach/0"
    assert point.place("/labels/a~0b") == "/grid/labels.a~0b/0"


@pytest.mark.parametrize(
    ("grid", "blames"),
    [
        ({}, "at least 1"),
        ({"seed": []}, "at least 1"),
        ({"seed": [0, 1, 0]}, "name each value once"),
        ({"search": [{}], "search.reward": ["cubic"]}, "change the same field"),
        ({"search..reward": ["cubic"]}, "pattern"),
        ({"seed": list(range(20)), "search.episodes": list(range(1, 21))}, f"400 jobs and a sweep has {MOST_JOBS}"),
        # Counted, not made.
        ({f"labels.{axis}": list(range(MOST_JOBS)) for axis in range(8)}, f"{MOST_JOBS**8} jobs and a sweep has"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(grid: dict[str, Any], blames: str) -> None:
    with pytest.raises(ValidationError, match=blames):
        sweep(grid)


def test_a_name_that_leads_through_a_value_is_refused() -> None:
    with pytest.raises(InvalidSpec) as caught:
        list(sweep({"targets.sparsity.high": [1]}).points())

    assert caught.value.at == "/grid/targets.sparsity.high"
