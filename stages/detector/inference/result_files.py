"""Detections as COCO, JSON Lines and CSV files, which stay valid whenever writing ends.

The COCO file appears under its name when it is whole. Of the other two, lines are written at once, and after
an error (a full disk) the line that was begun is taken back.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from detector.core.errors import UserError
from detector.engine.detections import Prediction
from detector.inference.decoding import Seen
from detector.runners.tiled import ModelMetadata

FRAME_QUALITY = 95  # of the JPEGs that frames of a video are saved as
COLUMNS = ("image", "frame", "class", "score", "left", "top", "right", "bottom", "state", "state_score")


class ResultFile(Protocol):
    """What answers are written to, one image after another."""

    def add(self, seen: Seen, predictions: list[Prediction]) -> None:
        """The detections of the next image; image_id counts from 1."""

    def close(self) -> None:
        """Finish: what was added so far is a valid file."""


class Lines:
    """A file that is written line by line, and keeps only whole ones. Raises UserError when it cannot."""

    def __init__(self, path: Path, means: Path) -> None:
        """means: the file that the user knows of."""
        self.means, self.whole, self.failed = means, 0, False
        try:
            self.file = path.open("wb", buffering=0)
        except OSError as error:
            raise unwritable(self.means, error) from None

    def write(self, text: str) -> None:
        """One or more whole lines."""
        data = text.encode("utf-8")
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.failed = True
            self.take_back()
            self.file.close()
            raise unwritable(self.means, error) from None
        self.whole += len(data)

    def take_back(self) -> None:
        """Remove the line that was begun."""
        try:
            self.file.truncate(self.whole)
        except OSError:  # a device
            return

    def close(self) -> None:
        self.file.close()


class CocoFile:
    """images, annotations, categories and states as coco-convert writes them, with a score on each annotation."""

    def __init__(self, folder: Path, facts: ModelMetadata) -> None:
        self.folder, self.path = folder, folder / "predictions.json"
        self.part, self.states = folder / "part-predictions.json", bool(facts.states)
        self.images: list[str] = []
        self.count = 0
        self.lines = Lines(self.part, self.path)
        head = {
            "info": {"model": facts.model, "data": facts.data, "dataset": facts.dataset, "code": facts.code},
            "categories": _named(facts.classes),
            "states": _named(facts.states),
        }
        try:
            self.lines.write(_json(head)[:-1] + ', "annotations": [')
        except UserError:
            self.close()
            raise

    def add(self, seen: Seen, predictions: list[Prediction]) -> None:
        image: dict[str, Any] = {
            "id": len(self.images) + 1,
            "file_name": path_from(seen.path, self.folder),
            "width": seen.width,
            "height": seen.height,
        }
        if seen.frame is not None:
            image |= {"frame": seen.frame.number, "seconds": seen.frame.seconds}
        self.images.append(_json(image))
        self.lines.write("".join(self._annotation(prediction, image["id"]) for prediction in predictions))

    def _annotation(self, prediction: Prediction, image_id: int) -> str:
        self.count += 1
        _, _, width, height = prediction["bbox"]
        row: dict[str, Any] = {
            "id": self.count,
            **prediction,
            "image_id": image_id,
            "area": round(width * height, 2),
            "iscrowd": 0,
        }
        if not self.states:  # a number that stands for nothing
            del row["state"], row["state_score"]
        return ("," if self.count > 1 else "") + "\n" + _json(row)

    def close(self) -> None:
        try:
            if not self.lines.failed:
                self.lines.write("\n" * (self.count > 0) + '], "images": [')
                for number, image in enumerate(self.images):
                    self.lines.write(("," if number else "") + "\n" + image)
                self.lines.write("\n]}\n")
        finally:
            self.lines.close()
            if self.lines.failed:
                self.part.unlink(missing_ok=True)
        if not self.lines.failed:
            self.part.replace(self.path)


class JsonLinesFile:
    """A dataset that `preprocess.format: jsonl` reads, so that detections can be corrected and trained on.

    Frames of a video are saved as images, and make one sequence: the split keeps them together.
    """

    def __init__(self, folder: Path, facts: ModelMetadata) -> None:
        self.folder, self.facts, self.path = folder, facts, folder / "dataset.jsonl"
        self.lines = Lines(self.path, self.path)

    def add(self, seen: Seen, predictions: list[Prediction]) -> None:
        line: dict[str, Any] = {"image_path": path_from(seen.path, self.folder)}
        if seen.frame is not None:
            saved = self._save_frame(seen)
            line = {"image_path": saved.relative_to(self.folder).as_posix()}
            sequence = f"sequence_{seen.path.stem}--frame_{seen.frame.number}"
            line["classification_annotations"] = [{"annotation_label": sequence}]
        line["bounding_box_annotations"] = [self._box(seen, prediction) for prediction in predictions]
        self.lines.write(_json(line) + "\n")

    def _box(self, seen: Seen, prediction: Prediction) -> dict[str, Any]:
        left, top, width, height = prediction["bbox"]
        box: dict[str, Any] = {
            "annotation_label": self.facts.classes[prediction["category_id"] - 1],
            "x_min_normalized": round(left / seen.width, 6),
            "y_min_normalized": round(top / seen.height, 6),
            "x_max_normalized": min(1.0, round((left + width) / seen.width, 6)),
            "y_max_normalized": min(1.0, round((top + height) / seen.height, 6)),
        }
        if prediction["state"]:
            box |= {"state": self.facts.states[prediction["state"] - 1], "state_score": prediction["state_score"]}
        return box | {"score": prediction["score"]}

    def _save_frame(self, seen: Seen) -> Path:
        assert seen.frame is not None
        assert seen.image is not None
        path = self.folder / "frames" / seen.path.name / f"{seen.frame.number:06d}.jpg"
        save_jpeg(seen.image, path, FRAME_QUALITY)
        return path

    def close(self) -> None:
        self.lines.close()


class CsvFile:
    """A row for each detection, for spreadsheets and pandas; corners in pixels of the image."""

    def __init__(self, folder: Path, facts: ModelMetadata) -> None:
        self.facts, self.path = facts, folder / "predictions.csv"
        self.lines = Lines(self.path, self.path)
        self._write([COLUMNS])

    def add(self, seen: Seen, predictions: list[Prediction]) -> None:
        self._write([self._row(seen, prediction) for prediction in predictions])

    def _row(self, seen: Seen, prediction: Prediction) -> tuple[object, ...]:
        left, top, width, height = prediction["bbox"]
        state = prediction["state"]
        return (
            seen.path.as_posix(), "" if seen.frame is None else seen.frame.number,
            self.facts.classes[prediction["category_id"] - 1], prediction["score"],
            left, top, round(left + width, 2), round(top + height, 2),
            self.facts.states[state - 1] if state else "", prediction["state_score"] if state else "",
        )  # fmt: skip

    def _write(self, rows: list[tuple[object, ...]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self.lines.write(text.getvalue())

    def close(self) -> None:
        self.lines.close()


def save_jpeg(image: Image.Image, path: Path, quality: int) -> None:
    """Write it whole or not at all. Raises UserError.

    Not `image.save(path)`, which takes no notice when a full disk has room for the first part only.
    """
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    part = path.with_name(f"part-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data.getbuffer())
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from None


def path_from(path: Path, folder: Path) -> str:
    """A file as seen from a folder, so that both can be moved together; absolute where there is no such way."""
    full = path.parent.resolve() / path.name
    try:
        return Path(os.path.relpath(full, folder.resolve())).as_posix()
    except ValueError:  # on another drive
        return full.as_posix()


def unwritable(path: Path, error: OSError) -> UserError:
    """What to tell of a file that cannot be written."""
    return UserError(f"{path}: cannot be written ({error.strerror}); make room, or name another folder with --out")


def _named(names: list[str]) -> list[dict[str, Any]]:
    return [{"id": number, "name": name} for number, name in enumerate(names, 1)]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
