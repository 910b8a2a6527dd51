"""An attempt's own folder on a node of a cluster: gone when it ends, and gone with the next one when it was killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers import scratch

HOLD = """
import time
from workers import scratch
with scratch.folder({}) as folder:
    (folder / "dense.safetensors").write_bytes(b"weights")
    print(folder, flush=True)
    time.sleep(600)
"""
ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder that all attempts on it share."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_gone_when_the_attempt_is_over(node: Path) -> None:
    with scratch.folder({}) as folder:
        assert folder.parent == node

    assert list(node.iterdir()) == []


def test_what_a_killed_attempt_left_goes_with_the_next_one_and_what_a_living_one_has_stays(node: Path) -> None:
    environ = {"TMPDIR": str(node), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        theirs = Path(other.stdout.readline().strip())

        with scratch.folder({}):
            assert (theirs / "dense.safetensors").exists()
        other.kill()
    assert theirs.exists()

    with scratch.folder({}) as ours:
        assert [path for path in node.iterdir() if path.is_dir()] == [ours]


def test_what_is_not_an_attempts_is_left_alone(node: Path) -> None:
    """A folder of another name, one that was never held, and a link to somewhere else with all that marks ours."""
    elsewhere = node / "elsewhere"
    for folder in (elsewhere, node / f"{scratch.PREFIX}empty"):
        folder.mkdir()
    (elsewhere / scratch.HELD).touch()
    (node / f"{scratch.PREFIX}link").symlink_to(elsewhere)
    before = set(node.iterdir())

    with scratch.folder({}):
        pass

    assert set(node.iterdir()) == before
    assert (elsewhere / scratch.HELD).exists()


def test_a_launchers_folder_is_the_launchers(node: Path) -> None:
    with scratch.folder({"PURL_SCRATCH_DIR": str(node / "given")}) as folder:
        assert folder == node / "given"

    assert list(node.iterdir()) == []
