"""What numbers do on a GPU: loss curves of the precisions, two equal runs, and the same detections as on a CPU."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.gpu_data import make_batches, repeat_batches
from benchmarks.gpu_settings import GpuSettings, Part, each_model, list_precisions
from benchmarks.gpu_training import build_model, choose_recipe, copy_weights, start_training, train_steps
from benchmarks.table import Row
from detector.engine.detections import Detections
from detector.exporting.parity import compute_difference
from detector.models.postprocess import Postprocess
from detector.runners.torch_runner import build_runner
from detector.training.precision import choose_lower_precision, use_precision

EXACT = "fp32 without TF32"
EQUAL_RUN_STEPS = 6
BATCHES = 8  # different ones in a training
WINDOW = 10  # steps of the moving average
BOX_TOLERANCE, SCORE_TOLERANCE = 0.5, 0.001  # pixels and score, as between the model and its ONNX file
NOT_DETERMINISTIC = re.compile(r"(\S+) does not have a deterministic implementation")


def list_curves(settings: GpuSettings) -> Part:
    """Loss curves of the precisions."""
    return each_model(settings.curves, "loss curves", compare_curves, settings)


def list_equal_runs(settings: GpuSettings) -> Part:
    """Two runs of each model."""
    return each_model(settings.checked, "two runs", compare_runs, settings)


def list_devices(settings: GpuSettings) -> Part:
    """Detections of the device and of the CPU."""
    return each_model(settings.curves, "detections as on the CPU", compare_devices, settings)


def train_curve(settings: GpuSettings, name: str, precision: str, seed: int) -> NDArray[np.float64]:
    """The loss of each step of a short training; the seed decides on weights and pictures."""
    size = settings.choose_size(name)
    run = start_training(name, settings, precision, seed=seed, steps=settings.steps)
    batches = repeat_batches(make_batches(BATCHES, settings.batch, size, seed), settings.steps)
    return np.array(train_steps(run, batches, clip=choose_recipe(name, settings).grad_clip_norm))


def smooth(losses: NDArray[np.float64]) -> NDArray[np.float64]:
    """The moving average over WINDOW finite steps, or over all of a shorter curve."""
    finite = losses[np.isfinite(losses)]  # in fp16, the first steps may overflow
    width = min(WINDOW, len(finite))
    return np.convolve(finite, np.ones(width) / width, "valid")


def measure_gap(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The largest difference of two smoothed curves; skipped steps shorten one of them."""
    curves = smooth(first), smooth(second)
    length = min(map(len, curves))
    return float(np.abs(curves[0][-length:] - curves[1][-length:]).max())


def compare_curves(settings: GpuSettings, name: str) -> Iterator[Row]:
    """The gap between fp32 and each lower precision, beside the gap between two seeds in fp32."""
    single = train_curve(settings, name, "fp32", 0)
    noise = measure_gap(single, train_curve(settings, name, "fp32", 1))
    for precision in list_precisions(settings)[1:]:
        lower = train_curve(settings, name, precision, 0)
        gap = measure_gap(single, lower)
        skipped = int((~np.isfinite(lower)).sum())
        note = f", {skipped} steps overflowed" if skipped else ""
        yield Row(
            f"`{name}`, {settings.steps} steps: loss of {precision} and fp32",
            f"apart by {gap:.3g}",
            f"two seeds by {noise:.3g}",
            f"{gap / noise:.2f} ×; loss {smooth(single)[0]:.3g} → {smooth(single)[-1]:.3g}{note}",
            *(("≤ 1 ×", gap <= noise) if settings.seconds else ("", None)),
        )


class EqualRuns(NamedTuple):
    """difference: the largest of any weight after two equal runs, relative to the largest weight of its tensor; 0 only
    if all bytes are equal. operators: without a deterministic kernel, as torch says.
    """

    difference: float
    operators: list[str]


