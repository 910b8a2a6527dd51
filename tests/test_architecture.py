"""Arrows point one way: api → services → purlkit's torch-free part, workers → purlkit, and nothing back."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = ("purlkit", "services", "workers", "api")

# What each package may not import, here or in any function.
FORBIDDEN = {
    "purlkit": {"services", "workers", "api", "fastapi", "sqlalchemy", "ray", "alembic", "uvicorn"},
    "services": {"workers", "api", "fastapi", "starlette", "uvicorn", "ray", "torch", "torchvision"},
    "workers": {"services", "api", "fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic"},
    "api": {"workers", "ray", "torch", "torchvision"},
}

# All of purlkit that services and api may know: records and names, no torch.
TORCH_FREE = {
    "purlkit.code",
    "purlkit.spec",
    "purlkit.results",
    "purlkit.errors",
    "purlkit.growth",
    "purlkit.header",
    "purlkit.processes",
    "purlkit.published",
    "purlkit.recipes",
    "purlkit.report",
    "purlkit.sentence",
    "purlkit.startup",
    "purlkit.storage",
    "purlkit.zoo.catalog",
}


def modules(package: str) -> list[Path]:
    # Alembic runs its files as scripts.
    return sorted(path for path in (ROOT / package).rglob("*.py") if "migrations" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it: `from a import b` counts as a and as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", OURS)
def test_no_arrow_points_up(package: str) -> None:
    assert modules(package)
    offending = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.split(".")[0] in FORBIDDEN[package]
    }
    assert not offending


@pytest.mark.parametrize("package", ["services", "api"])
def test_the_service_knows_only_the_torch_free_part_of_the_library(package: str) -> None:
    offending = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in modules(package)
        for name in imports(path)
        if name.startswith("purlkit.") and not any(name == m or name.startswith(f"{m}.") for m in TORCH_FREE)
        if name != "purlkit.zoo"
    }
    assert not offending


@pytest.mark.parametrize("package", OURS)
def test_nothing_connects_at_import(package: str) -> None:
    """A module's top level defines things. Calls that stand alone there would do things, and so might a `with`."""
    offending = {
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(package)
        for node in ast.parse(path.read_text()).body
        if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        or (isinstance(node, ast.With) and not _only_loads(node))
    }
    assert not offending


def _only_loads(node: ast.With) -> bool:
    around = [ast.unparse(item) for item in node.items]
    return around == ["loading()"] and all(isinstance(held, ast.Import | ast.ImportFrom) for held in node.body)


@pytest.mark.parametrize(
    "module",
    [
        "purlkit",
        "purlkit.spec",
        "purlkit.results",
        "purlkit.zoo.catalog",
        "purlkit.client",
        "purlkit.recipes",
        "api.main",
        "services.dispatcher",
    ],
)
def test_importing_it_loads_neither_torch_nor_ray(module: str) -> None:
    code = f"import {module}, sys; print([m for m in ('torch', 'ray', 'torchvision', 'gymnasium') if m in sys.modules])"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["workers.pulse", "workers.tuning", "workers.randomly", "workers.budget"])
def test_what_rays_tasks_load_is_not_rllib(module: str) -> None:
    """Of which every worker process would have two seconds of CPU."""
    offending = {f"{here} imports {name}" for here in reached(module) for name in imports(file_of(here)) if rllib(name)}

    assert not offending
    assert any(rllib(name) for here in reached("workers.search") for name in imports(file_of(here)))


def reached(module: str) -> set[str]:
    """All of our modules that are loaded with it, or by one of its functions."""
    found, waiting = set(), [module]
    while waiting:
        here = waiting.pop()
        if here not in found and file_of(here).exists():
            found.add(here)
            waiting += [name for name in imports(file_of(here)) if name.split(".")[0] in OURS]
    return found


def file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def rllib(name: str) -> bool:
    return name.startswith(("ray.rllib", "ray.tune", "pandas"))
