"""The env runners as a pool that bears losses: what died or hangs is replaced, what comes late joins in.

Ray itself places the actors: one for which there is no room stays pending until a node is added or another job ends,
and is used from its first answer on. So a search begins with the first runner that is there and grows to as many as it
asked for. No call in here waits longer than it is told to.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import ray

from purlkit.errors import EnvironmentFailed, OutOfMemory, SearchStuck
from workers.playing import Failed, Played, PlayEpisode

log = logging.getLogger("purl.runners")

# The outcome of an episode whose runner was lost: it is to be played again.
LOST = None


@dataclass(frozen=True)
class Limits:
    """How long what is waited for; docs/search.md has them in one table."""

    alone_seconds: float = 180.0  # no runner at all, from the start on or later
    hang_seconds: float = 120.0  # an episode without any sign of life from its runner
    start_seconds: float = 600.0  # one that does not come while others are there: it waits for room, or hangs
    losses: int = 10  # of one place in a row, without an episode between
    failed_starts: int = 2  # in a row, by an exception of the environment's own, in every place
    again_seconds: float = 30.0  # from such a start to the next in its place, while other runners are there


class Life(Protocol):
    def silent_for(self, runner: int) -> float:
        """For how long a runner has given no sign; infinite where it never gave any."""


class NoSigns:
    """Where runners give no signs while they play, only the end of an episode is one."""

    def silent_for(self, runner: int) -> float:  # noqa: ARG002
        return math.inf


@dataclass(frozen=True)
class Size:
    """How many runners, and what each has."""

    runners: int
    cpus: float
    gpus: float

    def after_out_of_memory(self) -> Size | None:
        """Half as many, with twice as much of a GPU each; None where that would change nothing.

        Never smaller batches: they would give other weights, and the search promises the same bits for the same spec.
        """
        if self.gpus >= 1 or (self.gpus == 0 and self.runners == 1):
            return None
        return Size(max(1, self.runners // 2), self.cpus, min(1.0, 2 * self.gpus))


class Pool(Protocol):
    """What the search asks of its runners."""

    @property
    def idle(self) -> int | None: ...

    def play(self, runner: int, task: PlayEpisode) -> None: ...

    def wait(self, seconds: float) -> list[tuple[PlayEpisode, Played | Failed | None]]: ...

    def stop(self) -> list[PlayEpisode]: ...


@dataclass
class _Place:
    """One of the asked-for runners: the actor that fills it now, and the one call that it owes an answer to."""

    actor: Any
    call: Any  # its greeting first, then an episode
    since: float
    task: PlayEpisode | None = None
    losses: int = 0


@dataclass
class Runners:
    """`start(runner)` gives an actor with RLlib's `apply`."""

    count: int
    start: Callable[[int], Any]
    life: Life
    limits: Limits = Limits()
    _places: dict[int, _Place] = field(default_factory=dict, init=False)
    _by_call: dict[Any, int] = field(default_factory=dict, init=False)
    _here: set[int] = field(default_factory=set, init=False)
    _idle: dict[int, None] = field(default_factory=dict, init=False)  # in the order in which they became so
    _empty: dict[int, _Place] = field(default_factory=dict, init=False)  # with what failed to start there
    _failed_starts: list[int] = field(default_factory=list, init=False)  # the places, since one started
    _failure: str = field(default="", init=False)  # of the last of them
    _full: str | None = field(default=None, init=False)
    _alone_since: float = field(default=0.0, init=False)
    _looked_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self._alone_since = self._looked_at = time.monotonic()
        for runner in range(1, self.count + 1):
            self._fill(runner)

    @property
    def idle(self) -> int | None:
        """The one that has been idle for longest."""
        return next(iter(self._idle), None)

    @property
    def here(self) -> int:
        return len(self._here)

    def play(self, runner: int, task: PlayEpisode) -> None:
        place = self._places[runner]
        self._idle.pop(runner)
        place.task = task
        self._call(runner, place, task)

    def wait(self, seconds: float) -> list[tuple[PlayEpisode, Played | Failed | None]]:
        """What ended meanwhile, as soon as anything did.

        Raises SearchStuck where nobody is left to wait for, OutOfMemory where runners of this size can't be started.
        """
        if self._full is not None:  # only now: what ended together with it was to be handed out first
            raise OutOfMemory(self._full)
        if self._by_call:
            ready, _ = ray.wait(list(self._by_call), num_returns=1, timeout=seconds)
            if ready:
                ready, _ = ray.wait(list(self._by_call), num_returns=len(self._by_call), timeout=0)
        else:
            ready = []
        outcomes = [ended for reference in ready for ended in self._take(reference)]
        outcomes += self._replace_what_hangs()
        self._fill_what_is_empty()
        if self._here:
            self._alone_since = time.monotonic()
        elif time.monotonic() - self._alone_since > self.limits.alone_seconds:
            if self._failed_starts:
                raise EnvironmentFailed(f"the runners can't be started: {self._failure}")
            raise SearchStuck(f"no healthy runner for {self.limits.alone_seconds:g} s")
        return outcomes

    def stop(self) -> list[PlayEpisode]:
        """Ends all; what they were playing is handed back."""
        playing = [place.task for place in self._places.values() if place.task is not None]
        for place in self._places.values():
            ray.kill(place.actor)
        self._places, self._by_call, self._here, self._idle, self._empty = {}, {}, set(), {}, {}
        return playing

    def _fill(self, runner: int, *, losses: int = 0) -> None:
        place = _Place(actor=self.start(runner), call=None, since=0.0, losses=losses)
        self._places[runner] = place
        self._call(runner, place, _greet)

    def _call(self, runner: int, place: _Place, what: Callable[[Any], Any]) -> None:
        place.call, place.since = place.actor.apply.remote(what), time.monotonic()
        self._by_call[place.call] = runner

    def _take(self, reference: Any) -> list[tuple[PlayEpisode, Played | Failed | None]]:
        runner = self._by_call[reference]
        place = self._places[runner]
        try:
            # Ready is not here: the answer may lie on another node, and that node may go.
            answer = ray.get(reference, timeout=self.limits.hang_seconds)
        except (ray.exceptions.RayError, TimeoutError) as error:
            return self._lost(runner, error)
        del self._by_call[reference]
        self._here.add(runner)
        self._idle[runner] = None
        task, place.task = place.task, None
        if task is None:
            self._failed_starts.clear()
            return []
        place.losses = 0
        return [(task, answer)]

    def _lost(self, runner: int, error: Exception) -> list[tuple[PlayEpisode, Played | Failed | None]]:
        """Another takes its place; what it played is handed back."""
        place = self._places[runner]
        why = _first_line(error)
        log.warning("runner %d is lost and is replaced: %s", runner, why)
        ray.kill(place.actor)  # whatever is left of it: its CPUs are wanted
        self._by_call.pop(place.call, None)
        self._here.discard(runner)
        self._idle.pop(runner, None)
        if getattr(error, "actor_init_failed", False):
            self._failed_to_start(runner, why)
            return []
        if place.losses + 1 >= self.limits.losses:
            raise SearchStuck(f"{self.limits.losses} runners in a row were lost in one place, the last one: {why}")
        self._fill(runner, losses=place.losses + 1)
        return [(place.task, LOST)] if place.task is not None else []

    def _failed_to_start(self, runner: int, why: str) -> None:
        """One broken node must not end a search that others play, and its place waits for another node.

        Where nobody plays and no place is left that might start, it is the environment.
        """
        self._failed_starts.append(runner)
        self._failure = why
        place = self._empty[runner] = self._places.pop(runner)
        place.since = time.monotonic()
        enough = len(self._failed_starts) >= self.limits.failed_starts
        if enough and "OutOfMemoryError" in why:
            self._full = why
        elif enough and not self._here and len(set(self._failed_starts)) == self.count:
            raise EnvironmentFailed(f"the runners can't be started: {why}")

    def _fill_what_is_empty(self) -> None:
        now = time.monotonic()
        for runner, place in list(self._empty.items()):
            if not self._here or now - place.since > self.limits.again_seconds:
                del self._empty[runner]
                self._fill(runner, losses=place.losses)

    def _replace_what_hangs(self) -> list[tuple[PlayEpisode, Played | Failed | None]]:
        """A look at all of them, several times within the limit and not at every turn."""
        now, limit = time.monotonic(), self.limits.hang_seconds
        if now - self._looked_at < limit / 10:
            return []
        self._looked_at = now
        hanging = []
        for runner, place in list(self._places.items()):
            waited = now - place.since
            if place.task is not None and waited > limit and self.life.silent_for(runner) > limit:
                hanging.append(runner)
            elif runner not in self._here and waited > self.limits.start_seconds:
                ray.kill(place.actor)
                self._by_call.pop(place.call)
                self._fill(runner, losses=place.losses)
        silent = TimeoutError(
            f"nothing was heard from it for {limit:g} s (if a batch takes so long, lower search.retrain.batch_size)"
        )
        return [ended for runner in hanging for ended in self._lost(runner, silent)]


def _greet(_: Any) -> None:
    """A runner that answers has its model and its data."""


def _first_line(error: Exception) -> str:
    """Ray wraps what the environment's constructor raised in pages of text: the last line names it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1] if getattr(error, "actor_init_failed", False) else lines[0]
