"""Training steps and evaluation of our models on any device, as in stages/train.py."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_data import CLASSES
from benchmarks.gpu_settings import GpuSettings, synchronize
from detector.engine.dataset import Batch
from detector.models import MODELS
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig
from detector.training.compute import ComputeSettings
from detector.training.fine_tuning import freeze
from detector.training.loop import Step, group_batches, train_one_epoch
from detector.training.prefetch import move_ahead
from detector.training.state import TrainingRun, start_run

WARM_UP = 3  # steps before a measurement


def choose_weights(name: str) -> str:
    """Weights that need no network: of `effnet_lite` those in its package, else random ones."""
    return MODELS[name].weights[-1] if "none" not in MODELS[name].weights else "none"


def build_model(name: str, seed: int = 0) -> nn.Module:
    """One of our models on the CPU."""
    torch.manual_seed(seed)
    weights = choose_weights(name)
    return MODELS[name].build(CLASSES, StateConfig(), MODELS[name].choose_statistics(weights), Postprocess(), weights)


def start_training(
    name: str, settings: GpuSettings, precision: str, *, seed: int = 0, compiled: bool = False, steps: int = 10_000
) -> TrainingRun:
    """A training of `steps` optimizer steps by the model's recipe, before its first one."""
    recipe = choose_recipe(name, settings)
    model = build_model(name, seed)
    freeze(model, recipe.freeze)
    model = model.to(settings.device).to(memory_format=torch.channels_last)
    return start_run(model, recipe, steps, None, ComputeSettings(settings.device, precision, compiled))


def choose_recipe(name: str, settings: GpuSettings) -> Recipe:
    """The model's recipe with its rate scaled to the batch as in a training."""
    recipe = MODELS[name].recipe
    ratio = settings.batch / (recipe.batch_size * recipe.accumulate_steps)
    factor = ratio if recipe.optimizer == "sgd" else ratio**0.5
    return replace(recipe, batch_size=settings.batch, accumulate_steps=1, lr=recipe.lr * factor)


def train_steps(run: TrainingRun, batches: Iterable[Batch], first: int = 0, clip: float = 10.0) -> list[float]:
    """Train on batches of the CPU; return the loss of each step."""
    losses: list[float] = []

    def keep(step: Step) -> None:
        losses.append(step.losses["loss"])

    with contextlib.redirect_stdout(sys.stderr):  # fp16 reports the steps that it skips
        train_one_epoch(
            run.learner,
            group_batches(move_ahead(batches, run.learner.device), 1),
            run.schedule,
            grad_clip_norm=clip,
            first_iteration=first,
            on_step=keep,
            image_name=str,
        )
    return losses


def measure_rate(step: Callable[[int], Any], settings: GpuSettings) -> float:
    """Images per second of `step`, which takes a number of steps, after a warm-up that tells how many fit."""

    def measure(steps: int) -> float:
        start = time.perf_counter()
        step(steps)
        synchronize(settings.device)
        return time.perf_counter() - start

    if not settings.seconds:
        return settings.batch / measure(1)
    measure(WARM_UP)
    steps = max(2, round(settings.seconds / (measure(2) / 2)))
    return steps * settings.batch / measure(steps)


class PeakMemory:
    """Measures the peak memory of the GPU since its construction; 0 on a CPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)

    def gib(self) -> float:
        """The peak in GiB."""
        return torch.cuda.max_memory_allocated(self._device) / 2**30 if self._device.type == "cuda" else 0.0


@contextlib.contextmanager
def allow_nondeterminism() -> Iterator[None]:
    """torch's default, for a reference that does not ask for deterministic kernels."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def copy_weights(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of the model, on the CPU."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
