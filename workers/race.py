"""The race: the same fine-tuning for every candidate, side by side on the cluster, by successive halving.

A rung is decided when all have reached it, by the select split alone, so the outcome does not depend on who is faster.
Each run is saved as it reaches a rung and goes on from there to the same bits. docs/adr/0010 says why this is not Ray
Tune.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from purlkit.errors import Diverged
from purlkit.ladder import Plan, Standing, going_on, plan
from purlkit.seeds import derive
from purlkit.spec import JobSpec
from purlkit.verdict import Choice, Contender, Paired, choose, kind_of, paired_lead
from workers.crew import Crew
from workers.tuning import Entrant, Leg, Run, fine_tune

POLL_SECONDS = 0.5

Network = tuple[str, bool]  # Entrant.network
OnRung = Callable[[int, Sequence["Placed"], Sequence["Placed"]], None]


@dataclass(frozen=True)
class Track:
    """What all fine-tunings for a target share."""

    spec: JobSpec
    dense: Any  # the network's tensors in Ray's store
    data: Any  # its splits there: workers/holding.py
    pulse: Any
    saved: Callable[[str], bytes | None]
    save: Callable[[str, bytes], None]
    on_wait: Callable[[], None]  # may raise to stop
    waits_for: Callable[[str | None], None] = lambda _: None  # is told why nothing happens

    def run(self, legs: Sequence[Leg]) -> list[Run]:
        """All of them to where they are to get, from what an earlier attempt saved or from their beginning."""
        if self.spec.resources.fine_tune_workers > 1:
            return self._run_together(legs)
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

    def _run_together(self, legs: Sequence[Leg]) -> list[Run]:
        """One after the other, each by all workers."""
        runs: dict[str, Run] = {}
        with Crew(self.spec, self.on_wait, self.waits_for) as crew:
            for leg in {leg.name: leg for leg in legs}.values():
                run = self._standing(leg)
                while run is None or not _there(leg, run):
                    run = crew.tune(replace(leg, run=run), self.dense, self.data, self.pulse)
                    self.save(leg.name, run.to_bytes())
                runs[leg.name] = run
        return [runs[leg.name] for leg in legs]

    def _standing(self, leg: Leg) -> Run | None:
        content = self.saved(leg.name)
        kept = Run.from_bytes(content) if content is not None else None
        return leg.run if kept is None or (leg.run is not None and leg.run.epochs > kept.epochs) else kept

    def _start(self, leg: Leg, run: Run | None) -> Any:
        resources = self.spec.resources
        task = ray.remote(num_cpus=resources.cpus_per_runner, num_gpus=resources.gpus_per_runner)(fine_tune)
        here = replace(leg, run=run)
        return task.remote(self.spec.model_dump_json(), self.dense, here, self.data, self.pulse)


def _there(leg: Leg, run: Run | None) -> bool:
    return run is not None and (leg.until in run.select or run.diverged is not None)


@dataclass(frozen=True, eq=False)
class Placed:
    """A candidate where the race left it: its runs, one for each seed, all after the same epochs.

    One that diverged has lost: nothing of its fine-tuning counts, so its `epochs` are 0.
    """

    entrant: Entrant
    epochs: int = 0
    runs: tuple[Run, ...] = ()
    diverged: str | None = None

    @property
    def contender(self) -> Contender:
        right = tuple(run.select[self.epochs] for run in self.runs)
        entrant = self.entrant
        return Contender(entrant.method, entrant.variant, entrant.saved, entrant.images, right)

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
    control: Control | None = None
    no_control: str | None = None  # why there is none, though it was asked for

    @property
    def diverged(self) -> list[Placed]:
        """Those who lost by that."""
        return [placed for placed in self.placed if placed.diverged is not None]

    def of(self, contender: Contender) -> Placed:
        who = contender.method, contender.variant
        return next(placed for placed in self.placed if (placed.entrant.method, placed.entrant.variant) == who)


def race(track: Track, entrants: Sequence[Entrant], *, images: int, on_rung: OnRung) -> Outcome:
    """`images` are those of an epoch. `on_rung(epochs, field, those who go on)` hears of every decision.

    Who diverges has lost. Where all who were left do, those who were let go before come back; Diverged if none is left.
    """
    at: dict[Network, Placed] = {}  # where each network stands: equal ones are fine-tuned once
    for entrant in entrants:
        at.setdefault(entrant.network, Placed(entrant))
    while field := [placed for placed in at.values() if placed.diverged is None]:
        ladder, finalists = _climb_all(track, field, at, images, on_rung)
        while finalists:
            placed = tuple(replace(at[entrant.network], entrant=entrant) for entrant in entrants)
            networks = {finalist.entrant.network for finalist in finalists}
            equal = [each for each in placed if each.entrant.network in networks]
            choice = choose([each.contender for each in equal], track.spec.target)
            decided = Outcome(placed, ladder, choice, placed[0])
            full = _full(track, decided.of(choice.winner))
            if full.diverged is None:
                return _controlled(track, replace(decided, final=full), equal, images)
            at[full.entrant.network] = full
            finalists = [each for each in finalists if each.entrant.network != full.entrant.network]
    reason = next(placed.diverged for placed in at.values() if placed.diverged is not None)
    raise Diverged(f"every candidate of the race diverged, the first so: {reason}", at="/fine_tune")


def _climb_all(
    track: Track, field: list[Placed], at: dict[Network, Placed], images: int, on_rung: OnRung
) -> tuple[Plan, list[Placed]]:
    """Up the ladder, rung by rung, and the finalists again with more seeds. Notes in `at` where each comes to stand."""
    spec = track.spec
    kinds = [kind_of(placed.entrant.method) for placed in field]
    ladder = plan(spec.race, kinds, epochs=spec.fine_tune.epochs, images=images)
    for rung in ladder.rungs:
        field = _healthy(_climb(track, field, rung.epochs), at)
        if not field:
            return ladder, []
        survivors = [field[index] for index in going_on(spec.race, [placed.standing for placed in field])]
        on_rung(rung.epochs, field, survivors)
        field = survivors
    if ladder.seeds > 1:
        field = _healthy(_repeat(track, field, ladder.seeds), at)
        if field:
            on_rung(ladder.rungs[-1].epochs, field, field)
    return ladder, field


def _healthy(field: Sequence[Placed], at: dict[Network, Placed]) -> list[Placed]:
    for placed in field:
        # One that came back stands where it got to before, until it gets further.
        if placed.diverged is not None or placed.epochs >= at[placed.entrant.network].epochs:
            at[placed.entrant.network] = placed
    return [placed for placed in field if placed.diverged is None]


def _climb(track: Track, field: Sequence[Placed], epochs: int) -> list[Placed]:
    legs = [_leg(track, placed, epochs, of=placed.runs[0] if placed.runs else None) for placed in field]
    return [_placed(at.entrant, epochs, (run,)) for at, run in zip(field, track.run(legs), strict=True)]


def _repeat(track: Track, field: Sequence[Placed], seeds: int) -> list[Placed]:
    """The finalists as often again as there are more seeds."""
    legs = [_leg(track, placed, placed.epochs, seed=seed) for seed in range(1, seeds) for placed in field]
    runs = track.run(legs)
    return [
        _placed(placed.entrant, placed.epochs, (*placed.runs, *runs[index :: len(field)]))
        for index, placed in enumerate(field)
    ]


def _placed(entrant: Entrant, epochs: int, runs: tuple[Run, ...]) -> Placed:
    """A candidate is only as good as the worst of its seeds: where one diverged, it did."""
    for seed, run in enumerate(runs):
        if run.diverged is not None and epochs not in run.select:
            return Placed(entrant, 0, runs, run.diverged if seed == 0 else f"fine-tuning seed {seed}: {run.diverged}")
    return Placed(entrant, epochs, runs)


def _full(track: Track, winner: Placed) -> Placed:
    """Its whole fine-tune, from where it stands. Its other seeds have shown what they were there to show."""
    whole = track.spec.fine_tune.epochs
    [run] = track.run([_leg(track, winner, whole, "full", of=winner.runs[0])])
    full = _placed(winner.entrant, whole, (run,))
    return full if full.diverged is None else replace(full, runs=(run, *winner.runs[1:]))


def _controlled(track: Track, decided: Outcome, finalists: Sequence[Placed], images: int) -> Outcome:
    """With the control where it is asked for. Nothing is chosen any more."""
    spec, whole = track.spec, track.spec.fine_tune.epochs
    naive = [placed for placed in finalists if kind_of(placed.entrant.method) == "naive"]
    search = decided.choice.search and decided.of(decided.choice.search)
    if not (spec.race.matched and naive and search):
        return decided
    if decided.choice.missed:  # the more accurate for being denser: that would tell nothing of the search
        return replace(decided, no_control=f"{search.entrant.name} stayed denser than the target")

    rival = max(naive, key=lambda placed: placed.contender.accuracy)
    as_long = round((search.entrant.images + whole * images) / images)
    here = decided.final if search.entrant.network == decided.final.entrant.network else search
    longer = spec.fine_tune.model_copy(update={"epochs": as_long})
    legs = [
        _leg(track, search, whole, "full", of=here.runs[0]),
        replace(_leg(track, rival, as_long, "matched"), training=longer),
    ]
    ours, theirs = track.run(legs)
    searched, matched = _placed(search.entrant, whole, (ours,)), _placed(rival.entrant, as_long, (theirs,))
    for each in (searched, matched):
        if each.diverged is not None:
            return replace(decided, no_control=f"{each.entrant.name}: {each.diverged}")
    return replace(decided, control=Control(matched, searched))


def _leg(track: Track, placed: Placed, until: int, kind: str = "run", *, seed: int = 0, of: Run | None = None) -> Leg:
    names = ("fine-tune", seed) if seed else ("fine-tune",)
    name = f"{kind}-{placed.entrant.name}-{seed}"
    return Leg(name, placed.entrant, track.spec.fine_tune, derive(track.spec.seed, *names), until, of)
