"""What a search leaves behind, apart from the search: Ray's tasks read this, and RLlib takes seconds to load."""

from __future__ import annotations

import json
from dataclasses import dataclass

from purlkit.results import Episode


@dataclass(frozen=True)
class Found:
    episodes: list[Episode]
    greedy: list[Episode]
    seconds: float
    images: int  # that all walks train on, were no step looked up

    @property
    def walks(self) -> list[Episode]:
        return [*self.episodes, *self.greedy]

    @property
    def device_seconds(self) -> float:
        """Of the runners, over all walks."""
        return sum(walk.seconds for walk in self.walks)

    def to_bytes(self) -> bytes:
        told = {kind: [e.model_dump(mode="json") for e in getattr(self, kind)] for kind in ("episodes", "greedy")}
        return json.dumps({**told, "seconds": self.seconds, "images": self.images}).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> Found:
        told = json.loads(content)
        episodes, greedy = ([Episode.model_validate(e) for e in told[kind]] for kind in ("episodes", "greedy"))
        return cls(episodes, greedy, told["seconds"], told["images"])
