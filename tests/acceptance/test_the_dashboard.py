"""A job from the form to the download, watched in a real browser, with the API killed in the middle of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.running import JOB_SECONDS, LONGER_JOB, RunningService, serving
from tests.browser import a_page, chromium, picture

# `make test` watches a told search and a restart in tests/integration/test_dashboard_browser.py.
pytestmark = [pytest.mark.acceptance, pytest.mark.long]

# Beside what the form's own fields say.
REST = {
    "model": {"kwargs": {"hidden": 32}},
    "search": {"greedy_episodes": 1},
    "baselines": ["global"],
    "race": {"seeds": 1},
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    yield from serving(tmp_path / "service")


@pytest.fixture
def page(service: RunningService) -> Iterator[Page]:
    with chromium() as browser, a_page(browser, service.url) as page:
        page.set_default_timeout(60_000)
        yield page


def test_a_real_search_is_watched_over_a_restart_to_its_download(service: RunningService, page: Page) -> None:
    page.goto("/ui/new")
    page.get_by_label("Model", exact=True).fill("mlp")
    page.get_by_label("Sparsity", exact=True).fill("0.8")
    page.get_by_label("Epochs of the dense training").fill("3")
    page.get_by_text("Search", exact=True).click()
    page.get_by_label("Episodes", exact=True).fill("12")
    page.get_by_text("Race", exact=True).click()
    page.get_by_label("Epochs of fine-tuning").fill("2")
    page.get_by_text("Everything else").click()
    page.get_by_label("Further settings").fill(json.dumps(REST))
    expect(page.get_by_text("It can run.")).to_be_visible(timeout=60_000)
    expect(page.locator("#check")).to_contain_text("reachable sparsity")
    page.get_by_role("button", name="Submit the job").click()

    expect(page.locator("#events")).to_contain_text("episode 2:", timeout=JOB_SECONDS * 1000)
    page.evaluate("globalThis.same = true")
    api = service.child("-m", "api")
    assert api is not None
    os.kill(api, signal.SIGKILL)
    picture(page, "real-search")

    expect(page.locator(".badge.succeeded").first).to_be_visible(timeout=JOB_SECONDS * 1000)
    assert page.evaluate("globalThis.same"), "the page was loaded again"
    expect(page.locator(".verdict")).to_contain_text("ships at 80.0 % sparsity")
    expect(page.locator("#search figure")).to_have_count(3)
    picture(page, "real-result")
    with page.expect_download() as downloading:
        page.get_by_role("link", name="Download the checkpoint").click()
    downloaded = Path(downloading.value.path()).read_bytes()
    (job,) = service.http.get("/jobs").json()["data"]
    assert hashlib.sha256(downloaded).hexdigest() == job["result"]["checkpoint"]["sha256"]
    page.get_by_role("link", name="How the weights are spread").click()
    expect(page.get_by_role("img").nth(1)).to_be_visible()
    picture(page, "real-weights")

    another = service.submit(LONGER_JOB)
    page.goto(f"/ui/jobs/{another}")
    expect(page.locator("#events")).to_contain_text("episode 1:", timeout=JOB_SECONDS * 1000)
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".badge.cancelled").first).to_be_visible()
    picture(page, "real-cancelled")
    assert service.ended(another)["state"] == "cancelled"
