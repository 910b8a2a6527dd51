"""A process of ours starts and ends without looking for garbage."""

from __future__ import annotations

import gc
import importlib
import os
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

from purlkit.startup import loading


def test_nothing_is_collected_while_modules_are_loaded_and_no_later_look_goes_over_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_loaded_before.py").write_text("loaded = [[] for _ in range(1000)]")
    monkeypatch.syspath_prepend(tmp_path)
    frozen = gc.get_freeze_count()

    with loading():
        assert not gc.isenabled()
        loaded = importlib.import_module("never_loaded_before").loaded

    assert gc.isenabled()
    assert gc.get_freeze_count() >= frozen + len(loaded)


def test_what_loads_again_what_is_there_keeps_no_garbage() -> None:
    """As a verification does for each of its checkpoints: the network of the one before may be in a circle."""

    class Network:
        def __init__(self) -> None:
            self.itself = self

    gone = weakref.ref(Network())

    with loading():
        import purlkit.startup  # noqa: F401

    gc.collect()
    assert gone() is None


def test_what_loads_on_its_way_something_that_loads_stays_undisturbed() -> None:
    with loading():
        with loading():
            pass
        assert not gc.isenabled()

    assert gc.isenabled()


def test_a_module_that_can_not_be_loaded_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), loading():
        raise ImportError("no such module")

    assert gc.isenabled()


def test_leaving_says_what_was_still_to_be_said_and_nothing_more() -> None:
    code = (
        "import atexit, sys; from purlkit.startup import leave\n"
        "atexit.register(print, 'at exit')\n"
        "print('said'); print('complained', file=sys.stderr); leave(3)"
    )

    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (left.returncode, left.stdout, left.stderr) == (3, "said\n", "complained\n")


def test_leaving_where_nobody_listens_any_more_says_the_same_status() -> None:
    code = "import sys; from purlkit.startup import leave\nprint('said', end=''); sys.stdin.read(); leave(3)"
    kept_back = {**os.environ, "PYTHONUNBUFFERED": ""}  # what it says, until it is flushed
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, env=kept_back) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.close()

    assert process.returncode == 3


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_leaving_without_an_output_says_the_same_status(closed: str) -> None:
    """As a shell starts it that closes what nobody is to read. Python then has None there."""
    code = "from purlkit.startup import leave; leave(3)"

    left = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code])

    assert left.returncode == 3


def test_leaving_with_an_output_that_was_closed_says_the_same_status() -> None:
    code = "import sys; from purlkit.startup import leave; sys.stdout.close(); leave(3)"

    assert subprocess.run([sys.executable, "-c", code]).returncode == 3
