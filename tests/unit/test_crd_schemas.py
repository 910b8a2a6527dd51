"""What becomes of an operator's definition: a schema that refuses what it does not know."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from tools.crd_schemas import strict

DEFINITION: dict[str, Any] = {
    "type": "object",
    "description": "of something",
    "required": ["size"],
    "properties": {
        "size": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
        "mode": {"type": "string", "pattern": "^(?i)(abort|warn)?$"},
        "template": {"type": "object", "properties": {"spec": {"type": "object"}}},
        "groups": {"type": "array", "items": {"type": "object", "properties": {"name": {"type": "string"}}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}


@pytest.mark.parametrize(
    ("said", "refused"),
    [
        ({"size": "1Gi", "mode": "Warn", "template": {"anything": 1}, "labels": {"any": "name"}}, None),
        ({"size": 1, "groups": [{"name": "a"}]}, None),
        ({"mode": "warn"}, "size"),
        ({"size": 1.5}, "1.5"),
        ({"size": 1, "mode": "perhaps"}, "perhaps"),
        ({"size": 1, "group": []}, "group"),
        ({"size": 1, "groups": [{"nam": "a"}]}, "nam"),
        ({"size": 1, "labels": {"any": 1}}, "1"),
    ],
)
def test_what_the_definition_does_not_know_is_refused(said: dict[str, Any], refused: str | None) -> None:
    if refused is None:
        jsonschema.validate(said, strict(DEFINITION))
        return
    with pytest.raises(jsonschema.ValidationError, match=refused):
        jsonschema.validate(said, strict(DEFINITION))
