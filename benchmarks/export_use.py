"""The rows of the two programs that use an exported file: `tools/predict.py` and `tools/serve.py`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import service
from benchmarks.deployed import THREADS
from benchmarks.export_precision import export_both, trained
from benchmarks.photographs import write_photographs
from benchmarks.predicting import predict_rows
from benchmarks.served import Served
from benchmarks.table import Row
from detector.runners.onnx_runner import open_onnx

PHOTOGRAPHS = 300
LOAD = 60  # seconds of requests by many clients


def use_rows() -> Iterator[Row]:
    """Both with the `effnet_lite` that was trained on the sample."""
    model, _ = export_both(trained("effnet_lite"))
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
        write_photographs(Path(scratch) / "photographs", PHOTOGRAPHS)
        yield from predict_rows(model, Path(scratch) / "photographs", THREADS)
    facts, runner = open_onnx(model, service.THREADS)
    with Served(model, "--threads", str(service.THREADS), "--batch", str(service.BATCH)) as served:
        yield from service.measure(served, facts, runner, LOAD, leak=0)
