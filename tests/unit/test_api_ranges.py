"""Which bytes a request is about, without a server."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ranges import Span, Unsatisfiable, matches, parse_range, read_digest, repr_digest, span_of

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "span"),
    [
        ("bytes=0-0", Span(0, 0)),
        ("bytes=0-", Span(0, 99)),
        ("bytes=90-200", Span(90, 99)),
        ("BYTES=5-9", Span(5, 9)),
        ("bytes=-1", Span(99, 99)),
        ("bytes=-1000", Span(0, 99)),
        ("bytes=0-" + "9" * 5000, Span(0, 99)),
        ("bytes=00000000000000000000007-9", Span(7, 9)),
        ("lines=0-5", None),
        ("bytes", None),
        ("bytes=0-1,5-9", None),
    ],
)
def test_a_range_of_a_hundred_bytes(header: str, span: Span | None) -> None:
    assert parse_range(header, 100) == span


@pytest.mark.parametrize(
    "header",
    ["bytes=100-", "bytes=-0", "bytes=5-2", "bytes=-", "bytes=", "bytes=a-b", "bytes=1", "bytes=" + "9" * 5000 + "-"],
)
def test_a_range_that_has_nothing_to_give(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 100)


def test_an_empty_file_has_no_range() -> None:
    with pytest.raises(Unsatisfiable):
        parse_range("bytes=0-", 0)


@given(st.binary(min_size=1, max_size=50), st.integers(0, 60), st.integers(0, 60))
def test_a_span_is_the_slice_that_python_would_take(data: bytes, first: int, last: int) -> None:
    """The list's own slicing is the oracle."""
    expected = data[first : last + 1] if first <= last else b""

    try:
        span = parse_range(f"bytes={first}-{last}", len(data))
    except Unsatisfiable:
        assert expected == b""
    else:
        assert span is not None
        assert data[span.first : span.last + 1] == expected
        assert span.length == len(expected) > 0


@given(st.text(max_size=40), st.integers(0, 1000))
def test_no_header_breaks_the_parser(rest: str, size: int) -> None:
    try:
        span = parse_range(f"bytes={rest}", size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span.first <= span.last < size


@pytest.mark.parametrize(
    ("headers", "span"),
    [
        ({}, None),
        ({"range": "bytes=0-1"}, Span(0, 1)),
        ({"range": "bytes=0-1", "if-range": ETAG}, Span(0, 1)),
        ({"range": "bytes=0-1", "if-range": '"other"'}, None),
        ({"range": "bytes=0-1", "if-range": f"W/{ETAG}"}, None),
        ({"range": "bytes=0-1", "if-range": "Sat, 01 Jan 2022 00:00:00 GMT"}, None),
        ({"range": "bytes=500-", "if-range": '"other"'}, None),
    ],
)
def test_if_range_gives_the_whole_unless_it_names_this_very_file(headers: dict[str, str], span: Span | None) -> None:
    assert span_of(headers, ETAG, 100) == span


@pytest.mark.parametrize(
    ("header", "same"),
    [(ETAG, True), (f"W/{ETAG}", True), (f'"x", {ETAG}', True), ("*", True), ('"x"', False), ("abc", False)],
)
def test_if_none_match(header: str, same: bool) -> None:
    assert matches(header, ETAG) is same


def test_a_digest_is_read_back_as_it_was_written() -> None:
    sha256 = hashlib.sha256(b"weights").hexdigest()

    assert read_digest(repr_digest(sha256)) == sha256
    assert read_digest(f"sha-512=:AAAA:, {repr_digest(sha256)}") == sha256


@pytest.mark.parametrize("header", ["", "sha-256=abc", "sha-256=:!!!:", "sha-256=::", "md5=:AAAA:"])
def test_what_is_no_sha256_is_none(header: str) -> None:
    assert read_digest(header) is None
