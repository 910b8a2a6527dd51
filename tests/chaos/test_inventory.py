"""What the tests under fire know of the sources: every point where they can fail, and where the planted bugs go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.failpoints import NOT_OURS, PACKAGES, PASSED_OVER, ROOT, inventory
from tests.chaos.planted import BUGS, Bug

# However it is written: what commits, syncs and renames. A call of any of these is a point, or is named below.
COMMITS, SYNCS, RENAMES = {"write", "begin", "commit"}, {"fsync", "fdatasync", "_sync_folder"}, {"rename", "renames"}
HARMLESS = (
    # A file's beginning and end: its syncs, its name and its upload are points of their own.
    "services.artifacts.blobs.keep: return writer.commit()",
    "services.artifacts.local.LocalStore.check: with self.begin() as writer:",
    "services.artifacts.s3.S3Store.check: with self.begin() as writer:",
    "services.logs.keep_tail: with path.open(",
    # Signed here, without a request.
    "services.artifacts.s3.S3Store.link: return obstore.sign(",
    # Settings of a connection, no rows.
    "services.engine._postgresql._prepare: connection.commit()",
)


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Each call of the program, and where it is: as `inventory` names it."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if "migrations" not in path.parts:
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield from within(ast.parse(path.read_text()), module, path.read_text().splitlines())


def within(node: ast.AST, place: str, lines: list[str]) -> Iterator[tuple[str, ast.Call]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Call):
            yield f"{place}: {lines[child.lineno - 1].strip()}", child
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        yield from within(child, f"{place}.{child.name}" if named else place, lines)  # type: ignore[attr-defined]


def touches_what_lasts(call: ast.Call) -> bool:
    said = ast.unparse(call.func)
    owner, _, name = said.rpartition(".")
    if owner == "obstore" or name in SYNCS | RENAMES:
        return True
    if name == "replace":  # of a path it takes one argument, of a text two, of a record names
        return owner == "os" or (len(call.args) == 1 and not call.keywords)
    # A transaction is opened with nothing; what is written into takes what is written.
    return name in COMMITS and bool(owner) and not call.args and owner != "super()"


def test_every_commit_sync_rename_and_call_to_s3_is_a_point_or_known_to_be_none() -> None:
    found = {place for place, call in calls() if touches_what_lasts(call)}
    known = inventory(s3=True) | inventory(s3=False)
    none_of_them = (*HARMLESS, *NOT_OURS, *PASSED_OVER)

    assert {place for place in found - known if not place.startswith(none_of_them)} == set()
    assert known <= found


def test_the_program_has_no_trace_of_the_points() -> None:
    for package in (*PACKAGES, "purlkit", "workers"):
        for path in (ROOT / package).rglob("*.py"):
            assert "failpoint" not in path.read_text().lower(), path


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what[:40] for bug in BUGS])
def test_a_bug_can_be_planted_where_it_belongs(bug: Bug) -> None:
    text = (ROOT / bug.file).read_text()
    for right, wrong in bug.edits:
        assert text.count(right) == 1, f"{bug.file} has changed: plant this one anew"
        text = text.replace(right, wrong)
    compile(text, bug.file, "exec")
    assert (Path(__file__).parent / bug.test.partition("::")[0]).exists()
