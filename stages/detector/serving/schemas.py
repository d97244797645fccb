"""What the service answers: detections and facts as JSON."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from detector.engine.detections import Detections, rescaled
from detector.inference.thresholds import DIGITS, counted
from detector.runners.tiled import ModelMetadata
from detector.serving.decoding import FORMATS, Seen
from detector.serving.settings import Settings


class Detection(BaseModel):
    """One object; the last two only of a model with states."""

    category: str
    category_id: int = Field(description="from 1, in the order of the model's classes")
    box_xyxy: list[float] = Field(description="left, top, right, bottom in pixels of the upright image")
    score: float = Field(description="0 to 1, calibrated on val where that helped")
    state: str | None = None
    state_score: float | None = None


class ImageAnswer(BaseModel):
    """An image's detections, best first."""

    name: str = Field(description="of the file as the client called it, or empty")
    width: int = Field(description="pixels, once the photograph's EXIF orientation is applied")
    height: int
    detections: list[Detection]


class Answer(BaseModel):
    """One entry an image, in the order of the request."""

    images: list[ImageAnswer]


class Limits(BaseModel):
    """What a request may hold."""

    max_bytes: int
    max_pixels: int
    max_images: int
    formats: list[str]


class ModelAnswer(BaseModel):
    """The model that answers."""

    model: str
    classes: list[str]
    states: list[str]
    size: list[int] = Field(description="height and width of what the model sees; images are fitted into it")
    threshold: dict[str, float] = Field(description="the score from which a class's detections are answered")
    precision: str
    data: str = Field(description="SHA-256 of the COCO files that it was trained and validated on")
    dataset: str = Field(description="SHA-256 of the cleaned dataset's manifest")
    code: str = Field(description="SHA-256 of the code that trained it")
    file: str = Field(description="SHA-256 of the ONNX file")
    limits: Limits


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


def image_answer(seen: Seen, found: Detections, facts: ModelMetadata, threshold: float | None) -> dict[str, Any]:
    """An `ImageAnswer`. threshold: of the answered score; None: each class's own operating threshold."""
    chosen = counted(found, facts, threshold)
    boxes_xyxy = chosen.boxes_xyxy.astype(np.float64) / seen.letterboxed.scale
    boxes_xyxy = boxes_xyxy.clip(0, [seen.width, seen.height] * 2).round(2)
    rows = zip(
        chosen.labels.tolist(), boxes_xyxy.tolist(), digits(chosen.scores), chosen.states.tolist(),
        digits(chosen.state_scores), strict=True,
    )  # fmt: skip
    detections = []
    for label, box_xyxy, score, state, state_score in rows:
        row = {"category": facts.classes[label - 1], "category_id": label, "box_xyxy": box_xyxy, "score": score}
        if facts.states:
            row |= {"state": facts.states[state - 1] if state else None, "state_score": state_score}
        detections.append(row)
    return {"name": seen.name, "width": seen.width, "height": seen.height, "detections": detections}


def digits(scores: NDArray[np.float32]) -> list[float]:
    """As they are written; from float32 they would have more."""
    return scores.astype(np.float64).round(DIGITS).tolist()


def model_answer(facts: ModelMetadata, settings: Settings) -> ModelAnswer:
    """What is known of the model; thresholds are on the scale of the answered scores."""
    limits = {name: float(rescaled(np.array(value), facts.temperature).round(DIGITS))
              for name, value in facts.threshold.items()}  # fmt: skip
    return ModelAnswer(
        **{**facts._asdict(), "size": list(facts.size), "threshold": limits},
        file=hashlib.sha256(settings.model.read_bytes()).hexdigest(),
        limits=Limits(
            max_bytes=settings.max_bytes,
            max_pixels=settings.max_pixels,
            max_images=settings.max_images,
            formats=list(FORMATS),
        ),
    )
