"""Run an ONNX file on many images in a separate process: a folder holds the task, and then the results."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.images import load_letterboxed
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import Runner

TASK, RESULTS = "task.json", "results.npz"


class InferencePass(NamedTuple):
    """Run the first `image_count` images in batches of `batch_size`."""

    batch_size: int
    image_count: int


class PassResult(NamedTuple):
    """detections: per image, in pixels of the model input, best first; seconds: per batch, without decoding."""

    detections: list[Detections]
    seconds: list[float]


def write_task(folder: Path, model: Path, images: list[str], passes: list[InferencePass], threads: int) -> None:
    """Write the task for `run_task`; paths are relative to the directory that it runs in."""
    task = {"model": str(model), "images": images, "passes": passes, "threads": threads}
    (folder / TASK).write_text(json.dumps(task), encoding="utf-8")


def run_task(folder: Path) -> None:
    """Run the task in a folder and write the results. Raises UserError when the model or an image cannot be used."""
    task = json.loads((folder / TASK).read_text(encoding="utf-8"))
    metadata, runner = open_onnx(Path(task["model"]), task["threads"])
    arrays: dict[str, NDArray[Any]] = {}
    for number, (batch_size, image_count) in enumerate(task["passes"]):
        detections, seconds = _run_pass(runner, metadata, task["images"][:image_count], batch_size)
        arrays[f"{number}_counts"] = np.array([len(one.labels) for one in detections], np.int64)
        arrays[f"{number}_seconds"] = np.array(seconds)
        for name, columns in zip(Detections._fields, zip(*detections, strict=True), strict=True):
            arrays[f"{number}_{name}"] = np.concatenate(columns)
    with (folder / RESULTS).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_results(folder: Path, passes: int) -> list[PassResult]:
    """Read the results of `run_task`, one per pass."""
    results = []
    with np.load(folder / RESULTS, allow_pickle=False) as arrays:
        for number in range(passes):
            ends = np.cumsum(arrays[f"{number}_counts"])[:-1]
            columns = [np.split(arrays[f"{number}_{name}"], ends) for name in Detections._fields]
            detections = [Detections._make(row) for row in zip(*columns, strict=True)]
            results.append(PassResult(detections, arrays[f"{number}_seconds"].tolist()))
    return results


def _run_pass(runner: Runner, metadata: ModelMetadata, paths: list[str], batch_size: int) -> PassResult:
    detections: list[Detections] = []
    seconds = []
    for first in range(0, len(paths), batch_size):
        batch = paths[first : first + batch_size]
        letterboxed = [load_letterboxed(Path(path), metadata.size, metadata.fill) for path in batch]
        images = np.stack([image.pixels.transpose(2, 0, 1) for image in letterboxed])
        start = time.perf_counter()
        detections += runner(images)
        seconds.append(time.perf_counter() - start)
    return PassResult(detections, seconds)
