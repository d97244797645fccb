"""Check the raw dataset and write a manifest of the usable images.

command  python stages/preprocess.py
reads    params.yaml (preprocess), versions.yaml, machine.yaml, the raw dataset, data/decisions.csv (reviewed
         label issues)
writes   data/clean/       manifest.jsonl, labels.json, findings.csv (everything dropped or repaired, with
                           severity, kind and place), images/ (only converted ones)
         metrics/preprocess.json (images and boxes), metrics/preprocess/ (details, and the
                           numbers of DVC's charts), plots/data/samples.jpg
time     about 2 s for 2,000 photographs of 640x480 on 2 cores; a second run opens only new files
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is imported: the stage has threads of its own

import gc
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detector.core.errors import UserError
from detector.core.machine import in_repository, load_machine_settings
from detector.core.output_files import make_empty_folder, write_text
from detector.core.params import load_section
from detector.core.stage_process import run_stage
from detector.core.versions import check_versions
from detector.manifest.decisions import DECISIONS, Decision, apply_decisions, read_decisions
from detector.manifest.manifest import CleanImage, Labels, write_labels, write_manifest
from detector.preprocessing.cleaning import collect_labels
from detector.preprocessing.executors import Executor
from detector.preprocessing.findings import Finding, FindingKind, FindingLog, describe_counts, summarize_counts
from detector.preprocessing.inspection_cache import inspect_images
from detector.preprocessing.plots import write_plot_numbers
from detector.preprocessing.read_dataset import clean_images, read_raw_dataset
from detector.preprocessing.samples import draw_samples
from detector.preprocessing.settings import PreprocessParams

MACHINE = Path("machine.yaml")
VERSIONS = Path("versions.yaml")
DECISIONS_FILE = Path("data/decisions.csv")
CLEAN = Path("data/clean")
METRICS = Path("metrics/preprocess.json")
DETAILS = Path("metrics/preprocess/details.json")
PLOTS = Path("plots/data")
MAX_SHOWN_ERRORS = 20
# The caches are ignored by git and are not outputs of the stage. Inspections are keyed by path and file times,
# which are valid in this folder only; converted images are keyed by content and shared with
# `dvc exp run --temp` through $DVC_ROOT.
INSPECTIONS = Path(".cache/preprocess/inspections.sqlite")
CONVERTED = Path(".cache/preprocess/images")
PACKAGES = ("numpy", "pillow")  # whose versions can change the results


def main() -> None:
    params = load_section(Path("params.yaml"), "preprocess", PreprocessParams)
    check_versions(VERSIONS, PACKAGES)
    machine = load_machine_settings(MACHINE)
    decisions = read_decisions(DECISIONS_FILE)
    dataset = Path(params.dataset)
    if not dataset.is_dir():
        raise UserError(f"params.yaml: `preprocess.dataset` is {params.dataset!r}, which is not a folder")
    log = FindingLog()
    raw = read_raw_dataset(params, log)
    if log.format:
        print(log.format)
    executor = Executor(machine.executor, machine.dask_scheduler)
    infos, opened = inspect_images([dataset / image.path for image in raw], INSPECTIONS, executor)
    labels = collect_labels(raw, params)
    make_empty_folder(CLEAN)
    clean = clean_images(
        raw, infos, labels, params, log=log, converted=CLEAN / "images", cache=in_repository(CONVERTED)
    )
    images, unmatched = apply_decisions(clean, decisions, labels)
    log.listed += [build_unmatched_finding(decision) for decision in unmatched]
    check_errors(log, params)
    check_classes(images, labels, params, log)
    write_outputs(images, labels, log)
    details = summarize_dataset(len(raw), images, labels, log)
    details["decisions"] = count_decisions(decisions, unmatched)
    metrics = {name: details[name] for name in ("images", "boxes")}
    for path, numbers in ((METRICS, metrics), (DETAILS, details)):
        write_text(path, json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    write_plot_numbers(images, labels, DETAILS.parent)
    make_empty_folder(PLOTS)
    draw_samples(images, labels, Path.cwd(), PLOTS / "samples.jpg")
    print_summary(details, opened, len(raw))


def build_unmatched_finding(decision: Decision) -> Finding:
    """The finding for a decision about a label that is not, or no longer, in the dataset."""
    box = ", ".join(f"{value:.6g}" for value in decision.xyxy)
    details = f"{decision.decision} {decision.kind}: {decision.label} [{box}]"
    return Finding(FindingKind.UNMATCHED_DECISION, decision.where, decision.file or decision.content, details=details)


def count_decisions(decisions: Sequence[Decision], unmatched: Sequence[Decision]) -> dict[str, int]:
    """Number of applied decisions by what they decide, and of those that match no label."""
    applied = Counter(decision.decision for decision in decisions)
    applied.subtract(decision.decision for decision in unmatched)
    return {name: applied[name] for name in DECISIONS} | {"unmatched": len(unmatched)}


def check_errors(log: FindingLog, params: PreprocessParams) -> None:
    """With `on_error: stop`, raise UserError when an image or a box was dropped."""
    errors = log.errors()
    if not errors or params.on_error != "stop":
        return
    lines = [f"  {describe_error(finding)}" for finding in errors[:MAX_SHOWN_ERRORS]]
    if len(errors) > MAX_SHOWN_ERRORS:
        lines.append(f"  and {len(errors) - MAX_SHOWN_ERRORS} more")
    shown = "\n".join(lines)
    raise UserError(
        f"{params.dataset}: {len(errors)} unusable images or boxes, and `preprocess.on_error` is stop; "
        f"correct them, or set it to drop:\n{shown}"
    )


def describe_error(finding: Finding) -> str:
    """Place, image, box, kind and details in one line."""
    place = ", ".join([finding.image] * bool(finding.image) + [f"box {finding.box}"] * (finding.box is not None))
    details = f" ({finding.details})" if finding.details else ""
    return f"{finding.where}: {place}: {finding.kind.text}{details}"


def check_classes(images: Sequence[CleanImage], labels: Labels, params: PreprocessParams, log: FindingLog) -> None:
    """Raise UserError when no usable box is left of the dataset or of a class."""
    usable = {box.label for image in images for box in image.boxes}
    found = summarize_counts(log.counts())
    if not usable:
        is_missing = not images and any(finding.kind is FindingKind.MISSING_FILE for finding in log.listed)
        advice = "; put the images into the dataset folder, beside the annotations" if is_missing else ""
        raise UserError(f"{params.dataset}: no usable box in {len(images)} readable images; findings: {found}{advice}")
    missing = [name for name in labels.classes if name not in usable]
    if missing:
        raise UserError(
            f"{params.dataset}: no usable box of class {', '.join(missing)}; findings: {found}; correct the boxes, or "
            "list the other classes in `preprocess.classes`"
        )


def write_outputs(images: Sequence[CleanImage], labels: Labels, log: FindingLog) -> None:
    """Write manifest, class and state names, and findings."""
    write_manifest(CLEAN / "manifest.jsonl", images)
    write_labels(CLEAN / "labels.json", labels)
    log.write_csv(CLEAN / "findings.csv")


def summarize_dataset(
    images_read: int, images: Sequence[CleanImage], labels: Labels, log: FindingLog
) -> dict[str, Any]:
    """The values of metrics/preprocess/details.json."""
    boxes = [box for image in images for box in image.boxes]
    per_class = Counter(box.label for box in boxes)
    per_state = Counter(box.state or "unknown" for box in boxes)
    groups = Counter(image.group for image in images)
    unread_kinds = (FindingKind.DUPLICATE_ENTRY, FindingKind.UNUSABLE_NAME, FindingKind.AMBIGUOUS_PATH)
    unread = sum(finding.kind in unread_kinds for finding in log.listed)
    return {
        "files": log.files._asdict(),
        "images_listed": images_read + unread,
        "images": len(images),
        "images_without_boxes": sum(not image.boxes for image in images),
        "boxes_listed": log.boxes,
        "boxes_of_dropped_images": log.boxes_of_dropped_images,
        "boxes": len(boxes),
        "duplicate_groups": sum(size > 1 for size in groups.values()),
        "images_in_duplicate_groups": sum(size for size in groups.values() if size > 1),
        "boxes_per_class": {name: per_class[name] for name in labels.classes},
        "boxes_per_state": {name: per_state[name] for name in [*labels.states, "unknown"] if per_state[name]},
        "findings": log.counts(),
    }


def print_summary(details: dict[str, Any], opened: int, images_read: int) -> None:
    """Print the numbers of images and boxes, and the findings by severity and kind."""
    images, boxes, files = details["images"], details["boxes"], details["files"]
    print(
        f"kept {images:,} of {details['images_listed']:,} images with {boxes:,} of {details['boxes_listed']:,} boxes; "
        f"opened {opened:,} of {images_read:,} files"
    )
    print(
        f"  files in the dataset folder: {files['found']:,} (images: {files['images']:,}, annotation files: "
        f"{files['annotations']:,}, passed over: {files['passed_over']:,})"
    )
    if details["boxes_of_dropped_images"]:
        print(f"  boxes of dropped images: {details['boxes_of_dropped_images']:,}")
    for line in describe_counts(details["findings"]):
        print(line)
    decisions: dict[str, int] = details["decisions"]
    if any(decisions.values()):
        print(f"  {DECISIONS_FILE}: " + ", ".join(f"{count} {name}" for name, count in decisions.items()))
    print(f"  see {CLEAN / 'findings.csv'} and {PLOTS}")


if __name__ == "__main__":
    gc.disable()  # hardly anything refers to itself, and each collection would visit every box again
    run_stage(main)
