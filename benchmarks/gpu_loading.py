"""The share of a training's time in which it waits for data: by data-loading processes, and by where it augments."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.gpu_settings import GpuSettings, Part, synchronize
from benchmarks.gpu_training import choose_recipe, start_training
from benchmarks.photographs import write_photographs
from benchmarks.table import Row
from benchmarks.timing import hide_progress_bars
from benchmarks.training_steps import FILL, random_labels
from detector.core.machine import choose_workers
from detector.engine.annotations import Annotations
from detector.engine.dataset import DetectionDataset, EpochSampler, collate, pack_annotations
from detector.training.augmentation import Augmenter
from detector.training.batch_augmentation import BatchAugmenter
from detector.training.image_cache import CachedImages, cache_in_memory
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


@dataclass
class Photographs:
    """The images of all measurements: written, and decoded for the model's input, when they are first needed."""

    settings: GpuSettings
    folder: Path

    @cached_property
    def annotations(self) -> Annotations:
        """Random boxes."""
        return pack_annotations(random_labels(write_photographs(self.folder, self.settings.photographs)))

    @cached_property
    def decoded(self) -> CachedImages:
        """The letterboxed images."""
        with hide_progress_bars():
            return cache_in_memory(self.annotations, self.settings.choose_size(choose_model(self.settings)), FILL)


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
    photographs = Photographs(settings, scratch / "photographs")
    return [
        (loading.describe(), partial(measure_row, settings, photographs, loading, number == 0))
        for number, loading in enumerate(ordered)
    ]


def choose_model(settings: GpuSettings) -> str:
    """The model that trains: a smaller one on small inputs."""
    return "simple" if settings.side else MODEL


def measure_row(settings: GpuSettings, photographs: Photographs, loading: Loading, is_default: bool) -> Iterator[Row]:
    """One row."""
    found = measure_waiting(settings, photographs, loading)
    name = f"`{choose_model(settings)}`, {settings.batch} images: {loading.describe()}"
    waiting = f"{found.share:.1%} waiting"
    if is_default and settings.seconds:
        yield Row(f"{name} (default)", f"{found.rate:,.0f} images/s", "", waiting, "< 5%", found.share < TARGET)
    else:
        yield Row(name, f"{found.rate:,.0f} images/s", "", waiting)


def measure_waiting(settings: GpuSettings, photographs: Photographs, loading: Loading) -> Waiting:
    """Train on batches from a loader and time the waiting."""
    name = choose_model(settings)
    precision = choose_precision("auto", settings.device)
    run, recipe = start_training(name, settings, precision), choose_recipe(name, settings)
    timer = WaitTimer()
    batches = repeat_epochs(make_loader(settings, photographs, loading, name))
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


def make_loader(settings: GpuSettings, photographs: Photographs, loading: Loading, name: str) -> ImageLoader:
    """The training's loader, with a choice that a training does not have."""
    recipe = choose_recipe(name, settings)
    augmenter = Augmenter(recipe.flip, recipe.scale, recipe.color_jitter, FILL, mosaic=recipe.mosaic, epochs=1000)
    on_device = BatchAugmenter(augmenter) if loading.on_device else None
    data = DetectionDataset(
        photographs.annotations,
        Path(),
        settings.choose_size(name),
        FILL,
        decoded=photographs.decoded if loading.in_memory else None,
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
