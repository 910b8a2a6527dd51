"""What the service needs of the place where attempts and checks run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

Handle = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of a place."""

    name: str
    cpus: float
    gpus: float
    memory: float  # bytes


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """What a place has for attempts, all its nodes together."""

    cpus: float
    gpus: float
    nodes: tuple[Node, ...] = ()


class Launcher(Protocol):
    """What the dispatcher needs of the place where attempts run."""

    @property
    def place(self) -> str:
        """A name for it: whoever has a launcher of the same place can see and end the same attempts."""

    def capacity(self) -> Capacity | None:
        """As far as is known now; None where it was never learnt, or where only the settings can say."""

    def launch(
        self,
        env: Mapping[str, str],
        *,
        module: str,
        name: str,
        log_path: Path,
        record: Callable[[Handle], object] = ...,
    ) -> Handle:
        """Start `python -m module` with these settings; it does nothing before `record` has returned.

        `name` is new at each launch: what is asked for twice under one name is started once.
        """

    def alive(self, handle: Handle) -> bool:
        """False once it is certain that the process has ended. Of what can't be seen from here, the lease tells."""

    def why_dead(self, handle: Handle) -> str | None:
        """What is known of the end of one that ended without a word."""

    def ask_to_drain(self, handle: Handle) -> None:
        """Let the process know that it should save its work and leave; its next heartbeat says the same."""

    def end(self, handle: Handle, *, at_once: bool = False) -> None:
        """End the process and everything that it started; fine to repeat. `at_once` spares it the grace."""
