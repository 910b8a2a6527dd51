"""Errors of other processes are the same here: runners and tasks of Ray hand them over by pickle."""

from __future__ import annotations

import pickle

import pytest

from purlkit import errors

OF_OTHER_PROCESSES = [
    errors.CacheTooSmall(needed=2, most=1),
    errors.CacheUnusable("Read-only file system"),
    errors.DataUnreachable("the store is silent", at="/dataset/name", remedy="look at it"),
    errors.DiskFull(),
    errors.EnvironmentFailed("it raised twice", code="diverged", where="workers/search.py:step"),
    errors.UnreachableSparsity(asked=0.99, low=0.1, high=0.9),
]


@pytest.mark.parametrize("error", OF_OTHER_PROCESSES, ids=lambda error: type(error).__name__)
def test_an_error_comes_whole_from_another_process(error: errors.PurlError) -> None:
    here = pickle.loads(pickle.dumps(error))

    assert (type(here), str(here)) == (type(error), str(error))
    assert (here.at, here.code, here.where, here.retryable) == (error.at, error.code, error.where, error.retryable)
