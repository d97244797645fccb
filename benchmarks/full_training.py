"""Train and evaluate a model on any dataset, in its own copy of the repository."""

from __future__ import annotations

import json
import re
import resource
import shutil
import time
from math import prod
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import yaml
from safetensors import safe_open

from benchmarks.workspace import commit_params, copy_code, run_python
from detector.core.yaml_files import parse_yaml

# Tensors in a checkpoint that are not parameters.
BUFFERS = (
    "running_mean",
    "running_var",
    "num_batches_tracked",
    "normalize.mean",
    "normalize.deviation",
    "states.present",
    "states.weights",
)


class TrainingResult(NamedTuple):
    """wall, cpu: seconds of the whole training process. rate: images/s in an epoch, without validation.

    parameters: number in the model. ap, ap50: of the best epoch on val, measured on test.
    """

    wall: float
    cpu: float
    rate: float
    parameters: int
    epochs: int
    ap: float
    ap50: float


def prepare_data(folder: Path, dataset: Path, format: str, strategy: str) -> None:
    """Make `folder` a copy of the repository with data/coco of the dataset, what follows the dataset set to `auto`.

    dataset: a raw dataset in `format`. strategy: split strategy.
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
    params["train"] |= dict.fromkeys(("image_size", "epochs", "class_loss_weight"), "auto")
    write_params(folder, params)
    for stage in ("preprocess", "split", "coco_convert"):
        run_python(folder, f"stages/{stage}.py")


def train_and_evaluate(data: Path, folder: Path, changes: dict[str, Any]) -> TrainingResult:
    """Copy `data` from `prepare_data` to `folder`, train with changes to `train:`, and evaluate on test."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(data, folder, symlinks=True)
    params = parse_yaml((folder / "params.yaml").read_text(encoding="utf-8"))
    params["train"] |= changes
    write_params(folder, params)
    commit_params(folder)
    start, cpu = time.perf_counter(), read_children_cpu()
    output = run_python(folder, "stages/train.py")
    wall, cpu = time.perf_counter() - start, read_children_cpu() - cpu
    run_python(folder, "stages/evaluate.py")
    metrics = json.loads((folder / "metrics/evaluate.json").read_text(encoding="utf-8"))
    rates = [float(rate) for rate in re.findall(r"([\d.]+) images/s", output)]
    parameters = count_parameters(folder / "models/detector.safetensors")
    return TrainingResult(wall, cpu, median(rates), parameters, len(rates), metrics["AP"], metrics["AP50"])


def write_params(folder: Path, params: dict[str, Any]) -> None:
    """Write params.yaml of a copy."""
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


def read_children_cpu() -> float:
    """CPU seconds of all finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def count_parameters(path: Path) -> int:
    """The number of parameters in a checkpoint."""
    with safe_open(path, "pt") as file:
        names = [name for name in file.keys() if not name.endswith(BUFFERS)]  # noqa: SIM118  not a dict
        return sum(prod(file.get_slice(name).get_shape()) for name in names)
