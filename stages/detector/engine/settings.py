"""`postprocess:` of params.yaml, which evaluate and export read."""

from __future__ import annotations

from pydantic import Field

from detector.core.params import Section


class PostprocessParams(Section):
    """`postprocess:` of params.yaml, the fields of `Postprocess`; used for evaluation and in the exported file."""

    score_threshold: float = Field(ge=0, lt=1)
    nms_iou: float = Field(gt=0, le=1)
    max_detections: int = Field(gt=0, le=1000)
