"""The GPU benchmark on a CPU: what it says without a GPU, and each of its measurements with tiny inputs."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import gpu, gpu_loading, gpu_numerics, gpu_onnx, gpu_resume, gpu_speed
from benchmarks.gpu_data import make_batches
from benchmarks.gpu_numerics import DeviceDifference, compare_detections, measure_difference, measure_gap
from benchmarks.gpu_settings import TIME_IS_UP, Deadline, GpuSettings, make_quick_settings, measure_parts
from benchmarks.table import Row
from detector.core.errors import UserError
from detector.engine.detections import Detections
from tests.support.repository import SOURCE

SETTINGS = dataclasses.replace(make_quick_settings(torch.device("cpu")), steps=2, photographs=4)
NEVER = Deadline(3600)


@pytest.fixture(autouse=True)
def restore_determinism() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def test_without_a_gpu_it_says_what_it_would_measure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    gpu.main()
    printed = capsys.readouterr().out
    assert printed.startswith("No CUDA GPU was found.")
    assert all(f"- `{name}`: " in printed for name in gpu.PARTS)
    assert "--device cpu --quick" in printed


def test_missing_packages_are_named_with_the_commands_that_bring_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "MODULES", ("torch", "no_such_package"))
    with pytest.raises(
        UserError, match=r": no_such_package\.[\s\S]*pip download[\s\S]*pip install --no-deps wheels/\*"
    ):
        gpu.check_modules()


def test_an_unknown_model_is_an_error() -> None:
    with pytest.raises(UserError, match="--models nothing: unknown"):
        gpu.make_settings(gpu.parse_arguments(["--device", "cpu", "--models", "nothing"]))


def test_all_parts_are_listed_for_every_model(tmp_path: Path) -> None:
    settings = GpuSettings(torch.device("cpu"))
    parts = gpu.list_parts(settings, list(gpu.PARTS), tmp_path)
    assert list(parts) == list(gpu.PARTS)
    assert len(parts["speed"]) == len(settings.models)
    assert list(gpu.list_parts(settings, ["onnx"], tmp_path)) == ["onnx"]


def test_a_failure_is_a_row_and_the_others_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> Iterator[Row]:
        yield Row("half", "1", "", "")
        raise ValueError("too odd\nfor this")

    def run_out() -> Iterator[Row]:
        raise torch.OutOfMemoryError("60 GiB")
        yield

    rows = list(measure_parts([("a", fail), ("b", run_out), ("c", lambda: iter([Row("c", "2", "", "")]))], NEVER))
    assert [row.ours for row in rows] == ["1", "failed: ValueError too odd", "out of memory", "2"]
    assert [row.passed for row in rows] == [None, False, None, None]
    assert "too odd" in capsys.readouterr().err


def test_nothing_is_begun_when_the_time_is_up() -> None:
    (row,) = measure_parts([("a", lambda: pytest.fail("begun"))], Deadline(0))
    assert row.ours == TIME_IS_UP


def test_gaps_of_smoothed_curves() -> None:
    curve = np.linspace(10, 0, 50)
    assert measure_gap(curve, curve + 0.5) == pytest.approx(0.5)
    spike = curve.copy()
    spike[20] += 5
    assert measure_gap(curve, spike) == pytest.approx(5 / gpu_numerics.WINDOW)
    assert measure_gap(curve, np.append(np.inf, curve)) == 0


def test_differences_of_weights_are_zero_only_for_equal_bytes() -> None:
    first: dict[str, Tensor] = {"a": torch.tensor([2.0, -4.0]), "b": torch.tensor([1])}
    assert measure_difference(first, {name: tensor.clone() for name, tensor in first.items()}) == 0
    assert measure_difference(first, {**first, "a": torch.tensor([2.0, -4.5])}) == 0.125
    assert measure_difference(first, {**first, "a": torch.tensor([2.0, torch.nan])}) == np.inf


def detections(*scores: float) -> Detections:
    boxes = np.array([[0, 0, 10 + index, 10] for index in range(len(scores))], np.float32).reshape(-1, 4)
    zeros = np.zeros(len(scores), np.int64)
    return Detections(boxes, np.array(scores, np.float32), zeros + 1, zeros, zeros.astype(np.float32))


def test_only_detections_above_the_threshold_must_be_on_both_sides() -> None:
    same = compare_detections([detections(0.9, 0.5)], [detections(0.9, 0.5)], 0.05)
    assert same == DeviceDifference(0, 0, 0, 2)
    assert same.fits(0.05)
    assert compare_detections([detections(0.9)], [detections(0.9)], 0.95).compared == 0
    assert not compare_detections([detections(0.9)], [detections(0.9)], 0.95).fits(0.95)  # nothing was compared
    assert not compare_detections([detections(0.9)], [detections(0.8)], 0.05).fits(0.05)
    missing = compare_detections([detections(0.9)], [detections()], 0.05)
    assert missing.unmatched == pytest.approx(0.9)
    assert not missing.fits(0.05)


def test_the_curves_of_a_precision_are_compared_with_two_seeds() -> None:
    (row,) = gpu_numerics.compare_curves(SETTINGS, "simple")
    assert "2 steps: loss of bf16 and fp32" in row.what
    assert row.ours.startswith("apart by ")
    assert row.baseline.startswith("two seeds by ")
    assert row.passed is None  # too small to say anything


@pytest.mark.long
def test_fp16_curves_have_steps_that_overflow() -> None:
    losses = gpu_numerics.train_curve(SETTINGS, "simple", "fp16", 0)
    assert len(losses) == SETTINGS.steps
    assert np.isfinite(losses).all()


def test_two_runs_and_two_devices() -> None:
    (run,) = gpu_numerics.compare_runs(SETTINGS, "simple")
    assert (run.ours, run.passed) == ("byte-equal", True)
    exact, *others = gpu_numerics.compare_devices(SETTINGS, "simple")
    assert exact.passed
    assert exact.ours == "boxes within 0 px, scores 0, unmatched up to score 0"
    assert [row.passed for row in others] == [None, None]


@pytest.mark.parametrize("name", ["simple", "ssdlite", pytest.param("dfine_n", marks=pytest.mark.long)])
def test_speed_has_two_rows_per_precision(name: str) -> None:
    settings = dataclasses.replace(SETTINGS, precisions=("fp32",))
    training, evaluation = gpu_speed.measure_speed(settings, name)
    assert training.what == f"`{name}` 64×64, 2 images, fp32: training"
    assert evaluation.what.endswith("evaluation")
    loop = {"simple": "", "ssdlite": "torchvision's loop", "dfine_n": "Trainer's loop"}[name]
    assert training.baseline.endswith(loop)
    assert training.ours.endswith(" images/s")


def test_a_reference_that_fails_leaves_our_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel\nfor it")

    monkeypatch.setattr(gpu_speed, "build_reference", fail)
    settings = dataclasses.replace(SETTINGS, precisions=("fp32",))
    row = next(gpu_speed.measure_speed(settings, "simple"))
    assert row.baseline == "does not run: RuntimeError no kernel"
    assert row.ours.endswith(" images/s")


def test_slower_than_the_reference_misses_the_target() -> None:
    settings = GpuSettings(torch.device("cpu"))
    ours, theirs = gpu_speed.Speeds("ours", [90, 50], [1, 2]), gpu_speed.Speeds("theirs", [100, 25], [3, 4])
    rows = [gpu_speed.make_speed_row(settings, "what", number, ours, theirs) for number in (0, 1)]
    assert [row.passed for row in rows] == [False, True]
    assert rows[1].measured == "2.00 ×, 2.0 GiB and 4.0 GiB"


@pytest.mark.parametrize(
    ("on_device", "images"), [(False, "decoded each"), (True, "decoded each"), (True, "in memory")]
)
def test_waiting_is_a_share_of_the_time(on_device: bool, images: str, tmp_path: Path) -> None:
    part = gpu_loading.list_loading(dataclasses.replace(SETTINGS, workers=(0,)), tmp_path)
    place = "on the device" if on_device else "in the processes"
    what, measure = next(entry for entry in part if place in entry[0] and images in entry[0])
    (row,) = measure()
    assert row.what == f"`simple`, 2 images: {what}"
    assert 0 <= float(row.measured.partition("%")[0]) <= 100


def test_the_default_has_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = GpuSettings(torch.device("cpu"))
    monkeypatch.setattr(gpu_loading, "measure_waiting", lambda *_: gpu_loading.Waiting(100, 0.06))
    monkeypatch.setattr(gpu_loading, "write_photographs", lambda *_: [])
    rows = [row for _, measure in gpu_loading.list_loading(settings, tmp_path) for row in measure()]
    assert [row.passed for row in rows] == [False] + [None] * 11
    assert rows[0].what.endswith("(default)")
    assert rows[0].measured == "6.0% waiting"


@pytest.mark.long
def test_without_the_cuda_provider_a_row_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_onnx, "has_cuda_provider", lambda: False)
    (row,) = gpu_onnx.compare_providers(SETTINGS, tmp_path)
    assert row.ours == "not installed"
    assert "onnxruntime-gpu" in row.measured
    assert row.baseline.endswith("CPU provider")


def test_a_process_is_killed_at_a_line(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    script = tmp_path / "stages/train.py"
    script.write_text("import time\nprint('epoch   1/4  loss', flush=True)\ntime.sleep(600)\n")
    gpu_resume.kill_training(tmp_path, "epoch   1/")
    script.write_text("print('over')\n")
    with pytest.raises(UserError, match=r"ended before it could be killed:\nover"):
        gpu_resume.kill_training(tmp_path, "epoch   1/")


def test_different_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(folder: Path) -> str:
        (folder / "models").mkdir(parents=True, exist_ok=True)
        (folder / "models/weights").write_text(folder.name if folder.name.endswith("2") else "same")
        return "resuming at epoch 3"

    monkeypatch.setattr(gpu_resume, "prepare_folder", lambda folder, *_: folder)
    monkeypatch.setattr(gpu_resume, "run_training", write)
    monkeypatch.setattr(gpu_resume, "kill_training", lambda *_: None)
    equal, different = gpu_resume.compare_resumed(SETTINGS, tmp_path)
    assert (equal.ours, equal.passed) == ("byte-equal", True)
    assert (different.ours, different.measured, different.passed) == ("1 of 1 files differ", "models/weights", False)


def test_batches_are_reproducible_and_differ_by_seed() -> None:
    first, again, other = (make_batches(1, 2, (64, 96), seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == (2, 3, 64, 96)
    assert (first.targets.labels > 0).any(1).all()


@pytest.mark.long
def test_the_whole_command() -> None:
    """About a minute."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick"]
    done = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n## ") == len(gpu.PARTS) - 1  # nothing is compiled
    assert "failed" not in done.stdout
    assert "does not run" not in done.stdout
    assert "MISS" not in done.stdout
