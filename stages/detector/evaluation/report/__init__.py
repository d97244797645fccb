"""The report: one self-contained HTML page with all metrics, charts and pictures, which loads nothing."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import vl_convert
from numpy.typing import NDArray

from detector.core.output_files import write_text
from detector.evaluation.error_types import ErrorAnalysis
from detector.evaluation.galleries import GalleryPicture, select_gallery_pictures
from detector.evaluation.report.charts import TrainingCurve, build_charts
from detector.evaluation.report.label_issue_crops import MAX_CROPS, encode_issue_crops
from detector.evaluation.report.metric_values import format_number, list_headline_metrics, list_other_metrics
from detector.evaluation.report.model_card import flatten_card, list_limitations
from detector.evaluation.report.payload import (
    MAX_DETECTIONS,
    build_page_data,
    encode_pictures,
    keep_first_images,
    limit_images,
)

FOLDER = Path(__file__).parent
SCRIPTS = ("data", "charts", "tables", "pictures", "threshold", "confusion", "page")
DETAILS = ("classes", "slices", "states", "calibration", "tide", "localization", "notes")  # keys that the page reads
MAX_PICTURE_BYTES = 5_500_000  # of all pictures in the page, as base64
MAX_LABEL_ISSUES = 200  # rows of the page's table; the CSV file has all
MAX_TABLE_ROWS = 1000  # of the other tables; metrics/evaluate/details.json has all


class ReportInputs(NamedTuple):
    """All that the report shows.

    split: name of the evaluated split. metrics: metrics/evaluate.json. details: metrics/evaluate/details.json.
    card: models/detector.json. coco: the split, absent objects included. thresholds float [C]: score threshold of
    each class. galleries: those of `select_gallery_pictures`. label_issues: rows of the label issue table, worst first.
    curves: those of the training.
    """

    split: str
    metrics: dict[str, Any]
    details: dict[str, Any]
    card: dict[str, Any]
    coco: dict[str, Any]
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
    coco: dict[str, Any],
    analysis: ErrorAnalysis,
    thresholds: NDArray[np.float64],
    gallery_size: int,
    label_issues: list[dict[str, str]],
    curves: list[TrainingCurve],
) -> ReportInputs:
    """Select the galleries' pictures, at most `gallery_size` each; the other arguments are as in `ReportInputs`."""
    return ReportInputs(
        split=split,
        metrics=metrics,
        details=details,
        card=card,
        coco=coco,
        analysis=analysis,
        thresholds=thresholds,
        galleries=select_gallery_pictures(analysis, len(coco["images"]), thresholds, gallery_size),
        label_issues=label_issues,
        curves=curves,
    )


def write_report(inputs: ReportInputs, root: Path, path: Path) -> None:
    """Write the page to `path`; the file names of images and label issues are relative to `root`."""
    analysis, coco, thresholds = inputs.analysis, inputs.coco, inputs.thresholds
    images = sorted(coco["images"], key=lambda image: int(image["id"]))
    shown = limit_images(analysis, len(images))
    if shown < len(images):
        analysis, coco = keep_first_images(analysis, shown), coco | {"images": images[:shown]}
    pictures = encode_pictures(analysis, coco, inputs.galleries, thresholds, root=root, budget=MAX_PICTURE_BYTES)
    data = build_page_data(analysis, coco, thresholds, set(pictures))
    template = _create_environment(inputs).get_template("page.html")
    text = template.render(
        inputs=inputs,
        details={key: inputs.details.get(key) for key in DETAILS},
        headline_metrics=list_headline_metrics(inputs.metrics),
        other_metrics=list_other_metrics(inputs.metrics),
        charts=build_charts(inputs.details, inputs.curves),
        pictures=pictures,
        data=pack_json(data),
        detections=len(analysis.scores),
        shown_images=shown,
        max_rows=MAX_TABLE_ROWS,
        max_detections=MAX_DETECTIONS,
        card=flatten_card(inputs.card),
        counts=_count_data(inputs),
        limitations=list_limitations(inputs.details, inputs.coco, inputs.split),
        label_issues=inputs.label_issues[:MAX_LABEL_ISSUES],
        label_issue_crops=encode_issue_crops(inputs.label_issues[:MAX_CROPS], root),
        style=(FOLDER / "style.css").read_text(encoding="utf-8"),
        library=vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"),
        code="\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
    )
    write_text(path, text)


def _create_environment(inputs: ReportInputs) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters["number"] = format_number
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
    environment.globals["notes"] = inputs.details.get("notes") or {}
    return environment


def pack_json(value: Any) -> str:
    """JSON, gzipped and base64-encoded, deterministically. Raises ValueError for NaN and infinity."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def _count_data(inputs: ReportInputs) -> dict[str, int]:
    """Number of images, objects, absent objects and crowds, for the page's header."""
    objects = inputs.analysis.objects
    return {
        "images": len(inputs.coco["images"]),
        "objects": int((~objects.absent).sum()),
        "absent": int(objects.absent.sum()),
        "crowds": sum(bool(annotation["iscrowd"]) for annotation in inputs.coco["annotations"]),
    }
