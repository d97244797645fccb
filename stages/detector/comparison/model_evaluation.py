"""Evaluation of any checkpoint or ONNX file on any dataset: detections, threshold, metrics and galleries."""

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

from detector.comparison.class_mapping import MappedDataset, keep_common_classes, map_to_model_classes
from detector.core.errors import UserError
from detector.engine.dataset import DetectionDataset, collate
from detector.engine.detections import Predictions, concatenate, round_detections
from detector.engine.ground_truth import GroundTruth, pack_ground_truth
from detector.engine.predict import predict
from detector.evaluation.calibration import calibrate_scores, read_temperature
from detector.evaluation.error_types import analyze_errors
from detector.evaluation.galleries import select_gallery_pictures
from detector.evaluation.gallery_pictures import DisplayNames, draw_galleries
from detector.evaluation.matched_split import MatchedSplit, Thresholds, choose_thresholds, match_split
from detector.evaluation.metrics import Metrics, compute_metrics
from detector.evaluation.settings import EvaluateParams
from detector.models.postprocess import Postprocess
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import Runner, detect_images, detect_in_tiles
from detector.runners.tiling import Tiling
from detector.runners.torch_runner import build_runner, open_checkpoint


class LoadedModel(NamedTuple):
    """A model file that is ready to run.

    module: None for an ONNX file. kind: the suffix of the file. digest: its SHA-256. postprocess: how detections are
    selected, in tiles too. batch_size: images run at once.
    """

    metadata: ModelMetadata
    runner: Runner
    module: nn.Module | None
    device: torch.device
    kind: str
    digest: str
    postprocess: Postprocess
    batch_size: int


class EvaluationResult(NamedTuple):
    """A model's detections on a dataset, with their metrics.

    mapped: the dataset with the model's classes. objects: the number of objects to detect. chosen_on: the images on
    which the thresholds were chosen. left_out: counts per name of classes and states that only one side has.
    """

    mapped: MappedDataset
    matched: MatchedSplit
    thresholds: Thresholds
    metrics: Metrics
    chosen_on: str
    objects: int
    left_out: dict[str, dict[str, int]]

    def draw_galleries(self, folder: Path, count: int) -> None:
        """Write the galleries of the evaluate stage, with `count` pictures each."""
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.jpg"):
            old.unlink()
        temperature = read_temperature(self.metrics.details)
        limits = calibrate_scores(self.thresholds.by_class, temperature)
        labels, images = self.matched.labels, self.matched.labels.images
        pairs = analyze_errors(labels, self.matched.predictions, self.matched.matches).calibrate(temperature)
        names = DisplayNames(self.mapped.classes, labels.names.states)
        drawn = draw_galleries(
            select_gallery_pictures(pairs, len(images.ids), limits, count),
            pairs,
            images=images,
            names=names,
            thresholds=limits,
            root=Path(),
            folder=folder,
        )
        for _ in tqdm(drawn, desc="pictures", unit="picture", disable=None):
            pass


class ModelPredictions(NamedTuple):
    """predictions: with the model's labels. state_scores float [A, S]: per ground-truth box; S is 0 if unknown."""

    predictions: Predictions
    state_scores: NDArray[np.float64]


