"""Running a detector over a dataset: images -> COCO results in pixels of the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.engine.dataset import Annotations, Batch
from detector.engine.detections import Detections, Prediction, coco_results
from detector.engine.structures import BatchDetections


class Predicted(NamedTuple):
    """predictions: of all images.

    losses: mean of each component over the images. state_scores: float64 [A, S], how likely the state head
    alone takes each object of the annotations for being in each state; S is 0 without a head. Both only with targets.
    """

    predictions: list[Prediction]
    losses: dict[str, float]
    state_scores: NDArray[np.float64]


@torch.no_grad()
def predict(
    model: nn.Module, batches: Iterable[Batch], annotations: Annotations, device: torch.device, with_targets: bool
) -> Predicted:
    """Run `model` in evaluation over all batches of the images in `annotations`."""
    model.eval()
    predictions: list[Prediction] = []
    sums: Counter[str] = Counter()
    state_scores = np.zeros((len(annotations.labels), 0))
    for batch in batches:
        targets = batch.targets.to(device) if with_targets else None
        output = model(batch.images.to(device, non_blocking=True), targets)
        sums.update({name: float(loss) * len(batch.rows) for name, loss in output.losses.items()})
        if output.target_states is not None:
            likely = output.target_states.double().softmax(-1).cpu().numpy()  # [B, M, S]
            if not state_scores.shape[1]:
                state_scores = np.zeros((len(annotations.labels), likely.shape[-1]))
            for row, found in zip(batch.rows, likely, strict=True):
                first, last = annotations.starts[row], annotations.starts[row + 1]
                state_scores[first:last] = found[: last - first]
        predictions += to_coco(output.detections, batch, annotations)
    images = max(1, len(annotations.paths))
    return Predicted(predictions, {name: total / images for name, total in sums.items()}, state_scores)


def to_coco(detections: BatchDetections, batch: Batch, annotations: Annotations) -> list[Prediction]:
    """The detections of a batch in pixels of their images, as `coco_results` rounds and clips them."""
    columns = [column.cpu().numpy() for column in detections[:5]]
    predictions: list[Prediction] = []
    for place, (row, scale) in enumerate(zip(batch.rows, batch.scales, strict=True)):
        count = int(detections.counts[place])
        found = Detections._make(column[place, :count] for column in columns)
        found = found._replace(boxes_xyxy=found.boxes_xyxy.astype(np.float64) / scale)
        height, width = (int(side) for side in annotations.sizes[row])
        predictions += coco_results(found, int(annotations.image_ids[row]), width, height)
    return predictions
