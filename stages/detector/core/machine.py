"""machine.yaml: settings of this machine, which decide how fast a stage runs and not what it finds.

git ignores the file and no stage depends on it, so a change of it reruns nothing. Whatever decides a result is in
params.yaml.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from detector.core.params import Section, validate_values
from detector.core.yaml_files import read_yaml

MAX_WORKERS = 8


class MachineSettings(Section):
    """The keys of machine.yaml with their defaults; docs/examples/machine.yaml explains each."""

    executor: Literal["threads", "processes", "dask"] = "threads"
    dask_scheduler: str | None = None
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    memory_cache_gb: float = Field(default=2, ge=0, allow_inf_nan=False)
    disk_cache_gb: float = Field(default=0, ge=0, allow_inf_nan=False)
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    evaluation_batch_size: int = Field(default=16, gt=0)


def choose_workers(workers: Literal["auto"] | int, has_gpu: bool, processes: int) -> int:
    """The number of data-loading processes of each of `processes` training processes on this machine.

    `auto`: none without a GPU, where they would take the cores that train. With one, the cores that this process may
    use, but for one per training process, and at most MAX_WORKERS.
    """
    if workers != "auto":
        return workers
    return min(MAX_WORKERS, max(0, count_cores() // processes - 1)) if has_gpu else 0


def count_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_machine_settings(path: Path) -> MachineSettings:
    """Read machine.yaml of the repository; without the file, all defaults.

    path: relative to the repository. Raises UserError as `load_section` does.
    """
    path = in_repository(path)
    values = read_yaml(path) if path.exists() else None
    return validate_values(path, {} if values is None else values, MachineSettings)


def in_repository(path: Path) -> Path:
    """Resolve a path that an experiment in a temporary copy (`dvc exp run --temp`) shares with the original."""
    return Path(os.environ.get("DVC_ROOT", ".")) / path
