"""How much the service bears on this machine, beside what a model of it foretells: the tables of docs/scale.md.

    python -m benchmarks.scale --figure docs/figures/scale.svg
    python -m benchmarks.scale --queued 1000 --attempts 20 --loads 20 --seconds 2

A real PostgreSQL that waits for its disk, real API processes over HTTP on loopback, a real dispatcher with a launcher
that starts nothing, and a process that talks as all the attempts do. First what one call costs, taken by itself: that
is the model. Then more and more attempts at once. A load of more attempts than there are is theirs, talking so many
times as often: to the service it is the same.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.api import BODY, a_request, ask
from benchmarks.household import KINDS, Attempt, Costs, Household, Passes, crowd, dispatched, household
from purlkit.report.svg import Plot
from services.testing import fill_queue
from tools.figures import STYLE

BEAT_SECONDS = 10.0  # as PURL_HEARTBEAT_SECONDS has it
EPISODE_SECONDS = 60.0
STATE_BYTES = 2**18  # of the demo's search, after each episode
CONNECTIONS = 8
PASSES = 10
CALLS_PER_SECOND = 1 / BEAT_SECONDS + 2 / EPISODE_SECONDS  # of an attempt
ALONE_PER_SECOND = 40.0  # calls of one kind while its cost is taken: far from any limit
WATCHERS = 200


# What a person asks: calls a second over a few connections, and CPU seconds for each.
Asked = dict[str, tuple[float, Costs]]


@dataclass(frozen=True, kw_only=True)
class Model:
    """What it costs, by kind: each call of an attempt, and each second of a stream of events."""

    beat: Costs
    episode: Costs
    state: Costs
    stream: Costs

    def of_an_attempt(self, kind: str) -> float:
        """Each second: of a kind of process its share of one core."""
        return self.beat[kind] / BEAT_SECONDS + (self.episode[kind] + self.state[kind]) / EPISODE_SECONDS

    def cores(self, kind: str, attempts: float) -> float:
        return attempts * self.of_an_attempt(kind)

    def bears(self, kind: str, cores: float = 1.0) -> float:
        """So many attempts use up these cores."""
        return cores / self.of_an_attempt(kind)

    def answers(self, level: Level) -> float:
        """Calls a second, given what the API got of the machine: beside other work that may be less than a core."""
        return min(level.due, self.bears("api", level.cores["api"]) * CALLS_PER_SECOND)


@dataclass(frozen=True, kw_only=True)
class Level:
    """What was seen under a load of so many attempts."""

    attempts: float
    answered: float  # calls a second
    due: float
    beat_p50: float
    beat_p99: float
    failed: int
    cores: Costs
    crowd_cores: float  # what making the load took of the same machine


class Talk:
    """The attempts that were claimed, and how much each of them has said so far."""

    def __init__(self, house: Household, claimed: Sequence[Attempt]) -> None:
        self._house = house
        self._claimed = claimed
        self._next_seq: dict[str, int] = {}

    def alone(self, seconds: float) -> Model:
        """One kind of call at a time. What is saved comes after an episode: it costs what the two do more."""
        some = self._claimed[:100]
        period = len(some) / ALONE_PER_SECOND
        beat = self._cost("beat", some, seconds, beat_seconds=period)
        episode = self._cost("episode", some, seconds, episode_seconds=period)
        both = self._cost("episode", some, seconds, episode_seconds=period, state_bytes=STATE_BYTES)
        watched = self._cost("episode", some, seconds, episode_seconds=period, watchers=WATCHERS)
        return Model(
            beat=beat,
            episode=episode,
            state={kind: both[kind] - episode[kind] for kind in KINDS},
            stream={kind: (watched[kind] - episode[kind]) * ALONE_PER_SECOND / WATCHERS for kind in KINDS},
        )

    def together(self, attempts: float, seconds: float) -> Level:
        some = self._claimed[: round(attempts)]
        faster = attempts / len(some)
        costs, took, said = self._say(
            some,
            seconds,
            beat_seconds=BEAT_SECONDS / faster,
            episode_seconds=EPISODE_SECONDS / faster,
            state_bytes=STATE_BYTES,
        )
        calls = said["calls"]
        return Level(
            attempts=attempts,
            answered=sum(one["answered"] for one in calls.values()) / took,
            due=attempts * CALLS_PER_SECOND,
            beat_p50=calls["beat"]["p50"],
            beat_p99=calls["beat"]["p99"],
            failed=said["failed"]["count"],
            cores={kind: used / took for kind, used in costs.items()},
            crowd_cores=said["cpu"] / took,
        )

    def _cost(self, kind: str, some: Sequence[Attempt], seconds: float, **orders: float) -> Costs:
        costs, _, said = self._say(some, seconds, **orders)
        if said["failed"]["count"]:
            raise RuntimeError(f"calls failed: {said['failed']['first']}")
        return {name: used / said["calls"][kind]["answered"] for name, used in costs.items()}

    def _say(self, some: Sequence[Attempt], seconds: float, **orders: float) -> tuple[Costs, float, dict[str, Any]]:
        told = {"attempts": some, "addresses": self._house.addresses, "seconds": seconds, "next_seq": self._next_seq}
        said, costs = self._house.cost(partial(crowd, {**told, **orders}))
        self._next_seq |= said["next_seq"]
        return costs, said["seconds"], said


def main() -> None:
    asked = _arguments()
    with (
        tempfile.TemporaryDirectory(prefix="purl-scale-") as folder,
        household(Path(folder), apis=asked.apis, attempts=asked.attempts) as house,
    ):
        few = asking(house, asked.seconds / 4)
        fill_queue(house.db, asked.queued)
        house.settle()
        many = asking(house, asked.seconds / 4)
        passes = dispatched(house, passes=PASSES)
        talk = Talk(house, passes.claimed)
        model = talk.alone(asked.seconds)
        levels = [talk.together(load, asked.seconds) for load in sorted(asked.loads)]
    tell(asked, few, many, passes, model, levels)
    if asked.figure:
        asked.figure.parent.mkdir(parents=True, exist_ok=True)
        asked.figure.write_text(drawn(levels, model).alone(STYLE), encoding="utf-8")


def asking(house: Household, seconds: float) -> Asked:
    requests = {
        "POST /jobs": a_request("POST", "/jobs", BODY),
        "GET /jobs/{id}, last in line": a_request("GET", f"/jobs/{house.newest_job()}"),
        "GET /jobs?limit=10": a_request("GET", "/jobs?limit=10"),
    }
    found: Asked = {}
    for name, request in requests.items():
        ask(house.addresses[0], request, CONNECTIONS, min(0.5, seconds))  # the first of a kind takes longer
        rate, costs = house.cost(partial(ask, house.addresses[0], request, CONNECTIONS, seconds))
        found[name] = rate, {kind: used / (rate * seconds) for kind, used in costs.items()}
    return found


def tell(
    asked: argparse.Namespace,
    few: Asked,
    many: Asked,
    passes: Passes,
    model: Model,
    levels: Sequence[Level],
) -> None:
    print(f"\n| asked by a person | nothing queued | {asked.queued:,} queued | API, ms | database, ms |\n{'|---' * 5}|")
    for name, (rate, _) in few.items():
        later, costs = many[name]
        print(f"| {name} | {rate:.0f}/s | {later:.0f}/s | {_ms(costs['api'])} | {_ms(costs['database'])} |")
    count = len(passes.claimed)
    print(f"\nA dispatcher claimed {count:,} of {asked.queued:,} in {passes.claiming_seconds:.1f} s", end="")
    print(f" ({_ms(passes.claiming_seconds / count)} ms each); a pass over them then takes", end="")
    print(f" {_ms(passes.idle_seconds)} ms, {_ms(passes.idle_cpu_seconds)} ms of them CPU of its own.")
    print(f"\n| one of these | API, ms | database, ms | database's log, KiB |\n{'|---' * 4}|")
    each_second = {kind: model.of_an_attempt(kind) for kind in KINDS}
    for name, costs in {
        "heartbeat": model.beat,
        "episode": model.episode,
        "saved state": model.state,
        "stream of events, each second": model.stream,
        "attempt, each second": each_second,
    }.items():
        print(f"| {name} | {_ms(costs['api'])} | {_ms(costs['database'])} | {costs['wal'] / 1024:.1f} |")
    print(f"\nOne core of the API bears {model.bears('api'):.0f} attempts, one of the database", end="")
    print(f" {model.bears('database'):.0f}; the {asked.apis} API processes here {model.bears('api', asked.apis):.0f}.")
    print("\n| attempts | calls/s due | answered | model | beat p50, s | p99, s | failed ", end="")
    print(f"| API cores | database cores | load's own |\n{'|---' * 10}|")
    for one in levels:
        print(
            f"| {one.attempts:,.0f} | {one.due:.0f} | {one.answered:.0f} | {model.answers(one):.0f} "
            f"| {one.beat_p50:.2f} | {one.beat_p99:.2f} | {one.failed} "
            f"| {one.cores['api']:.2f} | {one.cores['database']:.2f} | {one.crowd_cores:.2f} |"
        )


def drawn(levels: Sequence[Level], model: Model) -> Plot:
    """Calls answered, beside those that are due and those that the model foretells."""
    most = levels[-1].attempts
    title = "Calls that the service answers under the load of many attempts"
    plot = Plot((0, most * 1.03), (0, most * CALLS_PER_SECOND * 1.05), title)
    plot.axes("attempts", "calls a second", "{:,.0f}".format)
    plot.line([(0, 0), (most, most * CALLS_PER_SECOND)], "due", 2)
    plot.series([(0.0, 0.0), *((one.attempts, one.answered) for one in levels)], "answered", 0)
    plot.series([(0.0, 0.0), *((one.attempts, model.answers(one)) for one in levels)], "by the model", 1)
    return plot


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.3g}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queued", type=int, default=100_000, help="jobs that wait")
    parser.add_argument("--attempts", type=int, default=1000, help="that run, each with a connection of its own")
    parser.add_argument("--loads", type=float, nargs="+", default=[100, 250, 500, 1000, 1500, 2000, 3000])
    parser.add_argument("--apis", type=int, default=1, help="API processes")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    parser.add_argument("--figure", type=Path, help="where to draw the curve")
    return parser.parse_args()


if __name__ == "__main__":
    main()
