"""The search with real Ray and real RLlib, on a landscape whose best policy is known."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray._private.ray_constants import DASHBOARD_ADDRESS, KV_NAMESPACE_DASHBOARD
from ray.experimental.internal_kv import _internal_kv_get
from ray.rllib.core import DEFAULT_MODULE_ID
from safetensors.numpy import load

from purlkit.agent.dqn import Learner
from purlkit.agent.replay import Step, steps_of
from purlkit.errors import EnvironmentFailed, OutOfMemory, SearchStuck
from purlkit.processes import session_members
from purlkit.results import Episode
from tests import ray_processes
from tests.landscape import Landscape
from tests.searches import EPISODES, Players, all_here, built, pid_of, play_to_the_end, what_was_done
from tests.waiting import DEADLINE_SECONDS, wait_until
from workers import cluster, searchstate
from workers.calls import Interrupted
from workers.pulse import Pulse
from workers.runners import Limits
from workers.search import Hooks, _play

pytestmark = pytest.mark.filterwarnings("default")  # RLlib's own deprecations are not ours to mend


@pytest.fixture(scope="module", autouse=True)
def cluster_of_two() -> Iterator[None]:
    with cluster.connected(""):
        yield


@pytest.fixture(scope="module")
def players() -> Players:
    """The runners, handed on from test to test; one that is killed, too large or hangs is followed by another."""
    return {}


def test_a_ray_of_our_own_is_what_a_search_needs_and_no_more() -> None:
    started = ray_processes.started_by(os.getpid())

    assert started >= {"gcs_server", "raylet"}
    assert not started & {"dashboard.py", "monitor.py", "log_monitor.py"}
    # Or it would be looked for as long as the job lasts.
    assert _internal_kv_get(DASHBOARD_ADDRESS, namespace=KV_NAMESPACE_DASHBOARD)


@pytest.fixture(scope="module")
def uninterrupted(players: Players) -> tuple[list[Episode], list[Episode], bytes]:
    """One search with one runner: its episodes, its greedy walks, its state at the end."""
    algorithm = built(runners=1, players=players)
    play_to_the_end(algorithm)
    greedy = algorithm.play_greedy(3, on_wait=lambda: None)
    state = searchstate.dump(algorithm)
    algorithm.leave()
    return algorithm.learnt.episodes, greedy, state


def learnt_bits(state: bytes) -> dict[str, tuple[Any, bytes]]:
    """Network, target network, optimiser, memory and the policies that acted."""
    return {name: (array.shape, array.tobytes()) for name, array in load(state).items()}


def test_it_plays_exactly_the_asked_for_episodes_each_once(uninterrupted: Any) -> None:
    episodes, greedy, _ = uninterrupted

    assert [episode.index for episode in episodes] == list(range(EPISODES))
    assert not any(episode.rerun for episode in episodes)
    assert [episode.weights_version for episode in episodes] == [0, 0, *range(1, EPISODES - 1)]
    assert [episode.index for episode in greedy] == [0, 1, 2]


def test_the_memory_holds_exactly_its_last_steps_and_learns_once_a_step(uninterrupted: Any) -> None:
    algorithm = built(runners=1)
    searchstate.restore(algorithm, uninterrupted[2])

    assert len(algorithm.replay) == 40
    assert algorithm.learnt.steps == EPISODES * 5
    newest = algorithm.replay.arrays()["action"][-5:].tolist()
    assert newest == list(uninterrupted[0][-1].actions)
    algorithm.stop()


def test_two_runners_do_what_one_does(uninterrupted: Any, players: Players) -> None:
    algorithm = built(runners=2, players=players)
    all_here(algorithm)

    episodes = play_to_the_end(algorithm)

    assert what_was_done(episodes) == what_was_done(uninterrupted[0])
    assert {episode.runner for episode in episodes} == {1, 2}
    greedy = algorithm.play_greedy(3, on_wait=lambda: None)
    assert what_was_done(greedy) == what_was_done(uninterrupted[1])
    assert learnt_bits(searchstate.dump(algorithm)) == learnt_bits(uninterrupted[2])
    algorithm.leave()


def test_a_search_resumed_from_its_state_ends_as_if_it_had_never_stopped(
    uninterrupted: Any, players: Players, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm = built(runners=2, players=players)
    all_here(algorithm)
    wait, states = algorithm.runners.wait, list[bytes]()
    # Episode 6 never seems to end: the other runner plays 7 meanwhile, which is learnt from after it.
    monkeypatch.setattr(algorithm.runners, "wait", lambda seconds: [e for e in wait(seconds) if e[0].index != 6])

    def stop_after_seven() -> None:
        if 7 in algorithm.schedule.finished:
            raise Interrupted("drain")

    with pytest.raises(Interrupted):
        _play(algorithm, Hooks(on_episode=lambda _: None, on_state=states.append, on_wait=stop_after_seven))
    algorithm.leave()
    resumed = built(runners=1, players=players)
    searchstate.restore(resumed, states[-1])
    episodes = play_to_the_end(resumed)

    assert what_was_done(episodes) == what_was_done(uninterrupted[0])
    assert what_was_done(resumed.play_greedy(3, on_wait=lambda: None)) == what_was_done(uninterrupted[1])
    assert learnt_bits(searchstate.dump(resumed)) == learnt_bits(uninterrupted[2])
    assert [episode.index for episode in episodes if episode.rerun] == [6]
    resumed.leave()


def test_a_killed_runner_costs_its_episode_which_is_played_again(
    uninterrupted: Any, players: Players, tmp_path: Path
) -> None:
    algorithm = built(Landscape(gate=str(tmp_path)), runners=2, players=players)
    all_here(algorithm)
    runner = pid_of(algorithm, runner=1)
    while len(algorithm.learnt.episodes) < 4:
        algorithm.train()
    gate = tmp_path / "closed"
    gate.touch()
    while not (tmp_path / str(runner)).exists():
        algorithm.train()

    os.kill(runner, signal.SIGKILL)
    gate.unlink()
    episodes = play_to_the_end(algorithm)

    assert what_was_done(episodes) == what_was_done(uninterrupted[0])
    assert any(episode.rerun for episode in episodes)
    algorithm.leave()


def test_a_runner_that_hangs_is_replaced_and_its_episode_played_again(uninterrupted: Any, players: Players) -> None:
    algorithm = built(runners=1, players=players)
    all_here(algorithm)
    stopped = pid_of(algorithm, runner=1)
    while len(algorithm.learnt.episodes) < 4:
        algorithm.train()

    os.kill(stopped, signal.SIGSTOP)
    algorithm.runners.limits = Limits(hang_seconds=2)  # for this one only: a busy machine silences healthy ones as long
    while algorithm.runners.here:
        algorithm.train()
    algorithm.runners.limits = Limits()
    episodes = play_to_the_end(algorithm)

    assert what_was_done(episodes) == what_was_done(uninterrupted[0])
    assert any(episode.rerun for episode in episodes)
    wait_until("the stopped one is gone", lambda: stopped not in session_members(os.getsid(0)))
    algorithm.leave()


def test_episodes_that_end_early_teach_the_steps_that_they_played(players: Players) -> None:
    one, two = (built(Landscape(cliff=9), runners=runners, players=players) for runners in (1, 2))

    episodes = play_to_the_end(one)

    lengths = [len(episode.actions) for episode in episodes]
    assert min(lengths) < 5 == max(lengths)
    assert one.learnt.steps == sum(lengths)
    newest = [step.terminated for step in one.replay.steps][-sum(lengths[-3:]) :]
    assert newest == [i == length - 1 for length in lengths[-3:] for i in range(length)]
    greedy = one.play_greedy(2, on_wait=lambda: None)
    assert [len(episode.actions) for episode in greedy] == [5, 5]  # these never end early
    one.leave()
    all_here(two)
    assert what_was_done(play_to_the_end(two)) == what_was_done(episodes)
    two.leave()


def test_silence_is_counted_up_to_the_last_word_of_the_counter() -> None:
    pulse = Pulse(already=5)
    assert pulse.silent_for(1) == 0  # nothing is known yet, so nobody is to be replaced
    pulse.actor.tick.remote(1)

    wait_until("the step is counted", lambda: pulse.read() == 6)

    assert pulse.silent_for(2) == math.inf
    wait_until("it is silent for a while", lambda: pulse.read() == 6 and pulse.silent_for(1) > 0.1)
    ray.kill(pulse.actor, no_restart=True)
    wait_until("the counter is gone", lambda: gone(pulse))
    pulse.read()  # may still bring an answer that was on its way
    silent = pulse.silent_for(1)
    assert pulse.read() == 6
    assert pulse.silent_for(1) == silent


def gone(pulse: Pulse) -> bool:
    try:
        ray.get(pulse.actor.read.remote(), timeout=DEADLINE_SECONDS)
    except ray.exceptions.RayActorError:  # not where it is merely slow to answer: it may still live
        return True
    return False


def test_an_environment_that_raises_once_is_tried_again(uninterrupted: Any, players: Players, tmp_path: Path) -> None:
    landscape = Landscape(fails_at=3, fails_until=str(tmp_path / "mended"))
    algorithm = built(landscape, runners=1, players=players)

    assert what_was_done(play_to_the_end(algorithm)) == what_was_done(uninterrupted[0])
    algorithm.leave()


def test_runners_that_are_out_of_memory_become_fewer(uninterrupted: Any, players: Players) -> None:
    algorithm = built(Landscape(holds=1), runners=2, players=players)

    assert what_was_done(play_to_the_end(algorithm)) == what_was_done(uninterrupted[0])
    assert algorithm.size.runners == 1
    algorithm.leave()


def test_one_runner_alone_that_is_out_of_memory_ends_the_search_with_the_field_to_blame(players: Players) -> None:
    algorithm = built(Landscape(holds=0), runners=1, players=players)

    with pytest.raises(OutOfMemory, match="the landscape is full") as problem:
        play_to_the_end(algorithm)

    assert problem.value.at == "/resources/gpus_per_runner"
    algorithm.leave()


def test_a_runner_that_can_not_be_started_ends_the_search_with_the_exception() -> None:
    algorithm = built(Landscape(fails_to_start=True), runners=1)
    algorithm.limits = Limits(failed_starts=1)  # that it is tried once more is tested without the seconds of a start

    with pytest.raises(EnvironmentFailed, match="there is no such landscape"):
        play_to_the_end(algorithm)
    algorithm.stop()


def test_without_any_runner_the_search_ends_and_says_so() -> None:
    algorithm = built(runners=1)
    algorithm.limits = Limits(alone_seconds=1)
    algorithm.size = replace(algorithm.size, cpus=1000)

    with pytest.raises(SearchStuck, match="no healthy runner for 1 s"):
        play_to_the_end(algorithm)
    algorithm.stop()


def test_an_environment_that_always_raises_ends_the_search_with_the_layer_and_the_exception(players: Players) -> None:
    algorithm = built(Landscape(fails_at=3), runners=1, players=players)

    with pytest.raises(EnvironmentFailed, match=r"layer3.*the landscape gave way") as problem:
        play_to_the_end(algorithm)

    assert (problem.value.code, problem.value.retryable) == ("environment_failed", False)
    assert str(problem.value.where).startswith("RuntimeError in ")
    algorithm.leave()


def test_the_plain_agent_learns_update_for_update_what_rllibs_learns() -> None:
    """From the same weights, 40 steps into the same memory: refreshes of the target network and all."""
    algorithm = built(runners=1)
    network = algorithm.learner.module[DEFAULT_MODULE_ID]
    plain = Learner(algorithm.agent, observation=10, actions=12, seed=algorithm.seed)
    plain.network.load_state_dict(dict(zip(plain.network.state_dict(), parameters_of(network), strict=True)))
    plain.target.load_state_dict(plain.network.state_dict())
    steps = [step for episode in range(8) for step in a_walk(episode)]

    algorithm._learn_from(SimpleNamespace(steps=lambda: steps, episode=None))
    plain.learn_from(steps)

    assert (algorithm.learnt.steps, plain.steps) == (40, 40)
    for ours, theirs in zip(plain.network.parameters(), parameters_of(network), strict=True):
        torch.testing.assert_close(ours.detach(), theirs, rtol=1e-4, atol=1e-5)
    algorithm.stop()


def parameters_of(module: torch.nn.Module) -> list[torch.Tensor]:
    """The network's own, in order: no target network, and not the constant that a discrete action has no use for."""
    named = module.state_dict().items()
    return [tensor.clone() for name, tensor in named if not name.startswith("_target") and "const" not in name]


def a_walk(seed: int) -> list[Step]:
    generator = np.random.default_rng(seed)
    observations = generator.random((6, 10), np.float32)
    rewards = (-3 * generator.random(5)).tolist()  # some errors beyond 1, where the loss is no longer square
    return steps_of(observations, generator.integers(12, size=5).tolist(), rewards, terminated=True)
