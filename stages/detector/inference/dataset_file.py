"""Write detections as a dataset of this project, to correct them and train on them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from detector.core.errors import UserError
from detector.core.output_files import replace_file
from detector.engine.detections import Prediction
from detector.inference.decoding import DecodedImage
from detector.inference.inputs import name_input
from detector.inference.line_writer import LineWriter, build_write_error, to_json
from detector.inference.output_names import name_picture
from detector.inference.picture_writer import save_jpeg
from detector.runners.model_metadata import ModelMetadata

FRAME_QUALITY = 95  # JPEG quality of saved video frames
FRAMES = "frames"  # folder of the output
DATASET = "dataset.jsonl"


def check_no_dataset(folder: Path) -> None:
    """Raise UserError if the output folder has a dataset: someone may have corrected it since."""
    if os.path.lexists(folder / DATASET):
        raise UserError(
            f"{folder / DATASET}: exists and may hold corrections; move it away or choose another --out folder"
        )


class JsonLinesFile:
    """dataset.jsonl, for `preprocess.format: jsonl`, and the images in images/: a folder that can be moved.

    Images that lie in the output folder already are not copied. Frames of a video are saved in frames/ and form one
    sequence, which the split keeps together. The file contains only complete lines, and each line's image.
    """

    def __init__(self, folder: Path, metadata: ModelMetadata, root: Path) -> None:
        self.folder, self.metadata, self.root = folder, metadata, root
        check_no_dataset(folder)
        path = folder / DATASET
        self.lines = LineWriter(path, path)

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        if decoded.frame is None:
            line: dict[str, Any] = {"image_path": self._copy_image(decoded.path)}
        else:
            line = {"image_path": save_frame(decoded, self.folder, self.root)}
            sequence = f"sequence_{decoded.path.stem}--frame_{decoded.frame.number}"
            line["classification_annotations"] = [{"annotation_label": sequence}]
        line["bounding_box_annotations"] = [self._build_box(decoded, prediction) for prediction in predictions]
        self.lines.write(to_json(line) + "\n")

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

    def _copy_image(self, path: Path) -> str:
        """Return the image's path relative to the output folder."""
        full, folder = path.parent.resolve() / path.name, self.folder.resolve()
        if full.is_relative_to(folder):
            return full.relative_to(folder).as_posix()
        copy = self.folder / "images" / name_input(path, self.root)
        try:
            with replace_file(copy, sync=False) as new:
                shutil.copyfile(path, new)
        except OSError as error:
            raise build_write_error(copy, error) from None
        return copy.relative_to(self.folder).as_posix()

    def close(self) -> None:
        self.lines.close()


def save_frame(decoded: DecodedImage, folder: Path, root: Path) -> str:
    """Save a video frame in the output folder; return its path relative to it."""
    assert decoded.image is not None
    name = f"{FRAMES}/{name_picture(decoded, root)}"
    save_jpeg(decoded.image, folder / name, FRAME_QUALITY)
    return name
