"""`evaluate:` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from detector.models.postprocess import Postprocess
from detector.params import Section


class EvaluateParams(Section):
    """`evaluate:` of params.yaml, where every key is explained."""

    split: Literal["train", "val", "test"]
    score_threshold: float = Field(ge=0, lt=1)
    nms_iou: float = Field(gt=0, le=1)
    max_detections: int = Field(gt=0, le=1000)
    batch_size: int = Field(gt=0)
    threshold: str = Field(pattern=r"^(f1|cost|(precision|recall)>=(0?\.\d+|0|1|1\.0+))$")
    threshold_per_class: bool
    cost_ratio: float = Field(gt=0)
    resamples: int = Field(ge=100, le=100_000)
    gallery: int = Field(ge=0)
    threads: int = Field(ge=0)


def postprocess_of(params: EvaluateParams) -> Postprocess:
    """How detections are picked, in evaluation and in the exported file alike."""
    return Postprocess(
        score_threshold=params.score_threshold,
        iou_threshold=params.nms_iou,
        max_detections=params.max_detections,
    )
