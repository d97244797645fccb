"""Draw detections on images and videos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from detector.core.images import load_rgb
from detector.engine.detections import Prediction
from detector.inference.decoding import DecodedImage
from detector.inference.inputs import name_input
from detector.inference.picture_writer import WriteQueue, save_jpeg
from detector.inference.video import Frame, VideoWriter
from detector.plotting.box_drawing import StyledBox, draw_boxes
from detector.plotting.palette import palette_color
from detector.runners.model_metadata import ModelMetadata

# Longer side in pixels: smaller images are enlarged to make room for labels, larger ones shrunk.
MIN_SIDE, MAX_SIDE = 640, 4096
MIN_FONT_SIZE, MIN_LINE_WIDTH = 11, 2  # pixels
JPEG_QUALITY = 90
JPEG_SUFFIXES, VIDEO_COPY_SUFFIXES = (".jpg", ".jpeg"), (".mp4",)


class ImageAnnotator:
    """Writes annotated copies of images and videos to a folder, in threads."""

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path, threads: int) -> None:
        """root: see `CollectedInputs`; its subfolders are recreated in `folder`."""
        self.folder, self.metadata, self.root = folder, metadata, root
        self.video: VideoWriter | None = None
        self.written = folder  # the file of `video`
        self.source: Path | None = None  # the video that was added last
        self.target = folder  # its copy
        self.given: set[Path] = set()
        self.images, self.frames = WriteQueue(threads), WriteQueue(1)

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        """Queue an image for drawing. Raises UserError when an earlier one could not be written."""
        if decoded.frame is None:
            path = self._choose_path(decoded)
            self.images.submit(lambda: save_jpeg(self._draw(decoded, predictions), path, JPEG_QUALITY))
            return
        if self.source != decoded.path:
            self.source, self.target = decoded.path, self._choose_path(decoded)
        frame, target = decoded.frame, self.target
        self.frames.submit(lambda: self._write_frame(self._draw(decoded, predictions), frame, target))

    def close(self) -> None:
        """Wait for all queued images."""
        try:
            self.images.close()
        finally:
            try:
                self.frames.close()
            finally:
                if self.video is not None:
                    self.video.close()

    def _draw(self, decoded: DecodedImage, predictions: list[Prediction]) -> Image.Image:
        image = load_rgb(decoded.path, at_least=(MAX_SIDE, MAX_SIDE)) if decoded.image is None else decoded.image
        return draw_detections(image, decoded.width, predictions, self.metadata)

    def _write_frame(self, picture: Image.Image, frame: Frame, path: Path) -> None:
        if self.video is None or self.written != path:
            if self.video is not None:
                self.video.close()
            self.video, self.written = VideoWriter(path, frame.fps, picture.size), path
        self.video.add(picture)

    def _choose_path(self, decoded: DecodedImage) -> Path:
        """The path of the copy: with another suffix appended if its format differs; _2, _3 if that name is taken."""
        path = self.folder / name_input(decoded.path, self.root)
        suffixes = JPEG_SUFFIXES if decoded.frame is None else VIDEO_COPY_SUFFIXES
        if path.suffix.lower() not in suffixes:
            path = path.with_name(path.name + suffixes[0])
        stem, number = path.stem, 1
        while path in self.given:
            number += 1
            path = path.with_stem(f"{stem}_{number}")
        self.given.add(path)
        return path


def draw_detections(
    image: Image.Image, width: int, predictions: Sequence[Prediction], metadata: ModelMetadata
) -> Image.Image:
    """Return an annotated copy of an RGB image, best detections on top; boxes are in pixels of a width of `width`."""
    longest = max(image.size)
    side = min(max(longest, MIN_SIDE), MAX_SIDE)
    size = (max(1, round(image.width * side / longest)), max(1, round(image.height * side / longest)))
    picture = image.resize(size, Image.Resampling.BICUBIC) if size != image.size else image.copy()
    max_font_size = 10 + side // 64
    boxes = [_style_box(prediction, size[0] / width, max_font_size, metadata) for prediction in predictions]
    draw_boxes(picture, boxes, font_size=10 + side // 160)
    return picture


def _style_box(prediction: Prediction, scale: float, max_font_size: int, metadata: ModelMetadata) -> StyledBox:
    """scale: pixels of the picture per pixel of the prediction. Label and line grow with the object."""
    left, top, width, height = (value * scale for value in prediction["bbox"])
    name = metadata.classes[prediction["category_id"] - 1]
    state = f", {metadata.states[prediction['state'] - 1]}" if prediction["state"] else ""
    side = math.sqrt(width * height)
    return StyledBox(
        (left, top, left + width, top + height),
        palette_color(prediction["category_id"] - 1),
        f"{name}{state} {prediction['score']:.2f}",
        width=min(max(MIN_LINE_WIDTH, round(side / 80)), max_font_size // 6),
        font_size=min(max(MIN_FONT_SIZE, round(side / 10)), max_font_size),
    )
