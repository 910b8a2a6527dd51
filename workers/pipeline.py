"""THE RECIPE, top to bottom: PuRL's Algorithm 1, then the race that the paper leaves out, then the proof.

Each step first asks whether an earlier attempt of the job finished it. What comes out is the same on any number of
runners, interrupted or not, for every random choice follows from the job's seed and the name of the choice.
"""

from __future__ import annotations

from purlkit import baselines
from purlkit.check import check
from purlkit.errors import Impossible
from purlkit.pruning.policy import mask_for_alphas, mean_alphas
from purlkit.results import Finish, Phase
from purlkit.seeds import derive
from purlkit.spec import JobSpec
from purlkit.verdict import choose
from purlkit.zoo import datasets
from workers import capacity, cluster, files, publish, race, stages
from workers.attempt import Attempt
from workers.dense import Dense, dense_baseline, uploaded_weights
from workers.pulse import Pulse
from workers.search import Found, Hooks, search
from workers.stages import Stage


def prune(job: Attempt) -> Finish:
    spec = job.spec

    job.enter(Phase.CHECKING)
    uploaded = uploaded_weights(job)
    report = check(spec, data_root=job.datasets_dir, weights=uploaded, download=job.download)
    if not report.runnable:
        reason = report.reasons[0]
        raise Impossible(code=reason.code, message=reason.message, at=reason.at)
    # A later attempt makes do with what the cluster still has.
    at_least = spec.resources.env_runners if job.brief.number == 1 else 1
    capacity.check(spec.resources, ray_address=job.ray_address, at_least=at_least, on_wait=job.link.check)

    job.enter(Phase.DENSE)
    splits = datasets.load(spec.data, job.datasets_dir, device=job.device)
    splits = splits.with_reward_images(spec.search.reward_images)
    dense = dense_baseline(job, splits, uploaded)

    job.enter(Phase.SEARCH)
    with cluster.connected(job.ray_address, job.scratch, on_wait=job.link.check):
        capacity.wait_for_room(spec.resources, on_wait=job.waits_for)
        pulse = Pulse(already=job.link.counter)
        stage = stages.first(spec, dense)
        while not stage.is_last:
            stage = _saved_stage(job, stage.number + 1) or _next_stage(job, dense, stage, pulse)
        found = _search(job, dense, stage, pulse)

        job.enter(Phase.POLICY)
        entrants = [_purl(stage, found), *_naive(spec, dense)]

        job.enter(Phase.RACE)
        finishers = _race(job, dense, entrants, pulse)

    choice = choose([finisher.contender for finisher in finishers])
    entrant, winner = next(pair for pair in zip(entrants, finishers, strict=True) if pair[1].contender is choice.winner)

    job.enter(Phase.VERIFY)
    path = publish.write_checkpoint(job, dense, winner)
    result = publish.result_of(job, dense, splits, path, choice, finishers, entrants[0], found)

    job.enter(Phase.PUBLISH)
    others = [*files.others(job, path, splits.test), *files.weights(job, dense, entrant, winner)]
    return publish.stage(job, path, result, entrants, others)


def _search(job: Attempt, dense: Dense, stage: Stage, pulse: Pulse) -> Found:
    name = stage.saved_as("search")
    hooks = Hooks(
        on_episode=lambda episode: job.episode(episode, stage=stage.number),
        on_state=lambda state: job.link.save(name, state),
        on_wait=lambda: job.alive(pulse.read()),
    )
    return search(
        stage,
        target_accuracy=target_accuracy(job.spec, dense.reward_accuracy),
        datasets_dir=job.datasets_dir,
        saved=job.saved(name),
        pulse=pulse,
        hooks=hooks,
    )


def target_accuracy(spec: JobSpec, dense: float) -> float:
    """T_A: what the client asks for, else the dense network's own accuracy, less what may be lost."""
    if spec.targets.accuracy is not None:
        return spec.targets.accuracy
    return dense - (spec.targets.max_drop or 0.0)


def _saved_stage(job: Attempt, number: int) -> Stage | None:
    saved = job.saved(f"stage-{number}")
    return Stage.from_bytes(job.spec, number, saved) if saved is not None else None


def _next_stage(job: Attempt, dense: Dense, stage: Stage, pulse: Pulse) -> Stage:
    """Search, prune and fine-tune once; what comes of it is where the next search begins."""
    entrant = _purl(stage, _search(job, dense, stage, pulse))
    tuned: list[race.Finisher] = []
    race.run(
        job.spec,
        dense.tensors,
        [entrant],
        datasets_dir=job.datasets_dir,
        pulse=pulse.actor,
        on_finish=lambda _, finisher: tuned.append(finisher),
        on_wait=lambda: job.alive(pulse.read()),
        seed=derive(stage.seed, "fine-tune"),
    )
    following = stages.after(stage, entrant, tuned[0])
    job.link.event("note", {"stage": stage.number, "sparsity": entrant.mask.sparsity})
    job.link.save(f"stage-{following.number}", following.to_bytes())
    return following


def _purl(stage: Stage, found: Found) -> race.Entrant:
    """PRUNE(alpha_1) … PRUNE(alpha_T), each alpha the mean over the greedy walks, scaled to meet the stage's target."""
    search = stage.spec.search
    alphas = mean_alphas((episode.actions for episode in found.greedy), search.alphas)
    target = stage.target if search.exact_target else None
    policy = mask_for_alphas(stage.layers, alphas, target=target, criterion=search.criterion)
    return race.Entrant(
        method="purl",
        variant="mean",
        mask=policy.mask & stage.mask,
        alphas=tuple(policy.alphas),
        note=policy.note,
        images=stage.images + found.images,
        seconds=stage.seconds + found.seconds,
        tensors=stage.tensors if stage.number else None,
    )


def _naive(spec: JobSpec, dense: Dense) -> list[race.Entrant]:
    options = {"global-mt": {"minimum_threshold": spec.minimum_threshold}}
    return [
        race.Entrant(
            method=name,
            variant=None,
            mask=baselines.method(name)(dense.layers, spec.targets.sparsity, **options.get(name, {})),
        )
        for name in spec.baselines
    ]


def _race(job: Attempt, dense: Dense, entrants: list[race.Entrant], pulse: Pulse) -> list[race.Finisher]:
    finished: dict[str, race.Finisher] = {}
    for entrant in entrants:
        if (saved := job.saved(f"tuned-{entrant.name}")) is not None:
            finished[entrant.name] = race.Finisher.from_bytes(saved)

    def on_finish(entrant: race.Entrant, finisher: race.Finisher) -> None:
        finished[entrant.name] = finisher
        job.link.event("candidate", finisher.contender.candidate.model_dump(mode="json"))
        job.link.save(f"tuned-{entrant.name}", finisher.to_bytes())

    race.run(
        job.spec,
        dense.tensors,
        [entrant for entrant in entrants if entrant.name not in finished],
        datasets_dir=job.datasets_dir,
        pulse=pulse.actor,
        on_finish=on_finish,
        on_wait=lambda: job.alive(pulse.read()),
    )
    return [finished[entrant.name] for entrant in entrants]
