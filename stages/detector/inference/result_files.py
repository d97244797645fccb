"""Write detections as COCO, CSV and YOLO files.

COCO files replace older ones when they are complete. The CSV file is written line by line, for whoever follows it;
after an error, such as a full disk, the incomplete line is removed. `score` is calibrated, `state_score` is not.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Protocol

from detector.core.output_files import write_bytes
from detector.core.text_output import format_cell
from detector.engine.detections import Prediction
from detector.inference.decoding import DecodedImage
from detector.inference.inputs import name_input
from detector.inference.line_writer import LineWriter, ListWriter, build_write_error, to_json
from detector.inference.output_names import StemNames, name_picture
from detector.runners.model_metadata import ModelMetadata

COLUMNS = ("image", "frame", "class", "score", "left", "top", "right", "bottom", "state", "state_score")


class ResultFile(Protocol):
    """A file of detections, written one image after another."""

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        """Write the detections of the next image; image_id counts from 1."""

    def close(self) -> None:
        """Finish the file; what was added so far is valid."""


class CocoFile:
    """images, annotations, categories and states as written by coco-convert, with a score per annotation."""

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path) -> None:
        """root: see `CollectedInputs`, here and below."""
        self.root, self.states = root, bool(metadata.states)
        self.images: list[str] = []
        header = {
            "info": {key: getattr(metadata, key) for key in ("model", "data", "dataset", "code")},
            "categories": _number_names(metadata.classes),
            "states": _number_names(metadata.states),
        }
        self.annotations = ListWriter(folder / "predictions.json", to_json(header)[:-1] + ', "annotations": [')

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        image: dict[str, Any] = {
            "id": len(self.images) + 1,
            "file_name": name_input(decoded.path, self.root),
            "width": decoded.width,
            "height": decoded.height,
        }
        if decoded.frame is not None:
            image |= {"frame": decoded.frame.number, "seconds": decoded.frame.seconds}
        self.images.append(to_json(image))
        first = self.annotations.count + 1
        rows = [_keep_known_states(prediction, self.states) for prediction in predictions]
        self.annotations.write(
            [
                {"id": number} | row | {"area": round(row["bbox"][2] * row["bbox"][3], 2), "iscrowd": 0}
                for number, row in enumerate(rows, first)
            ]
        )

    def close(self) -> None:
        images = ",".join(f"\n{image}" for image in self.images)
        self.annotations.finish(f'], "images": [{images}\n]}}\n')


class CocoResultsFile:
    """The list that COCO's evaluation takes; `image_id` as in `CocoFile`, and the image's `file_name`."""

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path) -> None:
        self.root, self.states = root, bool(metadata.states)
        self.results = ListWriter(folder / "results.json", "[")

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        name = {"file_name": name_picture(decoded, self.root)}
        self.results.write([_keep_known_states(prediction, self.states) | name for prediction in predictions])

    def close(self) -> None:
        self.results.finish("]\n")


class CsvFile:
    """One row per detection, for spreadsheets and pandas; corners in pixels of the image."""

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path) -> None:
        self.metadata, self.root = metadata, root
        path = folder / "predictions.csv"
        self.lines = LineWriter(path, path)
        self._write([COLUMNS])

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        self._write([self._build_row(decoded, prediction) for prediction in predictions])

    def _build_row(self, decoded: DecodedImage, prediction: Prediction) -> tuple[object, ...]:
        left, top, width, height = prediction["bbox"]
        state = prediction["state"]
        return (
            name_input(decoded.path, self.root),
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


class YoloFolder:
    """labels/: a text file per image with a line `class cx cy w h score` per detection; and classes.txt.

    class counts from 0; cx, cy, w, h are fractions of the image. An image without detections has an empty file.
    """

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path) -> None:
        self.folder, self.root, self.names = folder / "labels", root, StemNames()
        self._write(folder / "classes.txt", [" ".join(name.split()) for name in metadata.classes])

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        stem = self.names.choose(name_picture(decoded, self.root))
        self._write(self.folder / f"{stem}.txt", [_format_yolo(decoded, prediction) for prediction in predictions])

    def _write(self, path: Path, lines: list[str]) -> None:
        try:
            write_bytes(path, "".join(f"{line}\n" for line in lines).encode("utf-8"), sync=False)
        except OSError as error:
            raise build_write_error(path, error) from None

    def close(self) -> None:
        """Every file is complete."""


def _format_yolo(decoded: DecodedImage, prediction: Prediction) -> str:
    left, top, width, height = prediction["bbox"]
    center = ((left + width / 2) / decoded.width, (top + height / 2) / decoded.height)
    numbers = (*center, width / decoded.width, height / decoded.height)
    values = " ".join(f"{value:.6f}" for value in numbers)
    return f"{prediction['category_id'] - 1} {values} {prediction['score']:.5f}"


def _keep_known_states(prediction: Prediction, has_states: bool) -> dict[str, Any]:
    """Without states their columns would be meaningless."""
    return {key: value for key, value in prediction.items() if has_states or not key.startswith("state")}


def _number_names(names: list[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names, 1)]
