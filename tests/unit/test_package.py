"""The package's face: everything it names is there, and nothing heavy is loaded before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import purlkit


@pytest.mark.parametrize("name", purlkit.__all__)
def test_every_name_is_there(name: str) -> None:
    assert getattr(purlkit, name).__name__ == name


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        purlkit.nothing  # noqa: B018


def test_importing_it_loads_no_torch() -> None:
    code = "import sys, purlkit, purlkit.spec; dir(purlkit); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
