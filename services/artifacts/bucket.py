"""`python -m services bucket`: makes the bucket of PURL_ARTIFACTS in an S3 store of one's own, where it is missing."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import obstore
from obstore import exceptions
from obstore.store import S3Store as Bucket

from services.errors import BadSetting
from services.settings import S3Location

SECONDS = 30


def make(location: S3Location, **options: Any) -> bool:
    """Whether it had to be made. `options` are obstore's, over what the AWS_* variables say."""
    bucket = Bucket(location.bucket, client_options={"allow_http": True, "connect_timeout": "5s"}, **options)
    if _is_there(bucket):
        return False
    link = obstore.sign(bucket, "PUT", "", timedelta(seconds=SECONDS))
    try:
        answer = httpx.put(link, timeout=SECONDS)
    except httpx.TransportError as error:
        raise _refused(location, type(error).__name__) from error
    # Somebody else may have made it at the same moment: what counts is that it is there.
    if not answer.is_success and not _is_there(bucket):
        raise _refused(location, f"it answers {answer.status_code}")
    return True


def _is_there(bucket: Bucket) -> bool:
    try:
        next(iter(obstore.list(bucket, chunk_size=1)), None)
    except (exceptions.BaseError, FileNotFoundError):
        return False
    return True


def _refused(location: S3Location, why: str) -> BadSetting:
    remedy = "look at AWS_ENDPOINT_URL_S3 and the keys, or make the bucket by the store's own means"
    return BadSetting("PURL_ARTIFACTS", f"names s3://{location.bucket}, which can't be made ({why})", remedy=remedy)
