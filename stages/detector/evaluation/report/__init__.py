"""The report: one self-contained HTML page with all metrics, charts and pictures, which loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.output_files import write_text
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.calibration import calibrate_scores, read_temperature
from detector.evaluation.error_types import ErrorAnalysis
from detector.evaluation.galleries import GalleryPicture, select_gallery_pictures
from detector.evaluation.report.charts import TrainingCurve, build_charts
from detector.evaluation.report.dataset_charts import build_class_distribution, build_heat_maps
from detector.evaluation.report.identity import ModelSize, describe_identity
from detector.evaluation.report.label_issue_crops import MAX_CROPS, encode_issue_crops
from detector.evaluation.report.metric_values import list_headline_metrics, list_other_metrics
from detector.evaluation.report.model_card import flatten_card, list_limitations
from detector.evaluation.report.page import FOLDER, pack_json, render_page
from detector.evaluation.report.payload import (
    MAX_DETECTIONS,
    build_page_data,
    encode_pictures,
    keep_first_images,
    limit_images,
)

SCRIPTS = tuple(FOLDER / f"{name}.js" for name in ("detections", "pictures", "threshold", "confusion", "page"))
DETAILS = ("classes", "slices", "states", "calibration", "tide", "localization", "notes")  # keys that the page reads
MAX_PICTURE_BYTES = 5_500_000  # of all pictures in the page, as base64
MAX_LABEL_ISSUES = 200  # rows of the page's table; the CSV file has all
PRINTED_LABEL_ISSUES = 10  # so that a printed page is not mostly suspects
MAX_TABLE_ROWS = 1000  # of the other tables; metrics/evaluate/details.json has all


class ReportInputs(NamedTuple):
    """All that the report shows. Scores and thresholds are calibrated.

    split: name of the evaluated split. metrics: by name, with `_low` and `_high`. details:
    metrics/evaluate/details.json. card: models/detector.json. size: of the model, if known. labels: of the split,
    absent objects included; splits: of all, by name. thresholds float [C]: score threshold of each class. galleries:
    those of `select_gallery_pictures`. label_issues: rows of the label issue table, worst first.
    curves: those of the training.
    """

    split: str
    metrics: dict[str, Any]
    details: dict[str, Any]
    card: dict[str, Any]
    size: ModelSize | None
    labels: GroundTruth
    splits: Mapping[str, GroundTruth]
    analysis: ErrorAnalysis
    thresholds: NDArray[np.float64]
    galleries: dict[str, list[GalleryPicture]]
    label_issues: list[dict[str, str]]
    curves: list[TrainingCurve]


def gather_report_inputs(
    *,
    split: str,
    metrics: dict[str, Any],
    details: dict[str, Any],
    card: dict[str, Any],
    size: ModelSize | None,
    splits: Mapping[str, GroundTruth],
    analysis: ErrorAnalysis,
    thresholds: NDArray[np.float64],
    gallery_size: int,
    label_issues: list[dict[str, str]],
    curves: list[TrainingCurve],
) -> ReportInputs:
    """Calibrate the scores and select the galleries' pictures, at most `gallery_size` each.

    splits: all of them, by name. analysis, thresholds: of `split`, with the model's own scores. The other
    arguments are as in `ReportInputs`.
    """
    temperature = read_temperature(details)
    calibrated, limits = analysis.calibrate(temperature), calibrate_scores(thresholds, temperature)
    return ReportInputs(
        split=split,
        metrics=metrics,
        details=details,
        card=card,
        size=size,
        labels=splits[split],
        splits=splits,
        analysis=calibrated,
        thresholds=limits,
        galleries=select_gallery_pictures(calibrated, len(splits[split].images.ids), limits, gallery_size),
        label_issues=label_issues,
        curves=curves,
    )


def write_report(inputs: ReportInputs, root: Path, path: Path) -> None:
    """Write the page to `path`; the file names of images and label issues are relative to `root`."""
    analysis, images, thresholds = inputs.analysis, inputs.labels.images, inputs.thresholds
    shown = limit_images(analysis, len(images.ids))
    if shown < len(images.ids):
        analysis, images = keep_first_images(analysis, shown), images.select(slice(shown))
    files = images.files.tolist()
    pictures = encode_pictures(analysis, files, inputs.galleries, thresholds, root=root, budget=MAX_PICTURE_BYTES)
    data = build_page_data(analysis, images, inputs.labels.names, thresholds, set(pictures))
    charts = build_charts(inputs.details, inputs.curves)
    charts |= build_class_distribution(inputs.splits) | build_heat_maps(inputs.splits.values())
    text = render_page(
        FOLDER / "page.html",
        SCRIPTS,
        notes=inputs.details.get("notes") or {},
        inputs=inputs,
        details={key: inputs.details.get(key) for key in DETAILS},
        temperature=read_temperature(inputs.details),
        identity=describe_identity(inputs.card, inputs.labels.images.files.tolist(), inputs.size),
        headline_metrics=list_headline_metrics(inputs.metrics),
        other_metrics=list_other_metrics(inputs.metrics),
        charts=charts,
        pictures=pictures,
        data=pack_json(data),
        detections=len(analysis.scores),
        shown_images=shown,
        max_rows=MAX_TABLE_ROWS,
        max_detections=MAX_DETECTIONS,
        card=flatten_card(inputs.card),
        counts=_count_data(inputs),
        limitations=list_limitations(inputs.details, inputs.labels.names, inputs.split),
        label_issues=inputs.label_issues[:MAX_LABEL_ISSUES],
        printed_issues=PRINTED_LABEL_ISSUES,
        label_issue_crops=encode_issue_crops(inputs.label_issues[:MAX_CROPS], root),
    )
    write_text(path, text)


def _count_data(inputs: ReportInputs) -> dict[str, int]:
    """Number of images, objects, absent objects and crowds, for the page's header."""
    objects = inputs.analysis.objects
    return {
        "images": len(inputs.labels.images.ids),
        "objects": int((~objects.absent).sum()),
        "absent": int(objects.absent.sum()),
        "crowds": int(inputs.labels.objects.crowds.sum()),
    }
