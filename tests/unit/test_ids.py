"""Ids sort by age and look like nothing else; cursors come back as they went out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import paging
from services.errors import InvalidCursor
from services.ids import digest, is_id, new_id, new_token, opens


def test_ids_sort_by_when_they_were_made() -> None:
    made = [new_id("job") for _ in range(1000)]

    assert sorted(made) == made
    assert len(set(made)) == len(made)
    assert all(is_id(one, "job") and len(one) == 30 for one in made)


@pytest.mark.parametrize(
    "text", ["", "job_", "job_" + "i" * 26, "job_" + "0" * 27, "att_" + "0" * 26, "job_" + "0" * 26 + "\n"]
)
def test_nothing_else_is_an_id(text: str) -> None:
    assert not is_id(text, "job")


def test_a_token_opens_what_its_digest_locks() -> None:
    token = new_token()

    assert opens(token, digest(token))
    assert not opens(new_token(), digest(token))
    assert token not in digest(token)


@given(st.text(max_size=50))
def test_a_cursor_comes_back_as_it_went_out(position: str) -> None:
    assert paging.decode(paging.encode(position)) == position


@given(st.text(max_size=50))
def test_any_other_cursor_is_refused_or_is_one_of_ours(cursor: str) -> None:
    try:
        assert paging.encode(paging.decode(cursor)) == cursor
    except InvalidCursor:
        return
