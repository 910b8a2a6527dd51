"""Answers that hold until somebody writes: what was read of a database that has not changed since is said again."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Event, Lock

from services.database import Database

# A few hundred jobs, or some dozen long pages.
KEPT_BYTES = 16 * 2**20

# What a question and its place take beside the answer: there are as many questions as somebody cares to make up.
BESIDE_BYTES = 4096

# An answer may tell how long something still takes, or that a dispatcher has been silent for too long.
KEPT_SECONDS = 0.5


@dataclass(frozen=True)
class Answer:
    body: bytes
    tide: object  # from before it was read: it may be younger than this, and never older
    until: float


class Reading:
    """Of one question, by the first who asked it. Who asks it at the same tide waits for what that one reads."""

    def __init__(self, tide: object) -> None:
        self.tide = tide
        self.body: bytes | None = None  # none if nothing came of it
        self.over = Event()


class Recall:
    def __init__(self, db: Database) -> None:
        self._tide = db.tide
        self._answers: dict[Hashable, Answer] = {}
        self._readings: dict[Hashable, Reading] = {}
        self._bytes = 0
        self._lock = Lock()

    def get(self, question: Hashable, read: Callable[[], bytes]) -> bytes:
        """What `read` answers to this question now. What it raises is not kept."""
        tide, known = self._tide.now(), self._answers.get(question)
        if known is not None and known.tide == tide and time.monotonic() < known.until:
            return known.body
        mine = Reading(tide)
        with self._lock:
            others = self._readings.get(question)
            if others is None or others.tide != tide:
                self._readings[question] = mine
        if others is not None and others.tide == tide:
            # After each commit all who ask would read the same at once, and each be slower for the others.
            others.over.wait()
            return read() if others.body is None else others.body
        try:
            mine.body = body = read()
            self._keep(question, Answer(body, tide, time.monotonic() + KEPT_SECONDS))
            return body
        finally:
            with self._lock:
                if self._readings.get(question) is mine:
                    del self._readings[question]
            mine.over.set()

    def _keep(self, question: Hashable, answer: Answer) -> None:
        with self._lock:
            before = self._answers.pop(question, None)
            self._bytes += _size(answer) - (0 if before is None else _size(before))
            if self._bytes > KEPT_BYTES:
                # Most of them are out of date by now.
                self._answers.clear()
                self._bytes = _size(answer)
            self._answers[question] = answer


def _size(answer: Answer) -> int:
    return len(answer.body) + BESIDE_BYTES
