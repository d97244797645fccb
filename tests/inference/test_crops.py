"""Detections cut out of their images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.core.images import load_rgb
from detector.engine.detections import Prediction
from detector.inference.crops import CropWriter
from detector.inference.decoding import DecodedImage
from detector.inference.video import Frame
from tests.support.written_results import METADATA, PREDICTIONS, decoded_image


def predict(*boxes: list[float]) -> list[Prediction]:
    return [{**PREDICTIONS[0], "category_id": 1, "bbox": box} for box in boxes]


def write(folder: Path, decoded: DecodedImage, predictions: list[Prediction]) -> list[str]:
    """The crops, relative to their folder."""
    writer = CropWriter(folder / "crops", METADATA, folder, 2)
    writer.add(decoded, predictions)
    writer.close()
    return sorted(path.relative_to(folder / "crops").as_posix() for path in (folder / "crops").rglob("*_*.jpg"))


def test_a_crop_is_the_part_of_the_full_size_image_that_the_box_touches(tmp_path: Path) -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[20:60, 10:40] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    decoded = decoded_image(tmp_path / "a.png")._replace(image=None)
    assert write(tmp_path, decoded, predict([10.4, 20, 29.5, 40], [10, 20, 30, 40.2])) == [
        "bolt/a_1.jpg",
        "bolt/a_2.jpg",
    ]
    first, second = (load_rgb(tmp_path / f"crops/bolt/a_{number}.jpg") for number in (1, 2))
    assert (first.size, second.size) == ((30, 40), (30, 41))
    assert np.asarray(first)[..., 0].min() > 240
    assert np.asarray(second)[-1, :, 0].max() < 100


@pytest.mark.parametrize("box", [[200.0, 100.0, 0.0, 0.0], [50.0, 50.0, 0.0, 0.0], [0.0, 0.0, 200.0, 0.3]])
def test_a_crop_has_at_least_one_pixel(tmp_path: Path, box: list[float]) -> None:
    write(tmp_path, decoded_image(tmp_path / "a.png"), predict(box))
    assert load_rgb(tmp_path / "crops/bolt/a_1.jpg").size in ((1, 1), (200, 1))


def test_crops_of_frames_and_of_classes_with_unusual_names(tmp_path: Path) -> None:
    decoded = decoded_image(tmp_path / "clip.mp4", Frame(12, 0.44, 25.0))
    assert write(tmp_path, decoded, PREDICTIONS) == ["bolt/clip.mp4/000012_2.jpg", "rot_ ü/clip.mp4/000012_1.jpg"]


def test_an_image_without_detections_is_not_opened(tmp_path: Path) -> None:
    assert write(tmp_path, decoded_image(tmp_path / "gone.png")._replace(image=None), []) == []


def test_a_crop_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "crops").touch()
    with pytest.raises(UserError, match=r"a_1\.jpg: cannot be written"):
        write(tmp_path, decoded_image(tmp_path / "a.png"), PREDICTIONS)
