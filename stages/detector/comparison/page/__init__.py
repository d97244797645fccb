"""The page of a comparison: one self-contained HTML file in the style of the report, on the scale of its scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.comparison.comparison import DetectorMatches, MetricDifference
from detector.comparison.page.difference_charts import build_comparison_charts
from detector.core.output_files import write_text
from detector.engine.detections import Predictions
from detector.evaluation.calibration import calibrate_scores
from detector.evaluation.report.page import pack_json, render_page
from detector.evaluation.report.payload import MAX_DETECTIONS, encode_picture

FOLDER = Path(__file__).parent
MAX_PICTURE_BYTES = 5_500_000  # of all pictures in the page, as base64
MAX_PICTURES, PICTURE_SIZE = 100, 560  # number, and longest side in pixels


class ComparedSide(NamedTuple):
    """One detector on the common images.

    predictions: what `side` was matched from; their scores, and the thresholds of `side`, are the model's own.
    temperature: that calibrates them; None: unknown, so scores are shown as they are. facts: titles and values, about
    the model.
    """

    name: str
    predictions: Predictions
    side: DetectorMatches
    temperature: float | None
    facts: list[tuple[str, str]]


class ComparisonInputs(NamedTuple):
    """All that the page shows. truth: COCO dictionary of the common images; headline: the difference in AP."""

    a: ComparedSide
    b: ComparedSide
    truth: dict[str, Any]
    headline: MetricDifference
    summary: list[str]
    metrics: list[MetricDifference]
    classes: list[MetricDifference]


class SideOutcome(NamedTuple):
    """The detections of a side that count at IoU 0.5, best first, and what its thresholds make of them.

    rows int [D]: indices into the predictions. scores float [D]: calibrated. images, categories int [D]: indices.
    hits, above bool [D]: correct; at or above the threshold. found: ids of the objects that are detected.
    thresholds float [C]: calibrated.
    """

    rows: NDArray[np.integer[Any]]
    scores: NDArray[np.float64]
    images: NDArray[np.integer[Any]]
    categories: NDArray[np.integer[Any]]
    hits: NDArray[np.bool_]
    above: NDArray[np.bool_]
    found: frozenset[int]
    thresholds: NDArray[np.float64]


def write_comparison_page(inputs: ComparisonInputs, find_image: Callable[[str], Path | None], path: Path) -> int:
    """Write the page to `path`. Returns the number of pictures in it whose file was not found.

    find_image: the file of a `file_name` of the truth.
    """
    images = sorted(inputs.truth["images"], key=lambda image: int(image["id"]))
    outcomes = [judge_detections(side) for side in (inputs.a, inputs.b)]
    order = rank_disagreements(inputs.truth, outcomes)
    shown = [images[index] for index in order[:MAX_PICTURES]]
    pictures, missing = encode_pictures([str(image["file_name"]) for image in shown], find_image)
    text = render_page(
        FOLDER / "compare.html",
        [FOLDER / "compare.js"],
        notes={},
        inputs=inputs,
        charts=build_comparison_charts(inputs.metrics, inputs.classes),
        pictures=pictures,
        data=pack_json(build_page_data(inputs, outcomes, order[:MAX_PICTURES], shown)),
        thresholds=[describe_thresholds(outcome.thresholds) for outcome in outcomes],
        disagreements=len(order),
        shown_images=len(shown),
        missing=missing,
    )
    write_text(path, text)
    return missing


def judge_detections(side: ComparedSide) -> SideOutcome:
    """Calibrate the scores, and find what the side's thresholds let through."""
    counted = side.side.matches.select_iou50()
    above = counted.scores >= side.side.thresholds[counted.categories]
    temperature = side.temperature or 1.0
    return SideOutcome(
        rows=counted.prediction_indices,
        scores=calibrate_scores(counted.scores, temperature),
        images=counted.images,
        categories=counted.categories,
        hits=counted.hits(),
        above=above,
        found=frozenset(counted.annotation_ids[above & counted.hits()].tolist()),
        thresholds=calibrate_scores(side.side.thresholds, temperature),
    )


def describe_thresholds(thresholds: NDArray[np.float64]) -> str:
    """The threshold of all classes [C], or the range of the classes' own."""
    lowest, highest = f"{thresholds.min():.3f}", f"{thresholds.max():.3f}"
    return lowest if lowest == highest else f"per class, {lowest} to {highest}"


