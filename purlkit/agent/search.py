"""PuRL in one process: the search that the cluster runs, without Ray. It is the yardstick for the distributed one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from torch import Tensor, nn

from purlkit import arguments
from purlkit.agent.dqn import Actor, Learner, Policy, epsilon
from purlkit.agent.incumbent import incumbent
from purlkit.agent.replay import Floats, Step, steps_of
from purlkit.agent.schedule import Schedule
from purlkit.env import PruningEnv, Walk
from purlkit.errors import InvalidSpec
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.policy import mask_for_alphas, mean_alphas
from purlkit.pruning.ranking import weights_to_keep
from purlkit.results import Episode
from purlkit.seeds import derive
from purlkit.spec import Resources, Retrain, Search
from purlkit.training.data import Splits, subset
from purlkit.training.evaluate import accuracy

OnEpisode = Callable[[Episode], None]


class WalkEnv(Protocol):
    """What a search asks of an environment. PruningEnv and BudgetEnv have it."""

    retrain_seed: int
    may_end_early: bool
    incumbent: tuple[int, ...]

    @property
    def walk(self) -> Walk: ...
    @property
    def layers(self) -> Any: ...
    @property
    def observation_space(self) -> Any: ...
    @property
    def action_space(self) -> Any: ...

    def reset(self) -> tuple[Floats, dict[str, Any]]: ...
    def step(self, action: int) -> tuple[Floats, float, bool, bool, dict[str, Any]]: ...


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """What a search found: the policy's mask at the target, the alphas that made it, and every episode on the way."""

    mask: Mask
    alphas: tuple[float, ...]
    episodes: list[Episode]
    greedy: list[Episode]
    seconds: float
    images: int  # trained on, over all walks
    note: str | None  # what a reader must know of the alphas

    def __repr__(self) -> str:
        alphas = ", ".join(f"{alpha:.3g}" for alpha in self.alphas)
        return f"SearchResult({self.mask!r}, {len(self.episodes)} episodes in {self.seconds:.1f} s, alphas {alphas})"

    def apply(self, model: nn.Module) -> None:
        """Sets the weights that the search removes to zero."""
        self.mask.apply(prunable_layers(model))


def search(
    model: nn.Module,
    data: Splits | tuple[Tensor, Tensor],
    *,
    sparsity: float,
    episodes: int = 55,
    accuracy_target: float | None = None,
    settings: Search | None = None,
    seed: int = 0,
    cache_bytes: int | None = None,
    on_episode: OnEpisode | None = None,
) -> SearchResult:
    """Learns with PuRL how much to prune each layer of a trained network, in this process.

    `data` is a `Splits`, or a pair (images, classes) of which a fifth drives the reward. The accuracy to keep is the
    network's own unless you say another. `settings` are those of a job's `search`; its number of episodes counts then.
    Steps that a walk took before are looked up in a cache of `cache_bytes`, by default what a job's `resources` has.
    The network is left as it came; train it on under the mask after `apply`.

    >>> import torch, purlkit
    >>> x = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> result = purlkit.search(model, (x, (x.sum(1) > 0).long()), sparsity=0.5, episodes=3)
    >>> result.mask.sparsity, len(result.alphas), len(result.episodes)
    (0.5, 2, 3)
    >>> result.apply(model)
    >>> sum(int((layer.weight == 0).sum()) for layer in (model[0], model[2]))
    24
    """
    sparsity = arguments.a_number("sparsity", sparsity)
    # Out of reach is said now and not after all the episodes.
    weights_to_keep(arguments.layers_with_values(model), sparsity)
    seed = arguments.a_seed(seed)
    if accuracy_target is not None:
        accuracy_target = arguments.a_share("accuracy_target", accuracy_target)
    if not (on_episode is None or callable(on_episode)):
        raise InvalidSpec("on_episode is no function", at="/on_episode", remedy="give one that takes an Episode")
    cache = arguments.as_in_a_spec(Resources, **({} if cache_bytes is None else {"cache_bytes": cache_bytes}))
    splits = arguments.images_for(model, data)
    if settings is None:
        retrain = Retrain(images=min(Retrain().images, len(splits.train)))
        settings = arguments.as_in_a_spec(Search, episodes=episodes, retrain=retrain)
    settings = arguments.of_kind("settings", settings, Search)
    if settings.algorithm != "purl":
        raise InvalidSpec(
            "this is the search of purl", at="/search/algorithm", remedy="call purlkit.budget.search.search"
        )
    reward_images = splits.with_reward_images(settings.reward_images).reward
    env = PruningEnv(
        model,
        subset(splits.train, settings.retrain.images, seed),
        reward_images,
        search=settings,
        target_accuracy=accuracy(model, reward_images) if accuracy_target is None else accuracy_target,
        target_sparsity=sparsity,
        retrain_seed=0,  # every episode brings its own
        cache_bytes=cache.cache_bytes,
    )
    began = time.monotonic()
    try:
        walks, greedy = play(env, settings, seed=seed, on_episode=on_episode)
    finally:
        env.reset()
    alphas = mean_alphas((episode.actions for episode in greedy), settings.alphas)
    policy = mask_for_alphas(
        env.layers, alphas, target=sparsity if settings.exact_target else None, criterion=settings.criterion
    )
    return SearchResult(
        mask=policy.mask,
        alphas=policy.alphas,
        episodes=walks,
        greedy=greedy,
        seconds=time.monotonic() - began,
        images=settings.images_retrained(sum(episode.steps_computed for episode in [*walks, *greedy])),
        note=policy.note,
    )


