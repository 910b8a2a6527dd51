"""How much accuracy does how much sparsity cost? One job with several targets: a search and a race for each.

make serve
.venv/bin/python examples/pareto_sweep.py
"""

from __future__ import annotations

from purlkit.client import PurlClient

JOB = {
    "model": {"name": "mlp", "kwargs": {"hidden": 32}, "weights": {"train": {"epochs": 5}}},
    "targets": {"sparsity": [0.5, 0.8, 0.9], "max_drop": 0.02},  # at most two points below the dense network
    "search": {"episodes": 12, "retrain": {"epochs": 2}, "warm_start": True},  # a search learns from the one before
    "fine_tune": {"epochs": 2},
}


def main() -> None:
    with PurlClient() as purl:
        job = purl.submit(JOB).wait()
        told = job.result.model_dump()  # all of GET /jobs/{id}: docs/verdict.md says what its parts mean
        print(f"{'target':>8} {'accuracy':>9}  winner")
        for point in told["points"]:
            on_front = "  on the front" if point["target"] in told["front"]["sparsity"] else ""
            accuracy = point["accuracy"]["fine_tuned"]
            print(f"{point['target']:8.0%} {accuracy:9.1%}  {point['winner']['method']}{on_front}")
        print(f"dense: {told['accuracy']['dense']:.1%}; all that was asked for is met up to {told['met_up_to']}")
        # A checkpoint for each target, one report for all.
        for path in job.download("out", *(point["checkpoint"]["name"] for point in told["points"])):
            print(path)


if __name__ == "__main__":
    main()
