"""Writes tests/schemas anew, from definitions of KubeRay and the Prometheus operator that somebody has fetched.

    python -m tools.crd_schemas SOURCE VERSION < ray.io_rayclusters.yaml > tests/schemas/RayCluster.json

SOURCE is the project, its licence and its commit, which the file will name. What is kept is what a field may be: its
description and its default are left out, and pods, whose schema is Kubernetes' own. A field that the definition does
not know is refused: Kubernetes itself would drop it without a word.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import yaml

ELSEWHERE = ("metadata", "status", "template")
KEPT = ("type", "properties", "items", "required", "enum", "additionalProperties", "minimum", "maximum", "pattern")
INT_OR_STRING = "x-kubernetes-int-or-string"


def strict(said: dict[str, Any]) -> dict[str, Any]:
    """The schema of what may be said there, and of nothing else."""
    if said.get(INT_OR_STRING):
        return {"type": ["integer", "string"]}
    found = {name: value for name, value in said.items() if name in KEPT}
    if "properties" in found:
        inner = found["properties"].items()
        found["properties"] = {name: {"type": "object"} if name in ELSEWHERE else strict(each) for name, each in inner}
        found.setdefault("additionalProperties", False)
    if "pattern" in found:  # Go lets a flag stand anywhere
        found["pattern"] = found["pattern"].replace("^(?i)", "(?i)^")
    for name in ("items", "additionalProperties"):
        if isinstance(found.get(name), dict):
            found[name] = strict(found[name])
    return found


def main() -> None:
    source, version = sys.argv[1:]
    definition = yaml.safe_load(sys.stdin)["spec"]
    (served,) = (each for each in definition["versions"] if each["name"] == version)
    schema = {"$comment": source, **strict(served["schema"]["openAPIV3Schema"])}
    json.dump(schema, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
