"""A real Chromium, headless, and pages that remember everything that went wrong in them."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

ARGUMENTS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
OWN = ("file:", "data:", "blob:")


def browser_or_skip() -> contextlib.AbstractContextManager:
    """A running browser with an empty profile; a skipped test where there is none, with STILLHOUSE_REQUIRE_BROWSER=1 a
    failed one."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return _absent("no playwright: pip install '.[test]'")
    if program is None:
        return _absent("no browser: apt-get install --no-install-recommends chromium")

    @contextlib.contextmanager
    def running() -> Iterator:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
            yield browser
            browser.close()

    return running()


def _absent(message: str):
    if os.environ.get("STILLHOUSE_REQUIRE_BROWSER") == "1":
        pytest.fail(message)
    pytest.skip(message)


@dataclass
class Visit:
    """A page and what went wrong in it."""

    page: object
    faults: list[str] = field(default_factory=list)
    """Console errors, exceptions, dialogs, requests that failed or went anywhere but to this machine's files."""

    def open(self, url: str) -> "Visit":
        """Load a page until its script has run."""
        self.page.goto(url)
        self.page.wait_for_selector("body[data-ready]")
        return self


def visit(browser, width: int = 1280, height: int = 900, **more) -> Visit:
    """A new page in a context of its own."""
    page = browser.new_context(viewport={"width": width, "height": height}, **more).new_page()
    seen = Visit(page)
    page.on("console", lambda m: seen.faults.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: seen.faults.append(f"exception: {error}"))
    page.on("dialog", lambda dialog: (seen.faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda r: None if r.url.startswith(OWN) else seen.faults.append(f"outside: {r.url}"))
    page.on("requestfailed", lambda r: seen.faults.append(f"failed: {r.url[:200]}"))
    return seen
