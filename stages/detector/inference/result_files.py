"""Write detections as COCO, JSON Lines and CSV files, which are valid even if writing is interrupted.

The COCO file replaces an older one when it is complete. The other two are written line by line, for whoever follows
them; after an error, such as a full disk, the incomplete line is removed. `score` is calibrated, `state_score` is not.
"""

from __future__ import annotations

import csv
import io
import json
import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from detector.core.errors import UserError
from detector.core.output_files import replace_file
from detector.core.text_output import format_cell
from detector.engine.detections import Prediction
from detector.inference.decoding import DecodedImage
from detector.plotting.picture_file import write_picture
from detector.runners.tiled import ModelMetadata

FRAME_QUALITY = 95  # JPEG quality of saved video frames
COLUMNS = ("image", "frame", "class", "score", "left", "top", "right", "bottom", "state", "state_score")


class ResultFile(Protocol):
    """A file of detections, written one image after another."""

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        """Write the detections of the next image; image_id counts from 1."""

    def close(self) -> None:
        """Finish the file; what was added so far is valid."""


class LineWriter:
    """Writes a file line by line and keeps only complete lines. Raises UserError when it cannot be written."""

    def __init__(self, path: Path, reported_path: Path) -> None:
        """reported_path: the file named in error messages."""
        self.reported_path, self.complete_bytes = reported_path, 0
        self.error: UserError | None = None
        try:
            path.unlink(missing_ok=True)  # an older file may be a link to one that is to stay
            self.file = path.open("xb", buffering=0)
        except OSError as error:
            raise build_write_error(self.reported_path, error) from None

    def write(self, text: str) -> None:
        """Write one or more complete lines."""
        data = text.encode("utf-8")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.error = build_write_error(self.reported_path, error)
            self.remove_incomplete_line()
            self.file.close()
            raise self.error from None
        self.complete_bytes += len(data)

    def remove_incomplete_line(self) -> None:
        """Truncate the file to its last complete line."""
        try:
            self.file.truncate(self.complete_bytes)
        except OSError:  # a device
            return

    def close(self) -> None:
        self.file.close()


class CocoFile:
    """images, annotations, categories and states as written by coco-convert, with a score per annotation."""

    def __init__(self, folder: Path, metadata: ModelMetadata) -> None:
        self.folder, self.path = folder, folder / "predictions.json"
        self.states, self.count = bool(metadata.states), 0
        self.images: list[str] = []
        self.replacing = ExitStack()
        try:
            part = self.replacing.enter_context(replace_file(self.path))
        except OSError as error:
            raise build_write_error(self.path, error) from None
        self.lines = LineWriter(part, self.path)
        header = {
            "info": {key: getattr(metadata, key) for key in ("model", "data", "dataset", "code")},
            "categories": _number_names(metadata.classes),
            "states": _number_names(metadata.states),
        }
        try:
            self.lines.write(_to_json(header)[:-1] + ', "annotations": [')
        except UserError:
            self.close()
            raise

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        image: dict[str, Any] = {
            "id": len(self.images) + 1,
            "file_name": make_relative(decoded.path, self.folder),
            "width": decoded.width,
            "height": decoded.height,
        }
        if decoded.frame is not None:
            image |= {"frame": decoded.frame.number, "seconds": decoded.frame.seconds}
        self.images.append(_to_json(image))
        self.lines.write("".join(self._build_annotation(prediction, image["id"]) for prediction in predictions))

    def _build_annotation(self, prediction: Prediction, image_id: int) -> str:
        self.count += 1
        _, _, width, height = prediction["bbox"]
        row: dict[str, Any] = {
            "id": self.count,
            **prediction,
            "image_id": image_id,
            "area": round(width * height, 2),
            "iscrowd": 0,
        }
        if not self.states:  # it would be meaningless
            del row["state"], row["state_score"]
        return ("," if self.count > 1 else "") + "\n" + _to_json(row)

    def close(self) -> None:
        if self.lines.error is not None:  # it was raised when it happened
            self.replacing.__exit__(UserError, self.lines.error, None)
            return
        with self.replacing, closing(self.lines):
            self.lines.write("\n" * (self.count > 0) + '], "images": [')
            for number, image in enumerate(self.images):
                self.lines.write(("," if number else "") + "\n" + image)
            self.lines.write("\n]}\n")


