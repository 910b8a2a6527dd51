"""Which episode is played next, and which finished one is learnt from next.

Episode k acts with what was learnt from episodes up to k - lookahead, and episodes are learnt from in the order of
their index. So which runner is faster changes nothing: the result is the same on one runner, on many, after a crash.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class Schedule(Generic[T]):
    def __init__(
        self,
        episodes: int,
        lookahead: int,
        *,
        committed: int = 0,
        started: int = 0,
        finished: Mapping[int, T] | None = None,
    ) -> None:
        self.episodes = episodes
        self.lookahead = lookahead
        self.committed = committed  # episodes 0 … committed - 1 are learnt from
        self.started = max(started, committed)  # episodes below this were begun once, here or in an earlier attempt
        self.finished = dict(finished or {})  # not learnt from yet: an earlier episode is still being played
        self._waiting = [index for index in range(committed, episodes) if index not in self.finished]  # a heap

    @property
    def done(self) -> bool:
        return self.committed == self.episodes

    @property
    def played(self) -> int:
        """How many episodes need never be played again."""
        return self.committed + len(self.finished)

    def version_for(self, index: int) -> int:
        """How many episodes the policy of this episode has learnt from."""
        return max(0, index - self.lookahead + 1)

    def needed_versions(self) -> range:
        """The versions that an episode not yet learnt from may still act with."""
        return range(self.version_for(self.committed), self.committed + 1)

    def start_next(self) -> tuple[int, bool] | None:
        """The next episode whose policy exists, and whether it was begun before; None while there is none."""
        if not self._waiting or self.version_for(self._waiting[0]) > self.committed:
            return None
        index = heapq.heappop(self._waiting)
        rerun = index < self.started
        self.started = max(self.started, index + 1)
        return index, rerun

    def lost(self, index: int) -> None:
        """Its runner died: it is played again, before any later one."""
        heapq.heappush(self._waiting, index)

    def finish(self, index: int, outcome: T) -> None:
        self.finished[index] = outcome

    @property
    def can_commit(self) -> bool:
        """Whether the episode whose turn it is has finished."""
        return self.committed in self.finished

    def commit_next(self) -> T | None:
        """The outcome to learn from now, or None until the episode whose turn it is has finished."""
        if not self.can_commit:
            return None
        outcome = self.finished.pop(self.committed)
        self.committed += 1
        return outcome
