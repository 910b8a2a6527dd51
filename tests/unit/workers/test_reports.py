"""What the service hears of an exception."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from purlkit.errors import Diverged, EnvironmentFailed, SearchStuck
from purlkit.results import ErrorReport
from workers.link import Link
from workers.run import report_of, send_log


def test_what_was_raised_elsewhere_keeps_its_place_and_field() -> None:
    error = EnvironmentFailed("episode 3 failed", code="diverged", at="/search/retrain", where="there")

    assert report_of(error) == ErrorReport(
        code="diverged", message="episode 3 failed", at="/search/retrain", where="there"
    )


def test_what_comes_from_a_task_of_rays_is_told_as_its_cause() -> None:
    class FromATask(Exception):
        cause = Diverged("too hot", at="/fine_tune")

    report = report_of(FromATask("pages of text"))

    assert (report.code, report.message, report.at) == ("diverged", "too hot", "/fine_tune")


@pytest.mark.parametrize(("error", "retryable"), [(SearchStuck("alone"), True), (Diverged("hot"), False)])
def test_only_what_may_pass_by_itself_is_tried_again(error: Exception, retryable: bool) -> None:
    assert report_of(error).retryable is retryable


def test_a_full_disk_is_called_so_and_may_have_room_another_time() -> None:
    """On the kernel's own full device, which takes no byte."""
    with pytest.raises(OSError, match="No space") as caught, Path("/dev/full").open("wb", 0) as full:
        full.write(b"a checkpoint")

    report = report_of(caught.value)

    assert (report.code, report.retryable) == ("disk_full", True)
    assert "free space" in report.message
    assert "test_reports.py" in (report.where or "")


def test_a_head_that_was_started_anew_is_no_matter_of_tokens() -> None:
    """The words are those of Ray 2.60, as a driver got them when its head was killed and started again."""
    try:
        raise RuntimeError(
            "RPC error: WrongClusterID: Perhaps the client is accessing GCS after it has restarted.. Ensure that the "
            "token for the cluster is available in a local file"
        )
    except RuntimeError as raised:
        report = report_of(raised)

    assert (report.code, report.retryable) == ("ray_unreachable", True)
    assert "started anew" in report.message
    assert "token" not in report.message
    assert "test_reports.py" in (report.where or "")


def test_a_disk_that_takes_no_log_does_not_keep_the_attempt_from_its_last_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = tmp_path / "said.log"
    said.write_text("all is done\n")
    with closing(Link("http://127.0.0.1:9", "a1", "the-token")) as unused:
        send_log(unused, said, Path("/dev/full"))

    assert "left to the dispatcher" in caplog.text
