"""What one attempt works with: its spec, its link to the service, where data lies, and what was finished before."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path

from purlkit.results import AttemptBrief, Episode, Phase, Progress
from purlkit.spec import JobSpec
from workers.capacity import AS_IT_IS, Growth
from workers.link import Link

log = logging.getLogger("purl.attempt")

# Where each phase stands on the way from 0 to 1, by what the phases took on the demo job.
STARTS = {
    Phase.CHECKING: 0.0,
    Phase.DENSE: 0.02,
    Phase.SEARCH: 0.1,
    Phase.POLICY: 0.9,
    Phase.RACE: 0.91,
    Phase.VERIFY: 0.98,
    Phase.PUBLISH: 0.99,
}


@dataclass
class Attempt:
    brief: AttemptBrief
    link: Link
    datasets_dir: str
    scratch: Path
    ray_address: str
    download: bool = False  # whether it may fetch public data and weights
    grows: Growth = AS_IT_IS  # what the cluster may have beyond what it has
    _searching_since: float | None = field(default=None, init=False)
    _stands: Progress = field(default=Progress(fraction=0.0, phase=Phase.CHECKING), init=False)
    _waits_for: str | None = field(default=None, init=False)
    _played_here: int = field(default=0, init=False)

    @property
    def spec(self) -> JobSpec:
        return self.brief.spec

    @property
    def device(self) -> str:
        """Where the driver itself computes: on a cluster it may be on a node without a GPU, the runners on others."""
        if self.spec.resources.gpus_per_runner == 0:
            return "cpu"
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def enter(self, phase: Phase, point: int = 0) -> None:
        """`point`: which of the job's targets, where each has this phase."""
        self.link.check()
        log.info("phase: %s", phase)
        self.link.enter(phase)
        self._stands = Progress(fraction=self._start_of(phase, point), phase=phase)
        self.link.progress(self._stands)

    def _start_of(self, phase: Phase, point: int) -> float:
        """Each target takes an equal part of the way from the first search to the verification."""
        first, last = STARTS[Phase.SEARCH], STARTS[Phase.VERIFY]
        if not first <= STARTS[phase] < last:
            return STARTS[phase]
        part = (last - first) / len(self.spec.points)
        return first + part * (point + (STARTS[phase] - first) / (last - first))

    def alive(self, steps: int, gpu_bytes: int = 0) -> None:
        """Called while others work: passes their life on, and hears what the service wants."""
        self.link.gpu_bytes = gpu_bytes
        self.link.moved(steps)
        self.link.check()

    def waits_for(self, reason: str | None) -> None:
        """Called while there is nothing to do and nobody to blame: the user may read why, and the wait is no stall."""
        self.tells_of_wait(reason)
        self.link.tick()
        self.link.check()

    def tells_of_wait(self, reason: str | None) -> None:
        """And of its end, with None."""
        if reason != self._waits_for:
            self._waits_for = reason
            self.link.event("note", {"waits_for": reason})
            self.link.progress(self._stands.model_copy(update={"waits_for": reason}))

    def saved(self, name: str) -> bytes | None:
        """A piece of work that an earlier attempt of the same job finished."""
        work = self.brief.saved.get(name)
        return self.link.fetch(work.href) if work else None

    def episode(self, episode: Episode) -> None:
        """One more walk into the history, and the progress moves."""
        self.link.event("episode", episode.model_dump(mode="json"))
        if episode.kind == "search":
            self.link.progress(self._search_progress(episode))

    def _search_progress(self, episode: Episode) -> Progress:
        now = time.monotonic()
        self._played_here += 1
        if self._searching_since is None:  # the first to end here: the clock begins with it, without the start of Ray
            self._searching_since = now - episode.seconds
        total = self.spec.search.episodes * len(self.spec.sparsities)
        done = episode.index + 1
        pace = (now - self._searching_since) / self._played_here
        start, end = self._start_of(Phase.SEARCH, episode.point), self._start_of(Phase.POLICY, episode.point)
        stages = self.spec.search.episodes * max(1, len(self.spec.stages))
        return Progress(
            fraction=start + (end - start) * (done - episode.point * stages) / stages,
            phase=Phase.SEARCH,
            episode=done,
            episodes=total,
            accuracy=episode.accuracies[-1],
            sparsity=episode.sparsities[-1],
            eta_seconds=pace * (total - done),
        )
