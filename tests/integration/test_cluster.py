"""Ray started and joined for real: within a time, interruptible, with a token of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table

from purlkit.errors import NodesDidNotCome, NotEnoughResources, RayUnreachable
from purlkit.processes import session_members
from purlkit.spec import Resources
from tests.landscape import Landscape
from tests.searches import Players, all_here, built, play_to_the_end, what_was_done
from tests.waiting import wait_until
from workers import capacity, cluster
from workers.dqn import PurlDQN

START_SECONDS = 180.0  # of a node or a worker of Ray's, on a machine that is busy with other things

pytestmark = pytest.mark.filterwarnings("default")  # RLlib's own deprecations are not ours to mend

# What an attempt does, without the rest of it: SIGTERM is a wish that is looked at between steps of work. It waits for
# that wish: a busy machine might need longer to send it than Ray to start.
STARTS_RAY = """
import os, signal, sys, time
from pathlib import Path
from workers import cluster

asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(True))

def on_wait():
    print("waiting", flush=True)
    while not asked:
        time.sleep(0.01)
    raise InterruptedError

cluster.quiet()
try:
    with cluster.connected("", on_wait=on_wait):
        print("up", flush=True)
except InterruptedError:
    print("stopped in order", flush=True)
print("shared token:", (Path.home() / ".ray" / "auth_token").exists(), flush=True)
"""

ASKS_THE_SILENT = """
import sys
from purlkit.errors import RayUnreachable
from workers import cluster

cluster.quiet()
cluster.CONNECT_SECONDS = 2.0
try:
    with cluster.connected(sys.argv[1]):
        print("up", flush=True)
except RayUnreachable as error:
    print(error, flush=True)
