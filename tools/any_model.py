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

from detector.comparison.class_mapping import Matched, in_terms_of, of_common_classes
from detector.core.errors import UserError
from detector.engine.dataset import DetectionDataset, collate, pack, present_objects
from detector.engine.detections import Prediction, coco_results
from detector.engine.predict import predict
from detector.evaluation.error_types import pair
from detector.evaluation.galleries import choose
from detector.evaluation.gallery_pictures import Names, draw_galleries
from detector.evaluation.matched_split import Judged, Thresholds, judge, thresholds_on
from detector.evaluation.metrics import Measured, measure
from detector.evaluation.settings import EvaluateParams
from detector.models.postprocess import Postprocess
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata, Runner, find_in_tiles, find_whole
from detector.runners.tiling import Tiling
from detector.runners.torch_runner import open_checkpoint, runner_of


class Model(NamedTuple):
    """facts: what its file says; module: None for an ONNX file; kind: its suffix; digest: its SHA-256.

    postprocess: how detections are picked, from tiles too.
    """

    facts: ModelMetadata
    runner: Runner
    module: nn.Module | None
    device: torch.device
    kind: str
    digest: str
    postprocess: Postprocess


class Outcome(NamedTuple):
    """A model's answers on a dataset and what they are worth.

    matched: the dataset in the model's terms; objects: how many are there to be found. chosen_on: where the
    thresholds come from. left_out: counts by name of what only one side knows.
    """

    matched: Matched
    judged: Judged
    thresholds: Thresholds
    measured: Measured
    chosen_on: str
    objects: int
    left_out: dict[str, dict[str, int]]

    def draw(self, folder: Path, count: int) -> None:
        """The galleries of the evaluate stage, with `count` pictures in each."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.jpg"):
            old.unlink()
        limits = self.thresholds.limits
        pairs = pair(self.judged.coco, self.judged.predictions, self.judged.matches)
        images = sorted(self.judged.coco["images"], key=lambda image: int(image["id"]))
        names = Names(self.matched.classes, [state["name"] for state in self.judged.coco["states"]])
        drawn = draw_galleries(choose(pairs, len(images), limits, count), pairs, images, names, limits, Path(), folder)
        for _ in tqdm(drawn, desc="pictures", unit="picture", disable=None):
            pass


class Answers(NamedTuple):
    """predictions: labels are the model's. state_scores [A, S]: of each true box; S is 0 where nobody asked."""

    predictions: list[Prediction]
    state_scores: NDArray[np.float64]


def open_model(path: Path, threads: int, postprocess: Postprocess) -> Model:
    """A checkpoint or an ONNX file, by its suffix. Raises UserError when it cannot be used."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = None
    try:
        if path.suffix == ".onnx":
            facts, runner = open_onnx(path, threads)
        elif path.suffix == ".safetensors":
            facts, module = open_checkpoint(path, postprocess, device)
            runner = runner_of(module, device)
        else:
            raise UserError(f"{path}: expected a checkpoint (.safetensors) or an exported file (.onnx)")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return Model(facts, runner, module, device, path.suffix[1:], digest, postprocess)


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
    judged = judge(matched.truth, predictions)
    if val is None:
        chosen_on = "the judged images themselves, which flatters precision, recall and F1"
        reference = judged
    else:
        chosen_on = "val"
        reference = judged_val(model, val, matched.classes, answers if val == coco else None, params, tiling)
    thresholds = thresholds_on(reference, params.threshold, params.threshold_per_class, params.cost_ratio)
    measured = measure(reference, judged, thresholds, answers.state_scores, params.cost_ratio, params.resamples)
    if facts.states and not answers.state_scores.shape[1]:
        measured.details["notes"]["states"] = (
            "given the true boxes, only a checkpoint tells states, and of whole images"
        )
    left_out = {**matched.left_out, "classes_only_in_model": of_others}
    return Outcome(matched, judged, thresholds, measured, chosen_on, objects, left_out)


def judged_val(
    model: Model,
    val: dict[str, Any],
    classes: list[str],
    known: Answers | None,
    params: EvaluateParams,
    tiling: Tiling | None,
) -> Judged:
    """What the model finds of these classes on val, by its answers where these are known."""
    matched = in_terms_of(val, model.facts.classes, model.facts.states, classes)
    answers = known or answers_of(model, matched.truth, params, tiling, "val, for the threshold")
    predictions, _ = of_common_classes(answers.predictions, matched.category_of, model.facts.classes)
    return judge(matched.truth, predictions)


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
        return Answers(predicted.predictions, predicted.state_scores)
    paths = [Path(image["file_name"]) for image in coco["images"]]
    if tiling is None:
        found = find_whole(paths, model.runner, facts, params.batch_size)
    else:
        found = find_in_tiles(
            paths,
            model.runner,
            facts,
            params.batch_size,
            tiling,
            model.postprocess.nms_iou,
            model.postprocess.max_detections,
        )
    bar = tqdm(found, total=len(paths), desc=title, unit="image", disable=None)
    results = [
        coco_results(one, image["id"], image["width"], image["height"])
        for one, image in zip(bar, coco["images"], strict=True)
    ]
    return Answers(
        [prediction for of_image in results for prediction in of_image], np.zeros((len(coco["annotations"]), 0))
    )
