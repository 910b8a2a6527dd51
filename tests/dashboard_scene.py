"""Jobs in every state, as a service would have them, for the dashboard to show."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert

from purlkit.results import (
    CHECKPOINT,
    WEIGHTS,
    Candidate,
    Episode,
    ErrorReport,
    Finish,
    LayerReport,
    LayerWeights,
    Outcome,
    Phase,
    Progress,
    Spread,
    WeightsReport,
    WorkerEvent,
)
from services.ids import new_id
from services.states import JobState
from services.tables import Job
from services.testing import a_blob, a_result
from tests.integration.over_http import HttpWorker, Service

LAYERS = ("conv1", "block1.conv1", "block1.conv2", "block2.conv1", "block2.conv2", "fc")
HOSTILE = "<script>document.title = 'owned'</script>\"' onmouseover=alert(1) x='"
METHODS = (("purl", "mean"), ("purl", "best"), ("uniform", None), ("global", None), ("lamp", None), ("random", None))


@dataclass(frozen=True)
class Scene:
    """The ids of the jobs."""

    succeeded: str
    failed: str
    running: str
    paused: str
    queued: str
    worker: HttpWorker  # of the running one


def populate(service: Service) -> Scene:
    succeeded = _job(service, name="resnet at ninety", labels={"team": "vision", "for": "the paper"})
    _search(service.claim(), 55, finish=True)
    failed = _job(service, name=HOSTILE, labels={"team": HOSTILE})
    error = ErrorReport(code="missing_data", message=f"put the files there {HOSTILE}", at="/dataset/name")
    service.claim().finish(Finish(outcome=Outcome.FAILED, error=error))
    running = _job(service, name="still searching", search={"episodes": 40})
    worker = service.claim()
    _search(worker, 17)
    paused = _job(service, name="for later")
    service.http.post(f"/jobs/{paused}/pause").raise_for_status()
    _job(service, resources={"env_runners": 2, "gpus_per_runner": 1})
    queued = _job(service, priority=5, targets={"sparsity": [0.5, 0.8, 0.9], "max_drop": 0.02})
    return Scene(succeeded, failed, running, paused, queued, worker)


def _job(service: Service, **changes: Any) -> str:
    return str(service.submit(**changes)["id"])


def walk(index: int, *, kind: str = "search", of: int = 55) -> WorkerEvent:
    """An episode that gets better in the way that they do."""
    wobble = math.sin(7.3 * index) * (1 - min(1, index / of))
    accuracy = 0.55 + 0.35 * index / of + 0.1 * wobble * 0.8
    steps = len(LAYERS)
    episode = Episode(
        index=index,
        kind="greedy" if kind == "greedy" else "search",
        actions=tuple(int(6 + 4 * math.sin(index / of + nth) + 1.5 * wobble) for nth in range(steps)),
        rewards=tuple(-0.6 + 0.6 * index / of + 0.1 * wobble for _ in range(steps)),
        accuracies=tuple(1 - (1 - accuracy) * nth / steps for nth in range(1, steps + 1)),
        sparsities=tuple((0.86 + 0.05 * wobble) * nth / steps for nth in range(1, steps + 1)),
        seconds=1.5,
        runner=index % 2,
        weights_version=index,
    )
    return WorkerEvent(type="episode", data=episode.model_dump(mode="json"))


def _search(worker: HttpWorker, episodes: int, *, finish: bool = False) -> None:
    worker.beat(Phase.CHECKING)
    worker.say(WorkerEvent(type="phase", data={"phase": "search"}))
    worker.say(*(walk(index) for index in range(episodes)))
    progress = Progress(
        fraction=0.1 + 0.8 * episodes / 55, phase=Phase.SEARCH, episode=episodes, episodes=55, eta_seconds=75.0
    )
    beat = {"phase": "search", "counter": 2, "progress": progress.model_dump(mode="json")}
    worker.call("POST", "/heartbeat", json=beat).raise_for_status()
    if not finish:
        return
    worker.say(*(walk(index, kind="greedy") for index in range(5)))
    for nth, epochs in enumerate((1, 3, 10)):
        rows = [
            {"method": m, "variant": v, "select_accuracy": 0.78 + 0.02 * k + 0.03 * nth, "goes_on": k > nth}
            for k, (m, v) in enumerate(METHODS[nth:])
        ]
        told = {"target": 0.9, "epochs": epochs, "of_epochs": 10, "seeds": 1, "candidates": rows}
        worker.say(WorkerEvent(type="rung", data=told))
    _succeed(worker)


def _succeed(worker: HttpWorker) -> None:
    network, weights = b"the pruned network" * 4000, _weights().model_dump_json().encode()
    assert worker.stage(CHECKPOINT, network).status_code == 200
    assert worker.stage(WEIGHTS, weights, "application/json").status_code == 200
    told = a_result(a_blob(network)).model_copy(
        update={
            "candidates": tuple(_candidate(k, m, v) for k, (m, v) in enumerate(METHODS)),
            "verdict": "LAMP ships at 90.0 % sparsity: no demonstrated gain of PuRL over it (a lead of +0.3 ± 0.9 "
            "points, three seeds, 10 epochs each, select split), and the cheaper ships; PuRL's search cost 21 times "
            "the total of LAMP.",
        }
    )
    last_word = Finish(outcome=Outcome.SUCCEEDED, result=told, artifacts=(CHECKPOINT, WEIGHTS))
    worker.finish(last_word).raise_for_status()


def _candidate(k: int, method: str, variant: Any) -> Candidate:
    layers = tuple(
        LayerReport(
            name=name,
            kind="Conv2d",
            shape=(32, 16, 3, 3),
            weights=4608,
            kept=500,
            sparsity=min(0.99, 0.7 + 0.03 * nth + 0.02 * math.sin(k + nth)),
            alpha=0.4 + 0.2 * nth if method == "purl" else None,
        )
        for nth, name in enumerate(LAYERS)
    )
    first = a_result(a_blob(b"network")).candidates[0]
    told = {"method": method, "variant": variant, "layers": layers, "accuracy": 0.88 + 0.006 * k, "images_seen": 10**k}
    return first.model_copy(update={**told, "sparsity": 0.9 - 0.002 * k, "accuracy_pruned": 0.3 + 0.07 * k})


def _weights() -> WeightsReport:
    def bell(width: float, hole: float) -> Spread:
        at = [(nth - 31.5) / 32 for nth in range(64)]
        counts = tuple(0 if abs(x) < hole else int(400 * math.exp(-((x / width) ** 2))) for x in at)
        return Spread(weights=sum(counts), counts=counts, mean=0.0, bimodality=0.4)

    layers = tuple(
        LayerWeights(
            name=name, low=-0.5, high=0.5, dense=bell(0.3, 0), pruned=bell(0.3, 0.2), fine_tuned=bell(0.4, 0.15)
        )
        for name in LAYERS
    )
    return WeightsReport(method="lamp", layers=layers)


def many_jobs(service: Service, like: str, count: int) -> None:
    """As many more jobs as one that is there, paused so that nothing waits for them."""
    with service.db.write() as session:
        row = session.get_one(Job, like)
        columns = {column.key: getattr(row, column.key) for column in Job.__table__.columns}
        fresh = {**columns, "state": JobState.PAUSED}
        session.execute(insert(Job), [{**fresh, "id": new_id("job")} for _ in range(count)])
