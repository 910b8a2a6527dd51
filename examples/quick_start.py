"""From a job to a checkpoint in one file. It needs a service (`make serve`); PURL_URL says where it is, if elsewhere.

.venv/bin/python examples/quick_start.py
"""

from __future__ import annotations

from purlkit.client import PurlClient

JOB = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}


def main() -> None:
    with PurlClient() as purl:
        job = purl.submit(JOB)
        print(job.id)
        for event in job.events():  # each once, until the job has ended, over restarts of the service
            if event.type == "phase":
                print(f"phase: {event.data['phase']}")
            elif event.type == "episode":
                accuracy, sparsity = event.data["accuracies"][-1], event.data["sparsities"][-1]
                print(f"  episode {event.data['index'] + 1}: accuracy {accuracy:.1%} at sparsity {sparsity:.1%}")
        result = job.wait().result  # raises JobDidNotSucceed with the reason if there is none
        print(result.verdict)
        for path in job.download("out"):  # goes on where it broke, and compares the sha256
            print(path)


if __name__ == "__main__":
    main()
