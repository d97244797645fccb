"""User errors in the data of a training, each with its own message."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from detector.core.errors import UserError
from detector.engine.dataset import pack_annotations
from detector.models.recipe import REFERENCE
from detector.training.training_data import check_training_data

FOLDER = Path("data/coco")


def coco(images: int, boxes: int) -> dict[str, object]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(1, images + 1)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 0, "state": 0}
            for i in range(1, boxes + 1)
        ],
        "categories": [{"id": 1, "name": "a"}],
        "states": [],
    }


def test_train_without_objects() -> None:
    with pytest.raises(UserError, match="no present object in 3 images"):
        check_training_data(FOLDER, pack_annotations(coco(3, 0)), coco(3, 2), REFERENCE)


def test_val_without_objects() -> None:
    with pytest.raises(UserError, match=r"val\.json: cannot select the best epoch"):
        check_training_data(FOLDER, pack_annotations(coco(3, 2)), coco(3, 0), REFERENCE)


def test_a_batch_larger_than_the_dataset() -> None:
    with pytest.raises(UserError, match=r"`train\.batch_size` is 8, but train has 3 images"):
        check_training_data(
            FOLDER, pack_annotations(coco(3, 2)), coco(3, 2), dataclasses.replace(REFERENCE, batch_size=8)
        )
    check_training_data(FOLDER, pack_annotations(coco(3, 2)), coco(3, 2), dataclasses.replace(REFERENCE, batch_size=3))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    from detector.engine.dataset import DetectionDataset

    dataset = DetectionDataset(pack_annotations(coco(1, 1)), tmp_path, (32, 32), (0, 0, 0))
    with pytest.raises(UserError, match=r"1\.jpg.*no such file"):
        dataset[0]
    assert np.allclose(dataset.scale(0), 0.5)
