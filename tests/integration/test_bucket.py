"""`python -m services bucket`: an S3 store of one's own gets its bucket, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.artifacts import bucket
from services.errors import BadSetting
from services.settings import S3Location
from tests.s3 import S3Server


def test_a_bucket_is_made_where_it_is_missing_and_only_there(s3: S3Server, tmp_path: Path) -> None:
    location = S3Location("made-by-the-service", "")
    options = {name: value for name, value in s3.options().items() if name != "client_options"}

    made = [bucket.make(location, **options) for _ in range(2)]

    assert made == [True, False]
    s3.store(location.bucket, tmp_path).check()


def test_keys_that_the_store_does_not_know_are_refused_with_the_remedy(s3: S3Server) -> None:
    options = {**s3.options(), "secret_access_key": "another"}
    del options["client_options"]

    with pytest.raises(BadSetting, match=r"s3://not-ours, which can't be made .it answers 403.: look at AWS_ENDPOINT"):
        bucket.make(S3Location("not-ours", ""), **options)
