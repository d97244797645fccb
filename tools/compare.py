"""Compare two experiments on the same test images and print a Markdown table with significance tests.

    python tools/compare.py main my-experiment
    python tools/compare.py main my-experiment --html comparison.html
    python tools/compare.py HEAD workspace --out comparison.md --fail-if-worse AP
    python tools/compare.py a.json b.json --truth test.json

A and B are git revisions or experiments of this repository (`workspace`: the current files), or two files of COCO
results with the COCO file of their ground truth. For a revision, data/coco/test.json and data/predictions/test.json
are read from DVC's cache or remote, and so are the thresholds in metrics/evaluate/details.json; prediction files are
compared at the threshold of the best F1 on these images. Images that only one test set has, or with different objects,
are left out and counted.

Exit code: 0 ok, 1 an input that cannot be used, 2 a wrong command line, 3 B is significantly worse in a metric of
--fail-if-worse (its 95% interval lies below zero).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from comparison_inputs import Experiment, read_inputs
from comparison_table import Comparison, render_comparison
from detector.comparison.common_images import find_common_images
from detector.comparison.comparison import DetectorMatches, compare_detectors, compare_images
from detector.core.errors import UserError, run_command
from detector.core.output_files import write_text
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.bootstrap import bootstrap_weights
from detector.evaluation.matching import Matches, collect_matches
from detector.evaluation.metric_names import COMPARED_METRICS
from detector.evaluation.operating_point import choose_threshold
from detector.evaluation.overlaps import find_overlaps

EXIT_WORSE = 3
MIN_BOOTSTRAP_SAMPLES = 2000
SAMPLES_PER_CLASS = 100  # with many classes, more samples, so that corrected p-values can be small


def main() -> None:
    arguments = parse_arguments()
    a, b = read_inputs(arguments.a, arguments.b, arguments.truth)
    comparison = compare(a, b)
    text = render_comparison(comparison)
    print(text)
    if arguments.out is not None:
        write_text(arguments.out, text + "\n")
    if arguments.html is not None:
        from comparison_page import write_page  # its imports take a second, which the table does not need

        missing = write_page(comparison, (a, b), arguments.truth, arguments.html)
        if missing:
            where = "neither on disk nor in DVC's cache or remote"
            print(f"{arguments.html}: {missing} images are {where}", file=sys.stderr)
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
    parser.add_argument("--html", type=Path, metavar="PATH", help="also write one self-contained page, with pictures")
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
    truth = pack_ground_truth(common.truth)
    classes = truth.names.classes
    side_a, side_b = (
        DetectorMatches(matches, resolve_thresholds(experiment, matches, classes))
        for experiment, predictions in ((a, common.a), (b, common.b))
        for matches in [collect_matches(find_overlaps(truth, predictions))]
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
        sides=(side_a, side_b),
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
    return np.array([thresholds.get(name, 1.0) for name in classes])  # a class that it does not know is never detected


if __name__ == "__main__":
    run_command(main)
