"""A training that is killed and started again ends with the same bytes as one that was not; and so do two trainings."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.full_training import write_params
from benchmarks.gpu_data import write_training_folder
from benchmarks.gpu_settings import GpuSettings, Part
from benchmarks.table import Row
from benchmarks.workspace import build_environment, copy_code, run_python
from detector.core.errors import UserError
from detector.core.yaml_files import parse_yaml

EPOCHS = 4
KILLED_AFTER = 2  # epochs
WRITTEN = ("models", "metrics")


def list_resumes(settings: GpuSettings, scratch: Path) -> Part:
    """One measurement, in processes of its own."""
    return [("killed and resumed", partial(compare_resumed, settings, scratch))]


def compare_resumed(settings: GpuSettings, scratch: Path) -> Iterator[Row]:
    """Two rows: two trainings, and one of them killed in between."""
    name = "simple" if settings.side else "effnet_lite"
    folders = [prepare_folder(scratch / f"training-{number}", settings, name) for number in range(3)]
    for folder in folders[:2]:
        run_training(folder)
    kill_training(folders[2], f"epoch {KILLED_AFTER:3}/")
    output = run_training(folders[2])
    if "resuming at epoch" not in output:
        raise UserError(f"the training did not resume:\n{output}")
    first, second, resumed = (hash_outputs(folder) for folder in folders)
    for what, other in (("two trainings", second), (f"killed after epoch {KILLED_AFTER}, and resumed", resumed)):
        different = sorted(path for path in first.keys() | other.keys() if first.get(path) != other.get(path))
        yield Row(
            f"`python stages/train.py`, `{name}`, {EPOCHS} epochs: {what}",
            "byte-equal" if not different else f"{len(different)} of {len(first)} files differ",
            "",
            ", ".join(different[:3]),
            "byte-equal",
            not different,
        )


def prepare_folder(folder: Path, settings: GpuSettings, name: str) -> Path:
    """A copy of the repository with data for a training."""
    copy_code(folder)
    write_training_folder(folder, 4 * settings.batch, settings.side or 320)
    params = parse_yaml((folder / "params.yaml").read_text(encoding="utf-8"))
    changes = {"model": name, "weights": "auto", "epochs": EPOCHS, "batch_size": settings.batch, "precision": "auto"}
    params["train"] |= changes | {"image_size": settings.side or 320, "threads": 1}
    write_params(folder, params)
    return folder


def run_training(folder: Path) -> str:
    """Run the training to its end; return what it prints."""
    return run_python(folder, str(folder / "stages/train.py"))


def kill_training(folder: Path, when: str) -> None:
    """Run the training and kill it once it has printed a line that starts with `when`."""
    command = [sys.executable, "-u", str(folder / "stages/train.py")]
    with subprocess.Popen(
        command, cwd=folder, env=build_environment(folder), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith(when):
                process.kill()
                return
    raise UserError(f"the training ended before it could be killed:\n{''.join(lines[-20:])}")


def hash_outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of each file that the training has written, by its path."""
    files = sorted(path for name in WRITTEN for path in (folder / name).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
