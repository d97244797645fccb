"""Cut the detections out of their images, as pictures sorted by class."""

from __future__ import annotations

import math
from pathlib import Path

from detector.core.images import load_rgb
from detector.engine.detections import Prediction
from detector.inference.decoding import DecodedImage
from detector.inference.output_names import StemNames, name_folders, name_picture
from detector.inference.picture_writer import WriteQueue, save_jpeg
from detector.runners.model_metadata import ModelMetadata

JPEG_QUALITY = 95


class CropWriter:
    """Writes FOLDER/CLASS/IMAGE_NUMBER.jpg; NUMBER counts the detections of an image from 1, best first."""

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path, threads: int) -> None:
        self.root, self.names, self.queue = root, StemNames(), WriteQueue(threads)
        self.folders = [folder / name for name in name_folders(metadata.classes)]

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        """Queue the crops of an image. Raises UserError when an earlier one could not be written."""
        stem = self.names.choose(name_picture(decoded, self.root))
        if predictions:
            self.queue.submit(lambda: self._write(decoded, stem, predictions))

    def close(self) -> None:
        """Wait for all queued crops."""
        self.queue.close()

    def _write(self, decoded: DecodedImage, stem: str, predictions: list[Prediction]) -> None:
        image = load_rgb(decoded.path) if decoded.image is None else decoded.image
        for number, prediction in enumerate(predictions, 1):
            crop = image.crop(_cover_pixels(prediction["bbox"], image.size))
            save_jpeg(crop, self.folders[prediction["category_id"] - 1] / f"{stem}_{number}.jpg", JPEG_QUALITY)


def _cover_pixels(bbox: list[float], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The whole pixels that a box [left, top, width, height] touches, at least one: left, top, right, bottom."""
    left, top, width, height = bbox
    x, y = min(math.floor(left), size[0] - 1), min(math.floor(top), size[1] - 1)
    return x, y, max(x + 1, math.ceil(left + width)), max(y + 1, math.ceil(top + height))
