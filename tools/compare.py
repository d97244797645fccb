"""Compare two experiments on the same test images and print a Markdown table with significance tests.

    python tools/compare.py main my-experiment
    python tools/compare.py HEAD workspace --out comparison.md --fail-if-worse AP
    python tools/compare.py a.json b.json --truth test.json

A and B are git revisions or experiments of this repository (`workspace`: the current files), or two files of COCO
results with the COCO file of their ground truth. For a revision, data/coco/test.json and data/predictions/test.json
are read from DVC's cache or remote, and the threshold from metrics/evaluate.json and, for per-class thresholds,
metrics/evaluate/details.json; prediction files are compared at the threshold of the best F1 on these images. Images
that only one test set has, or with different objects, are left out and counted.

Exit code: 0 ok, 1 an input that cannot be used, 2 a wrong command line, 3 B is significantly worse in a metric of
--fail-if-worse (its 95% interval lies below zero).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from comparison_table import Comparison, format_number, render_comparison
from detector.comparison.common_images import DetectorResults, find_common_images
from detector.comparison.comparison import DetectorMatches, compare_detectors, compare_images
from detector.core.errors import UserError, run_command
from detector.core.output_files import write_text
from detector.engine.coco_metrics import evaluate_boxes
from detector.evaluation.bootstrap import bootstrap_weights
from detector.evaluation.matching import Matches, collect_matches
from detector.evaluation.metric_names import COMPARED_METRICS
from detector.evaluation.operating_point import choose_threshold
from revisions import open_files

TRUTH = "data/coco/test.json"
PREDICTIONS = "data/predictions/test.json"
METRICS_FILE = "metrics/evaluate.json"
DETAILS = "metrics/evaluate/details.json"
EXPORT = "metrics/export.json"
WORKSPACE = "workspace"
EXIT_WORSE = 3
MIN_BOOTSTRAP_SAMPLES = 2000
SAMPLES_PER_CLASS = 100  # with many classes, more samples, so that corrected p-values can be small


class Experiment(NamedTuple):
    """thresholds: by class name, "" for all other classes; None: chosen on the images.

    note: how the exported file differs from the model that made these results, "" if it reproduces them.
    """

    name: str
    results: DetectorResults
    thresholds: dict[str, float] | None
    note: str = ""


def main() -> None:
    arguments = parse_arguments()
    comparison = compare(*read_inputs(arguments.a, arguments.b, arguments.truth))
    text = render_comparison(comparison)
    print(text)
    if arguments.out is not None:
        write_text(arguments.out, text + "\n")
    verdicts = {row.name: row.verdict for row in comparison.metrics}
    worse = [name for name in arguments.fail_if_worse if verdicts[name] == "worse"]
    if worse:
        print(f"{comparison.b} is significantly worse than {comparison.a} in {', '.join(worse)}", file=sys.stderr)
        sys.exit(EXIT_WORSE)


def parse_arguments() -> argparse.Namespace:
    """The command line; argparse exits with 2 when it is wrong."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A", help="baseline: revision, experiment or prediction file")
    parser.add_argument("b", metavar="B", help="candidate, of the same kind")
    parser.add_argument("--truth", type=Path, help="COCO file with the ground truth of two prediction files")
    parser.add_argument("--out", type=Path, help="also write the Markdown to this file")
    parser.add_argument(
        "--fail-if-worse",
        metavar="METRIC",
        action="append",
        default=[],
        choices=COMPARED_METRICS,
        help=f"exit with {EXIT_WORSE} if B is significantly worse in this metric ({', '.join(COMPARED_METRICS)}); "
        "may be repeated",
    )
    return parser.parse_args()


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
    predictions = validate_predictions(read(PREDICTIONS), truth, f"{PREDICTIONS} of `{revision}`")
    metrics = read(METRICS_FILE)
    if not isinstance(metrics, dict) or not isinstance(metrics.get("threshold"), (int, float)):
        raise UserError(f"{METRICS_FILE} of `{revision}` has no number `threshold`: run `dvc repro evaluate`")
    thresholds = {"": float(metrics["threshold"])}
    if files.exists(DETAILS):
        by_class = {row["class"]: row.get("threshold") for row in read(DETAILS).get("classes", [])}
        thresholds |= {name: value for name, value in by_class.items() if value is not None}
    note = describe_export(revision, read(EXPORT)) if files.exists(EXPORT) else ""
    return Experiment(revision, DetectorResults(truth, predictions), thresholds, note)


def describe_export(revision: str, metrics: Any) -> str:
    """A sentence about the exported file if it has another precision than the model; metrics: metrics/export.json."""
    precision = metrics.get("precision", "fp32") if isinstance(metrics, dict) else "fp32"
    if precision == "fp32":
        return ""
    drop = metrics.get("precisions", {}).get(precision, {}).get("AP_drop")
    return (
        f"`{revision}` exports a file in {precision}. These figures are the model's; "
        f"the file's AP on all test images is lower by {format_number(drop)}."
    )


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


def compare(a: Experiment, b: Experiment) -> Comparison:
    """Compare both on their common images. Raises UserError when there are none, or no object on them."""
    common = find_common_images(a.results, b.results)
    images = {image["id"]: image for image in common.truth["images"]}
    if not images:
        raise UserError(
            f"{a.name} and {b.name} have no test image in common with the same objects ({common.differing:,} with "
            f"different objects, {common.only_a:,} only in {a.name}, {common.only_b:,} only in {b.name})"
        )
    if not any(not annotation["iscrowd"] for annotation in common.truth["annotations"]):
        raise UserError(f"there is no object on the {len(images):,} test images that {a.name} and {b.name} share")
    classes = [category["name"] for category in common.truth["categories"]]
    side_a, side_b = (
        DetectorMatches(matches, resolve_thresholds(experiment, matches, classes))
        for experiment, predictions in ((a, common.a), (b, common.b))
        for matches in [collect_matches(evaluate_boxes(common.truth, predictions))]
    )
    # An image without a group is a group of its own.
    keys = [f"group {image['group']}" if image.get("group") else str(id_) for id_, image in images.items()]
    groups = np.unique(keys, return_inverse=True)[1]
    samples = max(MIN_BOOTSTRAP_SAMPLES, SAMPLES_PER_CLASS * len(classes))
    weights = bootstrap_weights(groups, samples, seed=0)
    metrics, class_differences = compare_detectors(side_a, side_b, classes, weights)
    return Comparison(
        a=a.name,
        b=b.name,
        common=common,
        groups=len(set(keys)),
        bootstrap_samples=samples,
        best_thresholds=a.thresholds is None,
        metrics=metrics,
        classes=class_differences,
        changes=compare_images(side_a, side_b),
        files={id_: image["file_name"] for id_, image in images.items()},
        notes=[experiment.note for experiment in (a, b) if experiment.note],
    )


def resolve_thresholds(experiment: Experiment, matches: Matches, classes: list[str]) -> NDArray[np.float64]:
    """The threshold of each class [C]: as evaluated, or the best one for F1 on these images."""
    thresholds = experiment.thresholds
    if thresholds is None:
        return np.full(len(classes), choose_threshold(matches, "f1", np.zeros(0), 0.0).threshold)
    return np.array([thresholds.get(name, thresholds[""]) for name in classes])


if __name__ == "__main__":
    run_command(main)
