"""The report in a browser: it loads offline, counts correctly, filters, sorts and opens pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from detector.evaluation.error_types import CORRECT, WRONG_CLASS, WRONG_STATE, ErrorAnalysis
from detector.evaluation.report import ReportInputs, write_report
from tests.support.accessibility import find_barriers
from tests.support.report_case import NAMES, set_threshold


def read_count(page: Page, name: str) -> float:
    return float(page.locator(f"#count-{name}").inner_text().replace(",", ""))


@pytest.mark.parametrize("page", [1280, 390], indirect=True)
def test_it_loads_offline_and_fits_the_screen(page: Page, report: tuple[ReportInputs, Path]) -> None:
    width, available = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= available
    charts = page.locator("figure.chart svg")
    assert charts.count() == 14  # of 16: there is neither a learning rate nor a component of the loss
    assert all(box and box["width"] > 100 and box["height"] > 50 for box in (c.bounding_box() for c in charts.all()))
    assert page.locator("#headline-joint_AP .large").inner_text() == "—"
    assert report[0].details["notes"]["joint_AP"] in page.locator("#headline-joint_AP").inner_text()
    assert page.locator("#class-table tbody th").all_inner_texts() == NAMES


def test_the_slider_updates_the_counts(page: Page, report: tuple[ReportInputs, Path]) -> None:
    analysis = report[0].analysis
    for threshold in (0.5, 0.0, 0.05, 0.35, 0.72, 0.95, 1.0):
        set_threshold(page, threshold)
        for category in (-1, 0, 2):
            page.locator("#pr-class").select_option(str(category))
            present = ~analysis.objects.absent & ((analysis.objects.categories == category) | (category < 0))
            detected = (analysis.scores >= threshold) & ((analysis.categories == category) | (category < 0))
            tp = int((detected & analysis.hits).sum())
            fp, fn = int(detected.sum()) - tp, int(present.sum()) - tp
            assert (read_count(page, "tp"), read_count(page, "fp"), read_count(page, "fn")) == (tp, fp, fn)
            if tp + fp:
                assert read_count(page, "precision") == pytest.approx(tp / (tp + fp), abs=6e-4)
            assert read_count(page, "recall") == pytest.approx(tp / (tp + fn), abs=6e-4)
    page.locator("#slider-reset").click()
    assert float(page.locator("#slider-number").input_value()) == 0.5


def test_the_classes_table_follows_the_slider(page: Page, report: tuple[ReportInputs, Path]) -> None:
    """And the slider's scale is that of the scores in pictures: calibrated, as the page says."""
    analysis = report[0].analysis
    assert "calibrated (temperature 1.200)" in page.locator("#scale").inner_text()
    page.locator("#filter-gallery").select_option("correct")
    best = analysis.scores[analysis.error_types == CORRECT][0]
    assert 0.9 < best < 0.95  # of 0.95, the model's own
    assert f" {best:.2f}" in page.locator("#gallery li").first.inner_text()

    def read_cell(row: int, name: str) -> str:
        return page.locator(f"#class-table tbody tr[data-class='{row}'] [data-live={name}]").inner_text()

    for threshold in (0.35, 0.72):
        set_threshold(page, threshold)
        for index in range(len(NAMES)):
            detected = (analysis.scores >= threshold) & (analysis.categories == index)
            tp = int((detected & analysis.hits).sum())
            objects = int((~analysis.objects.absent & (analysis.objects.categories == index)).sum())
            assert read_cell(index, "threshold") == f"{threshold:.3f}"
            assert float(read_cell(index, "precision")) == pytest.approx(tp / int(detected.sum()), abs=6e-4)
            assert float(read_cell(index, "recall")) == pytest.approx(tp / objects, abs=6e-4)
            assert float(read_cell(index, "F1")) == pytest.approx(2 * tp / (int(detected.sum()) + objects), abs=6e-4)
    set_threshold(page, 1)
    assert read_cell(0, "precision") == "—"


def test_the_slider_works_by_keyboard(page: Page) -> None:
    page.locator("#pr-class").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "slider"
    before = read_count(page, "fp")
    page.keyboard.press("Home")
    assert float(page.locator("#slider-number").input_value()) == 0
    assert read_count(page, "fp") > before


def test_the_point_on_the_curve_follows_the_slider(page: Page) -> None:
    marks = page.locator("#pr-chart svg .mark-symbol path")
    lines = page.locator("#confidence-chart svg .mark-rule line")
    positions = []
    for threshold in (0.2, 0.8):
        set_threshold(page, threshold)
        positions.append((marks.last.get_attribute("transform"), lines.last.get_attribute("transform")))
    assert positions[0][0] != positions[1][0]
    assert positions[0][1] != positions[1][1]
    curves = page.locator("#confidence-chart svg .mark-line path[aria-label]")
    assert curves.count() == 3
    of_all = curves.first.get_attribute("d")
    page.locator("#pr-class").select_option("1")
    page.wait_for_function(
        "(old) => document.querySelector('#confidence-chart .mark-line path').getAttribute('d') !== old", arg=of_all
    )


