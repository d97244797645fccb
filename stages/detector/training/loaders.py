"""Data loaders of both splits, built from the COCO files by the `train:` section of params.yaml and machine.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from detector.core.errors import UserError
from detector.core.images import ImageError
from detector.core.machine import MachineSettings, choose_workers
from detector.engine import distributed
from detector.engine.annotations import Annotations
from detector.engine.dataset import DetectionDataset, EpochSampler, collate, shard_batches
from detector.models.normalization import PixelStatistics
from detector.models.recipe import Recipe
from detector.training.augmentation import Augmenter
from detector.training.batch_augmentation import BatchAugmenter, is_supported
from detector.training.image_cache import cache_images
from detector.training.interruption import ignore_signals
from detector.training.prefetch import move_ahead
from detector.training.repeat_factors import compute_repeat_factors
from detector.training.settings import TrainParams


class ImageLoader(DataLoader[Any]):
    """Batches on a device; an image which cannot be used is reported in one line, without a worker's traceback."""

    def __init__(self, dataset: DetectionDataset, device: torch.device, **options: Any) -> None:
        super().__init__(dataset, **options)
        self.device = device

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from move_ahead(super().__iter__(), self.device)
        except ImageError as error:
            last = str(error).rstrip().splitlines()[-1]
            raise UserError(last.partition(f"{ImageError.__name__}: ")[2] or last) from None


class Loaders(NamedTuple):
    """The loaders of both splits; `sampler` is the training loader's."""

    train: DataLoader[Any]
    sampler: EpochSampler
    val: DataLoader[Any]


def build_loaders(
    annotations: dict[str, Annotations],
    params: TrainParams,
    recipe: Recipe,
    machine: MachineSettings,
    *,
    size: tuple[int, int],
    statistics: PixelStatistics,
    device: torch.device,
    cache_folder: Path,
) -> Loaders:
    """Build the loaders of both splits; only train is augmented and shuffled, on a GPU by itself if it can.

    annotations: of train and val. size: (H, W) of the input. device: of the batches. cache_folder: of
    decoded images on disk.
    """
    augmenter = Augmenter(
        flip=recipe.flip,
        scale=recipe.scale,
        color_jitter=recipe.color_jitter,
        fill=statistics.mean,
        mosaic=recipe.mosaic,
        mixup=recipe.mixup,
        crop=recipe.crop,
        rotation=recipe.rotation,
        epochs=recipe.epochs,
    )
    on_device = (
        BatchAugmenter(augmenter) if device.type == "cuda" and is_supported(augmenter, recipe.batch_size) else None
    )
    cached = cache_images(
        [annotations["train"], annotations["val"]],
        size,
        statistics.mean,
        memory_gb=machine.memory_cache_gb,
        disk_gb=machine.disk_cache_gb,
        folder=cache_folder,
    )
    train = DetectionDataset(
        annotations["train"],
        Path(),
        size,
        statistics.mean,
        decoded=cached[0],
        augmentation=augmenter if on_device is None else on_device.plan,
        seed=params.seed,
    )
    val = DetectionDataset(annotations["val"], Path(), size, statistics.mean, decoded=cached[1])
    threshold = recipe.repeat_factor_threshold
    sampler = EpochSampler(
        len(train),
        recipe.batch_size,
        params.seed,
        repeat_factors=compute_repeat_factors(annotations["train"], threshold) if threshold > 0 else None,
        epochs=recipe.epochs,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
    workers = choose_workers(machine.workers, device.type == "cuda", distributed.local_world_size())
    options: dict[str, Any] = {
        "num_workers": workers,
        "pin_memory": device.type == "cuda",
        "persistent_workers": workers > 0,
        "worker_init_fn": ignore_signals,
    }
    # A loader draws a random number when it starts. With separate generators, the number of workers does not change
    # the random numbers of the model.
    generators = [torch.Generator().manual_seed(params.seed) for _ in ("train", "val")]
    val_batches = shard_batches(len(val), recipe.batch_size, distributed.rank(), distributed.world_size())
    return Loaders(
        ImageLoader(
            train,
            device,
            batch_sampler=sampler,
            collate_fn=collate if on_device is None else on_device.collate,
            generator=generators[0],
            **options,
        ),
        sampler,
        ImageLoader(val, device, batch_sampler=val_batches, collate_fn=collate, generator=generators[1], **options),
    )
