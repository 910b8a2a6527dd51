"""What the OpenAPI document can't read off the routes' signatures: bodies that api.body parses, and the problems."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api import examples
from api.errors import MEDIA_TYPE, ProblemDocument
from purlkit.results import CheckAnswer, Finish, Heartbeat, WorkerEvents
from purlkit.spec import JobSpec, SweepSpec

# Every record that api.body parses, and the shape of every refusal.
_BODIES: list[type[BaseModel]] = [JobSpec, SweepSpec, Heartbeat, WorkerEvents, Finish, CheckAnswer, ProblemDocument]

TAGS = [
    {"name": "jobs", "description": "Submit a pruning job, watch it, stop it."},
    {"name": "sweeps", "description": "Many jobs as one request: ablations and seeds."},
    {"name": "results", "description": "What a job leaves: events, episodes, files, the checkpoint."},
    {"name": "weights", "description": "Dense weights of your own, as safetensors."},
    {"name": "catalog", "description": "The names that a spec may use, and what is here."},
    {"name": "health", "description": "For whoever keeps the service running."},
    {"name": "worker", "description": "For the worker of one attempt or one check, under its own token."},
]


def _ref(record: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{record.__name__}"}


def json_request(record: type[BaseModel]) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is this record."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": _ref(record)}}}}


def bytes_request(about: str) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a file."""
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "description": about, "content": content}}


TEXT = {"text/plain": {"schema": {"type": "string"}}}


def problems(**about: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: problems(p404="there is no such job")."""
    content = {MEDIA_TYPE: {"schema": _ref(ProblemDocument)}}
    return {int(status[1:]): {"description": words, "content": content} for status, words in about.items()}


# In every route, beside what it lists itself.
ANY_OTHER: dict[int | str, dict[str, Any]] = {
    "default": {"description": "any other refusal", "content": {MEDIA_TYPE: {"schema": _ref(ProblemDocument)}}}
}

NO_JOB = "there is no such job"
NO_SWEEP = "there is no such sweep"
NO_TOKEN = "no token, or a wrong one"
STALE = "the attempt is over: attempt_superseded"


def install(app: FastAPI) -> None:
    """The document is made once, when it is first asked for."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=TAGS,
                separate_input_output_schemas=False,
            )
            _, bodies = models_json_schema(
                [(record, "validation") for record in _BODIES], ref_template="#/components/schemas/{model}"
            )
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for name, schema in bodies["$defs"].items():
                schemas.setdefault(name, schema)
            _speak_of_problems(made)
            _leave_out_objects_as_defaults(schemas)
            _show_examples(made)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _speak_of_problems(document: dict[str, Any]) -> None:
    """FastAPI writes its own 422 into every route with parameters; ours are answered instead."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for _, operation in _operations(document):
        if "application/json" in operation["responses"].get("422", {}).get("content", {}):
            operation["responses"]["422"] = problems(p422="a parameter is to blame")[422]


def _leave_out_objects_as_defaults(schema: Any) -> None:
    """A default that is an object says only that all of its own fields have theirs; generators stumble over it."""
    if isinstance(schema, dict):
        if isinstance(schema.get("default"), dict):
            del schema["default"]
        for inner in schema.values():
            _leave_out_objects_as_defaults(inner)
    elif isinstance(schema, list):
        for inner in schema:
            _leave_out_objects_as_defaults(inner)


# What a refusal of this status most often is. The first that fits: method and tag may be left open.
_USUAL: tuple[tuple[str, str | None, str | None, str], ...] = (
    ("409", None, "worker", "attempt_superseded"),
    ("422", "get", None, "invalid_parameter"),
    ("400", None, "weights", "digest_mismatch"),
    ("422", None, "weights", "bad_weights_file"),
    ("400", None, None, "malformed_json"),
    ("401", None, None, "unauthorized"),
    ("404", None, None, "not_found"),
    ("409", None, None, "illegal_move"),
    ("413", None, None, "body_too_large"),
    ("415", None, None, "unsupported_media_type"),
    ("416", None, None, "range_not_satisfiable"),
    ("422", None, None, "invalid_body"),
    ("429", None, None, "queue_full"),
    ("500", None, None, "check_failed"),
    ("503", None, None, "not_ready"),
    ("504", None, None, "check_timeout"),
    ("507", None, None, "store_full"),
    ("default", None, None, "internal_error"),
)


def _show_examples(document: dict[str, Any]) -> None:
    records = examples.of_records()
    for method, operation in _operations(document):
        for content in operation.get("requestBody", {}).get("content", {}).values():
            _exemplify(content, document, records)
        for status, answer in operation["responses"].items():
            for kind, content in answer.get("content", {}).items():
                if kind == MEDIA_TYPE:
                    code = next(
                        code
                        for at, by, tag, code in _USUAL
                        if at == status and by in (None, method) and (tag is None or tag in operation["tags"])
                    )
                    content["example"] = examples.of_problem(code)
                elif kind == "application/json":
                    _exemplify(content, document, records)
                elif kind == "text/event-stream":
                    content["example"] = 'event: state\ndata: {"seq": 1, "type": "state"}\nid: 1\n\n'
                elif kind == "text/plain":
                    content["example"] = examples.LOG


def _exemplify(content: dict[str, Any], document: dict[str, Any], records: dict[str, Any]) -> None:
    name = content["schema"].get("$ref", "").rpartition("/")[2]
    if name in records:
        content["example"] = records[name]
    elif name:
        fields = document["components"]["schemas"][name]["properties"]
        items = fields["data"]["items"]
        # What another version may have stored is the record or any object.
        item = records[items.get("anyOf", [items])[0]["$ref"].rpartition("/")[2]]
        more = {"has_more": False, "next": None} if "has_more" in fields else {}
        content["example"] = {"data": [item], **more}


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for operations in document["paths"].values():
        yield from operations.items()
