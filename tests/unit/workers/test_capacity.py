"""Whether runners fit, by numbers."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from purlkit.errors import NotEnoughResources
from purlkit.results import CheckReport
from purlkit.spec import JobSpec, Resources
from workers.capacity import Growth, Node, refuse_what_never_fits
from workers.check import with_resources
from workers.runners import Size


def asks(runners: int, cpus: float = 1, gpus: float = 0) -> Resources:
    return Resources(env_runners=runners, cpus_per_runner=cpus, gpus_per_runner=gpus)


@pytest.mark.parametrize(
    ("node", "resources", "held"),
    [
        (Node(2, 0), asks(1), 2),
        (Node(2, 0), asks(1, cpus=0.5), 4),
        (Node(1, 0), asks(1, cpus=0.1), 10),
        (Node(3, 0), asks(1, cpus=2), 1),
        (Node(16, 1), asks(1, gpus=0.25), 4),
        (Node(16, 2), asks(1, gpus=0.4), 4),  # two on each, and 0.2 of each is left over
        (Node(16, 3), asks(1, gpus=2), 1),
        (Node(2, 8), asks(1, gpus=0.5), 2),
        (Node(8, 0), asks(1, gpus=0.5), 0),
    ],
)
def test_a_node_holds_so_many_runners(node: Node, resources: Resources, held: int) -> None:
    assert node.holds(resources) == held


@pytest.mark.parametrize(
    ("resources", "at", "remedy"),
    [
        (asks(1, cpus=5), "/resources/cpus_per_runner", "at most 4 a runner"),
        (asks(1, gpus=2), "/resources/gpus_per_runner", "at most 1 a runner"),
        (asks(4, cpus=2), "/resources/env_runners", "at most 3"),  # 2 on the larger node, 1 on the smaller
        (asks(1, cpus=4, gpus=0.5), "/resources/cpus_per_runner", "at most 1 a runner"),  # the GPU is with few CPUs
    ],
)
def test_what_can_never_fit_is_refused_with_the_field_and_what_would(
    resources: Resources, at: str, remedy: str
) -> None:
    nodes = [Node(4, 0), Node(3, 0), Node(1, 1)]

    with pytest.raises(NotEnoughResources, match=remedy) as problem:
        refuse_what_never_fits(resources, nodes, at_least=resources.env_runners, where="the cluster")

    assert problem.value.at == at


def test_workers_that_train_together_are_counted_too() -> None:
    resources = Resources(env_runners=1, fine_tune_workers=4)

    with pytest.raises(NotEnoughResources) as problem:
        refuse_what_never_fits(resources, [Node(3, 0)], at_least=resources.processes, where="the cluster")

    assert problem.value.at == "/resources/fine_tune_workers"
    assert (resources.cpus, resources.gpus) == (4, 0)


def test_what_an_earlier_attempt_began_goes_on_with_fewer() -> None:
    refuse_what_never_fits(asks(4), [Node(1, 0)], at_least=1, where="the cluster")


@pytest.mark.parametrize("field", [{"cpus_per_runner": 1e-9}, {"gpus_per_runner": 1e-9}, {"gpus_per_runner": 1.5}])
def test_shares_that_mean_nothing_are_no_spec(field: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Resources(**field)  # type: ignore[arg-type]


def test_a_dry_run_says_what_the_machine_has_against_the_job() -> None:
    spec = JobSpec.model_validate(
        {
            "model": {"name": "mlp"},
            "targets": {"sparsity": 0.8},
            "resources": {"env_runners": 1, "cpus_per_runner": 1024},
        }
    )

    report = with_resources(CheckReport(runnable=True), spec, {})

    assert not report.runnable
    assert [(reason.code, reason.at) for reason in report.reasons] == [
        ("not_enough_resources", "/resources/cpus_per_runner")
    ]


@pytest.mark.parametrize(
    ("size", "after"),
    [
        (Size(4, 1, 0.25), Size(2, 1, 0.5)),
        (Size(3, 1, 0.3), Size(1, 1, 0.6)),
        (Size(1, 1, 0.5), Size(1, 1, 1.0)),
        (Size(2, 1, 0.0), Size(1, 1, 0.0)),
        (Size(1, 1, 0.0), None),
        (Size(2, 1, 1.0), None),  # each has a GPU of its own already
    ],
)
def test_out_of_memory_halves_the_runners_and_doubles_their_share(size: Size, after: Size | None) -> None:
    assert size.after_out_of_memory() == after


GROWS = {"PURL_RAY_GROWS_TO": "2x4,1x8+1", "PURL_GROW_SECONDS": "60"}


def test_a_cluster_that_may_grow_is_measured_by_what_it_may_be() -> None:
    """Two nodes of 4 CPUs, and one of 8 with a GPU: of the last kind there is none yet."""
    grows = Growth.told(GROWS)
    now = [Node(4, 0)]

    assert grows == Growth((Node(4, 0), Node(4, 0), Node(8, 1)), seconds=60)
    assert grows.at_most(now, asks(1, gpus=1)) == grows.nodes
    assert grows.at_most([Node(64, 0)] * 4, asks(1)) == [Node(64, 0)] * 4, "more than its autoscaler would bring"
    assert Growth.told({}).at_most(now, asks(1, gpus=1)) == now
    with pytest.raises(NotEnoughResources, match="at most 1 a runner"):
        refuse_what_never_fits(asks(1, gpus=2), grows.at_most(now, asks(1, gpus=2)), at_least=1, where="the cluster")
