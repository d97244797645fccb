"""Stages of a real repository that are killed or run into a full, read-only or closed file."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.repository import Repository

SCRIPTS = ("preprocess", "split", "coco_convert", "train", "evaluate", "export")
OUTPUTS = {
    "preprocess": ("data/clean", "metrics/preprocess.json", "metrics/preprocess", "plots/data"),
    "split": ("data/split", "metrics/split", "split.lock"),
    "coco_convert": ("data/coco",),
    "train": ("models/detector.safetensors", "models/detector.json", "metrics/train"),
    "evaluate": ("data/predictions", "metrics/evaluate.json", "metrics/evaluate", "plots/evaluate", "plots/galleries",
                 "plots/report.html"),
    "export": ("models/model.onnx", "models/model.json", "metrics/export.json", "metrics/export"),
}  # fmt: skip


class Ended(NamedTuple):
    """How a stage ended."""

    code: int
    out: str
    error: str


def start_stage(root: Path, script: str, environment: dict[str, str], **options: Any) -> subprocess.Popen[str]:
    """Start a stage by hand, as `python stages/SCRIPT.py`."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    command = [sys.executable, f"stages/{script}.py"]
    return subprocess.Popen(
        command, cwd=root, env=environment | {"PYTHONPATH": str(root / "stages")}, text=True, **streams
    )


def run_stage(root: Path, script: str, environment: dict[str, str], **options: Any) -> Ended:
    """Run a stage by hand to its end."""
    process = start_stage(root, script, environment, **options)
    out, error = process.communicate(timeout=300)
    return Ended(process.returncode, out or "", error or "")


def digests(root: Path, script: str) -> dict[str, str]:
    """SHA-256 of each output file of a stage, by path."""
    paths = [root / path for path in OUTPUTS[script]]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(root)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def delete_outputs(root: Path, script: str) -> None:
    """Delete all outputs of a stage but split.lock, which it also reads."""
    for path in digests(root, script):
        if path != "split.lock":
            (root / path).unlink()


def find_unfinished(root: Path) -> list[Path]:
    """What a killed stage was writing, outside the caches."""
    return [path for path in root.rglob(".*.part*") if ".cache" not in path.parts and ".dvc" not in path.parts]


def check_one_line(ended: Ended) -> str:
    """The one line that a stage ended with, checked to be no traceback."""
    assert ended.code == 1, ended
    assert "Traceback" not in ended.error, ended.error
    lines = [line for line in ended.error.replace("\r", "\n").splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, ended.error
    return lines[0]


def time_stage(root: Path, script: str, environment: dict[str, str]) -> float:
    """The seconds that a stage takes."""
    start = time.monotonic()
    ended = run_stage(root, script, environment)
    assert ended.code == 0, ended.error
    return time.monotonic() - start


@contextmanager
def small_disk(folder: Path, repository: Repository, size: str = "200m") -> Iterator[Path]:
    """A copy of a repository, without DVC's cache, on a disk of its own; skips the test where mounting is refused."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs is not allowed here (it takes root)")
    try:
        ignored = shutil.ignore_patterns("cache", "__pycache__")
        yield shutil.copytree(repository.root, folder / "repository", symlinks=True, ignore=ignored)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def leave_free(disk: Path, free: int) -> Iterator[None]:
    """Fill the disk so that `free` bytes remain, rounded down to blocks."""
    ballast = disk / "ballast"
    status = os.statvfs(disk)
    size = status.f_bavail * status.f_frsize - free
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    try:
        yield
    finally:
        ballast.unlink()


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """Mount the disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
