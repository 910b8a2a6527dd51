"""A client that is a version older or newer than the service reads of its answers what it can, and keeps the rest."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from purlkit.client.records import Event, JobRecord
from purlkit.client.view import JobView

PARTS: dict[str, Any] = {
    "progress": {"fraction": 0.5, "phase": "search"},
    "attempts": [{"number": 1, "state": "running"}],
    "error": {"code": "lost", "message": "it went away"},
    "result": {
        "winner": {"method": "global"},
        "verdict": "global ships",
        "targets_met": True,
        "sparsity": 0.9,
        "accuracy": {"dense": 0.97, "pruned": 0.5, "fine_tuned": 0.96},
        "checkpoint": {"sha256": "0" * 64, "bytes": 10, "href": "/jobs/job_1/checkpoint"},
    },
}
OTHERWISE: dict[str, Any] = {
    "progress": {"percent": 50},
    "attempts": {"1": "running"},
    "error": {"text": "it went away"},
    "result": {"best": "global"},
}


def told(**changes: Any) -> dict[str, Any]:
    """A job as a service of this version tells it."""
    job = {"id": "job_1", "state": "running", "fingerprint": "f", "created_at": "2026-11-21T08:00:00Z"}
    return {**job, "spec": {"model": {"name": "mlp"}, "targets": {"sparsity": 0.9}}, **PARTS, **changes}


def test_what_this_version_tells_is_read_whole() -> None:
    record = JobRecord.model_validate(told())

    assert record.unread == {}
    assert record.progress is not None
    assert record.result is not None
    assert record.error is not None
    assert (record.progress.fraction, record.attempts[0].state) == (0.5, "running")
    assert (record.result.winner.method, record.error.code) == ("global", "lost")


def test_a_newer_service_may_add_fields_at_every_level() -> None:
    def grown(value: Any) -> Any:
        if isinstance(value, dict):
            return {**{name: grown(inner) for name, inner in value.items()}, "of_the_future": [1]}
        return [grown(inner) for inner in value] if isinstance(value, list) else value

    record = JobRecord.model_validate(grown(told(state="hibernating")))

    assert (record.state, record.unread) == ("hibernating", {})
    assert record.result is not None
    assert record.result.model_dump()["winner"]["of_the_future"] == [1]
    assert record.model_dump()["of_the_future"] == [1]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_told_otherwise_is_set_aside_and_the_rest_is_read(part: str) -> None:
    record = JobRecord.model_validate(told(**{part: OTHERWISE[part]}))

    assert record.unread == {part: OTHERWISE[part]}
    assert not getattr(record, part)
    assert all(getattr(record, other) for other in set(PARTS) - {part})
    assert record.model_dump()[part] == OTHERWISE[part], "passed on as it was told"


def test_an_older_service_may_leave_fields_away() -> None:
    record = JobRecord.model_validate({name: value for name, value in told().items() if name not in PARTS})

    assert (record.progress, record.attempts, record.result, record.error, record.unread) == (None, (), None, None, {})


@pytest.mark.parametrize("field", ["id", "state", "spec"])
def test_what_is_no_job_at_all_is_refused(field: str) -> None:
    job = told()
    del job[field]

    with pytest.raises(ValidationError, match=field):
        JobRecord.model_validate(job)


def test_a_job_of_another_version_shows_itself_all_the_same() -> None:
    view = JobView(JobRecord.model_validate(told(**OTHERWISE, spec={"network": "mlp"})))
    view.heed(
        Event.model_validate({"seq": 1, "type": "episode", "at": told()["created_at"], "data": {"kind": "search"}})
    )

    shown = view._repr_html_()

    assert "job_1" in shown
    assert "running" in shown
