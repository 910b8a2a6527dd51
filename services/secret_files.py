"""NAME_FILE in place of NAME: the file holds the value. So a secret is in no environment that a child could inherit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from services.errors import BadSetting

# What S3 asks for, by obstore's own names; without files it reads these variables itself.
S3_KEYS = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
}


def value_of(variable: str, environ: Mapping[str, str]) -> str:
    """Empty where it is set neither way. Blanks and the newline at a file's end are no part of it."""
    text, path = environ.get(variable, "").strip(), environ.get(f"{variable}_FILE", "").strip()
    if not path:
        return text
    if text:
        raise BadSetting(variable, f"is set, and so is {variable}_FILE", remedy="keep one of the two")
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as problem:
        why = getattr(problem, "strerror", None) or "it is no text"
        remedy = "name a file that this account may read"
        raise BadSetting(f"{variable}_FILE", f"can't be read ({why})", remedy=remedy) from None


def s3_keys(environ: Mapping[str, str]) -> dict[str, str]:
    """obstore's options for those keys that files hold."""
    files = {name: option for name, option in S3_KEYS.items() if environ.get(f"{name}_FILE", "").strip()}
    return {option: value_of(name, environ) for name, option in files.items()}
