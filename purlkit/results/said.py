"""What a reader makes of a record from a process of another version."""

from __future__ import annotations

from pydantic import ConfigDict

from purlkit.spec import Record


class Said(Record):
    """What one process tells another, which may be of the version before or of the one after.

    A reader leaves out the fields that it does not know, and fills in the optional ones that are not there. A spec is
    no such record: a part of it that is not understood must be refused, not left undone.
    """

    model_config = ConfigDict(extra="ignore")
