"""Run a checkpoint with PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from detector.engine.checkpoint import Card, load_checkpoint
from detector.engine.detections import Detections
from detector.models import load_model
from detector.models.postprocess import Postprocess
from detector.runners.model_metadata import ModelMetadata
from detector.runners.tiled import Runner


def open_checkpoint(path: Path, postprocess: Postprocess, device: torch.device) -> tuple[ModelMetadata, nn.Module]:
    """Load a .safetensors file written by train, with the .json next to it. Raises UserError if it is unusable."""
    weights, card = load_checkpoint(path)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess).to(device)
    return build_metadata(card, postprocess), model


def build_metadata(card: Card, postprocess: Postprocess) -> ModelMetadata:
    """Build the metadata of a checkpoint from its card and the postprocessing settings."""
    return ModelMetadata(
        model=card.model,
        classes=card.classes,
        states=card.states,
        size=card.size,
        fill=card.mean,
        data=card.data,
        code=card.code,
        nms_iou=postprocess.nms_iou,
        max_detections=postprocess.max_detections,
    )


def build_runner(model: nn.Module, device: torch.device) -> Runner:
    """Wrap a model in evaluation mode as a runner for NumPy images."""

    @torch.no_grad()
    def run(images: NDArray[np.uint8]) -> list[Detections]:
        detections = model(torch.from_numpy(images).to(device)).detections
        columns = [column.cpu().numpy() for column in detections[:5]]
        return [
            Detections._make(column[:count] for column in row)
            for *row, count in zip(*columns, detections.counts.tolist(), strict=True)
        ]

    return run
