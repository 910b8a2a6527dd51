"""A real browser, and the pictures that tests take of what it shows. `make browser` installs it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from purlkit.processes import PROC

# What a run leaves for people to look at; git does not keep it.
PICTURES = Path(__file__).parent.parent / "screenshots"

# What is waited for takes a second; these have to outlast a machine that is busy with other things.
DEADLINE_MS = 120_000
START_MS = 300_000  # of a browser: a dozen processes

# What an address bar would pop up is a web page to chromium, which each window loads beforehand: 0.7 CPU seconds for
# nothing. The others are those of Playwright's own list, which this one takes the place of, that have to do with pages.
WITHOUT = (
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup", "WebUIOmniboxFullPopup"),
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades", "MediaRouter"),
    *("OptimizationHints", "PaintHolding", "ThirdPartyStoragePartitioning"),
)

SIZES = {"wide": (1280, 900), "phone": (390, 844)}


@contextmanager
def chromium() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.fail("chromium is missing: run `make browser`, or install your system's package of that name")
    with sync_playwright() as playwright:
        expect.set_options(timeout=DEADLINE_MS)
        # Its sandbox and its shared memory need what a container does not give; the only pages here are ours.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", f"--disable-features={','.join(WITHOUT)}"]
        browser = playwright.chromium.launch(executable_path=found, args=arguments, timeout=START_MS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def a_page(browser: Browser, url: str, *, size: str = "wide", dark: bool = False) -> Iterator[Page]:
    """A page that fails its test by any error of a script and by anything that the policy had to stop."""
    width, height = SIZES[size]
    context = browser.new_context(
        base_url=url, viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda message: _note(faults, message))
    page.set_default_timeout(DEADLINE_MS)
    try:
        yield page
        assert faults == []
    finally:
        context.close()


def _note(faults: list[str], message: Any) -> None:
    if message.type == "error" and "Content Security Policy" in message.text:
        faults.append(message.text)


def picture(page: Page, name: str) -> None:
    PICTURES.mkdir(exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)


def serious_faults(page: Page) -> list[str]:
    """What axe-core finds of the kinds that keep somebody from using the page."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {fault['help']} ({', '.join(node['html'][:200] for node in fault['nodes'][:3])})"
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]


def processor_seconds() -> float:
    """What this process and those that it started have taken so far: the service of a test, and its browser."""
    fields = {int(entry.name): _stat(entry) for entry in PROC.iterdir() if entry.name.isdigit()}
    children: dict[int, list[int]] = {}
    for pid, stat in fields.items():
        if stat:
            children.setdefault(int(stat[1]), []).append(pid)
    waiting, ticks = children.get(os.getpid(), []), 0
    while waiting:
        pid = waiting.pop()
        ticks += sum(map(int, fields[pid][11:13]))
        waiting += children.get(pid, [])
    return time.process_time() + ticks / os.sysconf("SC_CLK_TCK")


def _stat(entry: Path) -> list[str]:
    """What follows its name; nothing of a process that has ended."""
    try:
        return (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