class JsonLinesFile:
    """A dataset for `preprocess.format: jsonl`: correct the detections and train on them.

    Frames of a video are saved as images and form one sequence, which the split keeps together.
    """

    def __init__(self, folder: Path, metadata: ModelMetadata) -> None:
        self.folder, self.metadata, self.path = folder, metadata, folder / "dataset.jsonl"
        self.lines = LineWriter(self.path, self.path)

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        line: dict[str, Any] = {"image_path": make_relative(decoded.path, self.folder)}
        if decoded.frame is not None:
            saved = self._save_frame(decoded)
            line = {"image_path": saved.relative_to(self.folder).as_posix()}
            sequence = f"sequence_{decoded.path.stem}--frame_{decoded.frame.number}"
            line["classification_annotations"] = [{"annotation_label": sequence}]
        line["bounding_box_annotations"] = [self._build_box(decoded, prediction) for prediction in predictions]
        self.lines.write(_to_json(line) + "\n")

    def _build_box(self, decoded: DecodedImage, prediction: Prediction) -> dict[str, Any]:
        left, top, width, height = prediction["bbox"]
        box: dict[str, Any] = {
            "annotation_label": self.metadata.classes[prediction["category_id"] - 1],
            "x_min_normalized": round(left / decoded.width, 6),
            "y_min_normalized": round(top / decoded.height, 6),
            "x_max_normalized": min(1.0, round((left + width) / decoded.width, 6)),
            "y_max_normalized": min(1.0, round((top + height) / decoded.height, 6)),
        }
        if prediction["state"]:
            box |= {"state": self.metadata.states[prediction["state"] - 1], "state_score": prediction["state_score"]}
        return box | {"score": prediction["score"]}

    def _save_frame(self, decoded: DecodedImage) -> Path:
        assert decoded.frame is not None
        assert decoded.image is not None
        path = self.folder / "frames" / decoded.path.name / f"{decoded.frame.number:06d}.jpg"
        save_jpeg(decoded.image, path, FRAME_QUALITY)
        return path

    def close(self) -> None:
        self.lines.close()


class CsvFile:
    """One row per detection, for spreadsheets and pandas; corners in pixels of the image."""

    def __init__(self, folder: Path, metadata: ModelMetadata) -> None:
        self.metadata, self.path = metadata, folder / "predictions.csv"
        self.lines = LineWriter(self.path, self.path)
        self._write([COLUMNS])

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        self._write([self._build_row(decoded, prediction) for prediction in predictions])

    def _build_row(self, decoded: DecodedImage, prediction: Prediction) -> tuple[object, ...]:
        left, top, width, height = prediction["bbox"]
        state = prediction["state"]
        return (
            decoded.path.as_posix(),
            "" if decoded.frame is None else decoded.frame.number,
            self.metadata.classes[prediction["category_id"] - 1],
            prediction["score"],
            left,
            top,
            round(left + width, 2),
            round(top + height, 2),
            self.metadata.states[state - 1] if state else "",
            prediction["state_score"] if state else "",
        )

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([format_cell(value) for value in row] for row in rows)
        self.lines.write(text.getvalue())

    def close(self) -> None:
        self.lines.close()


def save_jpeg(image: Image.Image, path: Path, quality: int) -> None:
    """Write the file completely or not at all. Raises UserError."""
    try:
        write_picture(path, image, "JPEG", quality=quality)
    except OSError as error:
        raise build_write_error(path, error) from None


def make_relative(path: Path, folder: Path) -> str:
    """Return a file's path relative to a folder, so that both can be moved together; absolute if there is none."""
    full = path.parent.resolve() / path.name
    try:
        return Path(os.path.relpath(full, folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return full.as_posix()


def build_write_error(path: Path, error: OSError) -> UserError:
    """Build the error for a file that cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror}); free disk space or choose another --out folder")


def _number_names(names: list[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names, 1)]


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
