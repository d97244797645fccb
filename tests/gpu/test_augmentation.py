"""Augmentation and batches on a GPU: the pixels that the CPU makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.gpu_data import make_sample
from benchmarks.gpu_loading import Loading, Photographs, list_loading, measure_waiting
from benchmarks.gpu_settings import GpuSettings
from detector.core.machine import choose_workers
from detector.engine.dataset import Batch
from detector.training.augmentation import Augmenter
from detector.training.batch_augmentation import BatchAugmenter, finish_batch
from detector.training.prefetch import move_ahead

FILL = (124, 116, 104)
AUGMENTER = Augmenter(0.5, (0.7, 1.5), 0.2, FILL, mosaic=0.5, mixup=0.3, crop=0.3, epochs=10)


def plan_batch(seed: int) -> Batch:
    """Eight pictures of 96 x 128 with what is to be done to them."""
    torch.manual_seed(seed)
    augmenter = BatchAugmenter(AUGMENTER)
    samples = [make_sample(8 * seed + row, (96, 128), row) for row in range(8)]
    return augmenter.collate([augmenter.plan(sample, 0, lambda: samples[0]) for sample in samples])


@pytest.mark.parametrize("seed", range(4))
def test_a_gpu_augments_as_the_cpu_does(seed: int) -> None:
    batch = plan_batch(seed)
    expected = finish_batch(batch, torch.device("cpu"))
    found = finish_batch(batch, torch.device("cuda"))
    assert found.images.is_cuda
    difference = (found.images.cpu().int() - expected.images.int()).abs()
    assert difference.max() <= 2
    assert (difference > 0).float().mean() < 0.01
    assert torch.equal(found.targets.boxes_xyxy.cpu(), expected.targets.boxes_xyxy)


def test_batches_that_are_copied_ahead_are_the_same_and_in_order() -> None:
    batches = [plan_batch(seed) for seed in range(5)]
    found = [(batch.rows, batch.images.clone()) for batch in move_ahead(batches, torch.device("cuda"))]
    assert len(found) == 5
    for batch, (_, images) in zip(batches, found, strict=True):
        assert torch.equal(images, finish_batch(batch, torch.device("cuda")).images)


def test_the_gpu_does_not_wait_for_data(settings: GpuSettings, tmp_path: Path) -> None:
    assert list_loading(settings, tmp_path)
    photographs = Photographs(replace(settings, photographs=64), tmp_path / "photographs")
    default = Loading(choose_workers("auto", True, 1), on_device=True, in_memory=True)
    assert measure_waiting(settings, photographs, default).share < 0.5  # the benchmark has the target
