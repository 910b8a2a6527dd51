"""docker-compose.yml as a test reads it: its anchors merged, its ${…} filled in with their defaults."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent
FILE = ROOT / "docker-compose.yml"
DOCKERFILES = ROOT / "deploy"


def read() -> dict[str, Any]:
    found: dict[str, Any] = _filled_in(yaml.safe_load(FILE.read_text()))
    return found


def _filled_in(value: Any) -> Any:
    match value:
        case str():
            return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
        case dict():
            return {key: _filled_in(each) for key, each in value.items()}
        case list():
            return [_filled_in(each) for each in value]
    return value


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read()["services"]
    return found


def image_environ(dockerfile: str) -> dict[str, str]:
    """What its ENV lines set."""
    lines = re.sub(r"\\\n", " ", (ROOT / dockerfile).read_text()).splitlines()
    pairs = (pair for line in lines if line.startswith("ENV ") for pair in line.removeprefix("ENV ").split())
    return dict(pair.split("=", 1) for pair in pairs)


def healthcheck(service: str) -> list[str]:
    """The file's own, or that of the image it builds."""
    said = services()[service]
    if "healthcheck" in said:
        _, *command = said["healthcheck"]["test"]
        return command
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.*?\])", (ROOT / said["build"]["dockerfile"]).read_text(), re.M | re.S)
    assert found, f"{service} is not looked after"
    words: list[str] = json.loads(found[1])
    return words
