"""The rows about `tools/predict.py`: images a second from files to files, beside what it is made of.

command  python -m benchmarks.predicting MODEL FOLDER
time     about a minute on 2 cores

The slower of decoding alone and the model alone is what a perfect pipeline would reach if they did not share
the cores.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.table import Row, at_least, markdown, rate
from benchmarks.timing import say, timed
from detector.core.errors import UserError, run_command
from detector.inference.decoding import Asked, Seen, see_all
from detector.inference.inputs import Input, gather
from detector.inference.pipeline import Detector, predict
from detector.inference.result_files import CocoFile, CsvFile, JsonLinesFile
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import answers

TARGET = 0.9
BATCH = 8
ROUNDS = 7


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("expected MODEL FOLDER: an exported file, and a folder with a few hundred images")
    model, folder = map(Path, sys.argv[1:])
    print(markdown(list(predict_rows(model, folder, threads=2))))


def predict_rows(model: Path, folder: Path, threads: int) -> Iterator[Row]:
    """End to end, decoding and the model in turn, several times; the row compares medians of rounds."""
    facts, runner = open_onnx(model, threads)
    inputs = gather([str(folder)], folder / "predictions").listed
    detector = Detector(facts, runner, None, None, BATCH, threads)
    views = [seen.view for seen in _decode(inputs, detector)]
    say(f"predict: {len(inputs)} images, {facts.model}, {facts.size[0]}x{facts.size[1]}")

    def model_alone() -> None:
        for _ in answers(views, runner, BATCH):
            pass

    with tempfile.TemporaryDirectory() as scratch:

        def everything() -> None:
            files = [kind(Path(scratch), facts) for kind in (CocoFile, JsonLinesFile, CsvFile)]
            for seen, predictions in predict(inputs, detector, False, print):
                for file in files:
                    file.add(seen, predictions)
            for file in files:
                file.close()

        actions = (everything, lambda: _decode(inputs, detector), model_alone)
        rounds = [tuple(timed(action) for action in actions) for _ in range(ROUNDS)]
    whole, decoding, computing = (median(column) for column in zip(*rounds, strict=True))
    ratio = float(np.median([max(others) / all_ for all_, *others in rounds]))
    count = len(inputs)
    yield Row(
        f"predict, {count} images {facts.size[1]}x{facts.size[0]}, {facts.model}, three formats written",
        rate(count, whole),
        f"{rate(count, decoding)} decoding alone, {rate(count, computing)} model alone",
        *at_least(ratio, TARGET),
    )


def _decode(inputs: list[Input], detector: Detector) -> list[Seen]:
    """Every image as the model sees it."""
    asked = Asked(detector.facts, pixels=False, frames=False)
    seen = see_all(inputs, asked, detector.threads, detector.threads + 2 * BATCH)
    return [one for one in seen if isinstance(one, Seen)]


if __name__ == "__main__":
    run_command(main)
