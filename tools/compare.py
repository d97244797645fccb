"""Say whether one experiment is better than another, or only luckier, as a Markdown table.

    python tools/compare.py main my-experiment
    python tools/compare.py HEAD workspace --out comparison.md --fail-if-worse AP
    python tools/compare.py a.json b.json --truth test.json

A and B are git revisions or experiments of this repository (`workspace`: the files as they are now), or two files
of COCO results with the COCO file that both are judged by. Of a revision it reads data/coco/test.json and
data/predictions/test.json from DVC's cache or remote, and the threshold from metrics/evaluate.json and, where it
has some for single classes, metrics/evaluate/details.json; prediction files have the threshold of the best F1 on
these images. Images that only one test set has, or with other objects, are left out and counted.

Exit code: 0 fine, 1 something you can mend, 2 a wrong command line, 3 B is worse in a metric of --fail-if-worse
(its 95% interval lies below zero).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from comparison_table import Comparison, table
from detector.comparison.common_images import Results, shared_images
from detector.comparison.comparison import METRICS, Side, differences, image_changes
from detector.core.errors import UserError, run_command
from detector.engine.coco_metrics import evaluate_boxes
from detector.evaluation.bootstrap import draws
from detector.evaluation.matching import Matches, matches_of
from detector.evaluation.operating_point import choose

TRUTH = "data/coco/test.json"
PREDICTIONS = "data/predictions/test.json"
METRICS_FILE = "metrics/evaluate.json"
DETAILS = "metrics/evaluate/details.json"
WORKSPACE = "workspace"
WORSE = 3
DRAWS = 2000  # at least; more for many classes, for whose correction a p-value must be able to be small


class Experiment(NamedTuple):
    """thresholds: by class name, "" for any other class; None: to be chosen on the images."""

    name: str
    results: Results
    thresholds: dict[str, float] | None


def main() -> None:
    arguments = parse_arguments()
    comparison = compare(*read_both(arguments.a, arguments.b, arguments.truth))
    text = table(comparison)
    print(text)
    if arguments.out is not None:
        try:
            arguments.out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise UserError(f"--out {arguments.out} cannot be written: {error.strerror}") from None
    verdicts = {row.name: row.verdict for row in comparison.metrics}
    worse = [name for name in arguments.fail_if_worse if verdicts[name] == "worse"]
    if worse:
        print(f"{comparison.b} is worse than {comparison.a} in {', '.join(worse)}", file=sys.stderr)
        sys.exit(WORSE)


def parse_arguments() -> argparse.Namespace:
    """The command line; argparse ends with 2 when it is wrong."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", metavar="A", help="what to compare with: revision, experiment, or prediction file")
    parser.add_argument("b", metavar="B", help="what may be better")
    parser.add_argument("--truth", type=Path, help="COCO file that two prediction files are judged by")
    parser.add_argument("--out", type=Path, help="write the Markdown to this file too")
    parser.add_argument(
        "--fail-if-worse", metavar="METRIC", action="append", default=[], choices=METRICS,
        help=f"end with {WORSE} when B is worse in it; one of {', '.join(METRICS)}; may be repeated",
    )  # fmt: skip
    return parser.parse_args()


def read_both(a: str, b: str, truth: Path | None) -> tuple[Experiment, Experiment]:
    """Two prediction files, or two revisions. Raises UserError when they are neither."""
    files = [name for name in (a, b) if name.endswith(".json") or Path(name).is_file()]
    if not files:
        if truth is not None:
            raise UserError(f"--truth goes with two prediction files; {a} and {b} are no files")
        return read_revision(a), read_revision(b)
    if len(files) == 1:
        raise UserError(f"{files[0]} is a file, the other is not: give two prediction files or two revisions")
    if truth is None:
        raise UserError(f"{a} and {b} are files: add --truth with the COCO file that they are judged by")
    coco = checked_truth(read_json(truth), str(truth))
    results = [Results(coco, checked_predictions(read_json(Path(name)), coco, name)) for name in (a, b)]
    return Experiment(a, results[0], None), Experiment(b, results[1], None)


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises UserError naming it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from None


