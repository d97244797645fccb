"""The report in a browser: it loads without a network, counts right, filters, sorts and opens pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from detector.evaluation.error_types import CLASS, RIGHT, STATE, Pairs, confusions
from detector.evaluation.report import Facts, write_report
from tests.support.report_case import NAMES, facts_of


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Facts, Path]:
    folder = tmp_path_factory.mktemp("report")
    facts = facts_of(folder)
    write_report(facts, folder, folder / "report.html")
    return facts, folder / "report.html"


@pytest.fixture(params=[1280])
def page(browser: Browser, report: tuple[Facts, Path], request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report, opened without a network; what the console says fails the test."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, offline=True)
    page = context.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "request", lambda sent: said.append(sent.url) if not sent.url.startswith(("file:", "data:", "blob:")) else 0
    )
    page.goto(report[1].as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    yield page
    assert said == []
    assert page.locator("#failure").is_hidden()
    context.close()


def number(page: Page, name: str) -> float:
    return float(page.locator(f"#count-{name}").inner_text().replace(",", ""))


def set_threshold(page: Page, value: float) -> None:
    page.locator("#slider-number").fill(str(value))
    page.wait_for_timeout(250)


@pytest.mark.parametrize("page", [1280, 390], indirect=True)
def test_it_loads_offline_and_nothing_sticks_out(page: Page) -> None:
    width, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width <= room
    charts = page.locator("figure.chart svg")
    assert charts.count() == 10  # of 11: no learning rate was given
    assert all(box and box["width"] > 100 and box["height"] > 50 for box in (c.bounding_box() for c in charts.all()))
    assert page.locator("#headline-joint_AP .large").inner_text() == "—"
    assert "no object was found in that state" in page.locator("#headline-joint_AP").inner_text()
    assert page.locator("#class-table tbody th").all_inner_texts() == NAMES


def test_the_slider_counts_again(page: Page, report: tuple[Facts, Path]) -> None:
    pairs = report[0].pairs
    for threshold in (0.5, 0.0, 0.05, 0.35, 0.72, 0.95, 1.0):
        set_threshold(page, threshold)
        for category in (-1, 0, 2):
            page.locator("#pr-class").select_option(str(category))
            there = ~pairs.objects.absent & ((pairs.objects.categories == category) | (category < 0))
            found = (pairs.scores >= threshold) & ((pairs.categories == category) | (category < 0))
            right = int((found & pairs.hits).sum())
            wrong, missed = int(found.sum()) - right, int(there.sum()) - right
            assert (number(page, "tp"), number(page, "fp"), number(page, "fn")) == (right, wrong, missed)
            if right + wrong:
                assert number(page, "precision") == pytest.approx(right / (right + wrong), abs=6e-4)
            assert number(page, "recall") == pytest.approx(right / (right + missed), abs=6e-4)
    page.locator("#slider-reset").click()
    assert float(page.locator("#slider-number").input_value()) == 0.5


def test_the_slider_moves_by_keyboard(page: Page) -> None:
    page.locator("#pr-class").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "slider"
    before = number(page, "fp")
    page.keyboard.press("Home")
    assert float(page.locator("#slider-number").input_value()) == 0
    assert number(page, "fp") > before


def test_the_point_of_the_chart_follows(page: Page) -> None:
    marks = page.locator("#pr-chart svg .mark-symbol path")
    places = []
    for threshold in (0.2, 0.8):
        set_threshold(page, threshold)
        places.append(marks.last.get_attribute("transform"))
    assert places[0] != places[1]


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


@pytest.mark.parametrize("threshold", [0.5, 0.2])
def test_a_cell_of_the_confusions_opens_its_pictures(page: Page, report: tuple[Facts, Path], threshold: float) -> None:
    set_threshold(page, threshold)
    expected = confusions(report[0].pairs, np.full(len(NAMES), threshold))
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


def test_the_matrix_is_one_tab_stop_and_arrows_go_on(page: Page) -> None:
    stops = page.locator("#class-matrix button[tabindex='0']")
    assert stops.count() == 1
    stops.focus()
    first = page.evaluate("document.activeElement.ariaLabel")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.ariaLabel") != first
    assert stops.count() == 1
    page.keyboard.press("Enter")
    assert page.locator("#cell-dialog").is_visible()


def shown_pictures(page: Page) -> int:
    text = page.locator("#picture-count").inner_text()
    return 0 if text.startswith("No ") else int(text.split(" ")[0].replace(",", ""))


def of_class(pairs: Pairs, places: np.ndarray, category: int) -> np.ndarray:
    """Which detections are, or stand on, something of a class."""
    partners = pairs.partners[places]
    on = (partners >= 0) & (np.append(pairs.objects.categories, -1)[partners] == category)
    return places[(pairs.categories[places] == category) | on]


def test_filters_filter(page: Page, report: tuple[Facts, Path]) -> None:
    pairs, thresholds = report[0].pairs, report[0].thresholds
    found, missed = pairs.found(thresholds), pairs.missed(thresholds)
    wrong = np.flatnonzero(found & (pairs.kinds != RIGHT))
    assert shown_pictures(page) == len(wrong) + missed.sum() > 12
    page.locator("#filter-class").select_option("1")
    assert shown_pictures(page) == len(of_class(pairs, wrong, 1)) + (missed & (pairs.objects.categories == 1)).sum()
    page.locator("#filter-class").select_option("-1")
    for name, kind in (("class", CLASS), ("state", STATE)):
        page.locator("#filter-kind").select_option(name)
        assert shown_pictures(page) == (found & (pairs.kinds == kind)).sum() > 0
    page.locator("#filter-kind").select_option("missed")
    assert shown_pictures(page) == missed.sum() > 0
    page.locator("#filters button[type=reset]").click()
    page.wait_for_function("document.getElementById('filter-kind').value === ''")
    page.locator("#filter-low").fill("0.8")
    assert shown_pictures(page) == (pairs.scores[wrong] >= 0.8).sum() > 0
    page.locator("#filter-low").fill("")
    page.locator("#filter-state").select_option("2")
    true = np.append(pairs.objects.states, 0)[pairs.partners[wrong]]
    of_state = (pairs.states[wrong] == 2) | ((pairs.partners[wrong] >= 0) & (true == 2))
    assert shown_pictures(page) == of_state.sum() + (missed & (pairs.objects.states == 2)).sum()


def test_galleries_and_more(page: Page, report: tuple[Facts, Path]) -> None:
    for gallery, least in (("best", 4), ("worst", 4), ("random", 4), ("missed", 1), ("right", 1)):
        page.locator("#filter-gallery").select_option(gallery)
        assert shown_pictures(page) >= least
        first = report[0].galleries.get(gallery)
        if first:
            assert page.locator("#gallery .file").first.inner_text() == f"{first[0].image + 1}.png"
    page.locator("#filter-gallery").select_option("mistakes")
    assert page.locator("#gallery li").count() == 12
    page.locator("#more").press("Enter")
    assert page.locator("#gallery li").count() == min(24, shown_pictures(page))
    rects = page.locator("#gallery rect").count()
    page.locator("#show-found").uncheck()
    assert page.locator("#gallery rect.truth").count() > 0
    assert page.locator("#gallery rect.found").count() == 0
    assert rects > 0


def test_it_prints(page: Page) -> None:
    assert page.pdf(print_background=True).startswith(b"%PDF")


def test_dark_is_dark_and_paper_is_white(page: Page) -> None:
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    page.emulate_media(color_scheme="dark")
    assert ground() == "rgb(20, 23, 27)"
    page.emulate_media(color_scheme="dark", media="print")
    assert ground() == "rgb(255, 255, 255)"


def test_the_page_is_the_same_bytes_and_small(report: tuple[Facts, Path], tmp_path: Path) -> None:
    write_report(report[0], report[1].parent, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == report[1].read_bytes()
    assert report[1].stat().st_size < 2_000_000


def test_nothing_is_known_but_the_boxes(browser: Browser, report: tuple[Facts, Path], tmp_path: Path) -> None:
    """What cannot be computed is a dash, never a failure."""
    bare = report[0]._replace(headline={}, details={}, card={}, suspects=[], curves=[])
    write_report(bare, report[1].parent, tmp_path / "bare.html")
    page = browser.new_page()
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto((tmp_path / "bare.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    assert failed == []
    assert page.locator("#headline-AP .large").inner_text() == "—"
    assert "NaN" not in page.locator("main").inner_text()
    specs = json.loads(page.locator("#specs").text_content() or "")
    assert list(specs) == ["pr-chart"]
    page.close()
