"""Check the raw dataset and write a manifest of what can be used.

command  python stages/preprocess.py
reads    params.yaml (preprocess), the raw dataset, data/decisions.csv (what reviewers decided about labels)
writes   data/clean/       manifest.jsonl, labels.json, findings.csv (everything dropped or repaired, with
                           file and reason), images/ (only those that had to be changed)
         metrics/preprocess.json, plots/data/
time     about 1 s for 2,000 photographs of 640x480 on 2 cores, and 3 s for the plots; a second run
         opens only new files
"""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections import Counter
from pathlib import Path

from detector.core.errors import UserError, run_command
from detector.core.params import load_section
from detector.manifest.decisions import DECISIONS, Decision, follow_decisions, read_decisions
from detector.manifest.manifest import CleanImage, Labels, write_labels, write_manifest
from detector.preprocessing.cleaning import Finding, PreprocessParams, labels_of
from detector.preprocessing.inspection_cache import inspect_all
from detector.preprocessing.read_dataset import clean, executor_of, read_dataset

REVIEWED = Path("data/decisions.csv")
CLEAN = Path("data/clean")
METRICS = Path("metrics/preprocess.json")
PLOTS = Path("plots/data")
# Ignored by git and no outputs of the stage. What is known by a file's path and times is of this folder alone;
# what is known by content is shared with `dvc exp run --temp` through $DVC_ROOT.
FACTS = Path(".cache/preprocess/memory.sqlite")
CONVERTED = Path(os.environ.get("DVC_ROOT", ".")) / ".cache/preprocess/images"


def main() -> None:
    params = load_section(Path("params.yaml"), "preprocess", PreprocessParams)
    decisions = read_decisions(REVIEWED)
    notes: Counter[str] = Counter()
    if not Path(params.dataset).is_dir():
        raise UserError(f"params.yaml: `preprocess.dataset` is {params.dataset!r}, which is not a folder")
    images, findings = read_dataset(params, notes)
    facts, opened = inspect_all([Path(params.dataset) / image.path for image in images], FACTS, executor_of(params))
    labels = labels_of(images, params)
    shutil.rmtree(CLEAN, ignore_errors=True)
    cleaned = clean(images, facts, labels, params, CLEAN / "images", CONVERTED)
    findings += cleaned.findings
    decided, unmatched = follow_decisions(cleaned.images, decisions, labels)
    findings += [unmatched_finding(decision) for decision in unmatched]
    stop_on_findings(findings, decided, labels, params)
    write_outputs(decided, labels, findings)
    metrics = summarize(len(images), decided, labels, findings, notes)
    metrics["decisions"] = count_decisions(decisions, unmatched)
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(metrics, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draw(decided, labels)
    print_summary(metrics, opened, len(images))


def unmatched_finding(decision: Decision) -> Finding:
    """For a decision about a label that is not, or no longer, in the dataset."""
    box = ", ".join(f"{value:.6g}" for value in decision.xyxy)
    detail = f"{decision.decision} {decision.kind}: {decision.label} [{box}]"
    return Finding("decision matches no label", decision.where, decision.file or decision.content, detail)


def count_decisions(decisions: list[Decision], unmatched: list[Decision]) -> dict[str, int]:
    """How many decisions of each sort were followed, and how many match nothing."""
    followed = Counter(decision.decision for decision in decisions)
    followed.subtract(decision.decision for decision in unmatched)
    return {name: followed[name] for name in DECISIONS} | {"unmatched": len(unmatched)}


def stop_on_findings(
    findings: list[Finding], images: list[CleanImage], labels: Labels, params: PreprocessParams
) -> None:
    """Refuse to go on without boxes of every class, or with `on_error: stop` when anything was dropped."""
    dropped = [finding for finding in findings if "dropped" in finding.reason]
    if dropped and params.on_error == "stop":
        shown = "\n".join(f"  {item.where}: {item.image}: {item.reason}. {item.detail}" for item in dropped[:20])
        more = f"\n  and {len(dropped) - 20} more" if len(dropped) > 20 else ""
        raise UserError(
            f"{len(dropped)} problems in {params.dataset} and `preprocess.on_error` is stop:\n{shown}{more}"
        )
    usable = {box.label for image in images for box in image.boxes}
    reasons = ", ".join(f"{count} x {reason}" for reason, count in count_reasons(findings).items())
    if not usable:
        raise UserError(
            f"{params.dataset}: no box is left of {len(images)} readable images ({reasons or 'none had any'})"
        )
    lost = [name for name in labels.classes if name not in usable]
    if lost:
        raise UserError(
            f"{params.dataset}: no usable box is left of {', '.join(lost)} ({reasons}); mend the boxes, or list "
            "the other classes in `preprocess.classes`"
        )


def write_outputs(images: list[CleanImage], labels: Labels, findings: list[Finding]) -> None:
    """The manifest, the names, and the list of everything dropped or repaired."""
    CLEAN.mkdir(parents=True, exist_ok=True)
    write_manifest(CLEAN / "manifest.jsonl", images)
    write_labels(CLEAN / "labels.json", labels)
    with (CLEAN / "findings.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Finding._fields)
        writer.writerows(sorted(findings))


def count_reasons(findings: list[Finding]) -> dict[str, int]:
    """How often each reason occurs, in alphabetical order."""
    return dict(sorted(Counter(finding.reason for finding in findings).items()))


def summarize(
    listed: int, images: list[CleanImage], labels: Labels, findings: list[Finding], notes: Counter[str]
) -> dict[str, object]:
    """The numbers of metrics/preprocess.json."""
    boxes = [box for image in images for box in image.boxes]
    per_class = Counter(box.label for box in boxes)
    per_state = Counter(box.state or "unknown" for box in boxes)
    groups = Counter(image.group for image in images)
    return {
        "images_listed": listed + sum(finding.reason.startswith("image listed twice") for finding in findings),
        "images": len(images),
        "images_without_boxes": sum(not image.boxes for image in images),
        "boxes": len(boxes),
        "duplicate_groups": sum(size > 1 for size in groups.values()),
        "images_in_duplicate_groups": sum(size for size in groups.values() if size > 1),
        "boxes_per_class": {name: per_class[name] for name in labels.classes},
        "boxes_per_state": {name: per_state[name] for name in [*labels.states, "unknown"] if per_state[name]},
        "findings": count_reasons(findings) | dict(sorted(notes.items())),
    }


def draw(images: list[CleanImage], labels: Labels) -> None:
    """The plots; matplotlib is loaded only here, so that a mistake in the data shows at once."""
    from detector.preprocessing.plots import draw_all

    draw_all(images, labels, Path.cwd(), PLOTS)


def print_summary(metrics: dict[str, object], opened: int, listed: int) -> None:
    """What was found, on the console."""
    print(f"{metrics['images']} of {metrics['images_listed']} images, {metrics['boxes']} boxes; ", end="")
    print(f"opened {opened} of {listed} files")
    for reason, count in metrics["findings"].items():  # type: ignore[attr-defined]
        print(f"  {count:6,}  {reason}")
    decisions: dict[str, int] = metrics["decisions"]  # type: ignore[assignment]
    if any(decisions.values()):
        print(f"  {REVIEWED}: " + ", ".join(f"{count} {name}" for name, count in decisions.items()))
    print(f"  see {CLEAN / 'findings.csv'} and {PLOTS}")


if __name__ == "__main__":
    run_command(main)
