"""The page of a comparison, in a browser and as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser

from detector.comparison.comparison import DetectorMatches, compare_detectors
from detector.comparison.page import (
    ComparedSide,
    ComparisonInputs,
    build_page_data,
    describe_thresholds,
    judge_detections,
    rank_disagreements,
    write_comparison_page,
)
from detector.comparison.page.difference_charts import (
    MAX_ROWS,
    MIN_RANGE,
    build_comparison_charts,
    build_difference_chart,
)
from detector.engine.detections import Prediction, pack_rows
from detector.evaluation.bootstrap import bootstrap_weights
from detector.evaluation.metric_names import PRIMARY_METRIC
from tests.support.accessibility import find_barriers
from tests.support.coco_cases import keep_present_objects
from tests.support.report_case import NAMES, make_random_split, match_case, write_images

TEMPERATURE = 0.5  # sharpens: 0.75 becomes 0.9


def make_inputs(classes: int = 3) -> ComparisonInputs:
    """A side with all detections, and one that lacks those of every third image."""
    coco, predictions = make_random_split(0, 14, classes, states=False)
    truth = keep_present_objects(coco)
    fewer = [row for row in predictions if row["image_id"] % 3]
    a, b = (make_side(name, truth, rows, classes) for name, rows in (("main", predictions), ("new", fewer)))
    names = [category["name"] for category in truth["categories"]]
    metrics, by_class = compare_detectors(a.side, b.side, names, bootstrap_weights(np.arange(14), 100, 0))
    headline = next(row for row in metrics if row.name == PRIMARY_METRIC)
    return ComparisonInputs(a, b, truth, headline, ["14 test images."], metrics, by_class)


def make_side(name: str, truth: dict[str, Any], predictions: list[Prediction], classes: int) -> ComparedSide:
    matches = DetectorMatches(match_case(truth, predictions), np.full(classes, 0.75))
    return ComparedSide(name, pack_rows(predictions), matches, TEMPERATURE, [("model", "simple")])


def build_data(inputs: ComparisonInputs) -> dict[str, Any]:
    """What the page's scripts get."""
    outcomes = [judge_detections(side) for side in (inputs.a, inputs.b)]
    order = rank_disagreements(inputs.truth, outcomes)
    return build_page_data(inputs, outcomes, order, [inputs.truth["images"][index] for index in order])


def test_the_page_in_a_browser(browser: Browser, tmp_path: Path) -> None:
    """It loads nothing, counts like the comparison, filters, and opens pictures."""
    inputs = make_inputs()
    write_images(inputs.truth, tmp_path)
    assert write_comparison_page(inputs, lambda name: tmp_path / name, tmp_path / "page.html") == 0
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page = context.new_page()
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    assert page.locator("h1").inner_text().startswith(("B is worse: AP −0.", "No significant difference: AP −0."))
    assert "threshold 0.900" in page.locator(".side-a").inner_text(), "calibrated"
    assert page.locator("figure.chart svg").count() == 6
    order = rank_disagreements(inputs.truth, [judge_detections(side) for side in (inputs.a, inputs.b)])
    cards = page.locator("#gallery > li")
    assert cards.count() == min(12, len(order)) > 0
    assert cards.first.locator("image").count() == 2
    counts = []
    for kind in ("better", "worse", "other"):
        page.locator("#filter-kind").select_option(kind)
        text = page.locator("#picture-count").inner_text()
        counts.append(0 if text == "No images match." else int(text.split()[0]))
    assert sum(counts) == len(order)
    page.locator("#filters button[type=reset]").click()
    page.wait_for_function("document.getElementById('filter-kind').value === 'all'")
    cards.first.locator("button").click()
    assert page.locator("#picture-large image").count() == 2
    page.keyboard.press("Escape")
    drawn = page.locator("#f1-chart .mark-line path").first.get_attribute("d")
    page.locator("#curve-class").select_option("1")
    changed = "(old) => document.querySelector('#f1-chart .mark-line path').getAttribute('d') !== old"
    page.wait_for_function(changed, arg=drawn)
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.documentElement.scrollWidth <= 390")
    assert messages == []
    context.close()


@pytest.mark.long
def test_axe_finds_no_barrier(browser: Browser, tmp_path: Path) -> None:
    inputs = make_inputs()
    write_images(inputs.truth, tmp_path)
    write_comparison_page(inputs, lambda name: tmp_path / name, tmp_path / "page.html")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    assert find_barriers(page) == []
    page.close()


def test_the_page_is_byte_identical_and_names_missing_pictures(tmp_path: Path) -> None:
    inputs = make_inputs()
    disagreements = len(rank_disagreements(inputs.truth, [judge_detections(side) for side in (inputs.a, inputs.b)]))
    for name in ("one.html", "two.html"):
        assert write_comparison_page(inputs, lambda name: None, tmp_path / name) == disagreements
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert f"{disagreements} of the images were not found" in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_images_are_ranked_by_disagreement() -> None:
    """Those without a detection in B come first; where both sides have the same detections, there is nothing to see."""
    inputs = make_inputs()
    outcomes = [judge_detections(side) for side in (inputs.a, inputs.b)]
    order = rank_disagreements(inputs.truth, outcomes)
    assert {index + 1 for index in order} <= {image for image in range(1, 15) if image % 3 == 0}
    assert order
    assert rank_disagreements(inputs.truth, [outcomes[0]] * 2) == []
    data = build_data(inputs)
    assert [file for file, _, _ in data["images"]] == [f"{index + 1}.png" for index in order]
    assert all(row["score"] >= 0.9 - 1e-8 for side in data["sides"] for row in side["detections"])
    found = [sum(row["found"][side] for row in data["objects"]) for side in (0, 1)]
    assert found[0] > found[1] == 0
    assert sum(data["objectCounts"]) == sum(not row["iscrowd"] for row in inputs.truth["annotations"])


def test_scores_of_files_stay_as_they_are() -> None:
    inputs = make_inputs()
    a, b = (side._replace(temperature=None) for side in (inputs.a, inputs.b))
    data = build_data(inputs._replace(a=a, b=b))
    assert data["sides"][0]["thresholds"] == [0.75] * len(NAMES)
    assert data["sides"][0]["scores"][0] == 0.95


def test_small_differences_look_small_and_many_classes_are_cut() -> None:
    inputs = make_inputs()
    row = inputs.metrics[0]._replace(change=0.001, low=-0.001, high=0.003)
    chart = build_difference_chart("x", [row])["x"]
    assert chart["layer"][2]["encoding"]["x"]["scale"]["domain"][1] == pytest.approx(1.05 * MIN_RANGE, abs=1e-3)
    assert build_difference_chart("x", [row._replace(change=None)]) == {}
    many = build_comparison_charts(inputs.metrics, [row] * (MAX_ROWS + 20))["class-chart"]
    assert f"the {MAX_ROWS} largest differences of {MAX_ROWS + 20} classes" in many["title"]


def test_thresholds_in_words() -> None:
    assert describe_thresholds(np.array([0.25, 0.25])) == "0.250"
    assert describe_thresholds(np.array([0.5, 0.25])) == "per class, 0.250 to 0.500"
