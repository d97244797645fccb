"""Images per second of training and evaluation, beside the reference loop on the same device, and peak memory."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from benchmarks.gpu_data import make_batches, repeat_batches
from benchmarks.gpu_references import build_reference
from benchmarks.gpu_settings import GpuSettings, Part, each_model, free_memory, list_precisions
from benchmarks.gpu_training import (
    PeakMemory,
    allow_nondeterminism,
    choose_recipe,
    measure_rate,
    start_training,
    train_steps,
)
from benchmarks.table import Row, check_ratio
from detector.engine.dataset import Batch
from detector.training.precision import choose_lower_precision
from detector.training.prefetch import move_ahead
from detector.training.state import TrainingRun

TARGET = 1.0  # of the reference's speed
BATCHES = 4  # different ones


def list_speeds(settings: GpuSettings) -> Part:
    """The measurements of all models."""
    return each_model(settings.models, "training and evaluation", measure_speed, settings)


def list_compiled(settings: GpuSettings) -> Part:
    """The measurements with torch.compile."""
    return each_model(settings.compiled, "compiled", measure_compiled, settings)


def measure_speed(settings: GpuSettings, name: str) -> Iterator[Row]:
    """Two rows per precision: training and evaluation."""
    batches = make_batches(BATCHES, settings.batch, settings.choose_size(name))
    for precision in list_precisions(settings):
        ours = measure_ours(settings, name, precision, batches)
        theirs = measure_reference(settings, name, precision, batches)
        for number, kind in enumerate(("training", "evaluation")):
            yield make_speed_row(settings, f"{describe(settings, name)}, {precision}: {kind}", number, ours, theirs)


class Speeds(NamedTuple):
    """whose: the loop's name, or why there is no measurement. rates, memory: images/s and peak memory in GiB, of
    training and of evaluation; empty without a measurement.
    """

    whose: str
    rates: list[float]
    memory: list[float]


def measure_ours(settings: GpuSettings, name: str, precision: str, batches: list[Batch]) -> Speeds:
    """Our training loop and our detections."""
    run = start_training(name, settings, precision)
    return Speeds("ours", *measure_both(settings, *make_actions(settings, name, run, batches)))


def make_actions(
    settings: GpuSettings, name: str, run: TrainingRun, batches: list[Batch]
) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """Functions that train and evaluate for a number of steps."""
    clip, done = choose_recipe(name, settings).grad_clip_norm, itertools.count()

    def train(steps: int) -> None:
        train_steps(run, repeat_batches(batches, steps), next(done), clip)

    @torch.no_grad()
    def evaluate(steps: int) -> None:
        model = run.learner.average.model.eval()
        for batch in move_ahead(repeat_batches(batches, steps), settings.device):
            detections = model(batch.images).detections
            for column in detections:
                column.cpu()

    return train, evaluate


def measure_reference(settings: GpuSettings, name: str, precision: str, batches: list[Batch]) -> Speeds:
    """The reference's loop, if a model has one; that it fails is no failure of ours."""
    with allow_nondeterminism():
        try:
            reference = build_reference(name, settings, precision, batches)
            if reference is None:
                return Speeds("", [], [])
            return Speeds(reference.name, *measure_both(settings, reference.train, reference.evaluate))
        except (RuntimeError, ValueError, TypeError) as error:
            return Speeds(f"does not run: {type(error).__name__} {str(error).strip().splitlines()[0][:60]}", [], [])


def measure_both(
    settings: GpuSettings, train: Callable[[int], None], evaluate: Callable[[int], None]
) -> tuple[list[float], list[float]]:
    """Images/s and peak memory in GiB, of training and of evaluation."""
    rates, memory = [], []
    for action in (train, evaluate):
        free_memory()
        peak = PeakMemory(settings.device)
        rates.append(measure_rate(action, settings))
        memory.append(peak.gib())
    return rates, memory


def make_speed_row(settings: GpuSettings, what: str, number: int, ours: Speeds, theirs: Speeds) -> Row:
    """number: 0 for training, 1 for evaluation."""
    own, memory = f"{ours.rates[number]:,.0f} images/s", f"{ours.memory[number]:.1f} GiB"
    if not theirs.rates:
        return Row(what, own, theirs.whose, memory)
    ratio = ours.rates[number] / theirs.rates[number]
    measured, target, passed = check_ratio(ratio, TARGET)
    return Row(
        what,
        own,
        f"{theirs.rates[number]:,.0f} images/s {theirs.whose}",
        f"{measured}, {memory} and {theirs.memory[number]:.1f} GiB",
        *((target, passed) if settings.seconds else ("", None)),
    )


def measure_compiled(settings: GpuSettings, name: str) -> Iterator[Row]:
    """Training with torch.compile, beside training without it, in the device's lower precision."""
    precision = choose_lower_precision(settings.device)
    batches = make_batches(BATCHES, settings.batch, settings.choose_size(name))
    plain = measure_ours(settings, name, precision, batches).rates[0]
    run = start_training(name, settings, precision, compiled=True)
    train, _ = make_actions(settings, name, run, batches)
    start = time.perf_counter()
    train(2)
    compiling = time.perf_counter() - start
    rate = measure_rate(train, settings)
    what = f"{describe(settings, name)}, {precision}: training, compiled"
    measured = f"{rate / plain:.2f} ×, first steps {compiling:.0f} s"
    yield Row(what, f"{rate:,.0f} images/s", f"{plain:,.0f} images/s not compiled", measured)


def describe(settings: GpuSettings, name: str) -> str:
    """The model, its input and its batch."""
    height, width = settings.choose_size(name)
    return f"`{name}` {width}×{height}, {settings.batch} images"
