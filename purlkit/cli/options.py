"""The options that make a spec, once for every command that takes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from purlkit.cli.specs import check_whole, is_sha256, put, spec_of


@dataclass(frozen=True)
class Options:
    """What was given on the command line."""

    given: dict[str, Any]

    def job(self, purl: Any) -> dict[str, Any]:
        """The body of POST /jobs, which has a model and a target."""
        return self.body(purl, check_whole)

    def body(self, purl: Any, check: Callable[[dict[str, Any]], None] = lambda _: None) -> dict[str, Any]:
        """What is checked before weights that are a file are uploaded."""
        flags = dict(self.given)
        file, sets, labels = flags.pop("file"), flags.pop("set_") or (), flags.pop("label") or ()
        weights = flags.pop("weights")
        spec = spec_of(file, flags, sets, labels)
        check(spec)
        if weights is not None:
            sha256 = weights if is_sha256(weights) else purl.upload(weights_file(weights)).sha256
            put(spec, "model.weights", {"sha256": sha256})
        return spec


def weights_file(text: str) -> Path:
    from purlkit.errors import InvalidSpec

    path = Path(text)
    if not path.is_file():
        raise InvalidSpec(f"{text} is neither a file nor the sha256 of an upload", remedy="give a safetensors file")
    return path


def takes_spec(command: Callable[..., None]) -> Callable[..., None]:
    """Puts the options below before the command's own, and hands them over as its first argument."""

    @wraps(command)
    def with_options(**given: Any) -> None:
        command(Options({name: given.pop(name) for name in _SPEC}), **given)

    own = [*inspect.signature(command, eval_str=True).parameters.values()][1:]
    with_options.__signature__ = inspect.Signature([*_SPEC.values(), *own])  # type: ignore[attr-defined]
    return with_options


def _spec(
    file: Annotated[Path | None, typer.Argument(help="a spec in JSON or YAML; flags win over it")] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", help="a name from `purl models`")] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="a name from `purl datasets`")] = None,
    weights: Annotated[str | None, typer.Option(help="a safetensors file to upload, or an upload's sha256")] = None,
    sparsity: Annotated[float | None, typer.Option("--sparsity", "-s", help="share of weights to remove")] = None,
    accuracy: Annotated[float | None, typer.Option(help="top-1 accuracy to keep, from 0 to 1")] = None,
    max_drop: Annotated[float | None, typer.Option(help="accuracy that may be lost, from 0 to 1")] = None,
    episodes: Annotated[int | None, typer.Option(help="walks that the search learns from")] = None,
    baselines: Annotated[list[str] | None, typer.Option("--baseline", help="raced against; repeat for more")] = None,
    runners: Annotated[int | None, typer.Option(help="episodes played side by side")] = None,
    seed: Annotated[int | None, typer.Option(help="decides every random choice")] = None,
    name: Annotated[str | None, typer.Option(help="a name of yours")] = None,
    label: Annotated[list[str] | None, typer.Option(help="key=value; repeat for more")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="any field: search.retrain.epochs=2")] = None,
) -> None:
    """Never called: its signature is what counts."""


_SPEC = inspect.signature(_spec, eval_str=True).parameters
