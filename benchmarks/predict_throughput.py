"""Throughput of `tools/predict.py` from files to files, against decoding alone and the model alone.

command  python -m benchmarks.predict_throughput MODEL FOLDER
time     about a minute on 2 cores

A perfect pipeline would be as fast as the slower of the two, if they did not share the cores.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.table import Row, check_ratio, format_rate, format_table
from benchmarks.timing import log_progress, measure_seconds
from detector.core.errors import UserError, run_command
from detector.inference.dataset_file import JsonLinesFile
from detector.inference.decoding import DecodedImage, DecodeOptions, decode_ahead
from detector.inference.inputs import Input, collect_inputs
from detector.inference.pipeline import Detector, predict_inputs
from detector.inference.result_files import CocoFile, CsvFile, ResultFile
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import run_batched

TARGET = 0.9
BATCH = 8
ROUNDS = 7


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("expected MODEL FOLDER: an exported file, and a folder with a few hundred images")
    model, folder = map(Path, sys.argv[1:])
    print(format_table(list(predict_rows(model, folder, threads=2))))


def predict_rows(model: Path, folder: Path, threads: int) -> Iterator[Row]:
    """Time predict, decoding and the model alternately; the row has the medians."""
    facts, runner = open_onnx(model, threads)
    collected = collect_inputs([str(folder)], folder / "predictions")
    inputs = collected.inputs
    detector = Detector(facts, runner, threshold=None, classes=None, tiling=None, batch_size=BATCH, threads=threads)
    views = [seen.letterboxed for seen in _decode(inputs, detector)]
    log_progress(f"predict: {len(inputs)} images, {facts.model}, {facts.size[0]}x{facts.size[1]}")

    def run_model() -> None:
        for _ in run_batched(views, runner, BATCH):
            pass

    with tempfile.TemporaryDirectory() as scratch:

        def predict_all() -> None:
            kinds = (CocoFile, JsonLinesFile, CsvFile)
            files: list[ResultFile] = [kind(Path(scratch), facts, collected.root) for kind in kinds]
            for seen, predictions in predict_inputs(inputs, detector, False, print, lambda done, tiles: None):
                for file in files:
                    file.add(seen, predictions)
            for file in files:
                file.close()

        actions = (predict_all, lambda: _decode(inputs, detector), run_model)
        rounds = [tuple(measure_seconds(action) for action in actions) for _ in range(ROUNDS)]
    total, decoding, inference = (median(column) for column in zip(*rounds, strict=True))
    ratio = float(np.median([max(parts) / whole for whole, *parts in rounds]))
    count = len(inputs)
    yield Row(
        f"predict, {count} images {facts.size[1]}x{facts.size[0]}, {facts.model}, three formats written",
        format_rate(count, total),
        f"{format_rate(count, decoding)} decoding alone, {format_rate(count, inference)} model alone",
        *check_ratio(ratio, TARGET),
    )


def _decode(inputs: list[Input], detector: Detector) -> list[DecodedImage]:
    """Decode all images."""
    asked = DecodeOptions(detector.metadata, keep_full_size=False, keep_frames=False)
    seen = decode_ahead(inputs, asked, detector.threads, detector.threads + 2 * BATCH)
    return [one for one in seen if isinstance(one, DecodedImage)]


if __name__ == "__main__":
    run_command(main)
