"""The names that a spec may use, and what of them is here."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from api import docs, sight
from api.deps import PartsDep
from api.router import Router
from api.schemas import Listing
from purlkit.zoo import catalog
from services.settings import Settings

router = Router(tags=["catalog"])

Provider = Annotated[
    Literal["purlkit", "torchvision", "timm", "plugin"] | None,
    Query(description="ours, torchvision's, timm's, or the operator's own; all but timm's when left out"),
]


class OptionView(BaseModel):
    """One of `kwargs`: of the kind that its default is."""

    default: int | str | tuple[int, ...]
    low: int = Field(description="of a number, of each number of a row, or of the length of a name")
    high: int
    about: str


class ModelView(BaseModel):
    name: str
    about: str
    provider: str
    dataset: str = Field(description="what it is trained on when a spec names no data set")
    pretrained: bool = Field(description='whether weights may be "pretrained"')
    options: dict[str, OptionView]
    available: bool = Field(description="as the service sees its own packages; a dry run asks where the workers are")
    reason: str | None = Field(description="what to do where it is not")


class DatasetView(BaseModel):
    name: str
    about: str
    provider: str
    shape: tuple[int, int, int] = Field(description="channels, height, width; `shape` and `size` in kwargs change it")
    classes: int
    options: dict[str, OptionView]
    available: bool = Field(description="as the service sees its own data root; a dry run asks where the workers are")
    reason: str | None = Field(description="what to do where it is not")


class AlgorithmView(BaseModel):
    name: str
    about: str
    role: Literal["search", "baseline"] = Field(description="goes into search.algorithm, or into baselines")


@router.get("/models", summary="Architectures", responses=docs.problems(p422="a parameter is to blame"))
def list_models(provider: Provider = None) -> Listing[ModelView]:
    """All but timm's, which are a thousand and come when asked for."""
    entries = catalog.timm() if provider == "timm" else catalog.all_models()
    return Listing(data=[_model(entry) for entry in entries.values() if provider in (None, entry.provider)])


def _model(entry: catalog.ModelEntry) -> ModelView:
    here = entry.package is None or find_spec(entry.package) is not None
    return ModelView(
        name=entry.name,
        about=entry.about,
        provider=entry.provider,
        dataset=entry.dataset,
        pretrained=entry.pretrained,
        options=_options(entry.options),
        available=here,
        reason=None if here else f"install purlkit[{entry.package}] where the workers run",
    )


@router.get("/datasets", summary="Data sets, and whether the workers see them")
async def list_datasets(parts: PartsDep) -> Listing[DatasetView]:
    """On a cluster, or with data in S3, a worker is asked at most every five minutes, which takes some seconds."""
    seen = await sight.seen(parts)
    return Listing(data=[_dataset(entry, seen, parts.settings) for entry in catalog.all_datasets().values()])


def _dataset(entry: catalog.DatasetEntry, seen: Mapping[str, str | None], settings: Settings) -> DatasetView:
    reason = seen.get(entry.name, "the workers don't know it: install its package on every node")
    here = reason is None
    coming = not here and settings.download and entry.downloads
    if coming:
        reason = "the first job that uses it fetches it"
    return DatasetView(
        name=entry.name,
        about=entry.about,
        provider=entry.provider,
        shape=entry.shape_with({}),
        classes=entry.classes_with({}),
        options=_options(entry.options),
        available=here or coming,
        reason=reason,
    )


@router.get("/algorithms", summary="Searches, and the naive methods they race against")
def list_algorithms() -> Listing[AlgorithmView]:
    searches = [AlgorithmView(name=name, about=about, role="search") for name, about in catalog.SEARCHES.items()]
    naive = [AlgorithmView(name=name, about=about, role="baseline") for name, about in catalog.BASELINES.items()]
    return Listing(data=searches + naive)


def _options(options: Mapping[str, catalog.Option]) -> dict[str, OptionView]:
    return {
        name: OptionView(default=option.default, low=option.low, high=option.high, about=option.about)
        for name, option in options.items()
    }