def play(
    env: WalkEnv,
    settings: Search,
    *,
    seed: int,
    on_episode: OnEpisode | None = None,
    memory: Sequence[Step] = (),
) -> tuple[list[Episode], list[Episode]]:
    """The search's episodes and the trained policy's greedy ones, with the seeds and the order of the distributed one.

    Episode k acts with what was learnt from episodes up to k - lookahead here too, though nothing runs side by side:
    so both learn the same way, and a difference in what they reach is not one of the algorithm. `memory` is what the
    replay holds at the beginning.
    """
    spaces = {"observation": env.observation_space.shape[0], "actions": int(env.action_space.n)}
    learner, actor = Learner(settings.agent, seed=seed, **spaces), Actor(settings.agent, **spaces)
    for step in memory:
        learner.replay.add(step)
    schedule: Schedule[list[Step]] = Schedule(settings.episodes, settings.lookahead)
    policies: dict[int, Policy] = {0: learner.policy()}
    tell = on_episode or (lambda _: None)
    searched: list[Episode] = []
    greedy: list[Episode] = []

    env.retrain_seed, env.may_end_early = derive(seed, "retrain"), True
    layers = len(env.layers)
    while (chosen := schedule.start_next()) is not None:
        index, version = chosen[0], schedule.version_for(chosen[0])
        actor.become(policies[version], derive(seed, "explore", index))
        env.incumbent = incumbent(searched[:version])
        # An episode that ends early takes its whole share of the steps, so that epsilon depends on the index alone.
        steps = range(index * layers, (index + 1) * layers)
        walk = _walk(env, actor, [epsilon(settings.agent, step, settings.episodes * layers) for step in steps])
        searched.append(env.walk.record(index=index, kind="search", weights_version=version))
        tell(searched[-1])
        schedule.finish(index, walk)
        while (learnt := schedule.commit_next()) is not None:
            learner.learn_from(learnt)
        policies[schedule.committed] = learner.policy()
        policies = {version: policies[version] for version in schedule.needed_versions()}

    env.may_end_early, env.incumbent = False, incumbent(searched)
    for index in range(settings.greedy_episodes):
        env.retrain_seed = derive(seed, "retrain-greedy", index)
        actor.become(policies[settings.episodes], derive(seed, "greedy", index))
        _walk(env, actor, [0.0] * layers)
        greedy.append(env.walk.record(index=index, kind="greedy", weights_version=settings.episodes))
        tell(greedy[-1])
    return searched, greedy


def _walk(env: WalkEnv, actor: Actor, epsilons: Sequence[float]) -> list[Step]:
    """One whole episode."""
    observation, _ = env.reset()
    observations, terminated = [observation], False
    while not terminated:
        action = actor.act(observation, epsilons[len(observations) - 1])
        observation, _, terminated, _, _ = env.step(action)
        observations.append(observation)
    return steps_of(np.stack(observations), env.walk.actions, env.walk.rewards, terminated)