def rank_disagreements(truth: dict[str, Any], outcomes: list[SideOutcome]) -> list[int]:
    """Indices of the images where a side finds an object or makes an error that the other does not, most of them first.

    Ties stay in the order of the images.
    """
    a, b = outcomes
    places = {int(id_): row for row, id_ in enumerate(sorted(image["id"] for image in truth["images"]))}
    counts = np.zeros(len(places), np.int64)
    for annotation in _list_objects(truth):
        counts[places[annotation["image_id"]]] += (annotation["id"] in a.found) != (annotation["id"] in b.found)
    wrong = [np.bincount(side.images[side.above & ~side.hits], minlength=len(places)) for side in outcomes]
    counts += np.abs(wrong[0] - wrong[1])
    order: list[int] = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)].tolist()
    return order


def build_page_data(
    inputs: ComparisonInputs, outcomes: list[SideOutcome], order: list[int], shown: list[dict[str, Any]]
) -> dict[str, Any]:
    """For the page's scripts: all scores for the curves, at most MAX_DETECTIONS, and the boxes of the shown images.

    order: the shown images' indices.
    """
    classes = {category["id"]: row for row, category in enumerate(inputs.truth["categories"])}
    places = {image["id"]: place for place, image in enumerate(shown)}
    objects = _list_objects(inputs.truth)
    visible = [annotation for annotation in objects if annotation["image_id"] in places]
    return {
        "classes": [category["name"] for category in inputs.truth["categories"]],
        "objectCounts": np.bincount([classes[row["category_id"]] for row in objects], minlength=len(classes)).tolist(),
        "images": [[image["file_name"], image["width"], image["height"]] for image in shown],
        "objects": [
            {"image": places[row["image_id"]], "category": classes[row["category_id"]], "box": _round_box(row["bbox"]),
             "found": [row["id"] in outcome.found for outcome in outcomes]}
            for row in visible
        ],
        "sides": [
            {
                "scores": outcome.scores[:MAX_DETECTIONS].tolist(),
                "category": outcome.categories[:MAX_DETECTIONS].tolist(),
                "truePositive": outcome.hits[:MAX_DETECTIONS].astype(int).tolist(),
                "thresholds": outcome.thresholds.tolist(),
                "detections": list_detections(side, outcome, order),
            }
            for side, outcome in zip((inputs.a, inputs.b), outcomes, strict=True)
        ],
    }  # fmt: skip


def list_detections(side: ComparedSide, outcome: SideOutcome, order: list[int]) -> list[dict[str, Any]]:
    """Those at or above the threshold in the shown images, whose indices are `order`."""
    places = {index: place for place, index in enumerate(order)}
    chosen = np.flatnonzero(outcome.above & np.isin(outcome.images, order))
    boxes_xywh = side.predictions.select(outcome.rows[chosen]).boxes_xywh.tolist()
    return [
        {
            "image": places[int(outcome.images[index])],
            "category": int(outcome.categories[index]),
            "score": float(outcome.scores[index]),
            "correct": bool(outcome.hits[index]),
            "box": _round_box(box),
        }
        for index, box in zip(chosen.tolist(), boxes_xywh, strict=True)
    ]


def encode_pictures(files: list[str], find_image: Callable[[str], Path | None]) -> tuple[dict[int, str], int]:
    """Base64 JPEGs by position, as many as fit into MAX_PICTURE_BYTES; and how many files were not found."""
    pictures: dict[int, str] = {}
    missing, budget = 0, MAX_PICTURE_BYTES
    for place, file in enumerate(files):
        path = find_image(file)
        if path is None:
            missing += 1
            continue
        encoded = encode_picture(path, PICTURE_SIZE)
        budget -= len(encoded)
        if budget < 0:
            break
        pictures[place] = encoded
    return pictures, missing


def _list_objects(truth: dict[str, Any]) -> list[dict[str, Any]]:
    """The annotations to detect: those that are no crowd."""
    return [annotation for annotation in truth["annotations"] if not annotation["iscrowd"]]


def _round_box(box: list[float]) -> list[float]:
    """To a tenth of a pixel."""
    return [round(float(value), 1) for value in box]
