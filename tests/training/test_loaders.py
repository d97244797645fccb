"""An image that is damaged after preprocess ends the training with one line that names it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.engine.dataset import DetectionDataset, collate, pack_annotations
from detector.training.loaders import ImageLoader


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_without_a_traceback(tmp_path: Path, workers: int) -> None:
    for name in ("good.jpg", "bad.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:900])
    images = [{"id": number, "file_name": f"{name}.jpg", "height": 32, "width": 32}
              for number, name in enumerate(("good", "bad"), 1)]  # fmt: skip
    annotations = pack_annotations({"images": images, "annotations": [], "categories": [], "states": []})
    dataset = DetectionDataset(annotations, tmp_path, (32, 32), (0, 0, 0))
    batches = iter(ImageLoader(dataset, batch_size=1, collate_fn=collate, num_workers=workers))
    assert next(batches).images.shape == (1, 3, 32, 32)
    with pytest.raises(UserError) as error:
        next(batches)
    assert str(error.value).startswith(f"{tmp_path / 'bad.jpg'}: ")
    assert "truncated" in str(error.value)
    assert "\n" not in str(error.value)
