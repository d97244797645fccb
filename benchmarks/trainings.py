"""Whole trainings of this project on a dataset of the user's, each in a folder of its own."""

from __future__ import annotations

import json
import re
import resource
import shutil
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml
from safetensors import safe_open

from benchmarks.workspace import call, copy_code, python
from detector.core.params import parse_yaml

# Tensors of a checkpoint that are no parameters.
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "normalize.mean", "normalize.deviation",
           "states.present", "states.weights")  # fmt: skip


class Training(NamedTuple):
    """wall, cpu: seconds of the whole training process; rate: images/s of its epochs, without validation.

    parameters: of the model; epochs: that it took; ap, ap50: on test, of the best epoch on val.
    """

    wall: float
    cpu: float
    rate: float
    parameters: int
    epochs: int
    ap: float
    ap50: float


def prepare(folder: Path, dataset: Path, format: str, strategy: str) -> None:
    """Make `folder` a copy of the repository with data/coco of the dataset; `auto` where params.yaml serves the sample.

    dataset: a raw dataset in `format`; strategy: of the split.
    """
    shutil.rmtree(folder, ignore_errors=True)
    copy_code(folder)
    raw = folder / "data/raw/dataset"
    raw.parent.mkdir(parents=True)
    raw.symlink_to(dataset.resolve())
    (folder / "split.lock").touch()
    params = parse_yaml((folder / "params.yaml").read_text(encoding="utf-8"))
    params["preprocess"] |= {"dataset": "data/raw/dataset", "format": format, "classes": None, "states": None}
    params["split"]["strategy"] = strategy
    params["coco_convert"]["present_states"] = None
    params["train"] |= {"size": "auto", "epochs": "auto"}
    params["evaluate"]["gallery"] = 0
    write_params(folder, params)
    for stage in ("preprocess", "split", "coco_convert"):
        python(folder, f"stages/{stage}.py")


def train(data: Path, folder: Path, changes: dict[str, Any]) -> Training:
    """Train in `folder`, a copy of `data` that `prepare` made, with some of `train:` changed; judge it on test."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data, folder, symlinks=True)
    params = parse_yaml((folder / "params.yaml").read_text(encoding="utf-8"))
    params["train"] |= changes
    write_params(folder, params)
    call(folder, "git", "init", "--quiet")  # DVCLive wants a commit to stand on
    call(folder, "git", "add", "params.yaml")
    call(folder, "git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "-m", "bench")
    began, cpu = time.perf_counter(), cpu_of_children()
    printed = python(folder, "stages/train.py")
    wall, cpu = time.perf_counter() - began, cpu_of_children() - cpu
    python(folder, "stages/evaluate.py")
    metrics = json.loads((folder / "metrics/evaluate.json").read_text(encoding="utf-8"))
    rates = [float(rate) for rate in re.findall(r"([\d.]+) images/s", printed)]
    parameters = count_parameters(folder / "models/detector.safetensors")
    return Training(wall, cpu, median(rates), parameters, len(rates), metrics["AP"], metrics["AP50"])


def write_params(folder: Path, params: dict[str, Any]) -> None:
    """params.yaml of a copy."""
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def cpu_of_children() -> float:
    """Seconds that the processes this one has waited for spent on a CPU."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def count_parameters(path: Path) -> int:
    """Numbers in a checkpoint that were parameters of the model."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if not name.endswith(BUFFERS)]  # noqa: SIM118  it is no dict
        slices = [file.get_slice(name).get_shape() for name in names]
    total = 0
    for shape in slices:
        count = 1
        for side in shape:
            count *= side
        total += count
    return total
