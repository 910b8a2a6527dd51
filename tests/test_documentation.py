"""What the documents say about the program is true of it."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from purlkit.recipes import recipes
from services.settings import Settings

ROOT = Path(__file__).parent.parent


def test_every_setting_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `(PURL_\w+)` \|", (ROOT / "docs/settings.md").read_text(), flags=re.MULTILINE)

    assert sorted(documented) == sorted(f"PURL_{field.name.upper()}" for field in fields(Settings))


def test_every_make_target_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"(?:^|`)make ([a-z]+)\b", (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))

    assert {"demo", "test", "serve"} <= named <= targets


def test_every_file_that_the_readme_names_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    named = re.findall(r"\b((?:purlkit|services|workers|api|docs|tests|examples)/[\w./-]*\w)", readme)

    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_recipe_is_documented_and_no_other() -> None:
    documented = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "docs/recipes.md").read_text(), flags=re.MULTILINE)

    assert documented == list(recipes())


def test_every_test_that_holds_a_promise_exists() -> None:
    named = re.findall(r"`([\w/]+\.py)((?:::\w+)+)`", (ROOT / "docs/reliability.md").read_text())

    assert len(named) > 40
    missing = [
        path + names
        for path, names in named
        for name in names.split("::")[1:]
        if not re.search(rf"^ *(?:def|class) {name}\b", (ROOT / "tests" / path).read_text(), flags=re.MULTILINE)
    ]
    assert missing == []
