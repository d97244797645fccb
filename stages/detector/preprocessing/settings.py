"""`preprocess:` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from detector.core.params import Section


class PreprocessParams(Section):
    """Section `preprocess` of params.yaml, which explains every key."""

    dataset: str
    format: Literal["auto", "jsonl", "parts", "coco", "voc", "yolo", "archive"] = "auto"
    classes: list[str] | None = None
    states: list[str] | None = None
    min_trust: float = Field(ge=0, le=1)
    min_box_size: float = Field(ge=0)
    duplicate_iou: float = Field(gt=0, le=1)
    near_duplicate_similarity: float | None = Field(gt=0, le=1)
    on_error: Literal["drop", "stop"]