def test_a_table_sorts(page: Page) -> None:
    names = page.locator("#class-table tbody th")
    by_ap = page.locator("#class-table .sort").nth(2)
    by_ap.click()
    assert names.all_inner_texts() == [NAMES[0], NAMES[1], NAMES[2]]  # 0.9, 0.7, 0.5
    assert by_ap.locator("..").get_attribute("aria-sort") == "descending"
    by_ap.press("Enter")
    assert names.all_inner_texts() == [NAMES[2], NAMES[1], NAMES[0]]
    page.locator("#class-table .sort").first.click()
    assert names.all_inner_texts() == [NAMES[1], NAMES[0], NAMES[2]]


def count_pictures(page: Page) -> int:
    text = page.locator("#picture-count").inner_text()
    return 0 if text.startswith("No ") else int(text.split(" ")[0].replace(",", ""))


def select_class(analysis: ErrorAnalysis, detections: np.ndarray, category: int) -> np.ndarray:
    """Those of the detections whose predicted or true class is `category`."""
    objects = analysis.object_indices[detections]
    true = (objects >= 0) & (np.append(analysis.objects.categories, -1)[objects] == category)
    selected: np.ndarray = detections[(analysis.categories[detections] == category) | true]
    return selected


def test_filters_select_pictures(page: Page, report: tuple[ReportInputs, Path]) -> None:
    analysis, thresholds = report[0].analysis, report[0].thresholds
    detected, missed = analysis.select_detections(thresholds), analysis.select_missed(thresholds)
    wrong = np.flatnonzero(detected & (analysis.error_types != CORRECT))
    assert count_pictures(page) == len(wrong) + missed.sum() > 12
    page.locator("#filter-class").select_option("1")
    missed_of_class = missed & (analysis.objects.categories == 1)
    assert count_pictures(page) == len(select_class(analysis, wrong, 1)) + missed_of_class.sum()
    page.locator("#filter-class").select_option("-1")
    for name, error_type in (("class", WRONG_CLASS), ("state", WRONG_STATE)):
        page.locator("#filter-error").select_option(name)
        assert count_pictures(page) == (detected & (analysis.error_types == error_type)).sum() > 0
    page.locator("#filter-error").select_option("missed")
    assert count_pictures(page) == missed.sum() > 0
    page.locator("#filters button[type=reset]").click()
    page.wait_for_function("document.getElementById('filter-error').value === ''")
    page.locator("#filter-low").fill("0.8")
    assert count_pictures(page) == (analysis.scores[wrong] >= 0.8).sum() > 0
    page.locator("#filter-low").fill("")
    page.locator("#filter-state").select_option("2")
    true = np.append(analysis.objects.states, 0)[analysis.object_indices[wrong]]
    in_state = (analysis.states[wrong] == 2) | ((analysis.object_indices[wrong] >= 0) & (true == 2))
    assert count_pictures(page) == in_state.sum() + (missed & (analysis.objects.states == 2)).sum()


def test_galleries_show_more_and_hide_predictions(page: Page, report: tuple[ReportInputs, Path]) -> None:
    for gallery, minimum in (("best", 4), ("worst", 4), ("random", 4), ("missed", 1), ("correct", 1)):
        page.locator("#filter-gallery").select_option(gallery)
        assert count_pictures(page) >= minimum
        pictures = report[0].galleries.get(gallery)
        if pictures:
            assert page.locator("#gallery .file").first.inner_text() == f"{pictures[0].image + 1}.png"
    page.locator("#filter-gallery").select_option("errors")
    assert page.locator("#gallery li").count() == 12
    page.locator("#more").press("Enter")
    assert page.locator("#gallery li").count() == min(24, count_pictures(page))
    assert page.locator("#gallery rect.prediction").count() > 0
    page.locator("#show-predictions").uncheck()
    assert page.locator("#gallery rect.truth").count() > 0
    assert page.locator("#gallery rect.prediction").count() == 0


def test_it_prints_few_of_the_suspects(page: Page) -> None:
    rows = page.locator("#label-issue-table tbody tr")
    assert sum(row.is_visible() for row in rows.all()) == 25
    page.emulate_media(media="print")
    assert sum(row.is_visible() for row in rows.all()) == 10
    assert "the first 10" in page.locator("#label-issues").inner_text()
    assert page.pdf(print_background=True).startswith(b"%PDF")


def test_axe_finds_no_barrier(page: Page) -> None:
    assert find_barriers(page) == []


def test_dark_mode_is_dark_and_print_is_white(page: Page) -> None:
    def background() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="dark")
    assert background() == "rgb(20, 23, 27)"
    page.emulate_media(color_scheme="dark", media="print")
    assert background() == "rgb(255, 255, 255)"


def test_the_page_is_byte_identical_each_time_and_small(report: tuple[ReportInputs, Path], tmp_path: Path) -> None:
    write_report(report[0], report[1].parent, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == report[1].read_bytes()
    assert report[1].stat().st_size < 2_000_000


def test_a_report_with_boxes_only(browser: Browser, report: tuple[ReportInputs, Path], tmp_path: Path) -> None:
    """Missing metrics are dashes, never a failure."""
    bare = report[0]._replace(metrics={}, details={}, card={}, label_issues=[], curves=[])
    write_report(bare, report[1].parent, tmp_path / "bare.html")
    page = browser.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((tmp_path / "bare.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    assert errors == []
    assert page.locator("#headline-AP .large").inner_text() == "—"
    assert "NaN" not in page.locator("main").inner_text()
    specs = json.loads(page.locator("#specs").text_content() or "")
    assert list(specs) == ["pr-chart", "confidence-chart", "distribution-chart", "place-chart", "box-size-chart"]
    page.close()
