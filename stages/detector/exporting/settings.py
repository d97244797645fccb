"""`export:` of params.yaml."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from detector.core.params import Section

TWO_STAGE_MODELS = ("faster_rcnn", "faster_rcnn_resnet50")


class ExportParams(Section):
    """`export:` of params.yaml, where every key is explained."""

    precision: Literal["fp32", "fp16", "int8", "auto"]
    nms: bool
    max_ap_drop: float = Field(ge=0, le=1)
    parity_images: int = Field(ge=50)
    box_tolerance: float = Field(gt=0)
    score_tolerance: float = Field(gt=0)
    threads: int = Field(ge=0)


def find_conflict(document: dict[Any, Any]) -> str:
    """What in params.yaml cannot be exported, though each section is right; "" if nothing.

    Two-stage models need NMS for their proposals, too.
    """
    train, export = document.get("train"), document.get("export")
    if not isinstance(train, dict) or not isinstance(export, dict) or export.get("nms") is not False:
        return ""
    if train.get("model") not in TWO_STAGE_MODELS:
        return ""
    return (
        f"`export.nms` is false, and `train.model` {train['model']} needs NMS for its proposals, too: use "
        "`export.nms: true`, or a one-stage model"
    )