def open_model(path: Path, threads: int, batch_size: int, postprocess: Postprocess) -> LoadedModel:
    """Open a checkpoint or an ONNX file, by its suffix. Raises UserError when it cannot be used."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    module = None
    try:
        if path.suffix == ".onnx":
            metadata, runner = open_onnx(path, threads)
        elif path.suffix == ".safetensors":
            metadata, module = open_checkpoint(path, postprocess, device)
            runner = build_runner(module, device)
        else:
            raise UserError(f"{path}: expected a checkpoint (.safetensors) or an exported file (.onnx)")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    return LoadedModel(metadata, runner, module, device, path.suffix[1:], digest, postprocess, batch_size)


def evaluate_model(
    model: LoadedModel, coco: dict[str, Any], val: dict[str, Any] | None, params: EvaluateParams, tiling: Tiling | None
) -> EvaluationResult:
    """Run the model on a COCO dataset, on whole images or in tiles, and compute its metrics.

    val: the split on which the threshold is chosen, as in the evaluate stage; None: the evaluated images themselves.
    Raises UserError when there is no object to detect.
    """
    metadata = model.metadata
    mapped = map_to_model_classes(coco, metadata.classes, metadata.states)
    truth = pack_ground_truth(mapped.truth)
    objects = int((truth.present & ~truth.objects.crowds).sum())
    if not objects:
        raise UserError(
            f"no object to detect in {len(coco['images'])} images with {len(coco['annotations'])} boxes, so there is "
            f"nothing to evaluate; left out: {mapped.left_out}; `coco_convert.absent_states` names the states in which "
            "nothing is to be detected"
        )
    predicted = predict_images(model, truth, tiling, "evaluate")
    predictions, only_in_model = keep_common_classes(predicted.predictions, mapped.category_by_label, metadata.classes)
    matched = match_split(truth, predictions)
    if val is None:
        chosen_on = "the evaluated images themselves, which makes precision, recall and F1 optimistic"
        reference = matched
    else:
        chosen_on = "val"
        reference = match_val(model, val, mapped.classes, predicted if val == coco else None, params, tiling)
    thresholds = choose_thresholds(reference, params.threshold_rule, params.threshold_per_class, params.cost_ratio)
    metrics = compute_metrics(
        reference,
        matched,
        thresholds,
        state_scores=predicted.state_scores,
        cost_ratio=params.cost_ratio,
        bootstrap_samples=params.bootstrap_samples,
    )
    if metadata.states and not predicted.state_scores.shape[1]:
        metrics.details["notes"]["states"] = "states of ground-truth boxes need a checkpoint and whole images"
    left_out = {**mapped.left_out, "classes_only_in_model": only_in_model}
    return EvaluationResult(mapped, matched, thresholds, metrics, chosen_on, objects, left_out)


def match_val(
    model: LoadedModel,
    val: dict[str, Any],
    classes: list[str],
    known: ModelPredictions | None,
    params: EvaluateParams,
    tiling: Tiling | None,
) -> MatchedSplit:
    """Match the model's detections of these classes on val; `known` saves running the model again."""
    mapped = map_to_model_classes(val, model.metadata.classes, model.metadata.states, classes)
    truth = pack_ground_truth(mapped.truth)
    predicted = known or predict_images(model, truth, tiling, "val, for the threshold")
    predictions, _ = keep_common_classes(predicted.predictions, mapped.category_by_label, model.metadata.classes)
    return match_split(truth, predictions)


def predict_images(model: LoadedModel, truth: GroundTruth, tiling: Tiling | None, title: str) -> ModelPredictions:
    """All detections on a dataset; a checkpoint runs on whole images exactly as in the evaluate stage."""
    metadata = model.metadata
    if model.module is not None and tiling is None:
        annotations = truth.pack_annotations()
        dataset = DetectionDataset(annotations, Path(), metadata.size, metadata.fill)
        loader = DataLoader(dataset, batch_size=model.batch_size, collate_fn=collate)
        bar = tqdm(loader, desc=title, unit="batch", disable=None)
        predicted = predict(model.module, bar, annotations, model.device, with_targets=bool(metadata.states))
        return ModelPredictions(predicted.predictions, predicted.state_scores)
    images = truth.images
    paths = [Path(file) for file in images.files.tolist()]
    sizes = [(width, height) for height, width in images.sizes.tolist()]
    if tiling is None:
        found = detect_images(paths, model.runner, metadata, model.batch_size, sizes)
    else:
        found = detect_in_tiles(
            paths,
            model.runner,
            metadata,
            model.batch_size,
            tiling=tiling,
            iou_threshold=model.postprocess.nms_iou,
            max_detections=model.postprocess.max_detections,
            sizes=sizes,
        )
    bar = tqdm(found, total=len(paths), desc=title, unit="image", disable=None)
    results = [
        round_detections(one, image_id, width, height)
        for one, image_id, (width, height) in zip(bar, images.ids.tolist(), sizes, strict=True)
    ]
    return ModelPredictions(concatenate(results), np.zeros((len(truth.objects.ids), 0)))