"""


def program(code: str, *arguments: str, home: Path) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env={**environ, "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def test_sigterm_while_ray_starts_stops_it_in_order_and_no_token_is_shared(tmp_path: Path) -> None:
    with program(STARTS_RAY, home=tmp_path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"

        child.send_signal(signal.SIGTERM)
        said = child.stdout.read().splitlines()

    assert said[-2:] == ["stopped in order", "shared token: False"]
    assert "up" not in said
    assert child.returncode == 0
    wait_until("nothing of it is left", lambda: not session_members(child.pid))


def test_an_address_where_nobody_listens_is_told_in_seconds() -> None:
    with closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{held.getsockname()[1]}"

        began = time.monotonic()
        with pytest.raises(RayUnreachable, match="nothing answers") as told, cluster.connected(address):
            pass

    assert "PURL_RAY_ADDRESS" in str(told.value)
    assert time.monotonic() - began < cluster.CONNECT_SECONDS, "Ray itself was not asked"


def test_an_address_that_takes_calls_and_never_answers_is_given_up_in_time(tmp_path: Path) -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as server,
        program(ASKS_THE_SILENT, f"127.0.0.1:{server.getsockname()[1]}", home=tmp_path) as child,
    ):
        assert child.stdout is not None
        assert child.stdout.readline().startswith("Ray did not answer within 2 s")
        child.kill()


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[Cluster]:
    """A head with room for one runner, and a node with room for another."""
    nodes = Cluster()
    add_node(nodes, num_cpus=1)
    add_node(nodes, num_cpus=1)
    yield nodes
    nodes.shutdown()


def add_node(nodes: Cluster, **has: int) -> Any:
    """One that has joined. Ray itself would wait for half a minute, which a busy machine may need for a raylet."""
    node = nodes.add_node(wait=False, no_monitor=True, include_log_monitor=False, **has)
    nodes.wait_for_nodes(timeout=START_SECONDS)
    return node


@pytest.fixture(scope="module")
def on_two_nodes(two_nodes: Cluster) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patient:
        patient.setattr(cluster, "CONNECT_SECONDS", START_SECONDS)
        with cluster.connected(two_nodes.address):
            yield two_nodes


def whole(runners: int) -> Resources:
    return Resources(env_runners=runners, cpus_per_runner=1)


@pytest.mark.usefixtures("on_two_nodes")
def test_a_cluster_is_asked_what_it_holds() -> None:
    assert sorted(node.cpus for node in capacity.whole_cluster()) == [1, 1]
    capacity.refuse_what_never_fits(whole(2), capacity.whole_cluster(), at_least=2, where="the cluster")
    with pytest.raises(NotEnoughResources) as problem:
        capacity.refuse_what_never_fits(whole(3), capacity.whole_cluster(), at_least=3, where="the cluster")
    assert problem.value.at == "/resources/env_runners"


@pytest.mark.usefixtures("on_two_nodes")
def test_a_busy_cluster_is_waited_for_with_a_reason() -> None:
    @ray.remote(num_cpus=1)
    class Other:
        def here(self) -> bool:
            return True

    others = [Other.remote() for _ in range(2)]
    assert ray.get([other.here.remote() for other in others], timeout=START_SECONDS) == [True, True]
    said: list[str | None] = []

    def on_wait(reason: str | None) -> None:
        said.append(reason)
        if len(said) == 3:
            ray.kill(others.pop())

    capacity.wait_for_room(whole(2), on_wait=on_wait)

    assert said[0] is not None
    assert "the cluster is busy" in said[0]
    assert said[-1] is None
    ray.kill(others.pop())


def test_a_node_that_there_is_not_yet_is_asked_for_and_waited_for(on_two_nodes: Cluster) -> None:
    """What an autoscaler does, done by hand: as soon as something waits for a GPU, a node with one joins."""
    said: list[str | None] = []
    wanted: list[str] = []
    added: list[Any] = []

    def on_wait(reason: str | None) -> None:
        said.append(reason)
        if len(said) == 1:
            wanted.extend(group["state"] for group in placement_group_table().values())
            added.append(add_node(on_two_nodes, num_cpus=1, num_gpus=1))

    two_with_gpus = Resources(env_runners=2, cpus_per_runner=1, gpus_per_runner=1)
    with pytest.raises(NotEnoughResources, match="there is none"):
        capacity.wait_for_room(two_with_gpus, on_wait=on_wait)
    grows = capacity.Growth((capacity.Node(1, 1),) * 2, seconds=2 * START_SECONDS)
    capacity.wait_for_room(two_with_gpus, grows=grows, on_wait=on_wait)

    assert wanted == ["PENDING", "PENDING"], "both runners' nodes are asked for at once"
    assert said[0] == "no node has 1 CPUs and 1 GPUs yet: waiting for the cluster to bring one"
    assert said[-1] is None
    wait_until("nothing is reserved any more", lambda: any(node.gpus == 1 for node in capacity.free_now()))
    on_two_nodes.remove_node(added.pop())
    wait_until("it has gone", lambda: all(node.gpus == 0 for node in capacity.whole_cluster()))


@pytest.mark.usefixtures("on_two_nodes")
def test_a_node_that_does_not_come_is_given_up_with_what_to_look_at() -> None:
    grows = capacity.Growth((capacity.Node(1, 1),), seconds=0.0)

    with pytest.raises(NodesDidNotCome, match="PURL_RAY_GROWS_TO") as problem:
        capacity.wait_for_room(Resources(env_runners=1, gpus_per_runner=1), grows=grows, on_wait=lambda _: None)

    assert problem.value.retryable


def with_whole_cpus(algorithm: PurlDQN) -> PurlDQN:
    """So that each node holds one runner."""
    algorithm.size = algorithm.size.__class__(runners=2, cpus=1, gpus=0)
    return algorithm


def test_a_killed_node_costs_its_episode_and_an_added_one_is_used(on_two_nodes: Cluster, tmp_path: Path) -> None:
    players: Players = {}
    undisturbed = built(runners=1, players=players)
    expected = what_was_done(play_to_the_end(undisturbed))
    undisturbed.leave()
    algorithm = with_whole_cpus(built(Landscape(gate=str(tmp_path)), runners=2, players=players))
    all_here(algorithm)
    while len(algorithm.learnt.episodes) < 3:
        algorithm.train()
    gate = tmp_path / "closed"
    gate.touch()
    while len(list(tmp_path.iterdir())) < 3:  # until both stand before it
        algorithm.train()

    [second] = on_two_nodes.worker_nodes
    on_two_nodes.remove_node(second, allow_graceful=False)
    while algorithm.runners.here == 2:
        algorithm.train()
    gate.unlink()
    while len(algorithm.learnt.episodes) < 8:
        algorithm.train()
    assert algorithm.runners.here == 1
    add_node(on_two_nodes, num_cpus=1)
    while algorithm.runners.here == 1:
        algorithm.train()
    episodes = play_to_the_end(algorithm)

    assert what_was_done(episodes) == expected
    assert any(episode.rerun for episode in episodes)
    algorithm.stop()


def test_what_ray_of_our_own_counts_is_known_without_it() -> None:
    [node] = capacity.this_machine()

    assert node.cpus >= 1
    capacity.check(Resources(env_runners=1, cpus_per_runner=node.cpus), ray_address="", at_least=1)
