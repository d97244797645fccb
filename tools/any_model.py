"""What `evaluate_on` does with a model and a dataset: detections, the threshold, the numbers, the pictures."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from detector.data.dataset import DetectionDataset, collate, pack, present_objects
from detector.errors import UserError
from detector.evaluation.coco_metrics import Prediction, class_numbers, coco_numbers, evaluate_boxes
from detector.evaluation.detections import coco_results
from detector.evaluation.figures import draw_overlay
from detector.evaluation.matched_names import Matched, in_terms_of, of_common_classes
from detector.evaluation.matching import matches_of
from detector.evaluation.onnx_runner import open_onnx
from detector.evaluation.operating_point import OperatingPoint, at_threshold, best_f1
from detector.evaluation.predictions import predict
from detector.evaluation.running import Facts, Runner, find_in_tiles, find_whole
from detector.evaluation.settings import EvaluateParams, postprocess_of
from detector.evaluation.state_metrics import confusion_of_states, state_numbers
from detector.evaluation.tiling import Tiling
from detector.evaluation.torch_runner import open_checkpoint, runner_of


class Model(NamedTuple):
    """facts: what its file says; module: None for an ONNX file; kind: its suffix; digest: its SHA-256."""

    facts: Facts
    runner: Runner
    module: nn.Module | None
    device: torch.device
    kind: str
    digest: str


class Outcome(NamedTuple):
    """A model's answers on a dataset and what they are worth.

    truth: the objects to find, in the model's terms; objects: how many. chosen_on: where the threshold comes from.
    left_out: counts by name of what only one side knows. notes: why a number is missing, by its name.
    """

    matched: Matched
    truth: dict[str, Any]
    predictions: list[Prediction]
    metrics: dict[str, Any]
    threshold: float
    chosen_on: str
    objects: int
    left_out: dict[str, dict[str, int]]
    notes: dict[str, str]

    def draw(self, folder: Path, count: int) -> None:
        """Evenly spread images: the truth beside what was found from the threshold upwards."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("overlay_*.jpg"):
            old.unlink()
        images = self.truth["images"]
        count = min(count, len(images))
        states = [state["name"] for state in self.truth["states"]]
        for number in tqdm(range(count), desc="pictures", unit="image", disable=None):
            image = images[number * len(images) // count]
            objects = [item for item in self.truth["annotations"] if item["image_id"] == image["id"]]
            hits = [p for p in self.predictions if p["image_id"] == image["id"] and p["score"] >= self.threshold]
            path = folder / f"overlay_{number + 1:02}.jpg"
            draw_overlay(image, objects, hits, self.matched.classes, states, Path(), path)


class Answers(NamedTuple):
    """predictions: labels are the model's. states: what the state head says of each true box; None if unknown."""

    predictions: list[Prediction]
    states: NDArray[np.int64] | None


def open_model(path: Path, params: EvaluateParams) -> Model:
    """A checkpoint or an ONNX file, by its suffix. Raises UserError when it cannot be used."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = None
    try:
        if path.suffix == ".onnx":
            facts, runner = open_onnx(path, params.threads)
        elif path.suffix == ".safetensors":
            facts, module = open_checkpoint(path, postprocess_of(params), device)
            runner = runner_of(module, device)
        else:
            raise UserError(f"{path}: expected a checkpoint (.safetensors) or an exported file (.onnx)")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return Model(facts, runner, module, device, path.suffix[1:], digest)


def try_on(
    model: Model, coco: dict[str, Any], val: dict[str, Any] | None, params: EvaluateParams, tiling: Tiling | None
) -> Outcome:
    """Run the model over a COCO dictionary, whole images or tiles, and measure.

    val: on which the threshold is chosen, as in the evaluate stage; None: on the judged images themselves.
    Raises UserError where nothing can be measured.
    """
    facts = model.facts
    matched = in_terms_of(coco, facts.classes, facts.states)
    truth = present_objects(matched.truth)
    objects = sum(not annotation["iscrowd"] for annotation in truth["annotations"])
    if not objects:
        raise UserError(
            f"no object to be found in {len(coco['images'])} images with {len(coco['annotations'])} boxes, so nothing "
            f"can be measured; left out: {matched.left_out}; states in which nothing is to be detected are set by "
            "`coco_convert.present_states`"
        )
    answers = answers_of(model, matched.truth, params, tiling, "judge")
    predictions, of_others = of_common_classes(answers.predictions, matched.category_of, facts.classes)
    if val is None:
        chosen_on = "the judged images themselves, which flatters precision, recall and F1"
        point = best_f1(matches_of(evaluate_boxes(truth, predictions)))
    else:
        chosen_on = "val"
        point = point_on(model, val, matched.classes, answers if val == coco else None, params, tiling)
    metrics, notes = numbers_of(matched, predictions, point.threshold, answers.states)
    left_out = {**matched.left_out, "classes_only_in_model": of_others}
    return Outcome(matched, truth, predictions, metrics, point.threshold, chosen_on, objects, left_out, notes)


def point_on(
    model: Model,
    val: dict[str, Any],
    classes: list[str],
    known: Answers | None,
    params: EvaluateParams,
    tiling: Tiling | None,
) -> OperatingPoint:
    """The threshold that is best on val for these classes, by its answers where these are known."""
    matched = in_terms_of(val, model.facts.classes, model.facts.states, classes)
    answers = known or answers_of(model, matched.truth, params, tiling, "val, for the threshold")
    predictions, _ = of_common_classes(answers.predictions, matched.category_of, model.facts.classes)
    return best_f1(matches_of(evaluate_boxes(present_objects(matched.truth), predictions)))


def answers_of(
    model: Model, coco: dict[str, Any], params: EvaluateParams, tiling: Tiling | None, title: str
) -> Answers:
    """All detections on the images of a COCO dictionary; a checkpoint takes whole images as in the evaluate stage."""
    facts = model.facts
    if model.module is not None and tiling is None:
        annotations = pack(coco)
        dataset = DetectionDataset(annotations, Path(), facts.size, facts.fill)
        loader = DataLoader(dataset, batch_size=params.batch_size, collate_fn=collate)
        bar = tqdm(loader, desc=title, unit="batch", disable=None)
        predicted = predict(model.module, bar, annotations, model.device, with_targets=bool(facts.states))
        return Answers(predicted.predictions, predicted.states if facts.states else None)
    paths = [Path(image["file_name"]) for image in coco["images"]]
    if tiling is None:
        found = find_whole(paths, model.runner, facts, params.batch_size)
    else:
        found = find_in_tiles(
            paths, model.runner, facts, params.batch_size, tiling, params.nms_iou, params.max_detections
        )
    bar = tqdm(found, total=len(paths), desc=title, unit="image", disable=None)
    results = [
        coco_results(one, image["id"], image["width"], image["height"])
        for one, image in zip(bar, coco["images"], strict=True)
    ]
    return Answers([prediction for of_image in results for prediction in of_image], None)


def numbers_of(
    matched: Matched, predictions: list[Prediction], threshold: float, states: NDArray[np.int64] | None
) -> tuple[dict[str, Any], dict[str, str]]:
    """The numbers as in metrics/evaluate.json, and why some are null.

    states: what the state head says of each true box of `matched.truth`; None if nobody asked it.
    """
    evaluation = evaluate_boxes(present_objects(matched.truth), predictions)
    matches = matches_of(evaluation)
    reached = at_threshold(matches, threshold)
    metrics: dict[str, Any] = dict(coco_numbers(evaluation))
    metrics |= {"threshold": threshold, "precision": reached.precision, "recall": reached.recall, "F1": reached.f1}
    metrics["classes"] = {}
    for number, (name, numbers) in enumerate(class_numbers(evaluation, matched.classes).items()):
        of_class = at_threshold(matches, threshold, number)
        reached_by_class = {"precision": of_class.precision, "recall": of_class.recall, "F1": of_class.f1}
        metrics["classes"][name] = numbers | reached_by_class
    names = [state["name"] for state in matched.truth["states"]]
    if not names:
        return metrics, {}
    if states is None:
        return metrics | {"state_macro_F1": None}, {
            "state_macro_F1": "given the true boxes, only a checkpoint tells states, and of whole images"
        }
    known = state_numbers(confusion_of_states(pack(matched.truth).states, states, len(names)), names)
    why = {} if known.macro_f1 is not None else {"state_macro_F1": "no object is in a state that the model knows"}
    return metrics | {"state_macro_F1": known.macro_f1, "states": known.of_state}, why
