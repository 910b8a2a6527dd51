"""What all tables share: how a state, a number and a JSON document are stored, and how constraints are named."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import JSON, BigInteger, Enum, MetaData
from sqlalchemy.orm import DeclarativeBase

from services.states import AttemptState, JobState

Json = dict[str, Any]

# SQL's NULL, rather than the JSON document `null`: "has a result" is then one question.
JSON_OR_NULL = JSON(none_as_null=True)


def _words(kind: type[StrEnum]) -> Enum:
    """A state as its word. A plain string in the database, so that a new state needs no change of a type there."""
    return Enum(kind, native_enum=False, length=16, values_callable=lambda states: [state.value for state in states])


class Base(DeclarativeBase):
    # Every constraint has a name, or a later migration could not change it on SQLite.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        int: BigInteger,
        Json: JSON_OR_NULL,
        JobState: _words(JobState),
        AttemptState: _words(AttemptState),
    }
