"""The winner's other files: each is made from the checkpoint that was verified, and read back before it may leave."""

from __future__ import annotations

from pathlib import Path

from purlkit import checkpoint
from purlkit.checkpoint.onnx_file import verify_onnx, write_onnx
from purlkit.errors import CannotExport, VerificationFailed
from purlkit.pruning.analysis import weights_report
from purlkit.results import COMPRESSED, ONNX, WEIGHTS
from purlkit.training.data import Samples
from purlkit.zoo import models
from workers.attempt import Attempt
from workers.dense import Dense
from workers.outcome import Checked

# Images that onnxruntime and torch must agree on.
COMPARED = 16


def of(job: Attempt, dense: Dense, checked: Checked, test: Samples) -> list[tuple[Path, str]]:
    """Every other file of one target, with its media type. Each is called as its checkpoint is."""
    return [*others(job, checked.path, test), _weights(dense, checked)]


def others(job: Attempt, path: Path, test: Samples) -> list[tuple[Path, str]]:
    """Writes the checkpoint gzipped and as ONNX. A file that reads otherwise than the checkpoint fails the job.

    A network that torch can't write as ONNX is published without that file, and an event says why.
    """
    images = test[:COMPARED].x
    model, again = models.build_for(job.spec), models.build_for(job.spec)
    checkpoint.load(path, model)
    compressed, onnx = (_beside(path, name) for name in (COMPRESSED, ONNX))
    checkpoint.write_compressed(compressed, path.read_bytes())
    checkpoint.load(compressed, again)
    if checkpoint.fingerprint(again) != checkpoint.fingerprint(model):
        raise VerificationFailed("the gzipped checkpoint holds other weights than the checkpoint")
    try:
        write_onnx(onnx, model, images)
    except CannotExport as reason:
        job.link.event("note", {"onnx": str(reason)})
        return [(compressed, "application/gzip")]
    verify_onnx(onnx, model, images)
    return [(compressed, "application/gzip"), (onnx, "application/octet-stream")]


def _weights(dense: Dense, checked: Checked) -> tuple[Path, str]:
    """How the winner's weights were spread before pruning, after it, and after fine-tuning."""
    path, entrant = _beside(checked.path, WEIGHTS), checked.winner.entrant
    before = dense.tensors if entrant.tensors is None else entrant.tensors
    after = checked.winner.runs[0].tensors
    report = weights_report(entrant.method, entrant.mask, dense=dense.tensors, before=before, after=after)
    path.write_text(report.model_dump_json())
    return path, "application/json"


def _beside(path: Path, name: str) -> Path:
    """`pruned-0.9.onnx` for `pruned-0.9.safetensors`."""
    stem, _, rest = name.partition(".")
    return path.with_name(f"{path.name.removesuffix('.safetensors').replace('pruned', stem, 1)}.{rest}")
