"""The confusion matrices of the report in a browser: counts and shares, pictures, keys, many classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from detector.evaluation.error_types import compute_confusion_matrix
from detector.evaluation.report import ReportInputs, write_report
from tests.support.report_case import NAMES, make_many_class_inputs, set_threshold


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_a_matrix_cell_opens_its_pictures(page: Page, report: tuple[ReportInputs, Path], threshold: float) -> None:
    set_threshold(page, threshold)
    expected = compute_confusion_matrix(report[0].analysis, np.full(len(NAMES), threshold))
    shown = np.zeros_like(expected)
    for button in page.locator("#class-matrix button").all():
        row, column = (int(button.get_attribute(f"data-{name}") or -1) for name in ("row", "column"))
        shown[row, column] = int(button.inner_text())
    assert (shown == expected).all()
    row, column = np.argwhere(expected == expected[:, :3].max())[0].tolist()
    page.locator(f"#class-matrix button[data-row='{row}'][data-column='{column}']").click()
    cards = page.locator("#cell-gallery li")
    assert cards.count() == min(12, expected[row, column]) > 0
    assert cards.first.locator("image").count() == 1
    cards.first.locator("button").click()
    assert page.locator("#picture-dialog").is_visible()
    assert page.locator("#picture-large image").count() == 1
    first = page.locator("#picture-text").inner_text()
    page.keyboard.press("ArrowRight")
    assert page.locator("#picture-text").inner_text() != first
    page.keyboard.press("Escape")
    assert page.locator("#picture-dialog").is_hidden()
    assert page.locator("#cell-dialog").is_visible()


def test_a_matrix_shows_counts_or_shares(page: Page, report: tuple[ReportInputs, Path]) -> None:
    """Background has no total of true objects, so its row is neither a share nor shaded, and its column likewise."""
    matrix = compute_confusion_matrix(report[0].analysis, report[0].thresholds)
    classes = len(NAMES)
    for unit, totals in (("row", matrix.sum(axis=1, keepdims=True)), ("column", matrix.sum(axis=0, keepdims=True))):
        page.locator(f"[name=matrix-unit][value={unit}]").check()
        shares = np.broadcast_to(matrix / np.maximum(1, totals), matrix.shape)
        for button in page.locator("#class-matrix button").all():
            place = int(button.get_attribute("data-row") or -1), int(button.get_attribute("data-column") or -1)
            shade = float((button.locator("..").get_attribute("style") or "").removeprefix("--share: "))
            if place[unit == "column"] == classes:
                assert (button.inner_text(), shade) == (f"({matrix[place]})", 0)
            else:
                assert button.inner_text().endswith("%")
                assert shade == pytest.approx(shares[place], abs=6e-4)
    page.locator("[name=matrix-unit][value=count]").check()
    for button in page.locator("#class-matrix button").all():
        style = button.locator("..").get_attribute("style") or ""
        expected = (int(button.inner_text()) / matrix.max()) ** 0.5  # not by the row: 3 false positives are few
        assert float(style.removeprefix("--share: ")) == pytest.approx(expected, abs=6e-4)


def test_the_matrix_is_one_tab_stop_with_arrow_keys(page: Page) -> None:
    stops = page.locator("#class-matrix button[tabindex='0']")
    assert stops.count() == 1
    stops.focus()
    first = page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.ariaLabel") != first
    assert stops.count() == 1
    page.keyboard.press("Enter")
    assert page.locator("#cell-dialog").is_visible()


@pytest.mark.long
def test_eighty_classes(browser: Browser, tmp_path: Path) -> None:
    """Background stays in sight, whatever is scrolled; no legend is longer than 20 entries."""
    write_report(make_many_class_inputs(tmp_path, 80), tmp_path, tmp_path / "report.html")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto((tmp_path / "report.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    matrix = page.locator("#class-matrix")
    assert matrix.locator("thead th").count() == 21
    page.locator("#matrix-all").check()
    assert matrix.locator("thead th").count() == 81
    frame = matrix.bounding_box()
    assert frame is not None
    assert frame["width"] > 1200
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    for scroll in (0, 300):
        page.evaluate("(left) => document.getElementById('class-matrix').scrollTo(left, left)", scroll)
        for place in ("thead th.background", "tr.background th"):
            box = matrix.locator(place).bounding_box()
            assert box is not None
            assert frame["x"] <= box["x"] <= frame["x"] + frame["width"] - box["width"] + 1
            assert frame["y"] <= box["y"] <= frame["y"] + frame["height"] - box["height"] + 1
    legends = page.evaluate(
        "[...document.querySelectorAll('.chart')].map((one) => one.querySelectorAll('.role-legend-label text').length)"
    )
    assert 0 < max(legends) <= 20
    page.close()
