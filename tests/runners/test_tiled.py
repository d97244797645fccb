"""Images shown to a detector that finds white rectangles, whole and in tiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from detector.core.errors import UserError
from detector.core.images import ORIENTATION_TAG
from detector.engine.detections import Detections
from detector.runners.tiled import ModelMetadata, find_in_tiles, find_whole
from detector.runners.tiling import Tiling

STAGES = Path(__file__).parents[2] / "stages"
FACTS = ModelMetadata("bright", ["white"], [], (64, 64), (0, 0, 0), "")
BATCHES: list[int] = []


@pytest.fixture(autouse=True)
def _no_batches() -> None:
    BATCHES.clear()


def bright(images: NDArray[np.uint8]) -> list[Detections]:
    """The box around all white pixels of each input."""
    BATCHES.append(len(images))
    assert images.dtype == np.uint8
    assert images.shape[1:] == (3, 64, 64)
    found = []
    for image in images:
        rows, columns = np.nonzero(image.min(axis=0) > 128)
        boxes = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if len(rows) else []
        ones = np.ones(len(boxes), np.int64)
        found.append(Detections(np.array(boxes, np.float32).reshape(-1, 4), ones * np.float32(0.5), ones, ones, ones))
    return found


def picture(path: Path, size: tuple[int, int], box: tuple[int, int, int, int], orientation: int = 1) -> Path:
    """Black, with a white rectangle; of `size` (width, height) and `box` (xyxy) as stored."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    image.save(path, exif=exif)
    return path


def boxes(found: Detections) -> list[list[float]]:
    return [[float(value) for value in box] for box in found.boxes_xyxy]


def test_whole_images_in_batches(tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{k}.png", (128, 64), (20, 10 * k, 60, 10 * k + 10)) for k in range(3)]
    found = list(find_whole(paths, bright, FACTS, 2))
    assert [boxes(one) for one in found] == [[[20, 10 * k, 60, 10 * k + 10]] for k in range(3)]
    assert BATCHES == [2, 1]
    assert list(find_whole([], bright, FACTS, 2)) == []


def test_a_small_object_is_seen_larger_in_tiles(tmp_path: Path) -> None:
    """At 64 x 64 for the whole image it is a fraction of a pixel."""
    path = picture(tmp_path / "large.png", (640, 320), (411, 203, 414, 206))
    assert boxes(next(find_whole([path], bright, FACTS, 8))) == []
    (found,) = find_in_tiles([path], bright, FACTS, 8, Tiling(64, 0.25), 0.6, 100)
    assert boxes(found) == [[411, 203, 414, 206]]
    assert [1, *[8] * 11, 4] == BATCHES  # 13 x 7 tiles and the whole


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_turned_photograph_is_turned_once(tmp_path: Path, orientation: int) -> None:
    path = picture(tmp_path / "turned.jpg", (160, 96), (8, 16, 24, 40), orientation)
    upright = {1: [8, 16, 24, 40], 3: [136, 56, 152, 80], 6: [56, 8, 80, 24], 8: [16, 136, 40, 152]}[orientation]
    (whole,) = find_whole([path], bright, FACTS, 1)
    (tiled,) = find_in_tiles([path], bright, FACTS, 4, Tiling(64, 0.5), 0.6, 100)
    assert whole.boxes_xyxy == pytest.approx(np.array([upright]), abs=3)  # pixels of the input are 2.5 of the image
    assert tiled.boxes_xyxy == pytest.approx(np.array([upright]), abs=1)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    for path in (tmp_path / "bad.jpg", tmp_path / "missing.jpg"):
        with pytest.raises(UserError, match=f"{path.name}: the image cannot be read"):
            list(find_whole([path], bright, FACTS, 1))
        with pytest.raises(UserError, match=f"{path.name}: the image cannot be read"):
            list(find_in_tiles([path], bright, FACTS, 1, Tiling(32, 0.2), 0.6, 100))


def test_without_torch() -> None:
    """Nor pydantic or matplotlib: what runs beside a deployed model is small."""
    code = (
        "import sys; import detector.runners.onnx_runner, detector.runners.tiling; "
        "sys.exit(bool({'torch', 'pydantic', 'matplotlib', 'onnx', 'hotcoco', 'pandas', 'tqdm'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=STAGES.parent, check=True)
