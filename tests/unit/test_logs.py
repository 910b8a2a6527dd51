"""What a log collector gets: one object a line, with the ids of what it is about."""

from __future__ import annotations

import json
import logging
import threading
from contextvars import copy_context
from typing import Any

from services import logs


def line(message: str = "done", *, level: int = logging.INFO, exc_info: Any = None, **extra: Any) -> dict[str, Any]:
    record = logging.getLogger("purl.test").makeRecord("purl.test", level, "f", 1, message, (), exc_info, extra=extra)
    text = logs.JsonLines("api").format(record)
    assert "\n" not in text
    told: dict[str, Any] = json.loads(text)
    return told


def test_a_line_says_when_who_and_what() -> None:
    told = line("two\nlines", level=logging.WARNING)

    assert told.pop("time").endswith("+00:00")
    assert told == {"process": "api", "level": "warning", "logger": "purl.test", "message": "two\nlines"}


def test_a_line_bears_the_ids_of_what_it_is_about() -> None:
    with logs.about(request_id="req_1", job_id="job_1"), logs.about(attempt_id="att_1"):
        told = line()

    assert (told["request_id"], told["job_id"], told["attempt_id"]) == ("req_1", "job_1", "att_1")
    assert "job_id" not in line()


def test_a_line_that_names_its_own_job_is_believed() -> None:
    with logs.about(job_id="job_1"):
        assert line(job_id="job_2")["job_id"] == "job_2"


def test_threads_of_a_request_bear_its_ids() -> None:
    told: list[dict[str, Any]] = []
    with logs.about(request_id="req_1"):
        thread = threading.Thread(target=copy_context().run, args=(lambda: told.append(line()),))
        thread.start()
        thread.join()

    assert told[0]["request_id"] == "req_1"


def test_an_exception_is_part_of_its_line() -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        told = line(exc_info=(type(error), error, error.__traceback__))

    assert told["exception"].endswith("ValueError: bad")
