"""What every part of a spec is: frozen, checked at the door; and the kinds of values that several parts share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

Rate = Annotated[float, Field(gt=0, le=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Row = Annotated[tuple[int, ...], Field(strict=False, max_length=8)]
Key = Annotated[str, Field(max_length=100)]
Text = Annotated[str, Field(max_length=1000)]
Kwargs = Annotated[dict[Key, bool | int | float | Text | Row], Field(max_length=32)]


def disagree(message: str, *fields: str) -> PydanticCustomError:
    """A fault of several fields together, each given by its JSON pointer from the record."""
    return PydanticCustomError("fields_disagree", "{message}", {"message": message, "fields": fields})


class Record(BaseModel):
    """A value that refuses bad input at the door and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
