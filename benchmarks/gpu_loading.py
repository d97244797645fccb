"""The share of a training's time in which it waits for data: by data-loading processes, and by where it augments."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_settings import GpuSettings, Part, synchronize
from benchmarks.gpu_training import choose_recipe, start_training
from benchmarks.photographs import write_photographs
from benchmarks.table import Row
from benchmarks.timing import hide_progress_bars
from benchmarks.training_steps import FILL, random_labels
from detector.core.machine import choose_workers
from detector.engine.dataset import DetectionDataset, EpochSampler, collate, pack_annotations
from detector.training.augmentation import Augmenter
from detector.training.batch_augmentation import BatchAugmenter
from detector.training.image_cache import cache_in_memory
from detector.training.interruption import ignore_signals
from detector.training.loaders import ImageLoader
from detector.training.loop import Step, group_batches, train_one_epoch
from detector.training.precision import choose_precision
from detector.training.progress import WaitTimer

TARGET = 0.05  # share of waiting with the default settings
MODEL = "effnet_lite"
WARM_UP = 4  # batches, in which the processes start


class Loading(NamedTuple):
    """How batches are made: number of processes, whether the device augments, whether images are decoded once."""

    workers: int
    on_device: bool
    in_memory: bool

    def describe(self) -> str:
        """The row's first cell."""
        place = "on the device" if self.on_device else "in the processes"
        images = "images in memory" if self.in_memory else "images decoded each time"
        return f"{self.workers} workers, augmentation {place}, {images}"


class Waiting(NamedTuple):
    """rate: images/s. share: of the time, spent waiting for a batch."""

    rate: float
    share: float


class _Done(Exception):
    """Ends a measurement from within the loop."""


def list_loading(settings: GpuSettings, scratch: Path) -> Part:
    """All combinations; the default of a training comes first."""
    default = Loading(choose_workers("auto", settings.device.type == "cuda", 1), True, True)
    others = [
        Loading(workers, on_device, in_memory)
        for in_memory in (True, False)
        for on_device in (True, False)
        for workers in settings.workers
    ]
    ordered = [default, *(other for other in others if other != default)]
    state: dict[str, Any] = {}  # what the measurements share: the photographs, and their pixels
    return [
        (loading.describe(), partial(measure_row, settings, scratch, state, loading, number == 0))
        for number, loading in enumerate(ordered)
    ]


def measure_row(
    settings: GpuSettings, scratch: Path, state: dict[str, Any], loading: Loading, is_default: bool
) -> Iterator[Row]:
    """One row."""
    if "coco" not in state:
        state["coco"] = random_labels(write_photographs(scratch / "photographs", settings.photographs))
    found = measure_waiting(settings, state, loading)
    name = f"`{MODEL if not settings.side else 'simple'}`, {settings.batch} images: {loading.describe()}"
    waiting = f"{found.share:.1%} waiting"
    if is_default and settings.seconds:
        yield Row(f"{name} (default)", f"{found.rate:,.0f} images/s", "", waiting, "< 5%", found.share < TARGET)
    else:
        yield Row(name, f"{found.rate:,.0f} images/s", "", waiting)


def measure_waiting(settings: GpuSettings, state: dict[str, Any], loading: Loading) -> Waiting:
    """Train on batches from a loader and time the waiting."""
    name = MODEL if not settings.side else "simple"
    precision = choose_precision("auto", settings.device)
    run, recipe = start_training(name, settings, precision), choose_recipe(name, settings)
    timer = WaitTimer()
    batches = repeat_epochs(make_loader(settings, state, loading, name))
    clock = {"start": 0.0, "images": 0}
    end = max(settings.seconds * 4, 0.01)

    def on_step(step: Step) -> None:
        synchronize(settings.device)
        now = time.perf_counter()
        if step.iteration == WARM_UP - 1:
            clock["start"], timer.seconds = now, 0.0
        elif step.iteration >= WARM_UP:
            clock["images"] += settings.batch
            if now - clock["start"] >= end:
                raise _Done

    with contextlib.suppress(_Done):
        train_one_epoch(
            run.learner,
            group_batches(timer.time_items(batches), 1),
            run.schedule,
            grad_clip_norm=recipe.grad_clip_norm,
            first_iteration=0,
            on_step=on_step,
            image_name=str,
        )
    seconds = time.perf_counter() - clock["start"]
    return Waiting(clock["images"] / seconds, timer.seconds / seconds)


def make_loader(settings: GpuSettings, state: dict[str, Any], loading: Loading, name: str) -> ImageLoader:
    """The training's loader, with a choice that a training does not have."""
    recipe, size, coco = choose_recipe(name, settings), settings.choose_size(name), state["coco"]
    augmenter = Augmenter(recipe.flip, recipe.scale, recipe.color_jitter, FILL, mosaic=recipe.mosaic, epochs=1000)
    on_device = BatchAugmenter(augmenter) if loading.on_device else None
    if loading.in_memory and "decoded" not in state:
        with hide_progress_bars():
            state["decoded"] = cache_in_memory(coco, size, FILL)
    data = DetectionDataset(
        pack_annotations(coco),
        Path(),
        size,
        FILL,
        decoded=state["decoded"] if loading.in_memory else None,
        augmentation=augmenter if on_device is None else on_device.plan,
    )
    return ImageLoader(
        data,
        settings.device,
        batch_sampler=EpochSampler(len(data), settings.batch, 0, epochs=1000),
        collate_fn=collate if on_device is None else on_device.collate,
        num_workers=loading.workers,
        pin_memory=settings.device.type == "cuda",
        persistent_workers=loading.workers > 0,
        worker_init_fn=ignore_signals,
    )


def repeat_epochs(loader: ImageLoader) -> Iterator[Any]:
    """Batches of one epoch after another."""
    for epoch in range(1000):
        loader.batch_sampler.epoch = epoch  # type: ignore[union-attr]
        yield from loader
