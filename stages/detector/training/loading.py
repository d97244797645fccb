"""From the COCO files to batches, as `train:` of params.yaml wants them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from detector.engine import distributed
from detector.engine.dataset import DetectionDataset, EpochSampler, batches_of, collate, pack
from detector.models.normalization import PixelStatistics
from detector.models.recipe import Recipe
from detector.training.augmentation import Augment
from detector.training.balance import repeat_factors
from detector.training.fit import Loaders
from detector.training.image_cache import decoded_images
from detector.training.interruption import ignore
from detector.training.settings import TrainParams


def load_data(
    coco: dict[str, Any],
    params: TrainParams,
    recipe: Recipe,
    size: tuple[int, int],
    statistics: PixelStatistics,
    folder: Path,
) -> Loaders:
    """The loaders of both splits; only train is augmented and shuffled. folder: of images that are kept on disk."""
    fill = (statistics.mean[0], statistics.mean[1], statistics.mean[2])
    augment = Augment(
        recipe.flip, recipe.zoom, recipe.distortion, fill, recipe.mosaic, recipe.mixup, recipe.crop, recipe.rotation,
        recipe.epochs,
    )  # fmt: skip
    decoded = decoded_images([coco["train"], coco["val"]], size, fill, params.cache_gb, params.disk_cache_gb, folder)
    annotations = pack(coco["train"])
    train = DetectionDataset(annotations, Path(), size, fill, decoded[0], augment, params.seed)
    val = DetectionDataset(pack(coco["val"]), Path(), size, fill, decoded[1])
    factors = repeat_factors(annotations, recipe.balance) if recipe.balance > 0 else None
    sampler = EpochSampler(
        len(train), recipe.batch_size, params.seed, factors, recipe.epochs, distributed.rank(), distributed.count()
    )
    options: dict[str, Any] = {
        "collate_fn": collate,
        "num_workers": params.workers,
        "pin_memory": torch.cuda.is_available(),
        "persistent_workers": params.workers > 0,
        "worker_init_fn": ignore,
    }
    # A loader draws a number when it starts: from a generator of its own, so that the number of workers
    # does not change what the models draw.
    own = [torch.Generator().manual_seed(params.seed) for _ in ("train", "val")]
    mine = batches_of(len(val), recipe.batch_size, distributed.rank(), distributed.count())
    return Loaders(
        DataLoader(train, batch_sampler=sampler, generator=own[0], **options),
        sampler,
        DataLoader(val, batch_sampler=mine, generator=own[1], **options),
    )
