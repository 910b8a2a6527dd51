"""A worker is stopped past its lease and goes on afterwards: whatever it writes then is refused.

Its process outlives the lease, as on a machine that was cut off: nobody ends it, and it does not end itself.
"""

from __future__ import annotations

import signal
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.states import AttemptState
from tests.chaos import alone
from tests.chaos.calls import Client, Superseded, Worker, file_of
from tests.chaos.history import History, Op, read, violations
from tests.chaos.house import House, listen, wait_for_port
from tests.chaos.scale import is_long, tell, times
from tests.waiting import wait_until

AT_ONCE = 3
# Between writes, so that many writers share the machine; the short form shares it with other tests.
PAUSE_SECONDS = 0.05 if is_long() else 0.3
# A lease, and as many more as a busy machine lets run out before a first save, each with a longer wait behind it.
NEXT_SECONDS = 240.0
ROUNDS = times(34, short=1)  # of so many stops, on each database
SETTINGS = {
    # Who writes without a pause keeps it even on a busy machine; the long form, which waits for it a hundred times, has
    # the machine to itself.
    "PURL_LEASE_SECONDS": "2" if is_long() else "6",
    "PURL_HEARTBEAT_SECONDS": "0.5",
    "PURL_POLL_SECONDS": "0.05" if is_long() else "0.2",
    "PURL_MAX_RUNNING": f"{AT_ONCE}",
}


def write_until_refused(url: str, history: Path, env: dict[str, str], number: int) -> None:
    """Never looks at a clock. Refused once, it tries every other way to write as well; what gets through is noted."""
    log = History(history)
    with suppress(Superseded), closing(Worker(url, log, env, number)) as worker:
        try:
            while True:
                worker.beat()
                worker.save()
                worker.say(2)
                time.sleep(PAUSE_SECONDS)
        except Superseded:
            for write in (worker.beat, worker.save, lambda: worker.say(1), lambda: worker.log(b"x"), worker.succeed):
                with suppress(Superseded):
                    write()
            worker.note("over", time.monotonic(), job=worker.job, attempt=number)


@dataclass
class Line:
    """One job, and the process of its latest attempt."""

    folder: Path
    url: str
    house: House
    job: str
    number: int = 0

    def follow(self) -> bool:
        """Gives the next attempt a process of its own, if there is one."""
        found = alone.launched(self.folder / "launches", self.job)
        if found is None or found[0] <= self.number:
            return False
        self.number, env = found
        self.house.once(self.name, write_until_refused, self.url, file_of(self.folder, self.name), env, self.number)
        return True

    @property
    def name(self) -> str:
        """Of its process and of its history."""
        return f"{self.job}-{self.number}"

    def heard(self) -> bool:
        """On a machine that is very busy a lease of seconds may run out by itself: whoever comes next is followed."""
        self.follow()
        return any(op.what == "save" for op in self.said())

    def over(self, name: str) -> bool:
        return not self.house.kept[name].process.is_alive()

    def said(self) -> list[Op]:
        return read(self.folder / "history", f"{self.name}.jsonl")


def all_write(lines: list[Line]) -> bool:
    """Each is asked, and so followed: what nobody plays is lost, and the next one waits for longer."""
    heard = [line.heard() for line in lines]
    return all(heard)


def stop_and_go(lines: list[Line]) -> None:
    """SIGSTOP to all of them until their next attempts have written, then SIGCONT."""
    stopped = [(line, line.name) for line in lines]
    for line, name in stopped:
        line.house.send(name, signal.SIGSTOP)
    for line, name in stopped:
        wait_until("the next one writes", partial(writes_after, lines, line, name), seconds=NEXT_SECONDS)
        line.house.send(name, signal.SIGCONT)
    for line, name in stopped:
        wait_until("the stopped one has been refused", partial(line.over, name))


def writes_after(lines: list[Line], line: Line, stopped: str) -> bool:
    for other in lines:
        other.follow()
    return line.heard() and line.name != stopped


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_stopped_past_its_lease_writes_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, database: str
) -> None:
    folder = tmp_path
    listening, url = listen()
    (folder / "launches").mkdir()
    environ: dict[str, Any] = {
        **SETTINGS,
        "PURL_DATA_DIR": str(folder),
        "PURL_DATABASE_URL": request.getfixturevalue(f"{database}_url"),
        "PURL_PUBLIC_URL": url,
    }
    house = House(folder / "log")
    with closing(listening), closing(house), closing(Client(url, History(file_of(folder, "client")))) as client:
        house.start("service", alone.serve, environ, listening, folder / "points", folder / "launches")
        wait_for_port(url)
        lines = [Line(folder, url, house, client.submit(f"stopped {number}")) for number in range(AT_ONCE)]
        wait_until("all of them write", partial(all_write, lines))

        for _ in range(ROUNDS):
            stop_and_go(lines)

        for line in lines:
            client.move(line.job, "cancel")
        for line in lines:
            client.wait_for(line.job, "cancelled", seconds=240)
        ops = read(folder / "history")
        found = violations(ops, {line.job: client.final(line.job) for line in lines})
        attempts = [attempt for line in lines for attempt in client.see(line.job)["attempts"]]

    refused = [op for op in ops if op.what == "over"]
    tell(f"{database}: {ROUNDS * AT_ONCE} stops, {len(refused)} refused, {len(ops)} writes")
    assert found == []
    lost = [attempt for attempt in attempts if attempt["state"] == AttemptState.LOST]
    assert len(lost) >= ROUNDS * AT_ONCE
    assert len(refused) >= ROUNDS * AT_ONCE
