"""A process's own words on their way to the service."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.waiting import wait_until
from workers import logship
from workers.calls import Refused
from workers.link import Link
from workers.logship import LogShipper, keep_tail


class Receiving(Link):
    """The far end of a link, without HTTP."""

    def __init__(self, *, room: int = 10**9) -> None:
        self.got = b""
        self._room = room

    def append_log(self, start: int, data: bytes) -> None:
        assert start == len(self.got), "in order, without a gap"
        if start + len(data) > self._room:
            raise Refused("too_large")
        self.got += data


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logship, "EVERY_SECONDS", 0.01)


def test_what_is_said_arrives_while_more_is_said(tmp_path: Path) -> None:
    source, link = tmp_path / "said.log", Receiving()
    with source.open("wb", buffering=0) as file:
        shipper = LogShipper(link, source)
        shipper.start()
        file.write(b"first\n")
        wait_until("the first line has arrived", lambda: link.got == b"first\n")
        file.write(b"second\n" * 100_000)  # some pieces long
        shipper.stop()

    assert link.got == source.read_bytes()


def test_a_service_that_takes_no_more_does_not_stop_the_work(tmp_path: Path) -> None:
    source, link = tmp_path / "said.log", Receiving(room=3)
    source.write_bytes(b"more than that")
    shipper = LogShipper(link, source)

    shipper.start()
    shipper.stop()

    assert link.got == b""


def test_of_a_long_log_the_end_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logship, "KEPT_BYTES", 20)
    source, kept = tmp_path / "said.log", tmp_path / "kept.log"

    source.write_bytes(b"short\n")
    keep_tail(source, kept)
    assert kept.read_bytes() == b"short\n"

    source.write_bytes(b"".join(b"line %d\n" % number for number in range(100)))
    keep_tail(source, kept)
    assert kept.read_bytes() == b"line 98\nline 99\n"
