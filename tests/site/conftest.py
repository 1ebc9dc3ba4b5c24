"""Fixtures for the built site: a plain static server, and pages that must not complain or ask anybody else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.conftest import ROOT

SITE = ROOT / "site"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All of them need a built site and a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the site, below a path, as a project's page has it."""
    if not (SITE / "index.html").is_file():
        pytest.fail("there is no site: run make site first")
    folder = tmp_path_factory.mktemp("served")
    (folder / "clipedu").symlink_to(SITE)
    with Serving(folder) as address:
        yield f"{address}/clipedu"


class Serving:
    """A static server for a folder, on this computer only; gives its address."""

    def __init__(self, folder: Path) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def guarded(context: BrowserContext, origin: str) -> tuple[Page, list[str]]:
    """A new page, and what is wrong with it so far: console messages, errors, failed or foreign requests."""
    page, faults = context.new_page(), list[str]()
    page.on("console", lambda message: faults.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))

    def failed(request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # leaving a page ends what it still loads
            faults.append(f"failed: {request.url} {request.failure}")

    page.on("requestfailed", failed)

    def check(request: Any) -> None:
        if not request.url.startswith((origin, "data:", "blob:")):
            faults.append(f"foreign: {request.url}")

    page.on("request", check)
    page.on(
        "response", lambda answer: faults.append(f"{answer.status}: {answer.url}") if answer.status >= 400 else None
    )
    return page, faults


@pytest.fixture
def page(browser: Browser, site: str) -> Iterator[Page]:
    """A Chromium page 1280 px wide; the test fails if it complained or asked another origin."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-US")
    page, faults = guarded(context, site.removesuffix("/clipedu"))
    yield page
    context.close()
    assert faults == []
