"""Judge the trained detector on test (`evaluate.split`), at the score threshold that val gives.

command  python stages/evaluate.py
reads    params.yaml (evaluate, postprocess), models/detector.{safetensors,json}, data/coco/{train,val,test}.json and
         images, data/decisions.csv, metrics/train/plots/metrics/ (curves for the report)
writes   metrics/evaluate.json (the numbers, docs/evaluation.md says what each is), metrics/evaluate/details.json,
         metrics/evaluate/suspects.csv (labels that look wrong, of all splits), data/predictions/*.json (COCO results),
         plots/evaluate/*.{json,png}, plots/galleries/*.jpg, plots/report.html,
         logs/evaluate.json (times; ignored by git)
time     about 20 s for the sample on 2 cores
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detector.engine.environment import check_torch, keep_freed_memory

check_torch()  # before the imports below, where a mismatched pair fails obscurely

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detector.core.errors import UserError, run_command
from detector.core.params import load_section
from detector.engine.checkpoint import Card, load_checkpoint
from detector.engine.coco_metrics import precisions
from detector.engine.dataset import DetectionDataset, collate, pack, present_objects, read_coco
from detector.engine.predict import Predicted, predict
from detector.engine.seeding import make_deterministic
from detector.evaluation.error_types import Pairs, confusions, pair
from detector.evaluation.gallery_pictures import Names, draw_galleries
from detector.evaluation.label_issues import Suspect, rows_of, suspects_of, without_decided, worst_first, write_suspects
from detector.evaluation.matched_split import Judged, Thresholds, judge, thresholds_on
from detector.evaluation.metrics import Measured, measure
from detector.evaluation.plots import draw_confusion, draw_precision_recall, draw_reliability, draw_state_curves
from detector.evaluation.report import Curve, gather, write_report
from detector.evaluation.settings import EvaluateParams
from detector.evaluation.suspect_gallery import draw_suspects
from detector.evaluation.timing import Clock, TimedPostprocess, speed
from detector.evaluation.writers import rounded, write_numbers, write_plot, write_predictions
from detector.manifest.decisions import read_decisions
from detector.models import load_model
from detector.models.postprocess import PostprocessParams

CHECKPOINT = Path("models/detector.safetensors")
COCO = Path("data/coco")
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics/evaluate.json")
DETAILS = Path("metrics/evaluate/details.json")
PLOTS = Path("plots/evaluate")
GALLERIES = Path("plots/galleries")
REPORT = Path("plots/report.html")
TRAINING = Path("metrics/train/plots/metrics")
TIMES = Path("logs/evaluate.json")
DECISIONS = Path("data/decisions.csv")
SUSPECTS = Path("metrics/evaluate/suspects.csv")
GALLERY = Path("plots/galleries/suspects.jpg")
SHOWN = 24  # of the suspects, in the gallery


def main() -> None:
    params = load_section(Path("params.yaml"), "evaluate", EvaluateParams)
    picked = load_section(Path("params.yaml"), "postprocess", PostprocessParams)
    make_deterministic(0, params.threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights, card = load_checkpoint(CHECKPOINT)
    clock = Clock()
    postprocess = TimedPostprocess(**picked.model_dump(), clock=clock)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess).to(device)
    coco = {split: read_coco(COCO / f"{split}.json") for split in ("train", "val", "test")}
    for split in sorted({"val", params.split}):
        if not any(not annotation["iscrowd"] for annotation in present_objects(coco[split])["annotations"]):
            raise UserError(f"{COCO / split}.json: no object that is there to be found, so nothing can be measured")
    clock.watch(model, "model")
    began = time.perf_counter()
    predicted = {split: predict_split(model, coco[split], card, params, device, split, clock) for split in coco}
    write_times(clock, sum(len(of_split["images"]) for of_split in coco.values()), time.perf_counter() - began)
    for name, of_split in predicted.items():
        write_predictions(PREDICTIONS / f"{name}.json", of_split.predictions)
    val, judged = (judge(coco[split], predicted[split].predictions) for split in ("val", params.split))
    thresholds = thresholds_on(val, params.threshold, params.threshold_per_class, params.cost_ratio)
    measured = measure(
        val, judged, thresholds, predicted[params.split].state_scores, params.cost_ratio, params.resamples
    )
    write_numbers(METRICS, measured.flat)
    write_numbers(DETAILS, {"split": params.split, **measured.details})
    print(f"{params.split}: {measured.headline()}")
    pairs = pair(judged.coco, judged.predictions, judged.matches)
    draw(judged, pairs, thresholds, measured)
    suspects = list_suspects(coco, predicted, card)
    look(params.split, judged.coco, pairs, thresholds, measured, card, rows_of(suspects), params.gallery)


def predict_split(
    model: nn.Module, coco: dict[str, Any], card: Card, params: EvaluateParams, device: torch.device, split: str,
    clock: Clock,
) -> Predicted:  # fmt: skip
    """The detections of all images of a split and, with a state head, what it says of the split's objects."""
    annotations = pack(coco)
    fill = (card.mean[0], card.mean[1], card.mean[2])
    dataset = DetectionDataset(annotations, Path(), card.size, fill)
    loader = DataLoader(dataset, batch_size=params.batch_size, collate_fn=collate)
    bar = tqdm(loader, desc=f"evaluate {split}", unit="batch", disable=None)
    return predict(model, clock.fetching(bar, "decode"), annotations, device, with_targets=bool(card.states))


