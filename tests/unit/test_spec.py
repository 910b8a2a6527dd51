"""The spec: what it refuses, and that an identity once given never changes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from purlkit.spec import JobSpec, Search


def spec_of(**changes: Any) -> JobSpec:
    return JobSpec.model_validate({"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}, **changes})


# Written down when only these fields existed. A field that came later must not move them. Written anew once, before any
# release, with SPEC_VERSION 2: `baselines` left out means five methods since then.
GOLDEN = [
    ({}, "08899488945fadad0733008bb0f5fb41b817597afcbd3a46c47e1e075eee3cbf"),
    (
        {
            "search": {
                "beta": 2.0,
                "alphas": [0, 1, 2],
                "retrain": {"images": 500, "learning_rate": 0.01},
                "agent": {"hidden": [32]},
            },
            "seed": 4,
        },
        "aa5ab31f5e1138328d6be94ecb3c5e13c4e377c4c5ccdb8f99bc5c0045d395a2",
    ),
]


@pytest.mark.parametrize(("changes", "fingerprint"), GOLDEN)
def test_an_old_spec_keeps_its_fingerprint(changes: dict[str, Any], fingerprint: str) -> None:
    assert spec_of(**changes).resolve().fingerprint == fingerprint


@pytest.mark.parametrize(
    "option",
    [
        {"state": "simple"},
        {"criterion": "magnitude_target"},
        {"reward": "upside"},
        {"dense": False},
        {"accuracy_floor": 0.001},
        {"reward_images": 100},
        {"retrain": {"optimizer": "adam"}},
        {"retrain": {"precision": "bfloat16"}},
    ],
)
def test_every_option_is_part_of_the_identity(option: dict[str, Any]) -> None:
    spec = spec_of(search=option).resolve()

    assert spec.fingerprint != GOLDEN[0][1]
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_what_the_paper_says_of_its_agent_is_the_default() -> None:
    agent = Search().agent

    assert (Search().episodes, len(agent.hidden)) == (55, 2)
    assert (agent.exploration_fraction, agent.buffer_steps, agent.gamma, agent.target_update_every) == (
        0.7,
        400,
        0.982,
        15,
    )


def test_each_criterion_has_a_grid_of_twelve_actions() -> None:
    assert Search().alphas == (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)
    shares = (0.0, 0.09, 0.18, 0.27, 0.36, 0.45, 0.54, 0.63, 0.72, 0.81, 0.9, 0.99)
    assert Search(criterion="magnitude_target").alphas == shares
    assert Search(criterion="magnitude_target", alphas=(0.0, 0.5)).alphas == (0.0, 0.5)


def test_a_grid_in_steps_of_a_tenth_or_any_other() -> None:
    tenths = tuple(round(0.1 * i, 1) for i in range(23))

    assert Search(alphas=tenths).alphas == tenths
    assert Search(alphas=(0.0, 0.7)).alphas == (0.0, 0.7)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"alphas": (0.0, 0.0, 1.0)}, "rise strictly"),
        ({"alphas": (-0.1, 1.0)}, "from 0 or more"),
        ({"alphas": (0.0, 101.0)}, "at most 100"),
        ({"alphas": (0.0,)}, "at least 2"),
        ({"alphas": (0.0, 1.0), "criterion": "magnitude_target"}, "below 1"),
        ({"accuracy_floor": 0.1, "dense": False}, "needs dense"),
        ({"accuracy_floor": 0.0}, "greater than 0"),
        ({"reward_images": 0}, "greater than or equal to 1"),
        ({"state": "other"}, "per_layer"),
        ({"reward": "other"}, "cubic"),
        ({"criterion": "other"}, "magnitude_target"),
        ({"retrain": {"optimizer": "other"}}, "adam"),
    ],
)
def test_what_makes_no_sense_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Search.model_validate(option)


def test_stages_rise_to_the_target() -> None:
    spec = spec_of(stages=[0.5, 0.8, 0.9])

    assert spec.sparsities == (0.5, 0.8, 0.9)
    assert spec_of().sparsities == (0.9,)
    assert spec.fingerprint != spec_of().fingerprint


def test_several_targets() -> None:
    spec = spec_of(targets={"sparsity": [0.5, 0.9], "max_drop": 0.01})

    assert spec.points == spec.sparsities == (0.5, 0.9)
    assert (spec.at(0.9).target, spec.at(0.9).targets.max_drop) == (0.9, 0.01)
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec_of(targets={"sparsity": [0.9]}).fingerprint == spec_of().fingerprint != spec.fingerprint


@pytest.mark.parametrize(
    ("sparsity", "message"),
    [([0.9, 0.5], "rise strictly"), ([0.5, 0.5], "rise strictly"), ([], "at least 1"), ([0.5, 1.0], "less than 1")],
)
def test_targets_that_make_no_curve_are_refused(sparsity: list[float], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        spec_of(targets={"sparsity": sparsity})
    assert [error["loc"][:2] for error in refused.value.errors()] == [("targets", "sparsity")]


def test_stages_lead_to_one_target() -> None:
    with pytest.raises(ValidationError, match="give one sparsity"):
        spec_of(targets={"sparsity": [0.5, 0.9]}, stages=[0.5, 0.9])


def test_a_single_stage_is_the_job_without_stages() -> None:
    assert spec_of(stages=[0.9]) == spec_of()


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([0.5, 0.8], r"must equal targets\.sparsity"),
        ([0.8, 0.8, 0.9], "rise strictly"),
        ([0.95, 0.9], "rise strictly"),
        ([0.0, 0.9], "above 0"),
        ([0.95], "must equal"),
    ],
)
def test_other_stages_are_refused_by_name(stages: list[float], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        spec_of(stages=stages)
    assert [error["loc"] for error in refused.value.errors()] == [("stages",)]


def test_each_stage_on_the_way_may_have_epochs_of_its_own() -> None:
    spec = spec_of(stages=[0.5, 0.8, 0.9], stage_epochs=[3, 4], fine_tune={"epochs": 5, "learning_rate": 0.01})

    assert [tuning.epochs for tuning in spec.tunings] == [3, 4]
    assert {tuning.learning_rate for tuning in spec.tunings} == {0.01}
    assert spec.fine_tune.epochs == 5
    assert JobSpec.model_validate_json(spec.model_dump_json()) == spec


def test_without_them_all_stages_have_fine_tunes_and_it_is_the_same_job() -> None:
    spec = spec_of(stages=[0.5, 0.8, 0.9])

    assert [tuning.epochs for tuning in spec.tunings] == [10, 10]
    assert spec_of().tunings == spec_of(targets={"sparsity": [0.5, 0.9]}).tunings == ()
    assert spec_of(stages=[0.5, 0.8, 0.9], stage_epochs=[10, 10]).fingerprint == spec.fingerprint
    assert spec_of(stages=[0.5, 0.8, 0.9], stage_epochs=[10, 9]).fingerprint != spec.fingerprint


@pytest.mark.parametrize(
    ("stages", "epochs", "message"),
    [
        ([0.5, 0.9], [1, 2], "1 in all"),
        ([0.5, 0.8, 0.9], [1], "2 in all"),
        ([], [1], "0 in all"),
        ([0.9], [1], "0 in all"),
        ([0.5, 0.9], [0], "greater than or equal to 1"),
    ],
)
def test_epochs_that_belong_to_no_stage_are_refused(stages: list[float], epochs: list[int], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as refused:
        spec_of(stages=stages, stage_epochs=epochs)
    assert {error["loc"][0] for error in refused.value.errors()} == {"stage_epochs"}


def test_the_control_needs_a_naive_method() -> None:
    with pytest.raises(ValidationError, match="name one in baselines"):
        spec_of(race={"matched": True}, baselines=["random"])
    assert spec_of(race={"matched": True}).race.matched


@pytest.mark.parametrize(
    ("changes", "blames"),
    [
        ({"resources": {"fine_tune_workers": 2, "gpus_per_runner": 0.5}}, "the same GPU"),
        ({"resources": {"fine_tune_workers": 4}, "fine_tune": {"batch_size": 3}}, "3 images for 4 workers"),
        (
            {
                "resources": {"fine_tune_workers": 4},
                "model": {"name": "mlp", "weights": {"train": {"batch_size": 3}}},
            },
            "3 images for 4 workers",
        ),
    ],
)
def test_workers_that_could_not_train_one_network_together(changes: dict[str, Any], blames: str) -> None:
    with pytest.raises(ValidationError, match=blames) as refused:
        spec_of(**changes)
    assert refused.value.errors()[0]["ctx"]["fields"][0] == "/resources/fine_tune_workers"


@pytest.mark.parametrize("gpus", [0, 1, 2])
def test_workers_that_can(gpus: int) -> None:
    resources = {"fine_tune_workers": 3, "gpus_per_runner": gpus}
    assert spec_of(resources=resources, fine_tune={"batch_size": 3}).resources.fine_tune_workers == 3
    assert spec_of(resources={"gpus_per_runner": 0.5}).resources.fine_tune_workers == 1


def test_images_of_a_search() -> None:
    assert Search().images_retrained(trainings=4) == 4 * 1000


@pytest.mark.parametrize("kept_in", ["cache_bytes", "data_bytes"])
def test_the_memory_for_what_is_kept_is_no_part_of_the_identity(kept_in: str) -> None:
    for others in ({}, {"env_runners": 1}):
        fingerprints = {spec_of(resources={**others, kept_in: n}).fingerprint for n in (0, 1, 2**28)}
        assert fingerprints == {spec_of(resources=others).fingerprint}
