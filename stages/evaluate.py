"""Judge the trained detector on test, at the score threshold that is best on val.

command  python stages/evaluate.py
reads    params.yaml (evaluate), models/detector.{safetensors,json}, data/coco/{val,test}.json and images,
         metrics/train/plots/metrics/ (curves for the report)
writes   metrics/evaluate.json, data/predictions/{val,test}.json (COCO results), in plots/evaluate/
         precision_recall.{json,png} and confusion.{json,png}, plots/galleries/*.jpg and plots/report.html
time     about 6 s for the sample on 2 cores
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detector.environment import check_torch, keep_freed_memory

check_torch()  # before the imports below, where a mismatched pair fails obscurely

import numpy as np
import torch
from hotcoco import COCOeval
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detector.checkpoint import Card, load_checkpoint
from detector.data.dataset import DetectionDataset, collate, pack, present_objects, read_coco
from detector.errors import UserError, run_command
from detector.evaluation.coco_metrics import Prediction, class_numbers, coco_numbers, evaluate_boxes, precisions
from detector.evaluation.figures import draw_confusion, draw_precision_recall
from detector.evaluation.gallery_pictures import Names, draw_galleries
from detector.evaluation.matching import matches_of
from detector.evaluation.operating_point import OperatingPoint, at_threshold, best_f1, confusions_at
from detector.evaluation.predictions import Predicted, predict
from detector.evaluation.report import Curve, gather, write_report
from detector.evaluation.settings import EvaluateParams, postprocess_of
from detector.evaluation.state_metrics import StateNumbers, confusion_of_states, state_numbers
from detector.models import load_model
from detector.params import load_section
from detector.seeding import make_deterministic

CHECKPOINT = Path("models/detector.safetensors")
COCO = Path("data/coco")
PREDICTIONS = Path("data/predictions")
METRICS = Path("metrics/evaluate.json")
PLOTS = Path("plots/evaluate")
GALLERIES = Path("plots/galleries")
REPORT = Path("plots/report.html")
TRAINING = Path("metrics/train/plots/metrics")


def main() -> None:
    params = load_section(Path("params.yaml"), "evaluate", EvaluateParams)
    make_deterministic(0, params.threads)
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    weights, card = load_checkpoint(CHECKPOINT)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess_of(params)).to(device)
    coco = {split: read_coco(COCO / f"{split}.json") for split in ("val", "test")}
    truth = {split: present_objects(coco[split]) for split in coco}
    for split, objects in truth.items():
        if not any(not annotation["iscrowd"] for annotation in objects["annotations"]):
            raise UserError(f"{COCO / split}.json: no object that is there to be found, so nothing can be measured")
    predicted = {split: predict_split(model, coco[split], card, params, device, split) for split in coco}
    found = {split: predicted[split].predictions for split in coco}
    point = best_f1(matches_of(evaluate_boxes(truth["val"], found["val"])))
    evaluation = evaluate_boxes(truth["test"], found["test"])
    states = None
    if card.states:
        matrix = confusion_of_states(pack(coco["test"]).states, predicted["test"].states, len(card.states))
        states = state_numbers(matrix, card.states)
    write_metrics(evaluation, point, card, states)
    write_predictions(found)
    draw(evaluation, truth["test"], found["test"], point, card)
    look(coco["test"], found["test"], evaluation, np.full(len(card.classes), point.threshold), card, params)


def predict_split(
    model: nn.Module,
    coco: dict[str, Any],
    card: Card,
    params: EvaluateParams,
    device: torch.device,
    split: str,
) -> Predicted:
    """The detections of all images of a split and, with a state head, the states of its objects."""
    annotations = pack(coco)
    fill = (card.mean[0], card.mean[1], card.mean[2])
    dataset = DetectionDataset(annotations, Path(), card.size, fill)
    loader = DataLoader(dataset, batch_size=params.batch_size, collate_fn=collate)
    bar = tqdm(loader, desc=f"evaluate {split}", unit="batch", disable=None)
    return predict(model, bar, annotations, device, with_targets=bool(card.states))


def write_metrics(evaluation: COCOeval, point: OperatingPoint, card: Card, states: StateNumbers | None) -> None:
    """The numbers of test: COCO's twelve, the operating point's, AP by class, and how well states are told."""
    matches = matches_of(evaluation)
    reached = at_threshold(matches, point.threshold)
    metrics: dict[str, Any] = dict(coco_numbers(evaluation))
    metrics |= {
        "threshold": point.threshold,
        "precision": reached.precision,
        "recall": reached.recall,
        "F1": reached.f1,
    }
    metrics["classes"] = {}
    for number, (name, numbers) in enumerate(class_numbers(evaluation, card.classes).items()):
        of_class = at_threshold(matches, point.threshold, number)
        metrics["classes"][name] = numbers | {
            "precision": of_class.precision, "recall": of_class.recall, "F1": of_class.f1
        }  # fmt: skip
    if states is not None:
        metrics |= {"state_macro_F1": states.macro_f1, "states": states.of_state}
    METRICS.parent.mkdir(parents=True, exist_ok=True)
    METRICS.write_text(json.dumps(rounded(metrics), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"test: AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f}; at threshold {point.threshold:.3f} "
          f"precision {reached.precision:.3f}, recall {reached.recall:.3f}")  # fmt: skip
    if states is not None and states.macro_f1 is not None:
        print(f"      macro F1 of the states, given the boxes: {states.macro_f1:.3f}")


def rounded(value: Any) -> Any:
    """The same structure with floats to 12 digits: more are noise of the summation order."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(value, 12) if isinstance(value, float) else value


