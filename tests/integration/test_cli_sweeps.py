"""`purl sweep` and `purl ablate` against the real API."""

from __future__ import annotations

import json
import re

from purlkit.cli.ablate import NAIVE
from purlkit.cli.output import Exit
from purlkit.client import PurlClient
from purlkit.results import CHECKPOINT, Finish, Outcome
from services.testing import a_blob, a_result
from tests.integration.over_http import LEAST, HttpWorker, Service
from tests.integration.test_cli import Purl, purl  # noqa: F401, a fixture


def test_a_sweep_is_made_shown_listed_and_stopped(service: Service, purl: Purl) -> None:  # noqa: F811
    grid = ("--grid", "seed=0,1", "--grid", 'search={"sparse": {"dense": false}}')
    made = purl("sweep", "submit", "-m", "digits-resnet", "-s", "0.9", "--name", "mine", *grid)
    assert made.exit_code == Exit.DONE, made.output
    sweep_id = made.output.strip()
    service.claim().succeed()

    shown = purl("sweep", "show", sweep_id)
    assert "seed=0 search=sparse" in shown.output
    assert "global" in shown.output
    assert "1 queued, 1 succeeded" in purl("sweep", "list").output
    assert purl("sweep", "cancel", sweep_id).output.strip() == f"{sweep_id} 1 succeeded, 1 cancelled"
    assert json.loads(purl("sweep", "show", sweep_id, "--json").output)["ended"]


def test_a_sweep_without_a_grid_is_refused(purl: Purl) -> None:  # noqa: F811
    refused = purl("sweep", "submit", "-m", "digits-resnet", "-s", "0.9")

    assert refused.exit_code == Exit.REFUSED
    assert "/grid" in refused.output


def finds(worker: HttpWorker, *, sparsity: float, accuracy: float) -> None:
    """Ends a job in which PuRL's mean policy came to this, and global magnitude to 0.9 at 0.9."""
    assert worker.stage(CHECKPOINT, b"net").status_code == 200
    result = a_result(a_blob(b"net"))
    (naive,) = result.candidates
    mean = naive.model_copy(
        update={
            "method": "purl",
            "variant": "mean",
            "sparsity": sparsity,
            "accuracy": accuracy,
            "accuracy_pruned": 0.25,
        }
    )
    result = result.model_copy(update={"candidates": (mean, naive)})
    worker.finish(Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=(CHECKPOINT,)))


def test_ablate_prints_seven_rows_beside_the_papers(service: Service, purl: Purl) -> None:  # noqa: F811
    made = purl("ablate", "--seeds", "2", "--no-wait", "--episodes", "5", "--json")
    assert made.exit_code == Exit.DONE, made.output
    (sweep_id,) = {job["sweep"] for job in service.http.get("/jobs").json()["data"]}
    finds(service.claim(), sparsity=0.5, accuracy=0.9)
    finds(service.claim(), sparsity=0.7, accuracy=0.8)

    table = purl("ablate", "--of", sweep_id, "--no-wait").output

    lines = {line.split("  ")[0].strip(): line for line in table.splitlines() if re.search(r"\d of \d", line)}
    assert len(lines) == 8
    # By hand: 0.5 and 0.7 have the mean 0.6; their sample deviation is 0.1 * sqrt(2), over sqrt(2) seeds 0.1.
    first = lines["sparse rewards, 3-number state, step 0.1"]
    assert first.split()[-18:] == [
        "2",
        "of",
        "2",
        "60.0",
        "±",
        "10.0",
        "25.0",
        "±",
        "0.0",
        "85.0",
        "±",
        "5.0",
        "66.1",
        "±",
        "12.7",
        "68.0",
        "±",
        "13.9",
    ]
    assert "0 of 2" in lines["2n-number state"]
    assert "72.2 ± 4.5" in lines["2n-number state"]
    assert "90.0 ± 0.0" in lines[NAIVE]


def test_the_rows_are_the_papers_designs(service: Service, purl: Purl) -> None:  # noqa: F811
    purl("ablate", "--seeds", "1", "--no-wait", "--episodes", "5", "--seed", "4")

    jobs = list(reversed(service.http.get("/jobs").json()["data"]))
    searches = [job["spec"]["search"] for job in jobs]
    assert [job["spec"]["seed"] for job in jobs] == [4] * 7
    assert {search["episodes"] for search in searches} == {5}
    assert [search["dense"] for search in searches] == [False, *[True] * 6]
    assert [search["criterion"] for search in searches].index("magnitude_target") == 2
    assert [search["reward"] for search in searches[3:5]] == ["upside", "cubic"]
    assert [len(search["alphas"]) for search in searches] == [23, 23, 12, 23, 23, 12, 23]
    assert [search["state"] for search in searches] == [*["simple"] * 6, "per_layer"]
    targets = jobs[0]["spec"]["targets"]
    assert (targets["sparsity"], targets["accuracy"]) == (0.6, 0.95)


def test_the_client_waits_for_all_of_a_sweep(service: Service) -> None:
    with PurlClient(service.url, patience=5) as client:
        sweep = client.submit_sweep({"base": LEAST, "grid": {"seed": [0, 1]}})
        service.claim().succeed()
        sweep.pause()
        assert [row.state for row in sweep.table] == ["succeeded", "paused"]
        sweep.resume()
        sweep.cancel()

        assert sweep.wait(timeout=60, poll=0.02).ended
        assert [one.id for one in client.sweeps()] == [sweep.id]
