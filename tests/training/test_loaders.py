"""Loaders name a damaged image, and augment on a GPU where it can do all that is asked for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.core.errors import UserError
from detector.core.machine import MachineSettings
from detector.core.params import load_section
from detector.engine.dataset import DetectionDataset, collate, pack_annotations
from detector.models.normalization import PixelStatistics
from detector.models.recipe import REFERENCE
from detector.training.augmentation import Augmenter
from detector.training.batch_augmentation import BatchAugmenter
from detector.training.loaders import ImageLoader, build_loaders
from detector.training.settings import TrainParams


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_image_is_named_without_a_traceback(tmp_path: Path, workers: int) -> None:
    for name in ("good.jpg", "bad.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "bad.jpg").write_bytes((tmp_path / "good.jpg").read_bytes()[:900])
    images = [{"id": number, "file_name": f"{name}.jpg", "height": 32, "width": 32}
              for number, name in enumerate(("good", "bad"), 1)]  # fmt: skip
    annotations = pack_annotations({"images": images, "annotations": [], "categories": [], "states": []})
    dataset = DetectionDataset(annotations, tmp_path, (32, 32), (0, 0, 0))
    batches = iter(ImageLoader(dataset, torch.device("cpu"), batch_size=1, collate_fn=collate, num_workers=workers))
    assert next(batches).images.shape == (1, 3, 32, 32)
    with pytest.raises(UserError) as error:
        next(batches)
    assert str(error.value).startswith(f"{tmp_path / 'bad.jpg'}: ")
    assert "truncated" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("device", "rotation", "in_workers"), [("cpu", 0.0, True), ("cuda", 0.0, False), ("cuda", 5.0, True)]
)
def test_augmentation_is_on_a_gpu_where_it_can_be(
    device: str, rotation: float, in_workers: bool, tmp_path: Path
) -> None:
    images = [{"id": number, "file_name": f"{number}.png", "height": 32, "width": 48} for number in (1, 2)]
    for image in images:
        Image.new("RGB", (48, 32)).save(tmp_path / str(image["file_name"]))
        image["file_name"] = str(tmp_path / str(image["file_name"]))
    annotations = pack_annotations({"images": images, "annotations": []})
    recipe = dataclasses.replace(REFERENCE, batch_size=2, rotation=rotation)
    loaders = build_loaders(
        {"train": annotations, "val": annotations},
        load_section(Path(__file__).parents[2] / "params.yaml", "train", TrainParams),
        recipe,
        MachineSettings(),
        size=(32, 32),
        statistics=PixelStatistics((120, 110, 100), (60, 60, 60)),
        device=torch.device(device),
        cache_folder=tmp_path,
    )
    augmentation = loaders.train.dataset._augmentation  # type: ignore[attr-defined]
    kind = type(augmentation) if in_workers else type(augmentation.__self__)
    assert kind is (Augmenter if in_workers else BatchAugmenter)
    assert loaders.train.collate_fn is collate or not in_workers
    assert loaders.val.collate_fn is collate
    assert loaders.train.pin_memory == (device == "cuda")
