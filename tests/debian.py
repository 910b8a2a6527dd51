"""Programs of Debian for tests: those that are installed, or their packages unpacked into a folder, without root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

UNPACKED = Path(tempfile.gettempdir()) / "purl-tests-debian"


def program(name: str, *, package: str) -> Path:
    """A test is left out on what is no Debian and lacks the program. On a Debian it is there, or the test fails."""
    installed = shutil.which(name)
    if installed:
        return Path(installed)
    unpacked = UNPACKED / package / "usr/bin" / name
    if not unpacked.exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            pytest.skip(f"{name} is not installed, and this is no Debian")
        _unpack(package)
    return unpacked


def _unpack(package: str) -> None:
    UNPACKED.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=UNPACKED) as folder:
        download = ["apt-get", "download", package]
        got = subprocess.run(download, cwd=folder, capture_output=True, text=True)
        if got.returncode != 0 and os.geteuid() == 0:
            # A fresh machine has no list of what there is.
            subprocess.run(["apt-get", "update", "-qq"], capture_output=True, timeout=300)
            got = subprocess.run(download, cwd=folder, capture_output=True, text=True)
        files = list(Path(folder).glob(f"{package}_*.deb"))
        if got.returncode != 0 or not files:
            pytest.fail(f"apt-get download {package}: {got.stderr.strip()[-200:]}: install {package} by hand")
        whole = Path(folder) / "whole"
        subprocess.run(["dpkg-deb", "--extract", files[0], whole], check=True)
        try:
            whole.rename(UNPACKED / package)
        except OSError:
            if not (UNPACKED / package).exists():
                raise
            # Tests beside these were faster.
