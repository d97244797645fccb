"""A checkpoint as a detector, run by PyTorch."""

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
from detector.runners.tiled import ModelMetadata, Runner


def open_checkpoint(path: Path, postprocess: Postprocess, device: torch.device) -> tuple[ModelMetadata, nn.Module]:
    """A .safetensors file that train wrote, with its .json beside it; UserError when it is missing or no such file."""
    weights, card = load_checkpoint(path)
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess).to(device)
    return facts_of(card, postprocess), model


def facts_of(card: Card, postprocess: Postprocess) -> ModelMetadata:
    """What a checkpoint's card says, and how its detections are picked."""
    return ModelMetadata(
        card.model,
        card.classes,
        card.states,
        card.size,
        (card.mean[0], card.mean[1], card.mean[2]),
        card.data,
        code=card.code,
        nms_iou=postprocess.nms_iou,
        max_detections=postprocess.max_detections,
    )


def runner_of(model: nn.Module, device: torch.device) -> Runner:
    """A model in evaluation mode as what the tiles are shown to."""

    @torch.no_grad()
    def run(images: NDArray[np.uint8]) -> list[Detections]:
        detections = model(torch.from_numpy(images).to(device)).detections
        columns = [column.cpu().numpy() for column in detections[:5]]
        return [
            Detections._make(column[:count] for column in row)
            for *row, count in zip(*columns, detections.counts.tolist(), strict=True)
        ]

    return run
