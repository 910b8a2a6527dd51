"""The race: the same fine-tuning for every candidate, side by side on the cluster, by successive halving.

A rung is decided when all have reached it, by the select split alone, so the outcome does not depend on who is faster.
Each run is saved as it reaches a rung and goes on from there to the same bits. docs/adr/0010 says why this is not Ray
Tune.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray

from purlkit.ladder import Plan, Standing, going_on, plan
from purlkit.seeds import derive
from purlkit.spec import JobSpec
from purlkit.verdict import Choice, Contender, Paired, choose, kind_of, paired_lead
from workers.tuning import Entrant, Leg, Run, fine_tune

POLL_SECONDS = 0.5


OnRung = Callable[[int, Sequence["Placed"], Sequence["Placed"]], None]


@dataclass(frozen=True)
class Track:
    """What all fine-tunings for a target share."""

    spec: JobSpec
    dense: Any  # the network's tensors in Ray's store
    datasets_dir: Path
    pulse: Any
    saved: Callable[[str], bytes | None]
    save: Callable[[str, bytes], None]
    on_wait: Callable[[], None]  # may raise to stop

    def run(self, legs: Sequence[Leg]) -> list[Run]:
        """All of them to where they are to get, from what an earlier attempt saved or from their beginning."""
        by_name = {leg.name: leg for leg in legs}
        runs = {name: self._standing(leg) for name, leg in by_name.items()}
        running = {self._start(leg, runs[name]): leg for name, leg in by_name.items() if not _there(leg, runs[name])}
        while running:
            self.on_wait()
            ready, _ = ray.wait(list(running), num_returns=1, timeout=POLL_SECONDS)
            for reference in ready:
                leg, run = running.pop(reference), ray.get(reference)
                runs[leg.name] = run
                self.save(leg.name, run.to_bytes())
                if not _there(leg, run):
                    running[self._start(leg, run)] = leg
        return [run for leg in legs if (run := runs[leg.name]) is not None]

    def _standing(self, leg: Leg) -> Run | None:
        content = self.saved(leg.name)
        kept = Run.from_bytes(content) if content is not None else None
        return leg.run if kept is None or (leg.run is not None and leg.run.epochs > kept.epochs) else kept

    def _start(self, leg: Leg, run: Run | None) -> Any:
        resources = self.spec.resources
        task = ray.remote(num_cpus=resources.cpus_per_runner, num_gpus=resources.gpus_per_runner)(fine_tune)
        here = replace(leg, run=run)
        return task.remote(self.spec.model_dump_json(), self.dense, here, str(self.datasets_dir), self.pulse)


def _there(leg: Leg, run: Run | None) -> bool:
    return run is not None and leg.until in run.select


@dataclass(frozen=True, eq=False)
class Placed:
    """A candidate where the race left it: its runs, one for each seed, all after the same epochs."""

    entrant: Entrant
    epochs: int = 0
    runs: tuple[Run, ...] = ()

    @property
    def contender(self) -> Contender:
        right = tuple(run.select[self.epochs] for run in self.runs)
        entrant = self.entrant
        return Contender(entrant.method, entrant.variant, entrant.mask.sparsity, entrant.images, right)

    @property
    def standing(self) -> Standing:
        return Standing(kind_of(self.entrant.method), sum(self.runs[0].select[self.epochs]), self.entrant.images)


@dataclass(frozen=True, eq=False)
class Control:
    """The sceptic's: a naive method trained for as long as search and fine-tuning took, and the search at its end."""

    naive: Placed
    search: Placed

    @property
    def lead(self) -> Paired:
        """Of the search over it."""
        return paired_lead(self.search.contender.right, self.naive.contender.right)


@dataclass(frozen=True, eq=False)
class Outcome:
    """A race that is over. `choice` speaks of contenders, which know nothing of the test split."""

    placed: tuple[Placed, ...]
    plan: Plan
    choice: Choice
    final: Placed  # the winner, fine-tuned to its end
    control: Control | None

    def of(self, contender: Contender) -> Placed:
        who = contender.method, contender.variant
        return next(placed for placed in self.placed if (placed.entrant.method, placed.entrant.variant) == who)