def run_twice(settings: GpuSettings, name: str, precision: str, steps: int = EQUAL_RUN_STEPS) -> EqualRuns:
    """Train twice with the same seed."""
    batches = make_batches(BATCHES, settings.batch, settings.choose_size(name))
    clip = choose_recipe(name, settings).grad_clip_norm
    weights: list[dict[str, Tensor]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            run = start_training(name, settings, precision, steps=steps)
            train_steps(run, repeat_batches(batches, steps), clip=clip)
            weights.append(copy_weights(run.learner.model))
    found = (NOT_DETERMINISTIC.search(str(warning.message)) for warning in caught)
    return EqualRuns(measure_difference(*weights), sorted({match[1] for match in found if match}))


def measure_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """The largest difference of two states, relative to the largest value of each tensor; 0 only for equal bytes."""
    largest = 0.0
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            one, other = tensor.double(), second[name].double()
            gap = float((one - other).abs().max() / one.abs().max().clamp(min=1e-12))
            largest = max(largest, np.inf if np.isnan(gap) else gap)
    return largest


def compare_runs(settings: GpuSettings, name: str) -> Iterator[Row]:
    """One row; only a difference without a warning of torch misses the target."""
    precision = choose_lower_precision(settings.device)
    found = run_twice(settings, name, precision)
    yield Row(
        f"`{name}`, {precision}, {EQUAL_RUN_STEPS} steps, two runs",
        "byte-equal" if found.difference == 0 else f"weights apart by {found.difference:.1e}",
        "",
        f"not deterministic: {', '.join(found.operators)}" if found.operators else "",
        "" if found.operators else "byte-equal",
        None if found.operators else found.difference == 0,
    )


class DeviceDifference(NamedTuple):
    """boxes: largest difference in pixels; scores: largest difference; unmatched: the highest score of a detection that
    only one side has; compared: detections above the threshold on the CPU.
    """

    boxes: float
    scores: float
    unmatched: float
    compared: int

    def describe(self) -> str:
        """The differences as text."""
        return f"boxes within {self.boxes:.2g} px, scores {self.scores:.2g}, unmatched up to score {self.unmatched:.2g}"

    def fits(self, threshold: float) -> bool:
        """Whether there are detections above the threshold, and they are the same on both sides."""
        near = self.boxes <= BOX_TOLERANCE and self.scores <= SCORE_TOLERANCE
        return self.compared > 0 and near and self.unmatched < threshold


def describe_target(threshold: float) -> str:
    """What `DeviceDifference.fits` asks for."""
    return f"{BOX_TOLERANCE:g} px, {SCORE_TOLERANCE:g}, {threshold:g}"


def compare_devices(settings: GpuSettings, name: str) -> Iterator[Row]:
    """A detector trained on the device, and its detections there and on the CPU."""
    weights = train_weights(settings, name)
    for precision in (EXACT, *list_precisions(settings)):
        found = detect_on_both(settings, name, weights, precision)
        what = f"`{name}`: detections in {precision} and in fp32 on the CPU"
        target, passed = describe_target(settings.threshold), found.fits(settings.threshold)
        count = f"{found.compared} detections"
        yield Row(what, found.describe(), count, "", *((target, passed) if precision == EXACT else ("", None)))


def train_weights(settings: GpuSettings, name: str) -> dict[str, Tensor]:
    """The weights after a short training in fp32."""
    run = start_training(name, settings, "fp32", steps=settings.steps)
    batches = make_batches(BATCHES, settings.batch, settings.choose_size(name))
    train_steps(run, repeat_batches(batches, settings.steps), clip=choose_recipe(name, settings).grad_clip_norm)
    return copy_weights(run.learner.model)


def detect_on_both(settings: GpuSettings, name: str, weights: dict[str, Tensor], precision: str) -> DeviceDifference:
    """Compare the detections on the device in `precision` with those on the CPU in fp32."""
    (batch,) = make_batches(1, settings.batch, settings.choose_size(name), seed=9)
    images = batch.images.numpy()
    cpu = detect(name, weights, images, torch.device("cpu"), "fp32")
    with forbid_tf32() if precision == EXACT else nullcontext():
        other = detect(name, weights, images, settings.device, "fp32" if precision == EXACT else precision)
    return compare_detections(cpu, other, settings.threshold)


def detect(
    name: str, weights: dict[str, Tensor], images: NDArray[np.uint8], device: torch.device, precision: str
) -> list[Detections]:
    """The detections of a model with these weights, per image."""
    model = build_model(name)
    model.load_state_dict(weights)
    setattr(model, "postprocess", Postprocess(score_threshold=1e-4))  # noqa: B010  nn.Module declares no such attribute
    model = model.to(device).eval()
    use_precision(model, device, precision)
    return build_runner(model, device)(images)


@contextmanager
def forbid_tf32() -> Iterator[None]:
    """Convolutions with all digits of float32; torch's default on a GPU rounds their inputs to 10 bits."""
    backend: Any = torch.backends.cudnn
    kinds = backend.conv, backend.rnn  # torch wants both to be equal
    before = [kind.fp32_precision for kind in kinds]
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        yield
    finally:
        for kind, value in zip(kinds, before, strict=True):
            kind.fp32_precision = value


def compare_detections(first: list[Detections], second: list[Detections], threshold: float) -> DeviceDifference:
    """The largest differences over all images; `threshold` only decides what is counted."""
    limit = Postprocess().max_detections
    differences = [compute_difference(*pair, limit, SCORE_TOLERANCE) for pair in zip(first, second, strict=True)]
    return DeviceDifference(
        max(difference.box for difference in differences),
        max(difference.score for difference in differences),
        max(difference.unmatched for difference in differences),
        sum(int((detections.scores >= threshold).sum()) for detections in first),
    )
