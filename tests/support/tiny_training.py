"""A folder with the smallest real training in it: eight images of 64 x 64, three epochs of four batches."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "model": "simple",
    "image_size": "64",
    "epochs": "3",
    "batch_size": "2",
    "threads": "1",
    "lr": "0.01",
}
WRITTEN = ("models", "metrics")
# A process that has imported torch once and is forked for every training: a new start takes seconds.
NURSERY = """
import os, sys
import dvc.repo, train
from detector.core.errors import run_command
from detector.training.interruption import install_signal_handlers
for line in sys.stdin:
    folder, output = line.split()
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1), os.dup2(file, 2)
        install_signal_handlers()
        try:
            run_command(train.main)
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else print(error.code) or 1
        os._exit(code)  # a regular exit takes longer than the training
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Ended(NamedTuple):
    """Exit code (negative: the signal that killed it), all output, and seconds since the awaited output."""

    code: int
    output: str
    seconds: float


class Nursery:
    """Runs trainings, one at a time; a context manager."""

    def __enter__(self) -> Nursery:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DVC_")}
        environment |= {"PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY], env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def train(self, root: Path, when: str = "", then: Callable[[int], None] | None = None) -> Ended:
        """Train in a folder; once the output contains `when`, call `then` with the process ID."""
        output = root / "output.txt"
        output.write_text("")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{root} {output}\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        start = time.monotonic()
        if then is not None:
            try:
                wait_for(output, when)
                start = time.monotonic()
                then(pid)
            except BaseException:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                self._process.stdout.readline()  # or the next training reads this exit code as its process ID
                raise
        code = int(self._process.stdout.readline())
        return Ended(code, output.read_text(), time.monotonic() - start)


def wait_for(path: Path, text: str, seconds: float = 60) -> None:
    """Return once a file contains `text`."""
    end = time.monotonic() + seconds
    while text not in path.read_text():
        assert time.monotonic() < end, path.read_text()
        time.sleep(0.002)


def make_folder(root: Path, **changes: str) -> Path:
    """Write data/coco, images and params.yaml as the stages before train do; the same bytes each time."""
    numbers = np.random.default_rng(0)
    (root / "data/coco").mkdir(parents=True)
    for split, count in (("train", 8), ("val", 3)):
        images, annotations = [], []
        for index in range(1, count + 1):
            pixels = numbers.integers(0, 80, (64, 64, 3), dtype=np.uint8)
            left, top = (int(value) for value in numbers.integers(4, 28, 2))
            pixels[top : top + 30, left : left + 30] += 150
            name = f"data/{split}_{index}.png"
            Image.fromarray(pixels).save(root / name)
            images.append({"id": index, "file_name": name, "width": 64, "height": 64})
            annotation = {"id": index, "image_id": index, "category_id": 1, "bbox": [left, top, 30, 30], "area": 900}
            annotations.append({**annotation, "iscrowd": 0, "state": 0})
        coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}], "states": []}
        (root / f"data/coco/{split}.json").write_text(json.dumps(coco))
    set_params(root, **{**SETTINGS, **changes})
    return root


def set_params(root: Path, **values: str) -> None:
    """Write the project's params.yaml with these values in the section `train`."""
    path = root / "params.yaml"
    text = (path if path.exists() else ROOT / "params.yaml").read_text()
    before, after = text.split("\ntrain:\n")
    for name, value in values.items():
        after, count = re.subn(rf"^  {name}: \S+", f"  {name}: {value}", after, count=1, flags=re.MULTILINE)
        assert count == 1, f"params.yaml has no train.{name}"
    path.write_text(f"{before}\ntrain:\n{after}")


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of each output file of a training."""
    files = sorted(path for folder in WRITTEN for path in (root / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