def write_times(clock: Clock, images: int, seconds: float) -> None:
    """Images a second and where the time went, in a file that is not tracked."""
    TIMES.parent.mkdir(exist_ok=True)
    TIMES.write_text(json.dumps(speed(clock, images, seconds)) + "\n", encoding="utf-8")


def draw(judged: Judged, pairs: Pairs, thresholds: Thresholds, measured: Measured) -> None:
    """Curves and confusions as JSON for DVC's plots and as PNG."""
    classes = [category["name"] for category in judged.truth["categories"]]
    precision = precisions(judged.evaluation)[0]  # [recall, class], -1 for a class without objects
    curves = {name: precision[:, index] for index, name in enumerate(classes) if precision[0, index] >= 0}
    mean = np.mean(list(curves.values()), axis=0)
    rows = [
        {"recall": round(float(recall), 2), "precision": round(float(value), 6)}
        for recall, value in zip(np.linspace(0, 1, 101), mean, strict=True)
    ]
    write_plot(PLOTS / "precision_recall.json", rows)
    flat, details = measured
    point = (flat["threshold"], flat["precision"], flat["recall"])
    draw_precision_recall(curves, *point, PLOTS / "precision_recall.png")
    matrix = confusions(pairs, thresholds.limits)
    names = [*classes, "background"]
    write_plot(PLOTS / "confusion.json", pairs_of(matrix, names, "was_there", "found"))
    draw_confusion(matrix, names, "What was there, and what was found", "found", PLOTS / "confusion.png")
    bins = details["calibration"]["bins"]
    filled = [one for one in bins if one["count"]]
    reliable = [{"score": round(one["confidence"], 6), "right": round(one["accuracy"], 6)} for one in filled]
    write_plot(PLOTS / "reliability.json", reliable)
    draw_reliability(bins, PLOTS / "reliability.png")
    states = details["states"]
    if states is not None:
        told = np.array(states["confusion"])
        write_plot(PLOTS / "state_confusion.json", pairs_of(told, states["names"], "was_there", "told"))
        title = "States, given the true boxes"
        draw_confusion(told, states["names"], title, "told", PLOTS / "state_confusion.png")
        draw_state_curves(states["roc"], states["precision_recall"], PLOTS / "state_curves.png")
    else:  # dvc.yaml names it
        write_plot(PLOTS / "state_confusion.json", [])


def pairs_of(matrix: Any, names: list[str], rows: str, columns: str) -> list[dict[str, str]]:
    """A row for each object and detection that a matrix of counts [K, K] holds: DVC counts them itself."""
    return [
        {rows: names[row], columns: names[column]}
        for row, column in np.ndindex(*matrix.shape)
        for _ in range(int(matrix[row, column]))
    ]


def look(
    split: str, coco: dict[str, Any], pairs: Pairs, thresholds: Thresholds, measured: Measured, card: Card,
    suspects: list[dict[str, str]], pictures: int,
) -> None:  # fmt: skip
    """The pictures to look at, and the page that holds everything."""
    flat, details = rounded(measured)
    curves = read_curves(TRAINING)
    facts = gather(split, coco, pairs, thresholds.limits, pictures, flat, details, asdict(card), suspects, curves)
    images = sorted(coco["images"], key=lambda image: int(image["id"]))
    names = Names(card.classes, card.states)
    drawn = draw_galleries(facts.galleries, pairs, images, names, thresholds.limits, Path(), GALLERIES)
    for _ in tqdm(drawn, desc="galleries", unit="picture", disable=None):
        pass
    write_report(facts, Path(), REPORT)


def read_curves(folder: Path) -> list[Curve]:
    """What the training logged, each series by its path."""
    curves = []
    for path in sorted(folder.rglob("*.tsv")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        curves.append(Curve(name, [float(row.split("\t")[1]) for row in rows]))
    return curves


def list_suspects(coco: dict[str, dict[str, Any]], predicted: dict[str, Predicted], card: Card) -> list[Suspect]:
    """Labels of all splits that look wrong and that nobody has decided about, worst first; the worst as pictures."""
    found = worst_first(
        suspect
        for split, of_split in predicted.items()
        for suspect in suspects_of(
            split, coco[split], of_split.predictions, of_split.state_scores if card.states else None
        )
    )
    suspects = without_decided(found, read_decisions(DECISIONS))
    write_suspects(SUSPECTS, suspects)
    draw_suspects(suspects[:SHOWN], coco.values(), Path(), GALLERY)
    decided = f" ({len(found) - len(suspects)} more are decided about)" if len(found) > len(suspects) else ""
    print(f"{len(suspects)} labels look wrong{decided}: see {SUSPECTS} and {GALLERY}")
    return suspects


if __name__ == "__main__":
    run_command(main)
