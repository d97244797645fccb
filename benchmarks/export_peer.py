"""The file that people deploy today, YOLO11n written by its own tool, beside ours at the same input size.

Its tool, ultralytics (AGPL), has an environment of its own, and runs there as a program; nothing of it is imported
here or shipped. There all files are timed in turn, by the same ONNX Runtime. Its file, as exported by default, ends
with raw candidates: NMS is left to its user, and so is the conversion of pixels to float. Ours has both inside.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from benchmarks.accuracy import PEER, install_peer, run_peer
from benchmarks.deployed import SIZE, THREADS, deploy
from benchmarks.export_models import HOME
from benchmarks.table import Row, seconds
from benchmarks.timing import SPIN, say, summarize

OURS = ("simple", "effnet_lite")
PAIRS = 60
EXPORT_PEER = """
import sys
from ultralytics import YOLO
YOLO("yolo11n.yaml").export(format="onnx", imgsz=int(sys.argv[1]), device="cpu")
"""
TIME_FILES = """
import json, sys, time
import numpy, onnxruntime
threads, pairs, spin, *paths = json.loads(sys.argv[1])
runs = []
for path in paths:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    shape = [side if isinstance(side, int) else 1 for side in image.shape]
    values = numpy.random.default_rng(0).integers(0, 256, shape, dtype=numpy.uint8)
    if "float" in image.type:
        values = (values / 255).astype(numpy.float32)
    runs.append((session, {image.name: values}))
taken = []
for number in range(pairs + 3):
    taken.append([])
    for session, feed in runs:
        end = time.perf_counter() + spin
        while time.perf_counter() < end:
            session.run(None, feed)
        began = time.perf_counter()
        session.run(None, feed)
        taken[-1].append(time.perf_counter() - began)
print(json.dumps(taken[3:]))
"""


def peer_rows() -> Iterator[Row]:
    """Latency of one image and size of the file, each of ours beside the peer's."""
    say(f"{PEER}: exporting yolo11n")
    interpreter = install_peer(HOME / "environment", *(f"{name}=={version(name)}" for name in ("onnx", "onnxruntime")))
    folder = HOME / "peer"
    folder.mkdir(parents=True, exist_ok=True)
    peer = folder / "yolo11n.onnx"
    if not peer.exists():
        run_peer(interpreter, folder, EXPORT_PEER, str(SIZE[0]))
    files = [path if (path := HOME / f"{name}.onnx").exists() else deploy(name, HOME).path for name in OURS]
    request = json.dumps([THREADS, PAIRS, SPIN, str(peer), *map(str, files)])
    taken = json.loads(run_peer(interpreter, folder, TIME_FILES, request))
    for place, file in enumerate(files, start=1):
        yield peer_row(file, peer, [(row[place], row[0]) for row in taken])


def peer_row(ours: Path, peer: Path, pairs: list[tuple[float, float]]) -> Row:
    """pairs: seconds of ours and of the peer's."""
    times = summarize(pairs)
    return Row(
        f"`{ours.stem}` at {SIZE[0]}, batch 1, NMS inside",
        f"{seconds(times.here)}, {ours.stat().st_size / 1e6:.1f} MB",
        f"{seconds(times.beside)}, {peer.stat().st_size / 1e6:.1f} MB YOLO11n without NMS",
        f"{times.ratio:.2f} ×",
    )
