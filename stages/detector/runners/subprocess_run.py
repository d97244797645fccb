"""Showing many images to an ONNX file in a process of its own: a folder brings the task and takes the answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.images import load_letterboxed
from detector.engine.detections import Detections
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata, Runner

TASK, ANSWERS = "task.json", "answers.npz"


class Pass(NamedTuple):
    """The first `images` images, in batches of this size."""

    batch: int
    images: int


class Replayed(NamedTuple):
    """found: in each image, in pixels of the input, best first; seconds: of each batch, without decoding."""

    found: list[Detections]
    seconds: list[float]


def write_task(folder: Path, model: Path, images: list[str], passes: list[Pass], threads: int) -> None:
    """What `replay` is to do; paths are looked up in the directory that it runs in."""
    task = {"model": str(model), "images": images, "passes": passes, "threads": threads}
    (folder / TASK).write_text(json.dumps(task), encoding="utf-8")


def replay(folder: Path) -> None:
    """Do the task of a folder. Raises UserError when the model or an image cannot be used."""
    task = json.loads((folder / TASK).read_text(encoding="utf-8"))
    facts, runner = open_onnx(Path(task["model"]), task["threads"])
    arrays: dict[str, NDArray[Any]] = {}
    for number, (batch, images) in enumerate(task["passes"]):
        found, seconds = _answers(runner, facts, task["images"][:images], batch)
        arrays[f"{number}_counts"] = np.array([len(one.labels) for one in found], np.int64)
        arrays[f"{number}_seconds"] = np.array(seconds)
        for name, columns in zip(Detections._fields, zip(*found, strict=True), strict=True):
            arrays[f"{number}_{name}"] = np.concatenate(columns)
    with (folder / ANSWERS).open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def read_answers(folder: Path, passes: int) -> list[Replayed]:
    """What `replay` found, for each of so many passes."""
    replayed = []
    with np.load(folder / ANSWERS, allow_pickle=False) as arrays:
        for number in range(passes):
            ends = np.cumsum(arrays[f"{number}_counts"])[:-1]
            columns = [np.split(arrays[f"{number}_{name}"], ends) for name in Detections._fields]
            found = [Detections._make(row) for row in zip(*columns, strict=True)]
            replayed.append(Replayed(found, arrays[f"{number}_seconds"].tolist()))
    return replayed


def _answers(runner: Runner, facts: ModelMetadata, paths: list[str], batch: int) -> Replayed:
    found: list[Detections] = []
    seconds = []
    for first in range(0, len(paths), batch):
        seen = [load_letterboxed(Path(path), facts.size, facts.fill) for path in paths[first : first + batch]]
        images = np.stack([one.pixels.transpose(2, 0, 1) for one in seen])
        began = time.perf_counter()
        found += runner(images)
        seconds.append(time.perf_counter() - began)
    return Replayed(found, seconds)
