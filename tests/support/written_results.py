"""Detections in two images, as `tools/predict.py` writes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from detector.core.pixels import LetterboxedImage
from detector.engine.detections import Prediction
from detector.inference.decoding import DecodedImage
from detector.inference.result_files import ResultFile
from detector.inference.video import Frame
from detector.runners.model_metadata import ModelMetadata

METADATA = ModelMetadata(
    model="m", classes=["bolt", "rot, ü"], states=["intact", "damaged"], size=(64, 64), fill=(0, 0, 0), data="data"
)
PREDICTIONS: list[Prediction] = [
    {"image_id": 1, "category_id": 2, "bbox": [10.0, 20.0, 30.5, 40.25], "score": 0.9, "state": 2, "state_score": 0.7},
    {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 200.0, 100.0], "score": 0.5, "state": 1, "state_score": 1.0},
]


def decoded_image(path: Path, frame: Frame | None = None) -> DecodedImage:
    """An image of 200 x 100 pixels."""
    image = Image.new("RGB", (200, 100))
    letterboxed = LetterboxedImage(np.zeros((64, 64, 3), np.uint8), (0.32, 0.32))
    return DecodedImage(path, 200, 100, letterboxed, image=image, frame=frame, is_multi_page=False)


def write_results(file: ResultFile, images: Path, metadata: ModelMetadata = METADATA) -> None:
    """Write PREDICTIONS for a.jpg in the folder `images`, and nothing for b.jpg."""
    without: list[Prediction] = [{**prediction, "state": 0, "state_score": 0.0} for prediction in PREDICTIONS]
    file.add(decoded_image(images / "a.jpg"), PREDICTIONS if metadata.states else without)
    file.add(decoded_image(images / "b.jpg"), [])
    file.close()
