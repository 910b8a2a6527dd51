"""THE RECIPE, top to bottom: PuRL's Algorithm 1, then the race that the paper leaves out, then the proof.

Each step first asks whether an earlier attempt of the job finished it. What comes out is the same on any number of
runners, interrupted or not, for every random choice follows from the job's seed and the name of the choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from purlkit.agent.relabel import relabelled
from purlkit.agent.replay import Step
from purlkit.budget.allocation import Allocation
from purlkit.check import check
from purlkit.errors import Diverged, Impossible
from purlkit.results import Episode, Finish, Phase
from purlkit.seeds import derive
from purlkit.spec import JobSpec
from purlkit.training.files import kept_in_memory
from purlkit.zoo import datasets
from workers import budget, candidates, capacity, cluster, publish, randomly, stages
from workers.attempt import Attempt
from workers.dense import Dense, dense_baseline, uploaded_weights
from workers.found import Found
from workers.holding import hold
from workers.outcome import LastLook, checked
from workers.pulse import Pulse
from workers.race import OnRung, Outcome, Placed, Track, race
from workers.search import Hooks, search
from workers.stages import Stage
from workers.tuning import Leg


@dataclass(frozen=True)
class Common:
    """What all of the attempt's work on Ray shares."""

    pulse: Pulse
    data: Any  # what `hold` gave


@dataclass(frozen=True)
class Reached:
    """What one target came to, before anybody has looked at the test split."""

    outcome: Outcome
    episodes: tuple[Episode, ...]
    seconds: float  # of searching, and of the stages on the way
    images: int


def prune(job: Attempt) -> Finish:
    spec = job.spec

    job.enter(Phase.CHECKING)
    uploaded = uploaded_weights(job)
    report = check(spec, data_root=job.datasets_dir, weights=uploaded, download=job.download, costed=False)
    if not report.runnable:
        reason = report.reasons[0]
        raise Impossible(code=reason.code, message=reason.message, at=reason.at)
    # A later attempt makes do with what the cluster still has.
    at_least = spec.resources.processes if job.brief.number == 1 else 1
    capacity.check(
        spec.resources, ray_address=job.ray_address, at_least=at_least, grows=job.grows, on_wait=job.link.check
    )

    job.enter(Phase.DENSE)
    splits = datasets.load(spec.data, job.datasets_dir).with_reward_images(spec.search.reward_images)
    splits = kept_in_memory(splits, spec.resources.data_bytes)
    dense = dense_baseline(job, splits.without_test(), uploaded)

    reached: list[Reached] = []
    job.enter(Phase.SEARCH)
    with cluster.connected(job.ray_address, job.scratch, on_wait=job.link.check):
        capacity.wait_for_room(spec.resources, grows=job.grows, on_wait=job.waits_for)
        common = Common(Pulse(already=job.link.counter), hold(splits, spec))
        # What others work with is in Ray's store now, and this process keeps what nobody may see.
        images, sizes, test = len(splits.train), splits.sizes, splits.test
        del splits
        for point in range(len(spec.points)):
            before = [episode for earlier in reached for episode in earlier.episodes]
            reached.append(_reach(job, dense, stages.first(spec, dense, point), common, before, images))

    job.enter(Phase.VERIFY)
    look = LastLook(job, dense, test.to(job.device))
    proven = checked(job, dense, look, [each.outcome for each in reached], images)
    episodes = [episode for each in reached for episode in each.episodes]
    result = publish.result_of(
        job,
        dense,
        proven,
        splits=sizes,
        episodes=episodes,
        search_seconds=sum(each.seconds for each in reached),
        search_images=sum(each.images for each in reached),
    )

    job.enter(Phase.PUBLISH)
    return publish.publish(job, dense, test, result, proven, episodes)


def _reach(
    job: Attempt, dense: Dense, stage: Stage, common: Common, before: Sequence[Episode], epoch_images: int
) -> Reached:
    """One target: search, in as many stages as the job has, then race what was found against the naive methods."""
    if stage.point:
        job.enter(Phase.SEARCH, stage.point)
    found = _search(job, dense, stage, common, before)
    episodes = [stage.placed(episode) for episode in found.walks]
    while not stage.is_last:
        stage = _saved_stage(job, stage) or _next_stage(job, dense, stage, found, common, epoch_images)
        found = _search(job, dense, stage, common, before)
        episodes += [stage.placed(episode) for episode in found.walks]

    job.enter(Phase.POLICY, stage.point)
    track = _track(job, dense, stage, common)
    if stage.spec.search.algorithm == "purl-budget":
        own = [budget.best_allocation(track, dense, budget.scouting(track, stage.seed), found, stage.seed)]
    else:
        best = candidates.best_episode(stage, found, dense.uses)
        own = [candidates.mean_policy(stage, found, dense.uses), *([best] if best else [])]
    rivals = [
        randomly.best_of_random(track, dense) if name == "random" else candidates.naive(name, stage.spec, dense)
        for name in stage.spec.baselines
    ]
    entrants = [*own, *rivals]

    job.enter(Phase.RACE, stage.point)
    outcome = race(track, entrants, images=epoch_images, on_rung=_teller(job, stage))
    return Reached(outcome, tuple(episodes), stage.seconds + found.seconds, own[0].images)


