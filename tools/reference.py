"""Writes docs/reference from the code: the API's routes, the fields of a spec, the commands of `purl`.

    python -m tools.reference

A test compares what it would write with what is there.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

from api.main import create_app
from purlkit.cli import app as cli
from purlkit.spec import JobSpec, SweepSpec
from services.artifacts import open_store
from services.database import Database
from services.launch import launcher_for
from services.settings import Settings
from tools.markdown import fields, kind, reachable, short, table

FOLDER = Path(__file__).parent.parent / "docs" / "reference"
WRITTEN = "*Written by `python -m tools.reference` from the code; edit that instead.*"


def pages() -> dict[Path, str]:
    """What each file should hold."""
    made = {"api.md": api(), "spec.md": spec(), "cli.md": commands()}
    return {FOLDER / name: "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
        print(path)


# ---- the API


def api() -> Iterator[str]:
    document = openapi()
    yield "# The API, route by route"
    yield ""
    yield f"{WRITTEN} How it behaves as a whole (lists, streams, retries, every error code) is in [api.md](../api.md)."
    yield ""
    for tag in document["tags"]:
        yield f"## {tag['name'].capitalize()}"
        yield ""
        yield tag["description"]
        yield ""
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    yield from route(f"{method.upper()} {path}", operation)
    yield "## What is sent and answered"
    yield ""
    yield "Fields of a spec are in [spec.md](spec.md)."
    yield ""
    records = document["components"]["schemas"]
    elsewhere = set(reachable({"$ref": "/JobSpec"}, records)) | {"SweepSpec"}
    for name in reachable(document["paths"], records):
        if name not in elsewhere:
            yield from record(name, records[name])


def openapi() -> dict[str, Any]:
    """The document of a service that is never started."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings.from_environ({"PURL_DATA_DIR": folder})
        store, launcher = open_store(settings), launcher_for(settings, {})
        return create_app(Database.open(settings.database_url), settings, store, launcher).openapi()


def route(title: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### `{title}`"
    yield ""
    yield " ".join([f"**{operation['summary']}.**", *operation.get("description", "").split()])
    yield ""
    given = [one for one in operation.get("parameters", ()) if one["in"] != "path"]
    if given:
        rows = [(f"`{one['name']}`", one["in"], kind(one["schema"]), one.get("description", "")) for one in given]
        yield from table(("parameter", "in", "may be", "what it is"), rows)
    body = operation.get("requestBody")
    if body:
        yield f"Body: {contents(body)}."
        yield ""
    for status, answer in sorted(operation["responses"].items()):
        if status != "default":
            said = "" if answer["description"] == "Successful Response" else answer["description"]
            of = contents(answer) if int(status) < 300 else ""
            yield f"- {status}: {'; '.join(filter(None, (of, said)))}"
    yield ""


def contents(body: dict[str, Any]) -> str:
    of = [(media, kind(content.get("schema", {}))) for media, content in body.get("content", {}).items()]
    kinds = (words if media == "application/json" else media for media, words in of)
    return _of_spec(" or ".join(dict.fromkeys(kinds)) or "nothing")


def _of_spec(words: str) -> str:
    for name in ("JobSpec", "SweepSpec"):
        words = words.replace(f"(#{name.lower()})", f"(spec.md#{name.lower()})")
    return words


# ---- a spec


def spec() -> Iterator[str]:
    yield "# A spec, field by field"
    yield ""
    yield (
        f"{WRITTEN} What to choose is in [targets.md](../targets.md) and "
        "[models-and-data.md](../models-and-data.md); `GET /models` and `GET /datasets` list the names. Unknown fields "
        "are errors."
    )
    yield ""
    for top in (JobSpec, SweepSpec):
        schema = top.model_json_schema()
        records = schema.get("$defs", {})
        yield from record(top.__name__, schema)
        if top is JobSpec:
            for name in reachable(schema["properties"], records):
                yield from record(name, records[name])


def record(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {short(name)}"
    yield ""
    if schema.get("description"):
        yield " ".join(schema["description"].split())
        yield ""
    if "properties" not in schema:
        yield f"{kind(schema)}."
        yield ""
        return
    rows = [(field, _of_spec(may_be), default, about) for field, may_be, default, about in fields(schema)]
    yield from table(("field", "may be", "default", "what it is"), rows)


# ---- the command line


def commands() -> Iterator[str]:
    root = typer.main.get_command(cli.purl())
    yield "# The command line"
    yield ""
    yield f"{WRITTEN} `purl --help` and `purl COMMAND --help` say the same."
    yield ""
    yield str(root.help)
    yield ""
    yield str(root.epilog)
    yield ""
    yield from command("purl", root)


def command(name: str, found: Any) -> Iterator[str]:
    if hasattr(found, "commands"):
        for below, each in found.commands.items():
            yield from command(f"{name} {below}", each)
        return
    context = found.context_class(found, info_name=name)
    yield f"## `{name}`"
    yield ""
    yield " ".join(str(found.help).split())
    yield ""
    yield f"    {' '.join(found.get_usage(context).removeprefix('Usage: ').split())}"
    yield ""
    rows = [row for one in found.get_params(context) if (row := parameter(one, context)) is not None]
    yield from table(("argument or option", "what it is"), rows)


def parameter(one: Any, context: Any) -> tuple[str, str] | None:
    """As `--help` has it, which knows of defaults, limits and environment variables."""
    if one.name == "help":
        return None
    said = one.get_help_record(context)
    return (f"`{said[0]}`", said[1]) if said else None


if __name__ == "__main__":
    main()
