"""A network's weights as files: safetensors, the same gzipped, and ONNX to run elsewhere. Data, never code."""

from purlkit.checkpoint.files import from_bytes, load, read, read_compressed, to_bytes, write, write_compressed
from purlkit.checkpoint.weights import fingerprint, load_into, recount, refuse_unfit, sha256, tensors_of

__all__ = [
    "fingerprint",
    "from_bytes",
    "load",
    "load_into",
    "read",
    "read_compressed",
    "recount",
    "refuse_unfit",
    "sha256",
    "tensors_of",
    "to_bytes",
    "write",
    "write_compressed",
]