def _search(job: Attempt, dense: Dense, stage: Stage, common: Common, before: Sequence[Episode]) -> Found:
    over, going_on = stage.saved_as("found"), stage.saved_as("search")
    if (finished := job.saved(over)) is not None:
        return Found.from_bytes(finished)
    target = target_accuracy(job.spec, dense.reward_accuracy)
    memory = _memory(stage, before, target)
    origin: Allocation = ()
    if stage.spec.search.algorithm == "purl-budget":
        known = budget.scouting(_track(job, dense, stage, common), stage.seed)
        memory, origin = known.memory, known.scouted.origin
    found = search(
        stage,
        target_accuracy=target,
        data=common.data,
        saved=job.saved(going_on),
        pulse=common.pulse,
        hooks=Hooks(
            on_episode=lambda episode: job.episode(stage.placed(episode)),
            on_state=lambda state: job.link.save(going_on, state),
            on_wait=lambda: job.alive(common.pulse.read(), common.pulse.gpu_bytes),
        ),
        memory=memory,
        origin=origin,
    )
    job.link.save(over, found.to_bytes())
    return found


def _memory(stage: Stage, before: Sequence[Episode], target_accuracy: float) -> list[Step]:
    """What the searches for other targets went through, as this one would have seen it."""
    settings = stage.spec.search
    targets = {"target_accuracy": target_accuracy, "target_sparsity": stage.target}
    searched = [episode for episode in before if settings.warm_start and episode.kind == "search"]
    return [step for episode in searched for step in relabelled(episode, stage.weights, settings, **targets)]


def target_accuracy(spec: JobSpec, dense: float) -> float:
    """T_A: what the client asks for, else the dense network's own accuracy, less what may be lost."""
    if spec.targets.accuracy is not None:
        return spec.targets.accuracy
    return dense - (spec.targets.max_drop or 0.0)


def _saved_stage(job: Attempt, stage: Stage) -> Stage | None:
    number = stage.number + 1
    saved = job.saved(f"stage-{number}")
    return Stage.from_bytes(stage.spec, number, saved) if saved is not None else None


def _next_stage(job: Attempt, dense: Dense, stage: Stage, found: Found, common: Common, epoch_images: int) -> Stage:
    """Prune and fine-tune what a stage found; what comes of it is where the next search begins."""
    entrant, training = candidates.mean_policy(stage, found), stage.spec.tunings[stage.number]
    leg = Leg("tuned", entrant, training, derive(stage.seed, "fine-tune"), until=training.epochs)
    [run] = _track(job, dense, stage, common).run([leg])
    if run.diverged is not None:
        raise Diverged(run.diverged, at="/fine_tune")
    seconds = stage.seconds + found.seconds + run.seconds
    following = stages.after(stage, entrant, run, seconds=seconds, images=training.epochs * epoch_images)
    job.link.event("note", {"stage": stage.number, "sparsity": entrant.mask.sparsity})
    job.link.save(f"stage-{following.number}", following.to_bytes())
    return following


def _track(job: Attempt, dense: Dense, stage: Stage, common: Common) -> Track:
    return Track(
        spec=stage.spec,
        dense=ray.put(dense.tensors),
        data=common.data,
        pulse=common.pulse.actor,
        saved=lambda name: job.saved(stage.saved_as(name)),
        save=lambda name, content: job.link.save(stage.saved_as(name), content),
        on_wait=lambda: job.alive(common.pulse.read(), common.pulse.gpu_bytes),
        waits_for=job.tells_of_wait,
    )


def _teller(job: Attempt, stage: Stage) -> OnRung:
    """Every decision of the race becomes an event, with no number but the select split's."""

    def tell(epochs: int, field: Sequence[Placed], survivors: Sequence[Placed]) -> None:
        rows = [
            {
                "method": placed.entrant.method,
                "variant": placed.entrant.variant,
                "select_accuracy": placed.contender.accuracy,
                "goes_on": placed in survivors,
            }
            for placed in field
        ]
        seeds = len(field[0].runs)
        of = stage.spec.fine_tune.epochs
        told = {"target": stage.target, "epochs": epochs, "of_epochs": of, "seeds": seeds, "candidates": rows}
        job.link.event("rung", told)

    return tell
