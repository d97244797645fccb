"""Run a detector over a dataset: images -> COCO results in image pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.core.boxes import to_image_pixels
from detector.engine.annotations import Annotations
from detector.engine.dataset import Batch
from detector.engine.detections import Detections, Predictions, concatenate, round_detections
from detector.engine.structures import BatchDetections


class PredictionResult(NamedTuple):
    """Predictions of all images and, when targets were given, losses and state scores.

    losses: mean of each component over the images. state_scores: float64 [A, S], the state head's probability of
    each state for each annotated object, given its ground-truth box; S is 0 without a state head.
    """

    predictions: Predictions
    losses: dict[str, float]
    state_scores: NDArray[np.float64]


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterable[Batch], annotations: Annotations, device: torch.device, with_targets: bool
) -> PredictionResult:
    """Run `model` in evaluation mode over all batches of the images in `annotations`."""
    model.eval()
    parts: list[Predictions] = []
    sums: Counter[str] = Counter()
    state_scores = np.zeros((len(annotations.labels), 0))
    for batch in batches:
        targets = batch.targets.to(device) if with_targets else None
        output = model(batch.images.to(device, non_blocking=True), targets)
        sums.update({name: float(loss) * len(batch.rows) for name, loss in output.losses.items()})
        if output.target_states is not None:
            probabilities = output.target_states.double().softmax(-1).cpu().numpy()  # [B, M, S]
            if not state_scores.shape[1]:
                state_scores = np.zeros((len(annotations.labels), probabilities.shape[-1]))
            for row, image_scores in zip(batch.rows, probabilities, strict=True):
                first, last = annotations.starts[row], annotations.starts[row + 1]
                state_scores[first:last] = image_scores[: last - first]
        parts.append(round_batch(output.detections, batch, annotations))
    images = max(1, len(annotations.paths))
    return PredictionResult(concatenate(parts), {name: total / images for name, total in sums.items()}, state_scores)


def round_batch(detections: BatchDetections, batch: Batch, annotations: Annotations) -> Predictions:
    """The detections of a batch in image pixels, rounded and clipped by `round_detections`."""
    columns = [column.cpu().numpy() for column in detections[:5]]
    parts = []
    for index, (row, scale) in enumerate(zip(batch.rows, batch.scales, strict=True)):
        count = int(detections.counts[index])
        found = Detections._make(column[index, :count] for column in columns)
        found = found._replace(boxes_xyxy=to_image_pixels(found.boxes_xyxy, scale))
        height, width = (int(side) for side in annotations.sizes[row])
        parts.append(round_detections(found, int(annotations.image_ids[row]), width, height))
    return concatenate(parts)  # arrays for each image would take as much memory as 20 detections
