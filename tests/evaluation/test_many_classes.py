"""An evaluation of many classes or boxes ends, within a memory limit, in files of a bounded size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from detector.evaluation.confusion import MAX_NAMES

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests/support/many_classes.py"
GIGABYTES = 6  # of addresses, of which torch takes most


def evaluate_and_draw(folder: Path, classes: int, images: int, objects: int) -> str:
    command = [sys.executable, str(PROGRAM), *map(str, (classes, images, objects, GIGABYTES))]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_sizes(folder: Path) -> None:
    for path in folder.glob("plots/**/*.*"):
        assert path.stat().st_size < (12e6 if path.name == "report.html" else 2e6), path
        if path.suffix in (".png", ".jpg"):
            with Image.open(path) as picture:
                assert max(picture.size) < 3000, path


@pytest.mark.long
def test_a_thousand_classes(tmp_path: Path) -> None:
    printed = evaluate_and_draw(tmp_path, classes=1000, images=200, objects=20)
    check_sizes(tmp_path)
    assert len(printed.splitlines()) < 60
    rows = json.loads((tmp_path / "metrics/evaluate/confusion.json").read_text())
    assert len({row["actual"] for row in rows}) <= MAX_NAMES + 2
    assert "of 9" in (tmp_path / "plots/report.html").read_text(), "the chart says how many of the classes it shows"


@pytest.mark.long
def test_many_boxes(tmp_path: Path) -> None:
    evaluate_and_draw(tmp_path, classes=10, images=400, objects=100)
    check_sizes(tmp_path)
