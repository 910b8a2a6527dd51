"""The form of a new job: its fields, with the words, limits and defaults of the spec itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from purlkit.spec import Dataset, FineTune, JobSpec, Model, Race, Resources, Retrain, Search, Targets, Training
from purlkit.zoo import catalog

_NAMES = "begin to type, and choose a name"

Kind = Literal["text", "number", "shares", "choice", "switch", "several", "labels"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """One control. Its pointer says where in the spec its value goes, and which refusals are about it."""

    pointer: str
    label: str
    kind: Kind
    help: str
    default: str = ""  # what holds where it is left empty
    limits: str = ""
    choices: tuple[tuple[str, str], ...] = ()  # value and what it is
    chosen: tuple[str, ...] = ()
    list: str = ""  # id of suggestions
    value: str = ""
    integer: bool = False

    @property
    def id(self) -> str:
        return "f" + self.pointer.replace("/", "-")


@dataclass(frozen=True, kw_only=True)
class Group:
    title: str
    fields: tuple[Field, ...]
    open: bool = True


def groups() -> list[Group]:
    return [
        Group(
            title="What to prune",
            fields=(
                _field("/model/name", "Model", Model, list="models", value="digits-resnet", help=_NAMES),
                _field("/dataset/name", "Data set", Dataset, list="datasets", help=_NAMES, default="the model's own"),
                _field("/targets/sparsity", "Sparsity", Targets, kind="shares", value="0.9"),
                _field("/targets/accuracy", "Accuracy to keep", Targets, default="none asked for"),
                _field("/targets/max_drop", "Accuracy that may be lost", Targets, default="none asked for"),
                _field("/model/weights/train/epochs", "Epochs of the dense training", Training),
            ),
        ),
        Group(
            title="Search",
            fields=(
                _field("/search/episodes", "Episodes", Search),
                _field("/search/greedy_episodes", "Greedy episodes", Search),
                _field("/search/reward", "Reward", Search),
                _field("/search/state", "State", Search),
                _field("/search/retrain/epochs", "Epochs after each cut", Retrain),
                _field("/search/retrain/images", "Images after each cut", Retrain),
                _field("/seed", "Seed", JobSpec),
            ),
            open=False,
        ),
        Group(
            title="Race",
            fields=(
                _baselines(),
                _field("/fine_tune/epochs", "Epochs of fine-tuning", FineTune),
                _field("/race/seeds", "Seeds of the finalists", Race),
                _field("/race/matched", "Matched control", Race),
            ),
            open=False,
        ),
        Group(
            title="How it runs",
            fields=(
                _field("/name", "Name", JobSpec),
                Field(
                    pointer="/labels",
                    label="Labels",
                    kind="labels",
                    help="key: value, several separated by commas",
                    default="none",
                ),
                _field("/priority", "Priority", JobSpec),
                _field("/resources/env_runners", "Runners", Resources),
                _field("/resources/cpus_per_runner", "CPUs of each runner", Resources),
                _field("/resources/gpus_per_runner", "GPUs of each runner", Resources),
                _field("/resources/fine_tune_workers", "Workers that train one network", Resources),
                _field("/timeout_seconds", "Time limit in seconds", JobSpec, default="none"),
            ),
            open=False,
        ),
    ]


def _field(pointer: str, label: str, record: type[BaseModel], *, kind: Kind | None = None, **more: Any) -> Field:
    """What the spec says of the field."""
    info = record.model_fields[pointer.rpartition("/")[2]]
    options = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
    default = "" if info.default in (PydanticUndefined, None) else str(info.default)
    return Field(
        pointer=pointer,
        label=label,
        kind=kind or _kind(info.annotation, options),
        choices=tuple((option, option) for option in options),
        chosen=(default,) if options else (),
        limits=_limits(info.metadata),
        integer=int in (info.annotation, *get_args(info.annotation)),
        **{"default": default, "help": info.description or "", **more},
    )


def _kind(annotation: Any, options: tuple[Any, ...]) -> Kind:
    if options:
        return "choice"
    kinds = (annotation, *get_args(annotation))
    return "switch" if bool in kinds else "number" if int in kinds or float in kinds else "text"


_WORDS: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (Gt, lambda limit: f"above {limit.gt:g}"),
    (Ge, lambda limit: f"at least {limit.ge:g}"),
    (Lt, lambda limit: f"below {limit.lt:,}"),
    (Le, lambda limit: f"at most {limit.le:,}"),
)


def _limits(metadata: list[Any]) -> str:
    return ", ".join(say(limit) for kind, say in _WORDS for limit in metadata if isinstance(limit, kind))


def _baselines() -> Field:
    return Field(
        pointer="/baselines",
        label="Naive methods",
        kind="several",
        help="what the search has to beat",
        choices=tuple(catalog.BASELINES.items()),
        chosen=JobSpec.model_fields["baselines"].default,
    )
