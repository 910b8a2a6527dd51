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
from workers.race import Entrant, Finisher

MEDIA_TYPES = {COMPRESSED: "application/gzip", ONNX: "application/octet-stream", WEIGHTS: "application/json"}
# Images that onnxruntime and torch must agree on.
COMPARED = 16


def others(job: Attempt, path: Path, test: Samples) -> list[str]:
    """Writes the checkpoint gzipped and as ONNX. A file that reads otherwise than the checkpoint fails the job.

    A network that torch can't write as ONNX is published without that file, and an event says why.
    """
    images = test[:COMPARED].x
    model, again = models.build_for(job.spec), models.build_for(job.spec)
    checkpoint.load(path, model)
    checkpoint.write_compressed(job.scratch / COMPRESSED, path.read_bytes())
    checkpoint.load(job.scratch / COMPRESSED, again)
    if checkpoint.fingerprint(again) != checkpoint.fingerprint(model):
        raise VerificationFailed("the gzipped checkpoint holds other weights than the checkpoint")
    try:
        write_onnx(job.scratch / ONNX, model, images)
    except CannotExport as reason:
        job.link.event("note", {"onnx": str(reason)})
        return [COMPRESSED]
    verify_onnx(job.scratch / ONNX, model, images)
    return [COMPRESSED, ONNX]


def weights(job: Attempt, dense: Dense, entrant: Entrant, winner: Finisher) -> list[str]:
    """Writes how the winner's weights were spread before pruning, after it, and after fine-tuning."""
    before = dense.tensors if entrant.tensors is None else entrant.tensors
    report = weights_report(
        winner.contender.candidate.method, entrant.mask, dense=dense.tensors, before=before, after=winner.tensors
    )
    (job.scratch / WEIGHTS).write_text(report.model_dump_json())
    return [WEIGHTS]
