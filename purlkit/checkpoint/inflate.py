"""A gzipped file, inflated no further than it is read: a small one can hold terabytes."""

from __future__ import annotations

import zlib
from typing import BinaryIO, NoReturn

from purlkit.errors import BadWeightsFile

_CHUNK = 2**16
_PIECE = 2**20  # what a chunk may become at once
_GZIP = 31  # zlib's word for one gzip member with its header and checksum


class Inflated:
    """Reads a stream of one gzip member."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._inflater = zlib.decompressobj(_GZIP)

    def read(self, size: int) -> bytes:
        """Up to so many bytes: fewer only where the member ends or is cut off."""
        return bytes(self.take(size))

    def take(self, size: int) -> bytearray:
        """The same, never in memory twice."""
        taken = bytearray()
        try:
            while len(taken) < size and not self._inflater.eof:
                packed = self._inflater.unconsumed_tail or self._file.read(_CHUNK)
                piece = self._inflater.decompress(packed, min(_PIECE, size - len(taken)))
                if not packed and not piece:
                    break
                taken += piece
        except zlib.error:
            _refuse("it is damaged, or of another kind")
        return taken

    def expect_end(self) -> None:
        """Raises unless the member ends here with the right checksum, and the file with it."""
        if self.read(1):
            _refuse("there is more in it than its header says")
        if not self._inflater.eof:
            _refuse("it is cut off")
        if self._inflater.unused_data or self._file.read(1):
            _refuse("something follows the compressed file")


def _refuse(problem: str) -> NoReturn:
    raise BadWeightsFile(
        f"this is not a gzipped safetensors file that we accept: {problem}",
        remedy="write a file with safetensors.torch.save_file and compress it with gzip",
    )
