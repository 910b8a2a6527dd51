"""A checkpoint as a stranger would find it: a fresh process reads the file, counts its zeros and measures it.

`python -m workers.verify` is told on stdin what to look at. It says a dot for every batch and JSON for every file.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from purlkit.errors import VerificationFailed
from purlkit.results import Cost
from purlkit.spec import Record, Sha256
from purlkit.startup import leave, loading

DOT = ".\n"


class Look(Record):
    """What to look at."""

    spec: str
    paths: tuple[str, ...] = Field(strict=False)
    datasets_dir: str
    device: str
    threads: int


class Seen(Record):
    """What is in a file."""

    sha256: Sha256
    mask_sha256: Sha256
    kept: int
    weights: int
    accuracy: float
    top5_accuracy: float | None
    cost: Cost

    @property
    def sparsity(self) -> float:
        return (self.weights - self.kept) / self.weights


def seen_by_another(look: Look, on_batch: Callable[[], None]) -> list[Seen]:
    """Asks a process of its own. One that hangs moves no counter, and the service ends the attempt for that."""
    process = subprocess.Popen(
        [sys.executable, "-m", "workers.verify"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(look.model_dump_json())
        process.stdin.close()
        said = []
        for line in process.stdout:
            on_batch()
            if line != DOT:
                said.append(line)
    if process.returncode != 0:
        why = said[-1].strip() if said else "attempt.log says why"
        raise VerificationFailed(f"a written checkpoint can't be read back: {why}")
    return [Seen.model_validate_json(line) for line in said]


def main() -> int:
    look = Look.model_validate_json(sys.stdin.read())
    try:
        for path in look.paths:
            print(_seen(look, Path(path)).model_dump_json(), flush=True)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    return 0


def _seen(look: Look, path: Path) -> Seen:
    with loading():
        import torch

        from purlkit import checkpoint
        from purlkit.pruning.cost import cost, weight_uses
        from purlkit.pruning.layers import prunable_layers
        from purlkit.pruning.masks import Mask
        from purlkit.spec import JobSpec
        from purlkit.training.evaluate import accuracy, top5_accuracy
        from purlkit.zoo import datasets, models

    torch.set_num_threads(look.threads)
    spec = JobSpec.model_validate_json(look.spec)
    model = models.build_for(spec).to(look.device)
    checkpoint.load(path, model)
    counted = Mask.from_weights(prunable_layers(model))
    test = datasets.load(spec.data, look.datasets_dir, device=look.device).test
    return Seen(
        sha256=checkpoint.sha256(path.read_bytes()),
        mask_sha256=counted.sha256,
        kept=counted.kept,
        weights=counted.total,
        accuracy=accuracy(model, test, _dot),
        top5_accuracy=top5_accuracy(model, test, _dot),
        cost=cost(model, counted, weight_uses(model, test[:1].x)),
    )


def _dot() -> None:
    print(DOT, end="", flush=True)


if __name__ == "__main__":
    leave(main())
