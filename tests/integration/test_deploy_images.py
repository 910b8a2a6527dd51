"""The images: what hadolint says, what they copy, and that the server's has all that it imports."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import distribution, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import compose

ROOT = compose.ROOT
DEPLOY = ROOT / "deploy"
DOCKERFILES = sorted(DEPLOY.glob("*.Dockerfile"))


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_has_nothing_against_an_image(path: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")

    said = subprocess.run([hadolint, path], capture_output=True, text=True)

    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_has_no_root_and_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    bases = re.findall(r"^FROM (\S+)", text, flags=re.MULTILINE)
    stages = set(re.findall(r" AS (\w+)$", text, flags=re.MULTILINE))

    assert [
        base for base in bases if base not in {*stages, "${DEVICE}"} and not re.search(r":\d+\.\d+\.\d+", base)
    ] == []
    assert re.findall(r"^USER (.+)$", text, flags=re.MULTILINE) == ["10001:10001"]
    assert "HEALTHCHECK" in text
    assert "org.opencontainers.image.revision" in text


def test_every_file_that_an_image_copies_is_let_through_to_the_build() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word
        for path in DOCKERFILES
        for line in re.findall(r"^COPY (?!--from)(.+) \S+$", path.read_text(), flags=re.MULTILINE)
        for word in line.split()
    }

    assert copied == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_what_the_server_imports_is_in_its_extra() -> None:
    """The image has no more than `purlkit[server]`: neither torch nor Ray nor what these bring along."""
    code = (
        "import json, sys; at_start = {*sys.modules};"
        "import api.__main__, services.__main__, services.dispatcher;"
        "print(json.dumps({name: module.__file__ for name, module in sys.modules.items()"
        " if name not in at_start and '.' not in name and 'site-packages' in (getattr(module, '__file__', '') or '')}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    comes_along = closure([*project["dependencies"], *project["optional-dependencies"]["server"]])
    files = (path for name in comes_along for path in distribution(name).files or [])
    provided = {path.parts[0].split(".")[0] for path in files}

    assert set(json.loads(loaded.stdout)) - provided == set()
    assert {"fastapi", "sqlalchemy", "obstore"} <= set(json.loads(loaded.stdout))


def closure(lines: Sequence[str]) -> set[str]:
    """Every distribution that comes along with these."""
    found: set[str] = set()
    todo = [(need.name, need.extras) for need in map(Requirement, lines)]
    while todo:
        name, wanted = todo.pop()
        if canonicalize_name(name) in found:
            continue
        found.add(canonicalize_name(name))
        for line in requires(name) or []:
            need = Requirement(line)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *wanted}):
                todo.append((need.name, need.extras))
    return found
