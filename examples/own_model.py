"""A network and data of your own: the package in examples/plugin has both. Install it where the service runs.

.venv/bin/python -m pip install --no-deps --no-build-isolation examples/plugin
make serve
.venv/bin/python examples/own_model.py
"""

from __future__ import annotations

from purlkit.client import PurlClient

JOB = {
    # Its options are checked before the job is taken; the data set is the one that the model names as its own.
    "model": {"name": "shapes-net", "kwargs": {"width": 4}, "weights": {"train": {"epochs": 3}}},
    "targets": {"sparsity": 0.5},
    "search": {"episodes": 2, "greedy_episodes": 1, "retrain": {"images": 200}},
    "fine_tune": {"epochs": 1},
}


def main() -> None:
    with PurlClient() as purl:
        if "shapes-net" not in {model["name"] for model in purl.models()}:
            raise SystemExit("the service does not know shapes-net: install examples/plugin where it runs")
        job = purl.submit(JOB).wait()
        print(f"{job.id}: {job.result.verdict}")
        for one in job.result.candidates:
            print(f"  {one.name:12} {one.accuracy:.1%} at {one.sparsity:.1%}")


if __name__ == "__main__":
    main()
