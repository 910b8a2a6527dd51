"""What the service hears of an exception."""

from __future__ import annotations

import pytest

from purlkit.errors import Diverged, EnvironmentFailed, SearchStuck
from purlkit.results import ErrorReport
from workers.run import report_of


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
