"""What every part of a spec is: frozen, checked at the door; and the kinds of values that several parts share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Rate = Annotated[float, Field(gt=0, le=100)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Row = Annotated[tuple[int, ...], Field(strict=False, max_length=8)]
Kwargs = Annotated[dict[str, bool | int | float | str | Row], Field(max_length=32)]


class Record(BaseModel):
    """A value that refuses bad input at the door and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
