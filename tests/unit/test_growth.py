"""How far a cluster may grow, as an operator writes it."""

from __future__ import annotations

import pytest

from purlkit.growth import Group, parse
from services.errors import BadSetting
from services.settings import Settings


def test_kinds_of_nodes_with_how_many_there_may_be() -> None:
    assert parse("8x4, 4x8+1") == (Group(8, 4, 0), Group(4, 8, 1))
    assert parse("") == ()


@pytest.mark.parametrize("text", ["8", "8x", "x4", "8x4+", "-1x4", "8x4;4x8", "1x1.5", "eight"])
def test_anything_else_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(BadSetting, match=r"PURL_RAY_GROWS_TO.*COUNTxCPUS\+GPUS"):
        Settings.from_environ({"PURL_RAY_GROWS_TO": text})
