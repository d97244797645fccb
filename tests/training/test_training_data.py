"""User errors in the data of a training, each with its own message."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.core.errors import UserError
from detector.engine.dataset import pack_annotations
from detector.models.recipe import REFERENCE
from detector.training.training_data import (
    build_state_config,
    check_training_data,
    hash_coco_files,
    load_training_data,
)
from tests.support.coco_cases import keep_present_objects

FOLDER = Path("data/coco")


def coco(images: int, boxes: int) -> dict[str, Any]:
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
        check_training_data(FOLDER, pack_annotations(coco(3, 0)), pack_annotations(coco(3, 2)), REFERENCE)


def test_val_without_objects() -> None:
    with pytest.raises(UserError, match=r"val\.json: cannot select the best epoch"):
        check_training_data(FOLDER, pack_annotations(coco(3, 2)), pack_annotations(coco(3, 0)), REFERENCE)


def test_a_batch_larger_than_the_dataset() -> None:
    packed = pack_annotations(coco(3, 2))
    with pytest.raises(UserError, match=r"`train\.batch_size` is 8, but train has 3 images"):
        check_training_data(FOLDER, packed, packed, dataclasses.replace(REFERENCE, batch_size=8))
    check_training_data(FOLDER, packed, packed, dataclasses.replace(REFERENCE, batch_size=3))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    from detector.engine.dataset import DetectionDataset

    dataset = DetectionDataset(pack_annotations(coco(1, 1)), tmp_path, (32, 32), (0, 0, 0))
    with pytest.raises(UserError, match=r"1\.jpg.*no such file"):
        dataset[0]
    assert np.allclose(dataset.scale(0), 0.5)


@pytest.mark.parametrize("loss_weight", [0.0, 0.5])
def test_absent_objects_are_for_a_state_head_alone(loss_weight: float, tmp_path: Path) -> None:
    whole = coco(3, 6)
    for number, annotation in enumerate(whole["annotations"]):
        annotation |= {"image_id": 3 - number % 3, "state": number % 3, "iscrowd": int(number == 4), "area": 81}
    whole["states"] = [{"id": 1, "name": "gone", "present": False}, {"id": 2, "name": "whole", "present": True}]
    for split in ("train", "val"):
        (tmp_path / f"{split}.json").write_text(json.dumps(whole))
    recipe = dataclasses.replace(REFERENCE, batch_size=2, state_loss_weight=loss_weight)
    data = load_training_data(tmp_path, recipe)
    expected = pack_annotations(whole if loss_weight else keep_present_objects(whole))
    for split in ("train", "val"):
        for name, values in expected._asdict().items():
            np.testing.assert_array_equal(getattr(data.annotations[split], name), values, strict=True)
    assert sorted(data.val_truth.objects.ids.tolist()) == [1, 3, 4, 6]  # not those in state 1, crowds included
    assert data.states == build_state_config(data.names, {0: 2, 1: 2, 2: 2}, loss_weight)


def test_the_hash_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_bytes(b"a" * 2**21)
    (tmp_path / "val.json").write_bytes(b"b")
    assert hash_coco_files(tmp_path) == hashlib.sha256(b"a" * 2**21 + b"b").hexdigest()
