"""From what stands on a command line to the body of POST /jobs: a file, then flags, then `--set path=value`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from purlkit.errors import InvalidSpec

# Where each flag goes in the spec.
FLAGS = {
    "model": "model.name",
    "dataset": "dataset.name",
    "sparsity": "targets.sparsity",
    "accuracy": "targets.accuracy",
    "max_drop": "targets.max_drop",
    "episodes": "search.episodes",
    "baselines": "baselines",
    "runners": "resources.env_runners",
    "seed": "seed",
    "name": "name",
}

_SHA256 = re.compile(r"[0-9a-f]{64}")


def spec_of(file: Path | None, flags: Mapping[str, Any], sets: Iterable[str], labels: Iterable[str]) -> dict[str, Any]:
    """What comes later wins. Nothing is judged here: the service says what is wrong with a spec, field by field."""
    spec = read(file) if file is not None else {}
    for flag, path in FLAGS.items():
        if flags.get(flag) not in (None, [], ()):
            put(spec, path, flags[flag])
    for one in labels:
        key, value = _pair(one, "--label")
        put(spec, f"labels.{key}", value)
    for one in sets:
        path, text = _pair(one, "--set")
        put(spec, path, _value(text))
    if not spec:
        raise InvalidSpec("there is nothing to submit", remedy="give --model and --sparsity, or a file")
    runners = spec.get("resources", {}).get("env_runners")
    if flags.get("runners") and "lookahead" not in spec.get("search", {}):
        put(spec, "search.lookahead", max(2, int(runners)))  # fewer would leave runners idle, and is refused
    return spec


def check_whole(spec: Mapping[str, Any]) -> None:
    """What no job can do without, in the words of the command line: the service speaks of fields."""
    if not spec.get("model"):
        raise InvalidSpec("no model is named", remedy="give --model; `purl models` lists them")
    targets = spec.get("targets")
    if isinstance(targets, dict | None) and not {"sparsity", "flops"} & {*(targets or {})}:
        remedy = "give --sparsity, for example --sparsity 0.9; or --set targets.flops=0.6 for multiply-adds"
        raise InvalidSpec("it is not said how much to remove", remedy=remedy)


def read(file: Path) -> dict[str, Any]:
    """A spec in JSON or YAML."""
    import yaml

    try:
        # YAML 1.1 reads most JSON too, but not all, and `1e-3` only as a text.
        text = file.read_text()
        told = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    except OSError as problem:
        raise InvalidSpec(f"{file} can't be read", remedy=problem.strerror or "choose another file") from None
    except (ValueError, yaml.YAMLError) as problem:
        where = str(problem).splitlines()[0]
        raise InvalidSpec(f"{file} is neither JSON nor YAML", remedy=f"the reader stopped at: {where}") from None
    if not isinstance(told, dict):
        raise InvalidSpec(f"{file} holds no spec", remedy='begin with {"model": {"name": …}, "targets": {…}}')
    return told


def put(spec: dict[str, Any], path: str, value: Any) -> None:
    """`put(spec, "search.retrain.epochs", 2)`; what lies between is made."""
    *parents, last = path.split(".")
    here = spec
    for parent in parents:
        here = here.setdefault(parent, {})
        if not isinstance(here, dict):
            raise InvalidSpec(f"{path} leads through a value", remedy=f"{parent} is not an object in this spec")
    here[last] = value


def axis(text: str) -> tuple[str, Any]:
    """`seed=0,1,2`, or as JSON: `seed=[0,1,2]`, `search={"sparse": {"dense": false}}`."""
    path, said = _pair(text, "--grid")
    values = _value(said)
    return path, values if isinstance(values, (list, dict)) else [_value(one) for one in said.split(",")]


def is_sha256(text: str) -> bool:
    return _SHA256.fullmatch(text) is not None


def _pair(text: str, flag: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidSpec(f"{flag} needs a name and a value", remedy=f"write {flag} name=value")
    return key, value


def _value(text: str) -> Any:
    """As JSON where it is JSON, else as it stands: 2, 0.1, true, [0.5,0.9], adam."""
    try:
        return json.loads(text)
    except ValueError:
        return text
