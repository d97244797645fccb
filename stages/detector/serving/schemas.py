"""Responses of the service: detections and model information as JSON."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from detector.engine.detections import Detections, rescale_scores
from detector.inference.thresholds import DIGITS, apply_thresholds
from detector.plotting.palette import palette_color
from detector.runners.model_metadata import ModelMetadata
from detector.runners.tiling import choose_tiling
from detector.serving.decoding import FORMATS
from detector.serving.settings import Settings


class FoundObjects(NamedTuple):
    """What the model found in an image; boxes in its pixels, scores not yet calibrated. name: of the upload."""

    name: str
    width: int
    height: int
    detections: Detections


class Detection(BaseModel):
    """One object; the last two fields only for a model with states."""

    category: str
    category_id: int = Field(description="from 1, in the order of the model's classes")
    box_xyxy: list[float] = Field(description="left, top, right, bottom in pixels of the upright image")
    score: float = Field(description="0 to 1, calibrated on val")
    state: str | None = None
    state_score: float | None = None


class ImageResponse(BaseModel):
    """An image's detections, best first."""

    name: str = Field(description="file name as the client sent it, or empty")
    width: int = Field(description="pixels, after EXIF rotation")
    height: int
    detections: list[Detection]


class PredictResponse(BaseModel):
    """One entry per image, in the order of the request."""

    scores: str = Field(description="calibrated: of detections with a score of 0.8, about 80% should be correct")
    images: list[ImageResponse]


class Limits(BaseModel):
    """Limits of a request."""

    max_bytes: int
    max_pixels: int
    max_images: int
    max_tiles: int = Field(description="per image")
    formats: list[str]


class ModelResponse(BaseModel):
    """The model that the service runs."""

    model: str
    classes: list[str]
    colors: list[str] = Field(description="of the classes, in pictures and on the page")
    states: list[str]
    size: list[int] = Field(description="height and width of the model's input; images are letterboxed into it")
    threshold: dict[str, float] = Field(description="per class, the calibrated score from which on it counts")
    tile: str = Field(description="the tiles of requests that name none: a side in pixels, auto, or 0 for whole images")
    auto_tile: int | None = Field(description="side in pixels of the tiles that auto stands for; null: unknown")
    precision: str
    data: str = Field(description="SHA-256 of the COCO files of train and val")
    dataset: str = Field(description="SHA-256 of the cleaned dataset's manifest")
    code: str = Field(description="SHA-256 of the code that trained it")
    file: str = Field(description="SHA-256 of the ONNX file")
    limits: Limits


def build_image_response(image: FoundObjects, facts: ModelMetadata, threshold: float | None) -> dict[str, Any]:
    """An `ImageResponse`. threshold: on the returned score; None: the operating threshold of each class."""
    chosen = apply_thresholds(image.detections, facts, threshold)
    boxes_xyxy = chosen.boxes_xyxy.clip(0, [image.width, image.height] * 2).round(2)
    rows = zip(
        chosen.labels.tolist(), boxes_xyxy.tolist(), round_scores(chosen.scores), chosen.states.tolist(),
        round_scores(chosen.state_scores), strict=True,
    )  # fmt: skip
    detections = []
    for label, box_xyxy, score, state, state_score in rows:
        row = {"category": facts.classes[label - 1], "category_id": label, "box_xyxy": box_xyxy, "score": score}
        if facts.states:
            row |= {"state": facts.states[state - 1] if state else None, "state_score": state_score}
        detections.append(row)
    return {"name": image.name, "width": image.width, "height": image.height, "detections": detections}


def round_scores(scores: NDArray[np.float32]) -> list[float]:
    """Rounded as floats of 64 bits: float32 values would print more digits."""
    rounded: list[float] = scores.astype(np.float64).round(DIGITS).tolist()
    return rounded


def build_model_response(facts: ModelMetadata, settings: Settings) -> ModelResponse:
    """Model information; thresholds are on the scale of the returned scores."""
    limits = {name: float(rescale_scores(np.array(value), facts.temperature).round(DIGITS))
              for name, value in facts.threshold.items()}  # fmt: skip
    return ModelResponse(
        **{**facts.model_dump(), "size": list(facts.size), "threshold": limits},
        colors=[palette_color(index) for index in range(len(facts.classes))],
        tile=settings.tile,
        auto_tile=choose_tiling(facts.object_size).side if facts.object_size else None,
        file=hashlib.sha256(settings.model.read_bytes()).hexdigest(),
        limits=Limits(
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            max_images=settings.max_images,
            max_tiles=settings.max_tiles,
            formats=list(FORMATS),
        ),
    )
