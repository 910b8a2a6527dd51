"""The examples in the library's docstrings are run, as `pytest --doctest-modules purlkit` would."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import purlkit

MODULES = sorted(module.name for module in pkgutil.walk_packages(purlkit.__path__, "purlkit."))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))

    assert failed == 0
