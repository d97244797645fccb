"""What `make bench-gpu` measures: devices, models, sizes, and a limit on its time."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.table import Row
from benchmarks.timing import log_progress
from detector.models import MODELS
from detector.training.precision import choose_lower_precision

BATCH = 8
TIME_IS_UP = "left out: time is up"
# The default, one that is not deterministic on CUDA, and one of each kind of query-based detector.
CHECKED = ("effnet_lite", "ssdlite", "faster_rcnn", "deformable_detr", "dfine_n", "rfdetr_nano")


@dataclass(frozen=True)
class GpuSettings:
    """Sizes of the measurement.

    models: whose speed is measured. checked: whose repeatability is. curves: whose loss is compared between the
    precisions. compiled: with torch.compile. batch: images per step. side: of the square inputs in pixels, None for the
    one of each model's recipe. seconds: of one measurement of speed; 0 for a single step, whose figures have no target.
    steps: of a loss curve. threshold: score of the detections that are compared. workers: data-loading processes to
    compare. photographs: for these.
    """

    device: torch.device
    models: tuple[str, ...] = tuple(MODELS)
    checked: tuple[str, ...] = CHECKED
    curves: tuple[str, ...] = ("effnet_lite", "ssdlite", "dfine_n")
    compiled: tuple[str, ...] = ("effnet_lite",)
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")
    batch: int = BATCH
    side: int | None = None
    seconds: float = 0.4
    steps: int = 60
    threshold: float = 0.05
    workers: tuple[int, ...] = (0, 4, 8)
    photographs: int = 512

    def choose_size(self, name: str) -> tuple[int, int]:
        """(H, W) of the inputs of a model."""
        side = self.side or MODELS[name].recipe.image_size
        multiple = MODELS[name].size_multiple
        side = -(-side // multiple) * multiple
        return side, side


def make_quick_settings(device: torch.device) -> GpuSettings:
    """The same measurements with tiny inputs and few models, to try the code."""
    names = ("simple", "ssdlite", "dfine_n")
    return GpuSettings(
        device,
        models=names,
        checked=names[:2],
        curves=names[:1],
        compiled=(),
        precisions=("fp32", "bf16"),  # fp16 takes seconds per step on a CPU
        batch=2,
        side=64,
        seconds=0.0,
        steps=4,
        threshold=0.0002,
        workers=(1,),
        photographs=6,
    )


class Deadline:
    """The end of the time for all measurements."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end


Part = list[tuple[str, Callable[[], Iterator[Row]]]]  # what is measured, and how


def measure_parts(measurements: Part, deadline: Deadline) -> Iterator[Row]:
    """Yield the rows of all measurements; one that fails, or for which no time is left, becomes a row that says so."""
    for what, measure in measurements:
        if deadline.is_over():
            yield Row(what, TIME_IS_UP, "", "")
            continue
        log_progress(what)
        try:
            yield from measure()
        except Exception as error:  # the others are still worth their time on a borrowed GPU
            traceback.print_exc(file=sys.stderr)
            yield make_failed_row(what, error)
        finally:
            free_memory()


def make_failed_row(what: str, error: Exception) -> Row:
    """The row of a measurement that failed."""
    if isinstance(error, torch.OutOfMemoryError):
        return Row(what, "out of memory", "", "")
    lines = str(error).strip().splitlines()
    return Row(what, f"failed: {type(error).__name__} {lines[0] if lines else ''}".rstrip(), "", "", "", False)


def free_memory() -> None:
    """Return the cached memory of the GPU, so that the next model finds it as the first one did."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def list_precisions(settings: GpuSettings) -> list[str]:
    """The precisions that the device has instructions for."""
    has_bf16 = choose_lower_precision(settings.device) == "bf16"
    return [name for name in settings.precisions if has_bf16 or name != "bf16"]


def each_model(
    names: tuple[str, ...], what: str, measure: Callable[[GpuSettings, str], Iterator[Row]], settings: GpuSettings
) -> Part:
    """One measurement per model."""
    return [(f"`{name}`: {what}", partial(measure, settings, name)) for name in names]
