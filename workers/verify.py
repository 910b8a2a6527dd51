"""A checkpoint as a stranger would find it: a fresh process reads the file, counts its zeros and measures it.

`python -m workers.verify` is told on stdin what to look at, says a dot for every batch, and at last what it found.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from purlkit.errors import VerificationFailed
from purlkit.spec import Record, Sha256


class Look(Record):
    """What to look at."""

    spec: str
    path: str
    datasets_dir: str
    device: str
    threads: int


class Seen(Record):
    """What is in the file."""

    sha256: Sha256
    mask_sha256: Sha256
    kept: int
    weights: int
    accuracy: float


def seen_by_another(look: Look, on_batch: Callable[[], None]) -> Seen:
    """Asks a process of its own. One that hangs moves no counter, and the service ends the attempt for that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.verify"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(look.model_dump_json())
        process.stdin.close()
        said = ""
        for line in process.stdout:
            said = line
            on_batch()
    if process.returncode != 0:
        raise VerificationFailed(f"the written checkpoint can't be read back: {said.strip() or 'attempt.log says why'}")
    return Seen.model_validate_json(said)


def main() -> int:
    look = Look.model_validate_json(sys.stdin.read())
    try:
        print(_seen(look).model_dump_json(), flush=True)
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
        return 1
    return 0


def _seen(look: Look) -> Seen:
    import torch

    from purlkit import checkpoint
    from purlkit.pruning.layers import prunable_layers
    from purlkit.pruning.masks import Mask
    from purlkit.spec import JobSpec
    from purlkit.training.evaluate import accuracy
    from purlkit.zoo import datasets, models

    torch.set_num_threads(look.threads)
    spec = JobSpec.model_validate_json(look.spec)
    model = models.build_for(spec).to(look.device)
    checkpoint.load(look.path, model)
    counted = Mask.from_weights(prunable_layers(model))
    test = datasets.load(spec.data, Path(look.datasets_dir), device=look.device).test
    return Seen(
        sha256=checkpoint.sha256(Path(look.path).read_bytes()),
        mask_sha256=counted.sha256,
        kept=counted.kept,
        weights=counted.total,
        accuracy=accuracy(model, test, on_batch=lambda: print(".", flush=True)),
    )


if __name__ == "__main__":
    sys.exit(main())
