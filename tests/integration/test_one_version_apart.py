"""A worker and a service of versions that follow each other: what one says and the other has never heard of is borne.

`spoken/0.1.0.json` is what that version's two sides say to each other. Each version adds its own file.
"""

from __future__ import annotations

import json
import types
import typing
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from purlkit import results
from purlkit.results import AttemptBrief, CheckAnswer, CheckBrief, Finish, Heartbeat, HeartbeatAnswer, WorkerEvents
from purlkit.spec import JobSpec
from tests.integration.over_http import HttpWorker, Service, assert_problem

SPOKEN = sorted((Path(__file__).parent / "spoken").glob("*.json"))
NEWS = {"of_the_next_version": {"a": [1]}}
ALL = [record for record in vars(results).values() if isinstance(record, type) and issubclass(record, BaseModel)]


def with_news(said: Any, record: Any) -> Any:
    """The same, with a field more in every record that is no part of a spec."""
    if isinstance(said, dict) and isinstance(record, type) and issubclass(record, BaseModel):
        if record is JobSpec:
            return said
        fields = {name: field.annotation for name, field in record.model_fields.items()}
        return {name: with_news(value, fields.get(name)) for name, value in said.items()} | NEWS
    inner = [each for each in typing.get_args(record) if each is not type(None)]
    if isinstance(record, types.UnionType) or typing.get_origin(record) is typing.Union:
        return with_news(said, inner[0])
    if isinstance(said, list) and inner:
        return [with_news(each, inner[0]) for each in said]
    if isinstance(said, dict) and len(inner) == 2:
        return {name: with_news(each, inner[1]) for name, each in said.items()}
    return said


@pytest.fixture(params=SPOKEN, ids=lambda path: path.stem)
def wire(request: pytest.FixtureRequest) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(request.param.read_text())
    return said


def test_there_is_a_version_to_compare_with() -> None:
    assert SPOKEN


def play(worker: HttpWorker, said: dict[str, Any]) -> None:
    """An attempt's whole life, in the words of that version."""
    assert worker.call("POST", "/heartbeat", json=said["heartbeat"]).json()["command"] == "continue"
    assert worker.call("POST", "/events", json=said["events"]).is_success
    assert worker.stage("pruned.safetensors", said["checkpoint"].encode()).is_success
    answer = worker.call("POST", "/finish", json=said["finish"])
    assert answer.is_success, answer.text


def test_an_older_worker_is_understood(service: Service, wire: dict[str, Any]) -> None:
    job_id = service.submit()["id"]

    play(service.claim(), wire["worker"])

    job = service.job(job_id)
    assert job["state"] == "succeeded"
    assert job["result"]["sparsity"] == wire["worker"]["finish"]["result"]["sparsity"]
    assert len(service.http.get(f"/jobs/{job_id}/episodes").json()["data"]) == 1


def test_and_so_is_a_newer_one(service: Service, wire: dict[str, Any]) -> None:
    said = wire["worker"]
    records = {"heartbeat": Heartbeat, "events": WorkerEvents, "finish": Finish}
    newer = {name: with_news(said[name], record) for name, record in records.items()}
    assert json.dumps(newer).count("of_the_next_version") >= 8
    job_id = service.submit()["id"]

    play(service.claim(), {**newer, "checkpoint": said["checkpoint"]})

    assert service.job(job_id)["state"] == "succeeded"


def test_an_older_service_is_understood_and_so_is_a_newer_one(wire: dict[str, Any]) -> None:
    answers = {"brief": AttemptBrief, "heartbeat": HeartbeatAnswer, "check": CheckBrief}

    for name, record in answers.items():
        said = wire["service"][name]
        older = record.model_validate_json(json.dumps(said))
        newer = record.model_validate_json(json.dumps(with_news(said, record)))
        assert newer == older


def test_a_checker_that_tells_more_is_understood(wire: dict[str, Any]) -> None:
    said = wire["worker"]["check"]

    newer = CheckAnswer.model_validate_json(json.dumps(with_news(said, CheckAnswer)))

    assert newer == CheckAnswer.model_validate_json(json.dumps(said))


@pytest.mark.parametrize("record", ALL, ids=lambda record: record.__name__)
def test_every_record_between_them_leaves_out_what_it_does_not_know(record: type[BaseModel]) -> None:
    assert record.model_config["extra"] == "ignore"


def test_a_spec_is_refused_where_a_part_of_it_is_not_understood(wire: dict[str, Any], service: Service) -> None:
    """Left out in silence it would be another job than the one that was asked for."""
    brief = wire["service"]["brief"]
    brief["spec"]["search"] |= {"of_the_next_version": True}

    with pytest.raises(ValidationError, match="of_the_next_version"):
        AttemptBrief.model_validate_json(json.dumps(brief))
    answer = service.http.post("/jobs", json=brief["spec"])
    assert_problem(answer, 422, "invalid_body")
