"""The report that several test files open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from detector.evaluation.report import ReportInputs, write_report
from tests.support.report_case import make_report_inputs


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReportInputs, Path]:
    folder = tmp_path_factory.mktemp("report")
    inputs = make_report_inputs(folder)
    write_report(inputs, folder, folder / "report.html")
    return inputs, folder / "report.html"


@pytest.fixture(params=[1280])
def page(browser: Browser, report: tuple[ReportInputs, Path], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report, opened offline; any console message or request fails the test."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, offline=True)
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    local = ("file:", "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else messages.append(request.url))
    page.goto(report[1].as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    yield page
    assert messages == []
    assert page.locator("#failure").is_hidden()
    context.close()