def write_predictions(found: dict[str, list[Prediction]]) -> None:
    """COCO results, one detection a line."""
    PREDICTIONS.mkdir(parents=True, exist_ok=True)
    for split, predictions in found.items():
        lines = ",\n".join(json.dumps(prediction, separators=(",", ":")) for prediction in predictions)
        (PREDICTIONS / f"{split}.json").write_text(f"[{lines}]\n", encoding="utf-8")


def draw(
    evaluation: COCOeval, truth: dict[str, Any], found: list[Prediction], point: OperatingPoint, card: Card
) -> None:  # fmt: skip
    """Curves and confusions as JSON for DVC's plots and as PNG."""
    PLOTS.mkdir(parents=True, exist_ok=True)
    precision = precisions(evaluation)[0]  # [recall, class], -1 for a class that test lacks
    curves = {name: precision[:, index] for index, name in enumerate(card.classes) if precision[0, index] >= 0}
    mean = np.mean(list(curves.values()), axis=0)
    rows = [
        {"recall": round(float(recall), 2), "precision": round(float(value), 6)}
        for recall, value in zip(np.linspace(0, 1, 101), mean, strict=True)
    ]
    write_plot(rows, PLOTS / "precision_recall.json")
    matches = matches_of(evaluation)
    reached = at_threshold(matches, point.threshold)
    draw_precision_recall(curves, reached, PLOTS / "precision_recall.png")
    matrix = confusions_at(point.threshold, truth, found, matches)
    names = [*card.classes, "background"]
    pairs = [
        {"was_there": names[row], "found": names[column]}
        for row, column in np.ndindex(*matrix.shape)
        for _ in range(int(matrix[row, column]))
    ]
    write_plot(pairs, PLOTS / "confusion.json")
    draw_confusion(matrix, card.classes, PLOTS / "confusion.png")


def look(
    coco: dict[str, Any], found: list[Prediction], evaluation: COCOeval, thresholds: NDArray[np.float64], card: Card,
    params: EvaluateParams,
) -> None:  # fmt: skip
    """The pictures to look at, and the page that holds everything; thresholds [C]: of each class."""
    headline = json.loads(METRICS.read_text(encoding="utf-8"))
    curves = read_curves(TRAINING)
    facts = gather("test", coco, found, matches_of(evaluation), thresholds, params.gallery, headline, {}, asdict(card),
                   [], curves)  # fmt: skip
    images = sorted(coco["images"], key=lambda image: int(image["id"]))
    drawn = draw_galleries(
        facts.galleries, facts.pairs, images, Names(card.classes, card.states), thresholds, Path(), GALLERIES
    )
    for _ in tqdm(drawn, desc="galleries", unit="picture", disable=None):
        pass
    write_report(facts, Path(), REPORT)


def read_curves(folder: Path) -> list[Curve]:
    """What the training logged, each series by its path; nothing of a detector that was not trained here."""
    curves = []
    for path in sorted(folder.rglob("*.tsv")):
        rows = path.read_text(encoding="utf-8").splitlines()[1:]
        curves.append(
            Curve(path.relative_to(folder).with_suffix("").as_posix(), [float(r.split("\t")[1]) for r in rows])
        )
    return curves


def write_plot(rows: list[dict[str, Any]], path: Path) -> None:
    """A list of dictionaries as DVC's plots read it, one a line."""
    path.write_text("[" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)
