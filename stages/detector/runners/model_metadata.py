"""What a model file says about its detector."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat, model_validator

from detector.core.params import Section
from detector.engine.model_values import Color, InputSize, Name, Names

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class RawDecoding(Section):
    """How the outputs of a file without NMS become detections: see `decode_raw_outputs`.

    candidates: (location, class) pairs with the highest scores, of which those above score_threshold go on.
    nms_iou: NMS IoU threshold, per class; None for a model that predicts each object once. max_detections: per image.
    """

    score_threshold: Fraction
    candidates: Annotated[int, Field(ge=1, le=1_000_000)]
    nms_iou: Fraction | None
    max_detections: Annotated[int, Field(ge=1, le=100_000)]


class ObjectSize(Section):
    """How large the objects of the training images are, in pixels.

    image_side: longer side of the images, as the median over their objects. p10, p50, p90: percentiles of the square
    root of the objects' area.
    """

    image_side: Annotated[int, Field(ge=1, le=1_000_000)]
    p10: Annotated[FiniteFloat, Field(ge=0)]
    p50: Annotated[FiniteFloat, Field(ge=0)]
    p90: Annotated[FiniteFloat, Field(ge=0)]


class ModelMetadata(Section):
    """What a model file says about its detector; an ONNX file stores each field as JSON in its metadata.

    model: key in the model table. classes, states: names in the order of their ids, from 1. size: (H, W) of the
    input. fill: RGB of the padding. data: SHA-256 of the COCO files that it was trained and validated on.

    threshold: operating threshold of each class, compared with the uncalibrated score; a checkpoint has none at all.
    temperature: of `rescale_scores`, which calibrates the scores; 1 leaves them unchanged.
    code: SHA-256 of the code that trained it. dataset: SHA-256 of the cleaned dataset's manifest; empty for a
    checkpoint. precision: fp32, fp16 or int8. nms_iou, max_detections: postprocessing settings, per image.
    object_size: of the training images; None without objects, and for a checkpoint.
    versions: packages that wrote the file. decoding: of a file without NMS; None: its outputs are detections.
    """

    model: Name
    classes: Annotated[Names, Field(min_length=1)]
    states: Names
    size: InputSize
    fill: Color
    data: str
    threshold: dict[str, Fraction] = Field(default_factory=dict)
    temperature: Annotated[FiniteFloat, Field(ge=0.01, le=100)] = 1.0
    code: str = ""
    dataset: str = ""
    precision: Name = "fp32"
    nms_iou: Fraction = 0.6
    max_detections: Annotated[int, Field(ge=1, le=100_000)] = 100
    object_size: ObjectSize | None = None
    versions: dict[Name, str] = Field(default_factory=dict)
    decoding: RawDecoding | None = None

    @model_validator(mode="after")
    def _check_threshold(self) -> ModelMetadata:
        if self.threshold and set(self.threshold) != set(self.classes):
            wrong = sorted(set(self.threshold) ^ set(self.classes))[0]
            raise ValueError(f"`threshold` needs one value for each of `classes`, and has not for {wrong[:80]!r}")
        return self
