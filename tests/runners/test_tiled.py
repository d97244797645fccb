"""A detector that finds white rectangles, run on whole images and on tiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from detector.core.errors import UserError
from detector.core.images import ORIENTATION_TAG
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.runners.tiled import detect_images, detect_in_tiles
from detector.runners.tiling import Tiling

STAGES = Path(__file__).parents[2] / "stages"
METADATA = ModelMetadata(model="bright", classes=["white"], states=[], size=(64, 64), fill=(0, 0, 0), data="")
MERGING: dict[str, Any] = {"iou_threshold": 0.6, "max_detections": 100}
BATCHES: list[int] = []


@pytest.fixture(autouse=True)
def _clear_batches() -> None:
    BATCHES.clear()


def detect_white(images: NDArray[np.uint8]) -> list[Detections]:
    """Detect the bounding box of all white pixels of each input."""
    BATCHES.append(len(images))
    assert images.dtype == np.uint8
    assert images.shape[1:] == (3, 64, 64)
    found = []
    for image in images:
        rows, columns = np.nonzero(image.min(axis=0) > 128)
        boxes = [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]] if len(rows) else []
        ones, halves = np.ones(len(boxes), np.int64), np.full(len(boxes), 0.5, np.float32)
        boxes_xyxy = np.array(boxes, np.float32).reshape(-1, 4)
        found.append(Detections(boxes_xyxy, halves, ones, ones, ones.astype(np.float32)))
    return found


def save_image(path: Path, size: tuple[int, int], box: tuple[int, int, int, int], orientation: int = 1) -> Path:
    """Save a black image with a white rectangle; `size` (width, height) and `box` (xyxy) are as stored."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), box)
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    image.save(path, exif=exif)
    return path


def box_lists(found: Detections) -> list[list[float]]:
    return [[float(value) for value in box] for box in found.boxes_xyxy]


def test_whole_images_in_batches(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{k}.png", (128, 64), (20, 10 * k, 60, 10 * k + 10)) for k in range(3)]
    found = list(detect_images(paths, detect_white, METADATA, 2))
    assert [box_lists(one) for one in found] == [[[20, 10 * k, 60, 10 * k + 10]] for k in range(3)]
    assert BATCHES == [2, 1]
    assert list(detect_images([], detect_white, METADATA, 2)) == []


def test_a_small_object_is_detected_only_in_tiles(tmp_path: Path) -> None:
    """When the whole image is resized to 64 x 64, the object is a fraction of a pixel."""
    path = save_image(tmp_path / "large.png", (640, 320), (411, 203, 414, 206))
    assert box_lists(next(detect_images([path], detect_white, METADATA, 8))) == []
    (found,) = detect_in_tiles([path], detect_white, METADATA, 8, tiling=Tiling(64, 0.25), **MERGING)
    assert box_lists(found) == [[411, 203, 414, 206]]
    assert [1, *[8] * 11, 4] == BATCHES  # 13 x 7 tiles and the whole image


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int) -> None:
    path = save_image(tmp_path / "turned.jpg", (160, 96), (8, 16, 24, 40), orientation)
    upright = {1: [8, 16, 24, 40], 3: [136, 56, 152, 80], 6: [56, 8, 80, 24], 8: [16, 136, 40, 152]}[orientation]
    (whole,) = detect_images([path], detect_white, METADATA, 1)
    (tiled,) = detect_in_tiles([path], detect_white, METADATA, 4, tiling=Tiling(64, 0.5), **MERGING)
    assert whole.boxes_xyxy == pytest.approx(np.array([upright]), abs=3)  # an input pixel spans 2.5 image pixels
    assert tiled.boxes_xyxy == pytest.approx(np.array([upright]), abs=1)


def test_an_unreadable_image_is_named_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    for path in (tmp_path / "bad.jpg", tmp_path / "missing.jpg"):
        with pytest.raises(UserError, match=f"{path.name}: the image cannot be used"):
            list(detect_images([path], detect_white, METADATA, 1))
        with pytest.raises(UserError, match=f"{path.name}: the image cannot be used"):
            list(detect_in_tiles([path], detect_white, METADATA, 1, tiling=Tiling(32, 0.2), **MERGING))


def test_an_image_of_another_size_than_expected_is_named_in_the_error(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png", (128, 64), (20, 10, 60, 20))
    tiles: dict[str, Any] = {"tiling": Tiling(32, 0.2), **MERGING}
    assert len(list(detect_images([path], detect_white, METADATA, 1, [(128, 64)]))) == 1
    assert len(list(detect_in_tiles([path], detect_white, METADATA, 8, **tiles, sizes=[(128, 64)]))) == 1
    with pytest.raises(UserError, match=r"a\.png: .* has 128x64 pixels, but its annotations are for 64x128"):
        list(detect_images([path], detect_white, METADATA, 1, [(64, 128)]))
    with pytest.raises(UserError, match=r"a\.png: .* has 128x64 pixels, but its annotations are for 64x128"):
        list(detect_in_tiles([path], detect_white, METADATA, 8, **tiles, sizes=[(64, 128)]))


def test_runs_without_torch() -> None:
    """Nor does it need PyYAML or matplotlib: a deployed model has few dependencies."""
    code = (
        "import sys; import detector.runners.onnx_runner, detector.runners.tiling; "
        "sys.exit(bool({'torch', 'yaml', 'matplotlib', 'onnx', 'hotcoco', 'pandas', 'tqdm'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=STAGES.parent, check=True)
