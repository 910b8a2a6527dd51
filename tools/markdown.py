"""A JSON schema in words, and tables in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

Schema = dict[str, Any]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for row in rows:
        yield f"| {' | '.join(_cell(each) for each in row)} |"
    yield ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def fields(record: Schema) -> list[tuple[str, str, str, str]]:
    """Of each field its name, what it may be, its default, and what it is."""
    needed = record.get("required", ())
    return [
        (f"`{name}`", kind(schema), _default(schema, needed=name in needed), schema.get("description", ""))
        for name, schema in record.get("properties", {}).items()
    ]


def _default(schema: Schema, *, needed: bool) -> str:
    if needed:
        return "*needed*"
    default = schema.get("default")
    # A record's defaults stand in its own table.
    return "" if isinstance(default, dict) and default else f"`{json.dumps(default, ensure_ascii=False)}`"


def kind(schema: Schema) -> str:
    """`a number above 0 and below 1`, `a list of texts`, [`Agent`](#agent)."""
    if "$ref" in schema:
        name = short(name_of(schema["$ref"]))
        return f"[`{name}`](#{name.lower()})"
    if "const" in schema or "enum" in schema:
        values = schema.get("enum", [schema.get("const")])
        return ", ".join(f"`{json.dumps(value)}`" for value in values)
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(kind(each) for each in schema[several]))
    match schema.get("type"):
        case "array":
            if "prefixItems" in schema:
                return "a list of " + ", ".join(kind(each) for each in schema["prefixItems"])
            return f"a list of: {kind(schema['items'])}" if schema.get("items") else "a list"
        case "object":
            values = schema.get("additionalProperties")
            return f"an object of: {kind(values)}" if isinstance(values, dict) and values else "an object"
        case "integer" | "number" as name:
            return " ".join([{"integer": "a whole number", "number": "a number"}[name], *_limits(schema)])
        case "string":
            longest = f" of at most {schema['maxLength']} characters" if "maxLength" in schema else ""
            return {"date-time": "a time", "binary": "bytes"}.get(schema.get("format", ""), f"a text{longest}")
        case "boolean":
            return "`true` or `false`"
        case "null":
            return "`null`"
    return "anything"


def _limits(schema: Schema) -> Iterator[str]:
    words = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    for key, word in words.items():
        if key in schema:
            yield f"{word} {schema[key]:,}"


def name_of(reference: str) -> str:
    return reference.rpartition("/")[2]


def short(name: str) -> str:
    """Of a page of records the two that matter: `Page_EventView_` and longer ones are pages of one kind."""
    outer, *inner = name.split("_")
    of = [part for part in inner if part[:1].isupper() and part not in ("Annotated", "Union")]
    return outer + "".join(of[:1])


def named(schema: Any) -> Iterator[str]:
    """The records that a schema refers to, in order."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            yield name_of(schema["$ref"])
        for each in schema.values():
            yield from named(each)
    elif isinstance(schema, list):
        for each in schema:
            yield from named(each)


def reachable(start: Any, records: dict[str, Schema]) -> list[str]:
    """All records on the ways from here, each once, those that are met first coming first."""
    found: dict[str, None] = {}
    waiting = list(named(start))
    while waiting:
        name = waiting.pop(0)
        if name not in found:
            found[name] = None
            waiting += named(records[name])
    return list(found)
