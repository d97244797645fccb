"""Validation after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from detector.engine import distributed
from detector.engine.coco_metrics import evaluate_boxes, read_coco_metrics
from detector.engine.detections import concatenate
from detector.engine.ground_truth import GroundTruth
from detector.engine.predict import predict
from detector.training.interruption import StopRequested, iterate_until_stop


def validate(
    model: nn.Module,
    val: DataLoader[Any],
    truth: GroundTruth,
    device: torch.device,
    loss_weights: Mapping[str, float],
) -> dict[str, float]:
    """Return loss, AP and AP50 of `model` on val, the same in all processes; an AP without ground truth is 0.

    loss_weights: as in training, by component; of others, 1. Each process predicts its own batches. Raises
    StopRequested in all processes when one is asked to stop.
    """
    annotations = val.dataset.annotations  # type: ignore[attr-defined]
    result = None
    with suppress(StopRequested):
        result = predict(model, iterate_until_stop(val), annotations, device, with_targets=True)
    if distributed.any_rank(result is None)[0] or result is None:
        raise StopRequested
    own_loss = sum(loss * loss_weights.get(name, 1.0) for name, loss in result.losses.items())
    parts = distributed.all_gather_object((result.predictions, own_loss))
    if not distributed.is_main_process():
        return distributed.broadcast_object({})
    row = {image_id: number for number, image_id in enumerate(annotations.image_ids.tolist())}
    predictions = concatenate([part for part, _ in parts])
    order = np.argsort([row[image_id] for image_id in predictions.image_ids.tolist()], kind="stable")
    metrics = read_coco_metrics(evaluate_boxes(truth.build_coco(), predictions.select(order)))
    loss = sum(loss for _, loss in parts)
    return distributed.broadcast_object({"loss": loss, "AP": metrics["AP"] or 0.0, "AP50": metrics["AP50"] or 0.0})
