"""Which network a job prunes, with which weights, on which data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from purlkit.spec.record import Kwargs, Record, Sha256
from purlkit.spec.training import Training


class TrainHere(Record):
    """No weights are given: the service trains the dense model itself, from the job's seed."""

    train: Training = Training()


class Uploaded(Record):
    """Weights that the client uploaded before with POST /weights."""

    sha256: Sha256


# Those that torchvision publishes, as the papers started from.
Pretrained = Literal["pretrained"]


def _kind_of_weights(value: Any) -> str:
    if value == "pretrained":
        return "pretrained"
    if isinstance(value, Uploaded) or (isinstance(value, dict) and "sha256" in value):
        return "uploaded"
    return "train"


Weights = Annotated[
    Annotated[TrainHere, Tag("train")]
    | Annotated[Uploaded, Tag("uploaded")]
    | Annotated[Pretrained, Tag("pretrained")],
    Discriminator(_kind_of_weights),
]


class Model(Record):
    name: str = Field(max_length=100, description="a name from GET /models")
    kwargs: Kwargs = Field({}, description="arguments of the model's builder")
    weights: Weights = Field(TrainHere(), description='{"train": {…}}, {"sha256": "…"} of an upload, or "pretrained"')


class Dataset(Record):
    name: str = Field(max_length=100, description="a name from GET /datasets")
    kwargs: Kwargs = Field({}, description="arguments of the data set's loader")
