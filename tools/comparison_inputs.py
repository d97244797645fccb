"""The inputs of tools/compare.py: two files of COCO results, or the evaluations of two revisions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from comparison_table import format_number
from detector.comparison.common_images import DetectorResults
from detector.core.errors import UserError
from detector.evaluation.calibration import read_temperature
from revisions import open_files

if TYPE_CHECKING:
    from fsspec.implementations.dirfs import DirFileSystem

TRUTH = "data/coco/test.json"
PREDICTIONS = "data/predictions/test.json"
METRICS_FILE = "metrics/evaluate.json"
DETAILS = "metrics/evaluate/details.json"
EXPORT = "metrics/export/details.json"
EXPORT_METRICS = "metrics/export.json"  # of revisions without EXPORT, it has the precision
EXPORT_PREDICTIONS = "metrics/export/predictions.json"  # of an fp16 or int8 file; an fp32 file's are the model's
CARD = "models/detector.json"
WORKSPACE = "workspace"


class Experiment(NamedTuple):
    """thresholds: by class name, of the model's own scores; None: chosen on the images.

    note: about the exported file, if its results differ from the model's: whose are compared. temperature: that
    calibrates the scores, None if unknown. card: models/detector.json, {} if unknown. files: of the revision, which
    has the images.
    """

    name: str
    results: DetectorResults
    thresholds: dict[str, float] | None
    note: str = ""
    temperature: float | None = None
    card: Mapping[str, Any] = MappingProxyType({})
    files: DirFileSystem | None = None


def read_inputs(a: str, b: str, truth: Path | None) -> tuple[Experiment, Experiment]:
    """Two prediction files, or two revisions. Raises UserError when they are neither."""
    files = [name for name in (a, b) if name.endswith(".json") or Path(name).is_file()]
    if not files:
        if truth is not None:
            raise UserError(f"--truth needs two prediction files; {a} and {b} are not files")
        return read_revision(a), read_revision(b)
    if len(files) == 1:
        raise UserError(f"{files[0]} is a file, the other is not: pass two prediction files or two revisions")
    if truth is None:
        raise UserError(f"{a} and {b} are files: add --truth with the COCO file of their ground truth")
    coco = validate_ground_truth(read_json(truth), str(truth))
    results = [DetectorResults(coco, validate_predictions(read_json(Path(name)), coco, name)) for name in (a, b)]
    return Experiment(a, results[0], None), Experiment(b, results[1], None)


def read_json(path: Path) -> Any:
    """The content of a JSON file. Raises UserError naming the file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None


def read_revision(revision: str) -> Experiment:
    """Test set, predictions and thresholds of a revision or experiment, from git, DVC's cache or its remote."""
    from dvc.exceptions import DvcException
    from dvc_data.index import DataIndexError

    files = open_files(None if revision == WORKSPACE else revision)

    def read(path: str) -> Any:
        try:
            return json.loads(files.read_text(path, encoding="utf-8"))
        except (OSError, DvcException, DataIndexError):
            raise UserError(
                f"{path} of `{revision}` is not in DVC's cache: get it from the remote with `dvc fetch --all-commits` "
                "or `dvc exp pull`, or create it with `dvc repro` in that revision"
            ) from None
        except ValueError as error:
            raise UserError(f"{path} of `{revision}` is not JSON: {error}") from None

    truth = validate_ground_truth(read(TRUTH), f"{TRUTH} of `{revision}`")
    path = EXPORT_PREDICTIONS if files.exists(EXPORT_PREDICTIONS) else PREDICTIONS  # those of the file that ships
    predictions = validate_predictions(read(path), truth, f"{path} of `{revision}`")
    details = read(DETAILS)
    thresholds = read_thresholds(details, f"{DETAILS} of `{revision}`")
    card = read(CARD) if files.exists(CARD) else {}
    if path == EXPORT_PREDICTIONS:
        note = describe_export(revision, read(EXPORT))
    else:
        note = describe_older_export(revision, read(EXPORT_METRICS) if files.exists(EXPORT_METRICS) else {})
    results = DetectorResults(truth, predictions)
    return Experiment(revision, results, thresholds, note, read_temperature(details), card, files)


def read_thresholds(details: Any, where: str) -> dict[str, float]:
    """The thresholds by class name, on the scale of the model's own scores, which prediction files have.

    Raises UserError when the details are not what the evaluate stage writes.
    """
    rows = details.get("classes") if isinstance(details, dict) else None
    try:
        # Revisions from before the calibrated scale have only `threshold`, the model's own score.
        thresholds = {row["class"]: float(row.get("raw_threshold", row.get("threshold"))) for row in rows or []}
    except (AttributeError, KeyError, TypeError, ValueError):
        thresholds = {}
    if not thresholds:
        raise UserError(f"{where} has no classes with a number `raw_threshold`: run `dvc repro evaluate`")
    return thresholds


def describe_export(revision: str, details: Any) -> str:
    """A sentence about an exported file in lower precision, whose results are compared; details: of its export."""
    try:
        return (
            f"`{revision}` exports a file in {details['precision']}, and these figures are that file's. Its AP on all "
            f"test images is lower than the model's by {format_number(details['AP_drop'])}."
        )
    except (KeyError, TypeError):
        raise UserError(f"{EXPORT} of `{revision}` lacks `precision` or `AP_drop`: run `dvc repro export`") from None


def describe_older_export(revision: str, metrics: Any) -> str:
    """The same where the file's own results are not kept, "" for a file in fp32; metrics: of its export."""
    precision = metrics.get("precision", "fp32") if isinstance(metrics, dict) else "fp32"
    if precision == "fp32":
        return ""
    return f"`{revision}` exports a file in {precision}; these figures are the model's, not the exported file's."


def validate_ground_truth(coco: Any, where: str) -> dict[str, Any]:
    """A COCO dictionary with the required keys. Raises UserError naming what is missing."""
    required = {
        "images": {"id", "file_name"},
        "annotations": {"image_id", "category_id", "bbox"},
        "categories": {"id", "name"},
    }
    if not isinstance(coco, dict):
        raise UserError(f"{where} is not a COCO file: expected an object with {', '.join(required)}")
    for name, keys in required.items():
        rows = coco.get(name)
        if not isinstance(rows, list) or any(not isinstance(row, dict) or keys - set(row) for row in rows):
            raise UserError(f"{where} is not a COCO file: `{name}` must be a list of objects with {sorted(keys)}")
    validate_ids(coco["annotations"], coco, f"{where}, annotation")
    return coco


def validate_ids(rows: list[dict[str, Any]], truth: dict[str, Any], where: str) -> None:
    """Raises UserError naming the first row whose image or class is not in the ground truth."""
    known = {
        "image_id": {image["id"] for image in truth["images"]},
        "category_id": {category["id"] for category in truth["categories"]},
    }
    for number, row in enumerate(rows, 1):
        for key, ids in known.items():
            if row[key] not in ids:
                raise UserError(f"{where} {number}: {key} {row[key]} is not in the ground truth")


def validate_predictions(rows: Any, truth: dict[str, Any], where: str) -> list[Any]:
    """COCO results on images and classes of the ground truth. Raises UserError naming the first that is not."""
    keys = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(rows, list):
        raise UserError(f"{where} is not a COCO results file: expected a list of objects with {sorted(keys)}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or keys - set(row):
            raise UserError(f"{where}, detection {number}: expected an object with {sorted(keys)}")
    validate_ids(rows, truth, f"{where}, detection")
    return rows
