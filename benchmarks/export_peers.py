"""Time of exported files for one image: ours against YOLO11n's with NMS inside, and int8 against float32.

command  python -m benchmarks.export_peers [--models simple ...] [--seconds S]      (`make bench-export` prints it too)
reads    stages/, tests/support/
writes   .cache/bench-export/: ONNX files; .cache/bench-accuracy/: the environment of ultralytics
prints   YOLO11n's file, then with one thread and with two: ours as a share of its time, and int8 as a share of float32
time     about 4 minutes on 2 cores, and the installation of ultralytics in the first run

ultralytics exports its file itself. Both sides have two classes, random weights that are scaled as after training, and
the same initial class probability and box size, so that NMS has work on both. Each file has the thresholds of its own
defaults: NMS gets the boxes that score above 0.01 in ours, above 0.25 in YOLO11n's, which are fewer; but ours keeps at
most 100 of them, YOLO11n's 300. Ours takes any number of images, YOLO11n's one. Our time includes the conversion from
uint8, the normalization, the states and the checks of the outputs; YOLO11n gets float32 in 0..1, converted before the
timing.

Both sides run alternately in one process, as in benchmarks/export.py. A missed target is marked in the table and is not
an error. Where int8 is not faster than float32, `export.precision: auto` exports float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from benchmarks import accuracy, yolo
from benchmarks.export_int8 import write_int8
from benchmarks.exported_models import CLASSES, HOME, export_model, make_inputs
from benchmarks.speed import describe_machine
from benchmarks.table import Row, check_share, format_seconds, format_table
from benchmarks.timing import log_progress, time_pairs_for
from detector.core.errors import run_command
from detector.runners.onnx_runner import PROVIDERS, open_onnx
from detector.runners.tiled import Runner

PEER = "yolo11n"
ALL_THREADS = (1, 2)
# Shares of YOLO11n's time that ours may take, of float32 and of int8; None is only reported.
TARGETS: dict[str, tuple[float | None, float | None]] = {"effnet_lite": (0.9, 0.5), "simple": (0.8, None)}
OWN_TARGETS = {"effnet": 1.0, "ssdlite": 1.0}  # share of float32's time that int8 may take
MODELS = (*TARGETS, *OWN_TARGETS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seconds", type=float, default=10, help="duration of each comparison; default: 10")
    arguments = parser.parse_args()
    print(describe_machine(), flush=True)
    for name in arguments.models:
        log_progress(name)
        write_int8(export_model(name).path)
    print_peers(arguments.models, arguments.seconds)


def print_peers(names: Iterable[str], budget: float) -> None:
    """Print the comparisons of those of these models that have one; their files are in HOME."""
    names = [name for name in MODELS if name in names]
    if not names:
        return
    log_progress(PEER)
    path = export_peer()
    detections = count_peer_detections(open_peer(path, 1)())
    size = f"{path.stat().st_size / 1e6:.1f} MB, {detections} detections in the timed image"
    print(f"\n{PEER} of {yolo.PACKAGE}, NMS inside: {size}", flush=True)
    rows = [row for threads in ALL_THREADS for name in names for row in list_rows(name, path, threads, budget)]
    print(f"\n{format_table(rows)}", flush=True)


def export_peer() -> Path:
    """YOLO11n's file, with the default settings of ultralytics."""
    interpreter = yolo.install_yolo(accuracy.HOME)
    return yolo.export_yolo(interpreter, HOME / PEER, PEER, len(CLASSES), make_inputs(4))


def open_peer(path: Path, threads: int) -> Callable[[], NDArray[np.float32]]:
    """Runs YOLO11n's file on the timed image; the result is [1, N, 6]: box, score and class, padded with zeros."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=[PROVIDERS["cpu"][0]])
    inputs = {session.get_inputs()[0].name: make_inputs(1).astype(np.float32) / 255}
    return lambda: session.run(None, inputs)[0]


def count_peer_detections(output: NDArray[np.float32]) -> int:
    """The rows that are not padding."""
    return int((output[..., 4] > 0).sum())


def list_rows(name: str, peer: Path, threads: int, budget: float) -> Iterator[Row]:
    """The comparisons of one model."""
    float32 = HOME / f"{name}.onnx"
    runners = [open_onnx(path, threads)[1] for path in (float32, float32.with_suffix(".int8.onnx"))]
    if name in OWN_TARGETS:
        yield compare_precisions(name, runners, threads, budget)
        return
    run_peer = open_peer(peer, threads)
    for precision, runner, target in zip(("float32", "int8"), runners, TARGETS[name], strict=True):
        images = make_inputs(1)
        times = time_pairs_for(lambda: runner(images), run_peer, budget)  # noqa: B023
        yield Row(
            f"`{name}` in {precision}, {describe_threads(threads)}",
            f"{format_seconds(times.ours)}, {len(runner(images)[0].scores)} detections",
            f"{format_seconds(times.baseline)} YOLO11n",
            *describe_share(1 / times.ratio, target),
        )


def compare_precisions(name: str, runners: list[Runner], threads: int, budget: float) -> Row:
    """The int8 file against the float32 file."""
    float32, int8 = runners
    images = make_inputs(1)
    times = time_pairs_for(lambda: int8(images), lambda: float32(images), budget)
    measured, target, passed = check_share(1 / times.ratio, OWN_TARGETS[name])
    return Row(
        f"`{name}` in int8, {describe_threads(threads)}",
        format_seconds(times.ours),
        f"{format_seconds(times.baseline)} float32",
        measured if times.ratio > 1 else f"{measured}: `auto` exports float32",
        target,
        passed,
    )


def describe_share(share: float, target: float | None) -> tuple[str, str, bool | None]:
    """The last three fields of a row."""
    measured, text, passed = check_share(share, target or 1.0)
    return (measured, "", None) if target is None else (measured, text, passed)


def describe_threads(threads: int) -> str:
    """In words."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


if __name__ == "__main__":
    run_command(main)