def race(track: Track, entrants: Sequence[Entrant], *, images: int, on_rung: OnRung) -> Outcome:
    """`images` are those of an epoch. `on_rung(epochs, field, those who go on)` hears of every decision."""
    spec = track.spec
    distinct = {entrant.network: entrant for entrant in reversed(entrants)}
    field = [Placed(entrant) for entrant in entrants if distinct[entrant.network] is entrant]
    kinds = [kind_of(placed.entrant.method) for placed in field]
    ladder = plan(spec.race, kinds, epochs=spec.fine_tune.epochs, images=images)

    reached: dict[tuple[str, bool], Placed] = {}
    for rung in ladder.rungs:
        field = _climb(track, field, rung.epochs)
        reached |= {placed.entrant.network: placed for placed in field}
        survivors = [field[index] for index in going_on(spec.race, [placed.standing for placed in field])]
        on_rung(rung.epochs, field, survivors)
        field = survivors
    if ladder.seeds > 1:
        field = _repeat(track, field, ladder.seeds)
        reached |= {placed.entrant.network: placed for placed in field}
        on_rung(ladder.rungs[-1].epochs, field, field)

    placed = tuple(replace(reached[entrant.network], entrant=entrant) for entrant in entrants)
    networks = {finalist.entrant.network for finalist in field}
    finalists = [each for each in placed if each.entrant.network in networks]
    choice = choose([finalist.contender for finalist in finalists], spec.target)
    return _to_the_end(track, Outcome(placed, ladder, choice, placed[0], None), finalists, images)


def _climb(track: Track, field: Sequence[Placed], epochs: int) -> list[Placed]:
    legs = [_leg(track, placed, epochs, of=placed.runs[0] if placed.runs else None) for placed in field]
    return [Placed(at.entrant, epochs, (run,)) for at, run in zip(field, track.run(legs), strict=True)]


def _repeat(track: Track, field: Sequence[Placed], seeds: int) -> list[Placed]:
    """The finalists as often again as there are more seeds."""
    legs = [_leg(track, placed, placed.epochs, seed=seed) for seed in range(1, seeds) for placed in field]
    runs = track.run(legs)
    return [replace(placed, runs=(*placed.runs, *runs[index :: len(field)])) for index, placed in enumerate(field)]


def _to_the_end(track: Track, decided: Outcome, finalists: Sequence[Placed], images: int) -> Outcome:
    """The winner's full fine-tune, and the control where it is asked for. Nothing is chosen any more."""
    spec, winner = track.spec, decided.of(decided.choice.winner)
    whole = spec.fine_tune.epochs
    legs = [_leg(track, winner, whole, "full", of=winner.runs[0])]
    naive = [placed for placed in finalists if kind_of(placed.entrant.method) == "naive"]
    search = decided.choice.search and decided.of(decided.choice.search)
    if not (spec.race.matched and naive and search):
        return replace(decided, final=Placed(winner.entrant, whole, tuple(track.run(legs))))

    rival = max(naive, key=lambda placed: placed.contender.accuracy)
    as_long = round((search.entrant.images + whole * images) / images)
    legs.append(_leg(track, search, whole, "full", of=search.runs[0]))
    legs.append(
        replace(_leg(track, rival, as_long, "matched"), training=spec.fine_tune.model_copy(update={"epochs": as_long}))
    )
    final, searched, matched = track.run(legs)
    control = Control(Placed(rival.entrant, as_long, (matched,)), Placed(search.entrant, whole, (searched,)))
    return replace(decided, final=Placed(winner.entrant, whole, (final,)), control=control)


def _leg(track: Track, placed: Placed, until: int, kind: str = "run", *, seed: int = 0, of: Run | None = None) -> Leg:
    names = ("fine-tune", seed) if seed else ("fine-tune",)
    name = f"{kind}-{placed.entrant.name}-{seed}"
    return Leg(name, placed.entrant, track.spec.fine_tune, derive(track.spec.seed, *names), until, of)
