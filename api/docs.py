"""What the OpenAPI document can't read off the routes' signatures: bodies that api.body parses, and the problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.errors import MEDIA_TYPE, ProblemDocument
from purlkit.results import CheckReport, Finish, Heartbeat, WorkerEvents
from purlkit.spec import JobSpec

# Every record that api.body parses, and the shape of every refusal.
_BODIES: list[type[BaseModel]] = [JobSpec, Heartbeat, WorkerEvents, Finish, CheckReport, ProblemDocument]

TAGS = [
    {"name": "jobs", "description": "Submit a pruning job, watch it, stop it."},
    {"name": "results", "description": "What a job leaves: events, episodes, files, the checkpoint."},
    {"name": "weights", "description": "Dense weights of your own, as safetensors."},
    {"name": "catalog", "description": "The names that a spec may use, and what is here."},
    {"name": "health", "description": "For whoever keeps the service running."},
    {"name": "worker", "description": "For the worker of one attempt or one check, under its own token."},
]

LEAST_BODY = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}


def _ref(record: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{record.__name__}"}


def json_request(record: type[BaseModel], example: object = None) -> dict[str, Any]:
    """`openapi_extra` of a route whose body is this record."""
    content: dict[str, Any] = {"schema": _ref(record)}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def bytes_request(about: str) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a file."""
    content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    return {"requestBody": {"required": True, "description": about, "content": content}}


def text_content(example: str) -> dict[str, Any]:
    return {"text/plain": {"schema": {"type": "string"}, "example": example}}


def problems(**about: str) -> dict[int | str, dict[str, Any]]:
    """`responses` of a route: problems(p404="there is no such job")."""
    content = {MEDIA_TYPE: {"schema": _ref(ProblemDocument)}}
    return {int(status[1:]): {"description": words, "content": content} for status, words in about.items()}


# In every route, beside what it lists itself.
ANY_OTHER: dict[int | str, dict[str, Any]] = {
    "default": {"description": "any other refusal", "content": {MEDIA_TYPE: {"schema": _ref(ProblemDocument)}}}
}

LOG_EXAMPLE = "2026-11-21 08:00:00,000 purl.attempt INFO phase: search\n"

NO_JOB = "there is no such job"
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
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _speak_of_problems(document: dict[str, Any]) -> None:
    """FastAPI writes its own 422 into every route with parameters; ours are answered instead."""
    for name in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(name, None)
    for operations in document["paths"].values():
        for operation in operations.values():
            if "application/json" in operation["responses"].get("422", {}).get("content", {}):
                operation["responses"]["422"] = problems(p422="a parameter is to blame")[422]
