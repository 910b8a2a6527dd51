"""Names for rows, and secrets for those who may write to them."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_LENGTH = 26
_SHAPE = re.compile(rf"[a-z]+_[{_ALPHABET}]{{{_LENGTH}}}")


def new_id(prefix: str) -> str:
    """Sorts by when it was made: 64 bits of nanoseconds before 64 random ones, in base 32."""
    return _written(prefix, (time.time_ns() << 64) | secrets.randbits(64))


def first_id_at(prefix: str, ms: int) -> str:
    """Every id that was made at this time or later sorts behind it."""
    return _written(prefix, (max(0, ms) * 1_000_000) << 64)


def _written(prefix: str, number: int) -> str:
    digits = (_ALPHABET[number >> 5 * place & 31] for place in reversed(range(_LENGTH)))
    return f"{prefix}_{''.join(digits)}"


def is_id(text: str, prefix: str) -> bool:
    return text.startswith(f"{prefix}_") and _SHAPE.fullmatch(text) is not None


def new_token() -> str:
    return secrets.token_urlsafe(32)


def digest(token: str) -> str:
    """What is stored of a token: whoever reads the database can't pose as a worker."""
    return hashlib.sha256(token.encode()).hexdigest()


def opens(token: str, token_sha256: str) -> bool:
    return hmac.compare_digest(digest(token), token_sha256)
