"""A whole job with purl-budget on a real Ray: the same bits on one runner or two, interrupted or not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load

from purlkit import checkpoint, prunable_layers
from purlkit.budget.allocation import Budget
from purlkit.budget.env import BudgetEnv
from purlkit.budget.scouting import scout
from purlkit.results import Candidate, Finish, Outcome
from purlkit.seeds import derive
from purlkit.spec import JobSpec, Training
from purlkit.training.data import subset
from purlkit.training.loop import train
from purlkit.zoo import datasets, models
from tests.local_job import LocalLink, local_job
from workers import cluster, pipeline, run
from workers.budget import Scouting
from workers.found import Found
from workers.link import Interrupted

pytestmark = [
    pytest.mark.long,
    pytest.mark.filterwarnings("default"),  # RLlib's own deprecations are not ours to mend
]

BODY = {
    "model": {"name": "mlp", "kwargs": {"hidden": 32}},
    "targets": {"sparsity": 0.9},
    "search": {"algorithm": "purl-budget", "episodes": 8, "retrain": {"images": 200, "epochs": 2}},
    "baselines": ["uniform", "lamp"],
    "fine_tune": {"epochs": 2},
    "resources": {"env_runners": 1, "cpus_per_runner": 0.5},
}
SPEC = JobSpec.model_validate(BODY).resolve()


@pytest.fixture(scope="module", autouse=True)
def one_cluster() -> Iterator[None]:
    with cluster.connected(""), pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.cluster, "connected", lambda *_, **__: contextlib.nullcontext())
        yield


@pytest.fixture(scope="module")
def dense() -> Any:
    model = models.build_for(SPEC)
    train(model, datasets.load(SPEC.data, Path()).train, Training(epochs=5), seed=0)
    return model


@pytest.fixture(scope="module")
def saved(dense: Any) -> dict[str, bytes]:
    return {"dense": checkpoint.to_bytes(checkpoint.tensors_of(dense), metadata={})}


@pytest.fixture(scope="module")
def undisturbed(saved: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> tuple[Finish, LocalLink]:
    job, link = local_job(SPEC, tmp_path_factory.mktemp("undisturbed"), saved)
    finish = run._run(job)
    assert finish.outcome is Outcome.SUCCEEDED, finish.error
    return finish, link


def own(finish: Finish) -> Candidate:
    assert finish.result is not None
    [candidate] = [each for each in finish.result.candidates if each.method == "purl-budget"]
    return candidate


def walks(link: LocalLink) -> list[Any]:
    found = Found.from_bytes(link.saved["found"])
    return [(e.index, e.kind, e.actions, e.rewards, e.kept, e.loss, e.weights_version) for e in found.walks]


def test_its_candidate_is_raced_at_exactly_the_target_with_its_whole_cost(
    undisturbed: tuple[Finish, LocalLink], dense: Any
) -> None:
    finish, link = undisturbed

    candidate = own(finish)

    assert sum(row.kept for row in candidate.layers) == Budget.of(prunable_layers(dense), 0.9).total
    assert candidate.variant == "best"
    assert len(walks(link)) == 9
    # A walk, a naive allocation and a walk towards one take a training of 2 × 200 images each, the halving longer ones.
    assert candidate.images_seen > 9 * 2 * 200


def test_a_walk_on_the_cluster_pays_what_the_same_walk_pays_in_one_process(
    undisturbed: tuple[Finish, LocalLink], dense: Any
) -> None:
    splits = datasets.load(SPEC.data, Path())
    env = BudgetEnv(
        dense,
        subset(splits.train, 200, SPEC.seed),
        splits.reward,
        search=SPEC.search,
        target_sparsity=0.9,
        retrain_seed=derive(SPEC.seed, "retrain"),
    )
    known, memory = scout(env)

    first = Found.from_bytes(undisturbed[1].saved["found"]).episodes[0]
    env.reset()
    rewards = tuple(env.step(action)[1] for action in first.actions)

    assert (rewards, env.walk.kept, env.walk.loss) == (first.rewards, first.kept, first.loss)
    told = Scouting.from_bytes(undisturbed[1].saved["scouted"])
    assert told.scouted == known
    assert [step.reward for step in told.memory] == [np.float32(step.reward) for step in memory]


def test_two_runners_and_an_interruption_change_no_bit(
    undisturbed: tuple[Finish, LocalLink], saved: dict[str, bytes], tmp_path: Path
) -> None:
    two = JobSpec.model_validate({**BODY, "resources": {"env_runners": 2, "cpus_per_runner": 0.5}}).resolve()
    job, link = local_job(two, tmp_path / "paused", saved)

    def after_the_fourth_episode(_: str) -> None:
        if link.newly_saved.count("search") == 4:
            link.interrupted = Interrupted("pause")

    link.on_save = after_the_fourth_episode
    assert run._run(job).outcome is Outcome.PAUSED
    job, again = local_job(two, tmp_path / "resumed", link.saved)

    finish = run._run(job)

    assert finish.outcome is Outcome.SUCCEEDED, finish.error
    assert "scouted" not in again.newly_saved
    assert walks(again) == walks(undisturbed[1])
    assert own(finish).mask_sha256 == own(undisturbed[0]).mask_sha256
    ours, theirs = (load(each.artifacts["pruned.safetensors"]) for each in (again, undisturbed[1]))
    assert {name: tensor.tolist() for name, tensor in ours.items()} == {n: t.tolist() for n, t in theirs.items()}
