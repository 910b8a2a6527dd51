"""The names that a spec may use, and what of them is here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, Field

from api.deps import SettingsDep
from api.router import Router
from api.schemas import Listing
from purlkit.zoo import catalog

router = Router(tags=["catalog"])


class OptionView(BaseModel):
    """One of `kwargs`: a whole number."""

    default: int
    low: int
    high: int
    about: str


class ModelView(BaseModel):
    name: str
    about: str
    dataset: str = Field(description="what it is trained on when a spec names no data set")
    options: dict[str, OptionView]


class DatasetView(BaseModel):
    name: str
    about: str
    shape: tuple[int, int, int] = Field(description="channels, height, width")
    classes: int
    options: dict[str, OptionView]
    available: bool = Field(description="as the service sees its own data root; a dry run asks where the workers are")
    reason: str | None = Field(description="what to do where it is not")


class AlgorithmView(BaseModel):
    name: str
    about: str
    role: Literal["search", "baseline"] = Field(description="goes into search.algorithm, or into baselines")


@router.get("/models", summary="Architectures")
def list_models() -> Listing[ModelView]:
    return Listing(
        data=[
            ModelView(name=entry.name, about=entry.about, dataset=entry.dataset, options=_options(entry.options))
            for entry in catalog.MODELS.values()
        ]
    )


@router.get("/datasets", summary="Data sets, and whether they are here")
def list_datasets(settings: SettingsDep) -> Listing[DatasetView]:
    views = []
    for entry in catalog.DATASETS.values():
        missing = [file for file in entry.files if not (settings.datasets_dir / file).exists()]
        view = DatasetView(
            name=entry.name,
            about=entry.about,
            shape=entry.shape,
            classes=entry.classes,
            options=_options(entry.options),
            available=not missing,
            reason=f"put {', '.join(missing)} into the data root" if missing else None,
        )
        views.append(view)
    return Listing(data=views)


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