def read_revision(revision: str) -> Experiment:
    """Test set, predictions and thresholds of a revision or experiment, from git, DVC's cache or its remote."""
    from dvc.api import DVCFileSystem  # half a second, which prediction files need not wait for
    from dvc.exceptions import DvcException
    from dvc.scm import RevError
    from dvc_data.index import DataIndexError

    files = DVCFileSystem(rev=None if revision == WORKSPACE else revision)
    try:
        _ = files.repo  # looks the revision up
    except RevError:
        raise UserError(
            f"`{revision}` is neither a file nor a git revision or experiment of this repository: "
            "`dvc exp show` and `git log` list them"
        ) from None
    except DvcException as error:
        raise UserError(f"`{revision}` is no file, and revisions need a git and DVC repository: {error}") from None

    def read(path: str) -> Any:
        try:
            return json.loads(files.read_text(path, encoding="utf-8"))
        except (OSError, DvcException, DataIndexError):
            raise UserError(
                f"{path} of `{revision}` is not here: `dvc fetch --all-commits` (or `dvc exp pull`) brings it from "
                "the remote, `dvc repro` in that revision makes it"
            ) from None
        except ValueError as error:
            raise UserError(f"{path} of `{revision}` is not JSON: {error}") from None

    truth = checked_truth(read(TRUTH), f"{TRUTH} of `{revision}`")
    predictions = checked_predictions(read(PREDICTIONS), truth, f"{PREDICTIONS} of `{revision}`")
    metrics = read(METRICS_FILE)
    if not isinstance(metrics, dict) or not isinstance(metrics.get("threshold"), (int, float)):
        raise UserError(f"{METRICS_FILE} of `{revision}` has no number `threshold`: `dvc repro evaluate` writes it")
    thresholds = {"": float(metrics["threshold"])}
    if files.exists(DETAILS):
        of_classes = {row["class"]: row.get("threshold") for row in read(DETAILS).get("classes", [])}
        thresholds |= {name: value for name, value in of_classes.items() if value is not None}
    return Experiment(revision, Results(truth, predictions), thresholds)


def checked_truth(coco: Any, where: str) -> dict[str, Any]:
    """A COCO dictionary with the keys that are needed. Raises UserError saying what it lacks."""
    needed = {
        "images": {"id", "file_name"},
        "annotations": {"image_id", "category_id", "bbox"},
        "categories": {"id", "name"},
    }
    if not isinstance(coco, dict):
        raise UserError(f"{where} is no COCO file: expected an object with {', '.join(needed)}")
    for name, keys in needed.items():
        rows = coco.get(name)
        if not isinstance(rows, list) or any(not isinstance(row, dict) or keys - set(row) for row in rows):
            raise UserError(f"{where} is no COCO file: `{name}` must be a list of objects with {sorted(keys)}")
    check_ids(coco["annotations"], coco, f"{where}, annotation")
    return coco


def check_ids(rows: list[dict[str, Any]], truth: dict[str, Any], where: str) -> None:
    """Raise UserError naming the first row of an image or class that the truth does not have."""
    known = {
        "image_id": {image["id"] for image in truth["images"]},
        "category_id": {category["id"] for category in truth["categories"]},
    }
    for number, row in enumerate(rows, 1):
        for key, ids in known.items():
            if row[key] not in ids:
                raise UserError(f"{where} {number}: {key} {row[key]} is not in the truth")


def checked_predictions(rows: Any, truth: dict[str, Any], where: str) -> list[Any]:
    """COCO results that name only images and classes of the truth. Raises UserError naming the first that does not."""
    keys = {"image_id", "category_id", "bbox", "score"}
    if not isinstance(rows, list):
        raise UserError(f"{where} holds no COCO results: expected a list of objects with {sorted(keys)}")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or keys - set(row):
            raise UserError(f"{where}, detection {number}: expected an object with {sorted(keys)}")
    check_ids(rows, truth, f"{where}, detection")
    return rows


def compare(a: Experiment, b: Experiment) -> Comparison:
    """Both on the images that they share. Raises UserError when there are none, or nothing to find on them."""
    shared = shared_images(a.results, b.results)
    images = {image["id"]: image for image in shared.truth["images"]}
    if not images:
        raise UserError(
            f"{a.name} and {b.name} have no test image in common with the same objects ({shared.differing:,} with "
            f"other objects, {shared.only_a:,} only in {a.name}, {shared.only_b:,} only in {b.name})"
        )
    if not any(not annotation["iscrowd"] for annotation in shared.truth["annotations"]):
        raise UserError(f"there is no object on the {len(images):,} test images that {a.name} and {b.name} share")
    classes = [category["name"] for category in shared.truth["categories"]]
    side_a, side_b = (
        Side(matches, thresholds_of(experiment, matches, classes))
        for experiment, predictions in ((a, shared.a), (b, shared.b))
        for matches in [matches_of(evaluate_boxes(shared.truth, predictions))]
    )
    # An image without a group is a group of its own.
    keys = [f"group {image['group']}" if image.get("group") else str(id_) for id_, image in images.items()]
    groups = np.unique(keys, return_inverse=True)[1]
    times = draws(groups, max(DRAWS, 100 * len(classes)), seed=0)
    metrics, of_classes = differences(side_a, side_b, classes, times)
    return Comparison(
        a.name, b.name, shared, len(set(keys)), len(times), a.thresholds is None,
        metrics, of_classes, image_changes(side_a, side_b), {id_: image["file_name"] for id_, image in images.items()},
    )  # fmt: skip


def thresholds_of(experiment: Experiment, matches: Matches, classes: list[str]) -> NDArray[np.float64]:
    """The threshold of each class [C]: as evaluated, or the one of the best F1 on these images."""
    chosen = experiment.thresholds
    if chosen is None:
        return np.full(len(classes), choose(matches, "f1", np.zeros(0), 0.0).threshold)
    return np.array([chosen.get(name, chosen[""]) for name in classes])


if __name__ == "__main__":
    run_command(main)
